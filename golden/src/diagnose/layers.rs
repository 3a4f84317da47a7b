//! Layers that are missing: the golden shows more of them than the model has.

use super::section::Section;
use super::{Hypothesis, Search, first_divergence};
use crate::fault::{Change, Model};
use crate::judge::verdict::PointReport;
use crate::report::Diagnosis;
use crate::trace::file::Trace;
use crate::trace::points::Named;
use deberta_reference::Stage;

/// How many layers a golden shows, if it has the states behind all of them, or the probabilities of all.
pub(super) fn layers_of(golden: &Trace) -> Option<usize> {
    let named: Vec<Named> = golden.tensors.iter().filter_map(|tensor| Named::of(&tensor.name)).collect();
    let state = |i: usize| named.contains(&Named::State(i));
    let attentions = (0..).take_while(|&i| named.contains(&Named::Attentions(i))).count();
    let last = (1..).take_while(|&i| state(i)).count().max(attentions);
    let layers = named
        .iter()
        .filter_map(|named| if let Stage::Layer(layer) = named.stage() { Some(layer + 1) } else { None });
    (layers.max() == Some(last) && (last > 1 || state(0))).then_some(last)
}

impl Search<'_> {
    /// Whether the model, as far as it was repaired, has the layers that the golden shows.
    pub(super) fn has_as_many_layers(&self) -> bool {
        layers_of(self.divergence.golden)
            .is_none_or(|layers| layers == self.repaired.model.config.num_hidden_layers)
    }

    /// Layers that the golden has and the model lacks: those behind them compute what the golden's do.
    pub(super) fn dropped_layers(&self, model: &Model, points: &[PointReport]) -> Option<Diagnosis> {
        let (known, own) = (layers_of(self.divergence.golden)?, model.config.num_hidden_layers);
        let lacking = known.checked_sub(own).filter(|&lacking| lacking > 0)?;
        let first = first_divergence(points)?;
        let at = match Named::of(&first.name)?.stage() {
            Stage::Layer(layer) => layer.min(own),
            Stage::Head => own,
            _ => return None,
        };
        // Any layer stands for those that are missing.
        let any = at.min(own.saturating_sub(1));
        let order = (0..at).chain(std::iter::repeat_n(any, lacking)).chain(at..own).collect();
        let whole = model.with(&[Change::Layers(order)])?;
        let agrees = |layer: usize| {
            let name = format!("outputs.hidden_states.{}", layer + 1);
            let section = Section::of(&self.divergence, &whole, &name);
            section.stage == Some(Stage::Layer(layer)) && section.first_divergence(&whole).is_none()
        };
        let behind = at + lacking..known;
        let proved = behind.clone().all(agrees);
        let missing = match lacking {
            1 => format!("layer {at} of the golden is missing"),
            _ => format!("layers {at} to {} of the golden are missing", at + lacking - 1),
        };
        let cause = if proved { missing } else { format!("{lacking} layers of the golden are missing") };
        let evidence = match (proved, behind.is_empty()) {
            (true, false) => format!(
                "the golden has {known} layers, the model {own}; given the golden's input, its layers from {at} on compute \
                 what the golden's from {} on do",
                behind.start
            ),
            (true, true) => format!("the golden has {known} layers, the model {own}, and all of these agree"),
            (false, _) => format!("the golden has {known} layers, the model {own}"),
        };
        let repair = "restore num_hidden_layers, and take all layers from the original model";
        Some(Hypothesis::new("dropped-layer", cause, repair).because(evidence).diagnosis("", proved))
    }
}
