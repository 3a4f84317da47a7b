//! The answers to three questions about a graph whose weights or activations are rounded.

use deberta_converters::fidelity::Fidelity;
use serde::{Deserialize, Serialize};

use super::losses::Losses;
use super::numbers::decibels;
use super::table::{Column, Row, Table};
use super::{FileReport, Finding, FindingKind, Rules};
use crate::judge::unbounded;
use crate::judge::verdict::Outcome;

/// What reports call the backend that computes a graph in standard operators, with the model's weights.
pub(crate) const LOWERED: &str = "onnx, lowered";

/// What is known of a graph whose weights or activations are rounded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizationReport {
    /// Whether the weights in the file are those of the model, rounded.
    pub weights: Answer,
    /// Every tensor of the graph against the model's; nothing if there were no weights to compare with.
    pub tensors: Option<Fidelity>,
    /// Whether the graph computes the model: in standard operators, with the model's weights in the place of the rounded ones.
    pub graph: Answer,
    /// What rounding activations costs: the graph as it is against the same one without.
    pub activations: Answer,
    /// How far the graph as it is is from the goldens.
    pub cost: Option<Cost>,
    /// Which nodes lose most; nothing if nobody asked and nothing was beyond its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub losses: Option<Losses>,
}

/// The tables of a file: the three answers with the whole cost; where the loss arises, and the nodes that lose most.
pub(super) fn tables(file: &FileReport, rules: &Rules) -> Vec<Table> {
    let Some(quantization) = &file.quantization else { return Vec::new() };
    let losses = quantization.losses.iter().flat_map(|losses| losses.tables(&file.file));
    std::iter::once(quantization.table(&file.file, rules)).chain(losses).collect()
}

/// The answer to one question.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it is good, not known, or bad.
    pub outcome: Outcome,
    /// What was found.
    pub said: String,
    /// The least ratio of signal to noise, in decibels; nothing where none is measured.
    #[serde(with = "unbounded::optional")]
    pub sqnr_db: Option<f64>,
    /// The least that it may be.
    pub limit_db: Option<f64>,
}

/// How far a graph is from the goldens, tokens alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The least ratio of signal to noise, in decibels.
    #[serde(with = "unbounded")]
    pub sqnr_db: f64,
    /// The least cosine.
    pub cosine: f64,
    /// How many rows of logits have another largest one.
    pub flips: usize,
    /// Of how many.
    pub rows: usize,
    /// By how much the largest logit of such a row is above the one that became the largest, in the golden: the most.
    pub margin: f64,
}

impl Answer {
    /// An answer without a measurement.
    pub(crate) fn new(outcome: Outcome, said: impl Into<String>) -> Answer {
        Answer { outcome, said: said.into(), ..Answer::default() }
    }
}

impl QuantizationReport {
    /// How the three answers end.
    pub fn outcome(&self) -> Outcome {
        [&self.weights, &self.graph, &self.activations]
            .into_iter()
            .map(|answer| answer.outcome)
            .max()
            .unwrap_or_default()
    }

    fn table(&self, file: &str, rules: &Rules) -> Table {
        let judged =
            |outcome| rules.finding(&Finding::new(FindingKind::Quantization, outcome, String::new()));
        let least = |limit: Option<f64>| limit.map_or_else(String::new, |limit| format!("{limit}"));
        let row = |(question, answer): (&str, &Answer)| Row {
            cells: vec![
                question.to_owned(),
                answer.sqnr_db.map_or_else(String::new, decibels),
                least(answer.limit_db),
                answer.said.clone(),
            ],
            outcome: Some(judged(answer.outcome)),
        };
        let answers =
            [("weights", &self.weights), ("graph", &self.graph), ("activations", &self.activations)];
        let cost = self.cost.iter().map(|cost| Row {
            cells: vec!["whole cost".to_owned(), decibels(cost.sqnr_db), String::new(), cost.said()],
            outcome: None,
        });
        Table {
            title: format!("quantization of {file}"),
            columns: vec![
                Column::text("question"),
                Column::number("dB"),
                Column::number("least"),
                Column::text("answer"),
            ],
            rows: answers.into_iter().map(row).chain(cost).collect(),
        }
    }
}

impl Cost {
    /// In words.
    pub(crate) fn said(&self) -> String {
        let Cost { sqnr_db, cosine, flips, rows, margin } = self;
        let flipped = match (flips, rows) {
            (_, 0) => String::new(),
            (0, rows) => format!(", none of {rows} rows of logits has another largest one"),
            (flips, rows) => {
                format!(
                    ", {flips} of {rows} rows of logits have another largest one (by {margin:.4} at most)"
                )
            }
        };
        format!("{sqnr_db:.1} dB and a cosine of {cosine:.6} at least, against the goldens{flipped}")
    }
}
