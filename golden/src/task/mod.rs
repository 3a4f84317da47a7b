//! How good a model is at what it was trained for: the tasks of the papers, with the metrics of their own scripts.
//!
//! | file | task |
//! |---|---|
//! | `classify/` | texts and pairs with one label: accuracy, F1 |
//! | `mnli.rs` | natural language inference: accuracy |
//! | `squad/` | answers in a text: exact match, F1 |
//! | `tokens/` | entities: precision, recall, F1 |
//! | `choices/` | questions with choices, of RACE and SWAG: accuracy |
//! | `stsb.rs` | similarity: Pearson's and Spearman's coefficients |
//! | `masked_lm.rs` | masked language modelling: pseudo-perplexity |
//! | `zero_shot/` | labels that a model of inference was not trained on: accuracy, F1 |
//! | `replaced_tokens/` | which tokens were replaced: precision, recall, F1 |
//!
//! A task reads its data, makes [`Sequence`]s of them, and judges what a model computes for these ([`Task`]). [`metric`]
//! knows numbers alone. [`evaluate`] is the order of events; `docs/tasks.md` the description for users.

use std::ops::Range;
use std::sync::Arc;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Printable, Result};
use deberta_reference::TruncationStrategy;
use ndarray::ArrayView2;
use serde_json::{Map, Value};

use crate::trace::class::Class;

mod accuracy;
pub mod agreement;
pub mod choices;
pub mod classify;
mod csv;
pub mod data;
mod evaluate;
mod labels;
pub mod masked_lm;
pub mod metric;
pub mod mnli;
pub mod model;
pub mod names;
pub mod replaced_tokens;
pub mod report;
pub mod run;
pub mod squad;
pub mod stsb;
pub mod tokens;
pub mod zero_shot;

pub use evaluate::evaluate;
use metric::confusion::Confusion;
use model::{TaskModel, Texts};
pub use report::TaskReport;
pub use run::TaskRequest;

/// A task with its data.
pub trait Task {
    /// The class that does it, given a model's checkpoint.
    fn class(&self, checkpoint: &Checkpoint) -> Class;

    /// The longest sequence, where it is not as many tokens as the model has positions.
    fn usual_length(&self) -> Option<usize> {
        None
    }

    /// What the model is given.
    ///
    /// # Errors
    /// A model whose configuration does not fit the task; examples that it cannot be given.
    fn prepare(&mut self, model: &TaskModel, texts: &Texts) -> Result<Prepared>;

    /// What is kept of the logits of a sequence: all of them, unless they are too many.
    fn keep(&self, _sequence: usize, logits: Logits<'_>) -> Vec<f32> {
        logits.iter().copied().collect()
    }

    /// How good the answers are that were kept of every sequence.
    ///
    /// # Errors
    /// Answers that are not of the task's shape, or NaN.
    fn judge(&self, kept: &[Vec<f32>]) -> Result<Judged>;
}

/// A sequence as a model takes it. Several that differ in one token share the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The tokens.
    pub ids: Arc<[u32]>,
    /// The segment of each token.
    pub types: Arc<[u32]>,
    /// A place, and the token that stands there instead.
    pub replaced: Option<(usize, u32)>,
}

/// What a model computes for a sequence: the logits of the sequence [1, labels], of its tokens [n, labels] or [n, 1],
/// or the logits of start and end [n, 2].
pub type Logits<'a> = ArrayView2<'a, f32>;

/// The sequences of a task.
#[derive(Debug, Default)]
pub struct Prepared {
    /// What the model is given.
    pub sequences: Vec<Sequence>,
    /// The sequences of each question, which a class that chooses sees together. Empty for other classes.
    pub questions: Vec<Range<usize>>,
    /// How many examples lost tokens because they were too long.
    pub truncated: usize,
}

/// What came of a task.
#[derive(Debug, Default)]
pub struct Judged {
    /// How many examples were judged.
    pub examples: usize,
    /// The metrics in the order in which they are shown; nothing where one is undefined.
    pub metrics: Vec<(String, Option<f64>)>,
    /// For every example what was predicted, for the file of predictions.
    pub predictions: Vec<Value>,
    /// Which labels were taken for which, if the task has the same labels for all examples.
    pub confusion: Option<Confusion>,
    /// Every choice that was made, in the same order for every model.
    pub choices: Vec<Choice>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// A choice among several candidates.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The example.
    pub example: String,
    /// What was chosen.
    pub chosen: String,
    /// By how much its score is above the next one's.
    pub margin: f32,
}

impl Prepared {
    /// Adds an example: a sequence for each of its pairs of texts. The longer text of a pair loses tokens first.
    fn add<'t>(&mut self, texts: &Texts, pairs: impl IntoIterator<Item = [&'t str; 2]>) -> Result<()> {
        self.add_cut(texts, TruncationStrategy::LongestFirst, pairs)
    }

    /// Adds an example whose pairs of texts lose tokens where `cut` says.
    fn add_cut<'t>(
        &mut self,
        texts: &Texts,
        cut: TruncationStrategy,
        pairs: impl IntoIterator<Item = [&'t str; 2]>,
    ) -> Result<()> {
        let mut truncated = false;
        for [first, second] in pairs {
            let (encoding, cut) = texts.encode_cut(first, Some(second), cut)?;
            self.sequences.push(Sequence::new(encoding.input_ids, encoding.token_type_ids));
            truncated |= cut;
        }
        self.truncated += usize::from(truncated);
        Ok(())
    }
}

impl Sequence {
    /// A sequence of those tokens and segments.
    pub fn new(ids: Vec<u32>, types: Vec<u32>) -> Sequence {
        Sequence { ids: ids.into(), types: types.into(), replaced: None }
    }

    /// The token at a place.
    fn token(&self, at: usize) -> Option<u32> {
        match self.replaced {
            Some((place, token)) if place == at => Some(token),
            _ => self.ids.get(at).copied(),
        }
    }
}

/// An entry of the file of predictions.
fn prediction<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

/// A number as JSON, which has none that are not finite: these are text.
fn number(value: f32) -> Value {
    let value = f64::from(value);
    serde_json::Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number)
}

/// Logits as JSON.
fn numbers(values: &[f32]) -> Value {
    values.iter().map(|&value| number(value)).collect()
}

/// The error for logits of another shape than the task's.
fn misshapen(example: &str, found: usize, expected: usize) -> Error {
    let example = Printable(example);
    let message = format!("{example}: the model computes {found} logits, {expected} were expected");
    Error::new(Kind::Model, message).wanting(expected, found)
}
