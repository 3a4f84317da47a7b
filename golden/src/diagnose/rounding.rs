//! Weights that were rounded, and what explains padding alone.

use deberta_converters::error::Result;

use super::{Hypothesis, Search, first_divergence, hypotheses};
use crate::fault::Model;
use crate::judge::compare::Comparison;
use crate::judge::tolerance::Precision;
use crate::judge::verdict::{PointReport, Verdict};
use crate::report::Diagnosis;

use super::Divergence;

impl Search<'_> {
    /// What explains padding that differs where the tokens agree: a formula, since no weight can.
    pub(super) fn padding(&mut self, model: &Model, points: &[PointReport]) -> Result<Vec<Diagnosis>> {
        let differs = |points: &[PointReport]| points.iter().any(|point| point.verdict == Verdict::Padding);
        if !differs(points) {
            return Ok(Vec::new());
        }
        for hypothesis in hypotheses::of_padding(model) {
            let Some(repaired) = model.with(&hypothesis.changes) else { continue };
            let again = self.divergence.compare(&repaired)?;
            if first_divergence(&again).is_none() && !differs(&again) {
                let found =
                    format!("computed so, all {} points of the golden agree, padding too", again.len());
                self.repaired.model = repaired;
                return Ok(vec![hypothesis.diagnosis(&found, true)]);
            }
        }
        Ok(Vec::new())
    }

    /// Weights that were rounded: they are all numbers of a lower precision, and agree as well as that allows.
    pub(super) fn rounded(&self, model: &Model) -> Result<Option<Hypothesis>> {
        if self.divergence.comparison.precision != Precision::F32 {
            return Ok(None);
        }
        for precision in [Precision::F16, Precision::Bf16] {
            let exact = |name: &str| {
                let values = model.values(name).unwrap_or_default();
                values.iter().all(|&value| precision.round(value) == value)
            };
            if !model.names().all(exact) {
                continue;
            }
            let comparison = Comparison { precision, ..self.divergence.comparison };
            let points = Divergence { comparison, ..self.divergence }.compare(model)?;
            if first_divergence(&points).is_none() {
                let evidence = format!(
                    "all weights are numbers of {precision} though they are stored as f32, and all {} points agree within \
                     the tolerance for {precision}",
                    points.len()
                );
                let repair = "convert the original weights again, without rounding";
                let cause = format!("the weights were rounded to {precision}");
                return Ok(Some(Hypothesis::new("half-precision", cause, repair).because(evidence)));
            }
        }
        Ok(None)
    }
}
