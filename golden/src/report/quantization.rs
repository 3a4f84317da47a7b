//! The answers to three questions about a graph whose weights or activations are rounded.

use deberta_converters::fidelity::Fidelity;
use serde::{Deserialize, Serialize};

use crate::judge::unbounded;
use crate::judge::verdict::Outcome;

/// What reports call the backend that computes a graph in standard operators, with the model's weights.
pub(crate) const LOWERED: &str = "onnx, lowered";

/// How many nodes are named in a line.
const NAMED_NODES: usize = 8;

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

/// Which nodes of a graph lose most by computing with rounded numbers, weights and activations, and what leaving them in f32
/// would restore. Ratios are those of the outputs to the same graph with the model's weights and without rounding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// The names of the nodes to leave in f32, as they are called in the graph before it is quantized: those of
    /// `nodes_to_exclude` of ONNX Runtime's quantizers.
    pub nodes_to_exclude: Vec<String>,
    /// The same nodes, the one that loses most first.
    pub nodes: Vec<NodeLoss>,
    /// How many nodes compute with rounded numbers.
    pub of: usize,
    /// How many of them were measured one at a time.
    pub measured: usize,
    /// What all of them leave, in decibels.
    #[serde(with = "unbounded")]
    pub rounded_db: f64,
    /// What is left when the named nodes are in f32.
    #[serde(with = "unbounded")]
    pub restored_db: f64,
    /// What was run: `the goldens`, `other lengths`.
    pub measured_on: String,
}

/// A node that loses much.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeLoss {
    /// What it is called in the file.
    pub node: String,
    /// The parameters of the model that it computes with.
    pub parameters: Vec<String>,
    /// What is left when it alone computes with rounded numbers.
    #[serde(with = "unbounded")]
    pub alone_db: f64,
    /// What is left when it alone is in f32.
    #[serde(with = "unbounded")]
    pub restored_db: f64,
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
}

impl Losses {
    /// In words.
    pub(crate) fn said(&self) -> String {
        let Losses { nodes_to_exclude, of, measured, rounded_db, restored_db, measured_on, .. } = self;
        let (count, most) = (nodes_to_exclude.len(), NAMED_NODES);
        let bounded =
            if measured < of { format!(", of which {measured} were measured alone") } else { String::new() };
        if count == 0 {
            return format!(
                "no few of its {of} nodes that round{bounded} lose more than the others: all of them leave {rounded_db:.1} dB on {measured_on}"
            );
        }
        let names =
            nodes_to_exclude.iter().take(most).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let more = if count > most {
            format!(", … ({} more in the JSON report)", count - most)
        } else {
            String::new()
        };
        format!(
            "{count} of {of} nodes that round{bounded} lose most: in f32 (nodes_to_exclude=[{names}{more}]) they would restore \
             {restored_db:.1} dB from {rounded_db:.1} on {measured_on}"
        )
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
