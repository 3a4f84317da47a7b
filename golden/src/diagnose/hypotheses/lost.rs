//! Numbers that are lost: rounded to few steps, or gone with their tensors.

use deberta_reference::{Module, Part, Role, Stage};

use super::Search;
use crate::diagnose::Hypothesis;
use crate::fault::Setting;
use crate::trace::points::Point;

/// The most steps of an 8-bit number.
const STEPS: f64 = 255.0;

impl Search<'_> {
    /// Matrices whose numbers are whole steps, as those of 8 bits are, if a suspected module has one.
    pub(super) fn rounded(&self, suspects: &[Point]) -> Option<Hypothesis> {
        let model = self.model;
        let matrices: Vec<&str> = self
            .params
            .iter()
            .filter(|param| param.shape.len() > 1 && param.role != Role::Convolution)
            .map(|param| param.name.as_str())
            .filter(|name| model.shape(name).is_some())
            .collect();
        // Any of the part that differs: where a golden has states alone, the whole part is suspected.
        let stage = suspects.last().map(|point| point.stage);
        let mut suspected = self.params.iter().filter(|param| match stage {
            Some(Stage::Layer(layer)) => {
                param.layer.is_none_or(|known| known == layer) && !param.module.in_head()
            }
            Some(stage) => stage.has(param.module),
            None => true,
        });
        if !suspected.any(|param| matrices.contains(&&*param.name) && self.in_steps(&param.name)) {
            return None;
        }
        let rounded: Vec<&str> = matrices.iter().copied().filter(|name| self.in_steps(name)).collect();
        let which = match rounded.len() == matrices.len() {
            true => "all matrices".to_owned(),
            false => {
                let more = if rounded.len() > 4 { ", …" } else { "" };
                format!(
                    "{} of {} matrices ({}{more})",
                    rounded.len(),
                    matrices.len(),
                    rounded.iter().take(4).copied().collect::<Vec<_>>().join(", ")
                )
            }
        };
        let cause = format!("{which} were rounded to 8 bits and are stored as f32");
        let evidence =
            "in each of them, or in each of its rows, all numbers are whole steps of one size, 255 at most";
        let repair = "convert the original weights again; judge int8 weights by a golden of their own";
        Some(Hypothesis::new("int8-weights", cause, repair).because(evidence))
    }

    /// Whether all numbers of a matrix, or all of each of its rows, are whole steps.
    fn in_steps(&self, name: &str) -> bool {
        let Some(values) = self.model.values(name) else { return false };
        let width = self.model.shape(name).and_then(|shape| shape.last().copied()).unwrap_or(0);
        if width < 5 || values.len() < 32 {
            return false;
        }
        let known = values.get(..values.len().min(1 << 16)).unwrap_or(values);
        let zero = |row: &[f32]| row.iter().all(|&value| value == 0.0);
        let rows = || known.chunks_exact(width).take(64);
        steps(known) || (!zero(known) && rows().all(|row| zero(row) || steps(row)))
    }

    /// Lines of the configuration that the file has no tensors for, where the golden's points show that it had them.
    pub(super) fn gone(&self, suspects: &[Point]) -> Vec<Hypothesis> {
        let (model, config) = (self.model, &self.model.config);
        let there = |module: Module| model.shape(&model.weight(module, 0)).is_some();
        let shown = |modules: &[Module]| {
            let mut points = self.section.points().iter().filter(|point| modules.contains(&point.module));
            points.any(|point| self.section.want(&point.name).is_some())
        };
        let gone = |kind: &'static str, setting: Setting, what: &str| {
            let cause = format!("the configuration has {}, and the golden {what}", setting.line());
            Hypothesis::new(kind, cause, "take the configuration and all tensors of the original model")
                .because("the tensors are not in the file, so that it cannot be tested")
        };
        let mut found = Vec::new();
        if config.convolution.is_none()
            && !there(Module::Conv)
            && shown(&[Module::Conv, Module::ConvLayerNorm, Module::Convolution])
        {
            found.push(gone("convolution", Setting::Convolution(None), "a convolution"));
        }
        if !config.norm_rel_ebd && !there(Module::TableLayerNorm) && shown(&[Module::TableLayerNorm]) {
            found.push(gone("norm-rel-ebd", Setting::NormTable(false), "a normalised table"));
        }
        let table = !there(Module::RelEmbeddings);
        let keys = [Module::PosProj, Module::PosKeyProj];
        let queries = [Module::PosQProj, Module::PosQueryProj];
        let lacks = |part| model.shape(&model.weight(model.projecting(part), 0)).is_none();
        if !config.relative_attention
            && table
            && shown(&[&keys[..], &queries, &[Module::TableLayerNorm]].concat())
        {
            found.push(gone("relative-attention", Setting::Relative(false), "relative positions"));
        } else if (!config.c2p() && lacks(Part::PositionKey) && shown(&keys))
            || (!config.p2c() && lacks(Part::PositionQuery) && shown(&queries))
        {
            let terms = Setting::Terms(config.pos_att_type.clone());
            found.push(gone("pos-att-type", terms, "a term of positions more"));
        }
        // Where the golden shows none of that, but the scores, it may be so.
        let scores = |point: &Point| {
            use Module::{C2c, Probs, Scores};
            matches!(point.module, C2c | Scores | Probs) && point.stage == Stage::Layer(0)
        };
        if suspects.iter().any(scores) && table && !config.relative_attention && config.scale_terms() > 1 {
            let what = "may have relative positions, as pos_att_type says";
            found.push(gone("relative-attention", Setting::Relative(false), what));
        }
        let unseen = !shown(&[&keys[..], &queries, &[Module::TableLayerNorm]].concat());
        let normed = config.norm_rel_ebd || there(Module::TableLayerNorm);
        if suspects.iter().any(scores) && unseen && !table && !config.has_in_proj() && !normed {
            let what = "may have a normalised table";
            found.push(gone("norm-rel-ebd", Setting::NormTable(false), what));
        }
        let own = [Module::PosKeyProj, Module::PosQueryProj];
        let differs = own.iter().any(|&module| {
            let path = suspects.iter().find(|point| point.module == module).map(|point| &point.name);
            path.and_then(|path| self.residual(path))
                .is_some_and(|residual| 2 * residual.channels().len() > config.hidden_size)
        });
        if config.share_att_key && !config.has_in_proj() && differs && !own.into_iter().any(there) {
            let what = "may have projections of positions of their own: these are not those of the tokens";
            found.push(gone("share-att-key", Setting::ShareKeys(true), what));
        }
        found
    }
}

/// Whether all numbers are a start and whole steps of one size.
fn steps(values: &[f32]) -> bool {
    let mut sorted: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else { return false };
    let range = most - least;
    let gaps = sorted.iter().zip(sorted.iter().skip(1)).map(|(one, other)| other - one);
    let smallest = gaps.fold(f64::INFINITY, f64::min);
    // Few numbers may show no two that are one step apart.
    if sorted.len() < 5 || !smallest.is_finite() {
        return false;
    }
    (1..=8).any(|apart| {
        let count = (range / smallest * f64::from(apart)).round();
        let step = range / count;
        count <= STEPS
            && sorted.iter().all(|value| {
                let steps = (value - least) / step;
                (steps - steps.round()).abs() < 0.01
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_steps_are_seen() {
        let values: Vec<f32> =
            (0..24).map(|at| (at as f32 * 0.7).sin() * 0.28 + 0.0005 * at as f32).collect();
        assert!(!steps(&values));
        let step = 0.3 / 127.0;
        let rounded: Vec<f32> = values.iter().map(|value| (value / step).round() * step).collect();
        assert!(steps(&rounded));
        assert!(!steps(&[1.0, 2.0]) && !steps(&[]));
    }
}
