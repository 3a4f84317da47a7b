//! How much rounding weights and activations may cost.

use deberta_converters::format::onnx::{GraphKind, Half};
use serde::Deserialize;

use crate::report::Cost;

/// How much rounding may cost: of `tolerances.quantization` in `case.yaml` and policies. How the numbers were found:
/// `docs/quantized.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The most steps that a number stored as an integer may be from the model's, in the place of what rounding takes it.
    steps: Option<f64>,
    /// The least decibels that rounding activations leaves, whose scales are computed from each batch.
    dynamic_db: Option<f64>,
    /// The same of scales that are constants.
    static_db: Option<f64>,
    /// The least decibels of the graph as it is against the goldens.
    cost_db: Option<f64>,
    /// The largest share of rows of logits that may have another largest one.
    flips: Option<f64>,
}

/// Where nothing is said.
const DYNAMIC: f64 = 20.0;
const STATIC: f64 = 15.0;
/// What the tanh approximation of a gelu leaves; and with the noise of 60 and of 50 dB that a half makes.
const APPROXIMATED: f64 = 55.0;
const APPROXIMATED_IN_F16: f64 = 53.8;
const APPROXIMATED_IN_BF16: f64 = 48.8;
/// What other rows of the table for some distances leave.
const MOVED: f64 = 25.0;

impl Limits {
    /// The least decibels that rounding activations leaves in a graph of this kind, the approximation of a gelu, or
    /// `moved_distances`: rows of the table that are others because a half computes which.
    pub fn activations(&self, kind: GraphKind, moved_distances: bool) -> f64 {
        if kind.has_constant_scales() {
            return self.static_db.unwrap_or(STATIC);
        }
        match kind.half() {
            _ if kind.rounds_activations() => self.dynamic_db.unwrap_or(DYNAMIC),
            _ if moved_distances => MOVED,
            None => APPROXIMATED,
            Some(Half::F16) => APPROXIMATED_IN_F16,
            Some(Half::Bf16) => APPROXIMATED_IN_BF16,
        }
    }

    /// The most steps that a number stored as an integer may be from the model's, if anything is said.
    pub fn steps(&self) -> Option<f64> {
        self.steps
    }

    /// The least decibels that the graph as it is must reach, as far as anything is said: of rounding activations, or of
    /// the whole cost.
    pub fn least(&self, kind: GraphKind) -> f64 {
        let of_activations = if kind.rounds_activations() { self.activations(kind, false) } else { 0.0 };
        of_activations.max(self.cost_db.unwrap_or(0.0))
    }

    /// What of the whole cost is more than is allowed, in words; nothing where nothing is said.
    pub fn refuses(&self, cost: &Cost) -> Option<String> {
        if let Some(least) = self.cost_db.filter(|&least| cost.sqnr_db < least) {
            return Some(format!("at least {least} dB are asked for"));
        }
        let share = cost.flips as f64 / cost.rows.max(1) as f64;
        self.flips
            .filter(|&most| share > most)
            .map(|most| format!("at most {:.1} % of the rows may", 100.0 * most))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let numbers = [
            ("steps", self.steps),
            ("dynamic_db", self.dynamic_db),
            ("static_db", self.static_db),
            ("cost_db", self.cost_db),
            ("flips", self.flips),
        ];
        for (key, value) in numbers {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value >= 0.0)) {
                return Err(format!(
                    "tolerances.quantization.{key}: expected a number from 0, found {value}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use deberta_converters::format::onnx::Numbers;

    use super::*;

    #[test]
    fn limits_are_those_of_the_kind_or_those_that_are_said() {
        let kind = |numbers| GraphKind { numbers, ..GraphKind::default() };
        let (dynamic, qdq) =
            (kind(Numbers::Dynamic { unsigned: false }), kind(Numbers::Qdq { unsigned: false }));
        let usual = Limits::default();
        assert_eq!((usual.activations(dynamic, false), usual.activations(qdq, false)), (20.0, 15.0));
        let f16 = kind(Numbers::Halves(Half::F16));
        assert_eq!((usual.activations(f16, true), usual.activations(f16, false)), (25.0, 53.8));
        let said = Limits { static_db: Some(30.0), cost_db: Some(40.0), flips: Some(0.01), ..usual };
        assert_eq!((said.activations(dynamic, false), said.activations(qdq, false)), (20.0, 30.0));
        let cost = Cost { sqnr_db: 41.0, cosine: 1.0, flips: 2, rows: 100, margin: 0.1 };
        assert_eq!(
            (usual.refuses(&cost), said.refuses(&cost)),
            (None, Some("at most 1.0 % of the rows may".to_owned()))
        );
        assert!(said.refuses(&Cost { sqnr_db: 39.0, ..cost }).is_some());
        assert!(Limits { flips: Some(f64::NAN), ..usual }.check().is_err());
    }
}
