//! How the error grows from layer to layer.

use std::collections::BTreeMap;

use deberta_reference::Stage;

use crate::judge::verdict::{PointReport, Verdict};
use crate::trace::points::rank;

/// The largest error in a stage, as a share of the tolerance: infinite where numbers are missing or are none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct StageError {
    /// Of tokens; nothing if no point was judged.
    pub real: Option<f64>,
    /// Of padding; nothing if there is none.
    pub padded: Option<f64>,
}

/// A short name of a stage, for axes.
pub(super) fn short(stage: Stage) -> String {
    match stage {
        Stage::Embeddings => "emb".to_owned(),
        Stage::Table => "rel".to_owned(),
        Stage::Layer(layer) => layer.to_string(),
        Stage::Step(step) => format!("d{step}"),
        Stage::Head => "head".to_owned(),
    }
}

/// The largest errors of tokens and of padding at a point, as shares of the tolerance.
pub(super) fn shares(point: &PointReport) -> StageError {
    let broken = matches!(
        point.verdict,
        Verdict::NotFinite { .. } | Verdict::Shape { .. } | Verdict::Dtype | Verdict::MissingInCandidate
    );
    let share = |part: &Option<crate::judge::difference::Difference>| part.as_ref().map(|part| part.share);
    let statistic = point.statistic.as_ref().map(|statistic| statistic.share);
    let real = match (broken, share(&point.real), statistic) {
        (true, ..) => Some(f64::INFINITY),
        (false, Some(real), Some(statistic)) => Some(real.max(statistic)),
        (false, real, statistic) => real.or(statistic),
    };
    StageError { real, padded: share(&point.padded) }
}

/// The largest error of every stage that has points.
pub(super) fn growth(points: &[PointReport]) -> Vec<(Stage, StageError)> {
    let mut stages: BTreeMap<Stage, StageError> = BTreeMap::new();
    for point in points {
        let (stage, of_point) = (stages.entry(rank(&point.name).0).or_default(), shares(point));
        for (largest, share) in [(&mut stage.real, of_point.real), (&mut stage.padded, of_point.padded)] {
            *largest = match (*largest, share) {
                (Some(largest), Some(share)) => Some(largest.max(share)),
                (largest, share) => largest.or(share),
            };
        }
    }
    stages.into_iter().collect()
}

/// One character a stage: its height is the share of the tolerance on a logarithmic scale, the full block is beyond it.
pub(super) fn sparkline(shares: impl Iterator<Item = Option<f64>>) -> String {
    const BELOW: [char; 7] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇'];
    let block = |share: Option<f64>| match share {
        None => '·',
        Some(share) if share > 1.0 || share.is_nan() => '█',
        // From a ten-thousandth of the tolerance to all of it.
        Some(share) => {
            let height = (share.max(1e-4).log10() + 4.0) / 4.0 * 6.0;
            BELOW.get(height.round() as usize).copied().unwrap_or('▇')
        }
    };
    shares.map(block).collect()
}

/// `embeddings, layers 0 to 11, head`
pub(super) fn stages_in_words(stages: &[(Stage, StageError)]) -> String {
    let layers: Vec<usize> = stages
        .iter()
        .filter_map(|(stage, _)| if let Stage::Layer(layer) = stage { Some(*layer) } else { None })
        .collect();
    let mut words = Vec::new();
    let mut said = false;
    for (stage, _) in stages {
        match (stage, layers.as_slice()) {
            (Stage::Layer(_), [first, .., last]) => {
                if !said {
                    words.push(format!("layers {first} to {last}"));
                }
                said = true;
            }
            _ => words.push(stage.to_string()),
        }
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_stages() {
        let of = |name| short(rank(name).0);
        assert_eq!(of("activations.deberta.embeddings.LayerNorm"), "emb");
        assert_eq!(of("activations.deberta.encoder.layer.3.attention.self"), "3");
        assert_eq!(of("outputs.hidden_states.0"), "emb");
        assert_eq!((of("outputs.hidden_states.4"), of("outputs.attentions.3")), ("3".into(), "3".into()));
        assert_eq!(
            (of("activations.emd.1"), of("outputs.logits[0:1] (softmax)")),
            ("d1".into(), "head".into())
        );
    }

    #[test]
    fn a_sparkline_is_full_beyond_the_tolerance() {
        let shares = [Some(0.0), Some(1e-4), Some(0.01), Some(1.0), Some(1.01), Some(f64::INFINITY), None];
        assert_eq!(sparkline(shares.into_iter()), "▁▁▄▇██·");
    }
}
