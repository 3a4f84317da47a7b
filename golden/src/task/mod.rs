//! How good a model is at what it was trained for: the tasks of the paper, with the metrics of their own scripts.
//!
//! | file | task |
//! |---|---|
//! | `mnli.rs` | natural language inference: accuracy |
//! | `squad.rs` | answers in a text: exact match, F1 |
//! | `tokens.rs` | entities: precision, recall, F1 |
//! | `race.rs` | four choices: accuracy |
//! | `stsb.rs` | similarity: Pearson's and Spearman's coefficients |
//! | `masked_lm.rs` | masked language modelling: pseudo-perplexity |
//!
//! A task reads its data, makes [`Sequence`]s of them, and judges what a model computes for these ([`Task`]). [`metric`]
//! knows numbers alone. [`evaluate`] is the order of events; `docs/tasks.md` the description for users.

use std::collections::BTreeMap;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Printable, Result};
use deberta_converters::progress::Progress;
use serde_json::{Map, Value};

use crate::trace::class::Class;

pub mod agreement;
pub mod data;
pub mod masked_lm;
pub mod metric;
pub mod mnli;
pub mod model;
pub mod names;
pub mod race;
pub mod report;
pub mod run;
pub mod squad;
pub mod stsb;
pub mod tokens;

use agreement::Agreement;
use metric::threshold::Threshold;
use model::{Model, Place, Texts};
pub use report::TaskReport;
use run::{Logits, Sequence};

/// A task with its data.
pub trait Task {
    /// `mnli`, …
    fn name(&self) -> &'static str;

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
    fn prepare(&mut self, model: &Model, texts: &Texts) -> Result<Prepared>;

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

/// The sequences of a task.
#[derive(Debug, Default)]
pub struct Prepared {
    /// What the model is given.
    pub sequences: Vec<Sequence>,
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

/// What is asked of a model.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model.
    pub model: Place,
    /// The model that it must agree with, if there is one.
    pub against: Option<Place>,
    /// The longest sequence; what is usual for the task when absent.
    pub max_length: Option<usize>,
    /// Sequences that are run at a time.
    pub batch_size: usize,
    /// What metrics must not be below.
    pub min: Vec<Threshold>,
    /// What metrics must not be above.
    pub max: Vec<Threshold>,
}

/// Runs a model on a task, and another one if it must agree with that. `progress` is told what is being done.
///
/// # Errors
/// Whatever keeps the model from being judged: its files, its configuration, data without examples, NaN.
pub fn evaluate(
    task: &mut dyn Task,
    request: &Request,
    progress: &dyn Progress,
) -> Result<(TaskReport, Vec<Value>)> {
    progress.step(&format!("loading {}", request.model.name));
    let first = Run::of(task, &request.model, request, progress)?;
    if first.judged.examples == 0 {
        return Err(Error::new(Kind::Request, "nothing to judge: the data have no example"));
    }
    let agreement = match &request.against {
        Some(place) => {
            progress.step(&format!("loading {}", place.name));
            let second = Run::of(task, place, request, progress)?;
            if second.sequences != first.sequences {
                let message = format!(
                    "{} and {} cannot be compared: their tokenizers make different sequences of the same texts",
                    first.model.name, second.model.name
                );
                return Err(Error::new(Kind::Model, message));
            }
            Some(Agreement::of(&first, &second)?)
        }
        None => None,
    };
    let report = TaskReport::new(task.name(), request, &first, agreement)?;
    Ok((report, first.judged.predictions))
}

/// A model that was run.
pub(crate) struct Run {
    pub(crate) model: Model,
    pub(crate) sequences: Vec<Sequence>,
    pub(crate) truncated: usize,
    pub(crate) max_length: usize,
    pub(crate) kept: Vec<Vec<f32>>,
    pub(crate) judged: Judged,
}

impl Run {
    fn of(task: &mut dyn Task, place: &Place, request: &Request, progress: &dyn Progress) -> Result<Run> {
        let model = Model::load(place, &|checkpoint| task.class(checkpoint))?;
        let usual = task.usual_length().map(|usual| usual.min(model.config.max_position_embeddings));
        let texts = Texts::open(place, &model.config, request.max_length.or(usual))?;
        let Prepared { sequences, truncated } = task.prepare(&model, &texts)?;
        let total = sequences.len();
        let tell = |done: usize| progress.step(&format!("{}: {done} of {total} sequences", model.name));
        tell(0);
        let keep = |at: usize, logits: Logits<'_>| task.keep(at, logits);
        let kept = run::run(&model, &sequences, request.batch_size, &keep, &tell)?;
        if let Some(at) = kept.iter().position(|values| values.iter().any(|value| value.is_nan())) {
            let message = format!("{}: NaN among the logits of sequence {at}", model.name);
            return Err(Error::new(Kind::Model, message));
        }
        let judged = task.judge(&kept)?;
        let max_length = texts.max_length;
        Ok(Run { model, sequences, truncated, max_length, kept, judged })
    }
}

/// Examples in groups, by the names of the groups: `accuracy.matched`, ….
#[derive(Debug, Default)]
struct Groups(BTreeMap<String, (usize, usize)>);

impl Groups {
    fn count(&mut self, group: &str, right: bool) {
        let (of_group, all) = self.0.entry(group.to_owned()).or_default();
        *of_group += usize::from(right);
        *all += 1;
    }

    /// The accuracy of all examples, and of each group if there are several.
    fn accuracies(&self) -> Vec<(String, Option<f64>)> {
        let sum = self.0.values().fold((0, 0), |sum, group| (sum.0 + group.0, sum.1 + group.1));
        let mut metrics = vec![("accuracy".to_owned(), metric::share(sum.0, sum.1))];
        if self.0.len() > 1 {
            let groups = self.0.iter();
            metrics.extend(
                groups.map(|(name, (right, all))| (format!("accuracy.{name}"), metric::share(*right, *all))),
            );
        }
        metrics
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
    Error::new(Kind::Model, message)
}
