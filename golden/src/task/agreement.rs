//! Whether two models, or two formats or backends of one, answer alike.

use deberta_converters::error::{Error, Kind, Result};
use serde::Serialize;

use super::metric::confusion::Confusion;
use super::metric::threshold::Threshold;
use super::run::Evaluation;

/// How many of the smallest margins are listed.
const SMALLEST: usize = 10;

/// What two runs on the same sequences have in common.
#[derive(Clone, Debug, Serialize)]
pub struct Agreement {
    /// The other model.
    pub against: String,
    /// What computed it.
    pub backend: String,
    /// The class that was run.
    pub class: String,
    /// Choices that were compared.
    pub choices: usize,
    /// The choices that are not the same.
    pub flips: Vec<Flip>,
    /// The choices that were closest in either run, the closest first.
    pub closest: Vec<Close>,
    /// The largest difference between two logits, or whatever is kept of them.
    pub largest_difference: f32,
    /// The sequence that it is in, counted from 0.
    pub largest_in_sequence: usize,
    /// How many numbers were compared.
    pub numbers: usize,
    /// The metrics of the other model.
    #[serde(serialize_with = "super::metric::json::metrics")]
    pub metrics: Vec<(String, Option<f64>)>,
    /// Which labels the other model takes for which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
}

/// A choice that is not the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flip {
    /// The example.
    pub example: String,
    /// What was chosen.
    pub chosen: String,
    /// By how much its score is above the next one's.
    #[serde(serialize_with = "super::metric::json::margin")]
    pub margin: f32,
    /// What the other model chose.
    pub against: String,
    /// By how much that is above the next.
    #[serde(serialize_with = "super::metric::json::margin")]
    pub against_margin: f32,
}

/// A choice between scores that are close.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Close {
    /// The example.
    pub example: String,
    /// What was chosen.
    pub chosen: String,
    /// The smaller margin of both runs.
    #[serde(serialize_with = "super::metric::json::margin")]
    pub margin: f32,
}

impl Agreement {
    /// Compares two runs.
    ///
    /// # Errors
    /// Runs with other numbers of logits: classes that differ.
    pub(crate) fn of(first: &Evaluation, second: &Evaluation) -> Result<Agreement> {
        let (mut largest_difference, mut largest_in_sequence, mut numbers) = (0.0f32, 0, 0);
        for (at, (a, b)) in first.kept.iter().zip(&second.kept).enumerate() {
            if a.len() != b.len() {
                let message = format!(
                    "{} computes {} logits for sequence {at}, {} {}: they cannot be compared",
                    first.model.name,
                    a.len(),
                    second.model.name,
                    b.len()
                );
                return Err(Error::new(Kind::Model, message));
            }
            for (a, b) in a.iter().zip(b) {
                // Equal infinities have no difference.
                let difference = if a == b { 0.0 } else { (a - b).abs() };
                if difference > largest_difference {
                    (largest_difference, largest_in_sequence) = (difference, at);
                }
                numbers += 1;
            }
        }
        let pairs = || first.judged.choices.iter().zip(&second.judged.choices);
        let flips = pairs().filter(|(a, b)| a.chosen != b.chosen).map(|(a, b)| Flip {
            example: a.example.clone(),
            chosen: a.chosen.clone(),
            margin: a.margin,
            against: b.chosen.clone(),
            against_margin: b.margin,
        });
        let mut closest: Vec<Close> = pairs()
            .map(|(a, b)| Close {
                example: a.example.clone(),
                chosen: a.chosen.clone(),
                margin: a.margin.min(b.margin),
            })
            .collect();
        closest.sort_by(|a, b| a.margin.total_cmp(&b.margin));
        closest.truncate(SMALLEST);
        Ok(Agreement {
            against: second.model.name.clone(),
            backend: second.model.backend.name().to_owned(),
            class: second.model.class.to_string(),
            choices: first.judged.choices.len(),
            flips: flips.collect(),
            closest,
            largest_difference,
            largest_in_sequence,
            numbers,
            metrics: second.judged.metrics.clone(),
            confusion: second.judged.confusion.clone(),
        })
    }

    /// What thresholds can be set for: `flips`, `largest_difference`.
    pub(crate) fn metrics(&self) -> [(String, Option<f64>); 2] {
        [
            ("flips".to_owned(), Some(self.flips.len() as f64)),
            ("largest_difference".to_owned(), Some(f64::from(self.largest_difference))),
        ]
    }

    /// Whether choices must be the same: unless a threshold says how many may differ.
    pub(crate) fn must_be_equal(max: &[Threshold]) -> bool {
        !max.iter().any(|threshold| threshold.metric == "flips")
    }
}
