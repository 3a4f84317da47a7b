//! What came of a task, for people and for programs. The schema is in `docs/tasks.md`.

use std::fmt::{self, Write as _};

use deberta_converters::error::{Error, Kind, Printable, Result};
use serde::Serialize;

use super::agreement::Agreement;
use super::metric::confusion::Confusion;
use super::metric::threshold::Threshold;
use super::names::TaskName;
use super::run::{Evaluation, TaskRequest};
use crate::judge::verdict::Outcome;
use crate::report::PRODUCER;

/// The schema of the JSON report.
pub const SCHEMA: &str = "deberta-verify-task-1";

/// How many flips are printed as text.
const SHOWN: usize = 20;

/// The result of a task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// This program and its version.
    pub producer: &'static str,
    /// `mnli`, ….
    pub task: TaskName,
    /// The model as it was named.
    pub model: String,
    /// The class that was run.
    pub class: String,
    /// What ran it.
    pub backend: String,
    /// How it ends.
    pub outcome: Outcome,
    /// Examples that were judged.
    pub examples: usize,
    /// Sequences that the model was given.
    pub sequences: usize,
    /// The longest sequence that was allowed.
    pub max_length: usize,
    /// Examples that lost tokens because they were too long.
    pub truncated: usize,
    /// The metrics, nothing where one is undefined.
    #[serde(serialize_with = "super::metric::json::metrics")]
    pub metrics: Vec<(String, Option<f64>)>,
    /// Which labels were taken for which, if the task has the same labels for all examples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
    /// What was asked of them.
    pub thresholds: Vec<ThresholdReport>,
    /// Whether another model answers alike, if that was asked.
    pub agreement: Option<Agreement>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// What was asked of a metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThresholdReport {
    /// The metric.
    pub metric: String,
    /// What it must not be below, if that was asked.
    pub min: Option<f64>,
    /// What it must not be above, if that was asked.
    pub max: Option<f64>,
    /// What it is; nothing if it is undefined.
    pub found: Option<f64>,
    /// What follows from that.
    pub outcome: Outcome,
}

impl fmt::Display for ThresholdReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = match (self.min, self.max) {
            (Some(min), _) => format!("at least {min}"),
            (_, max) => format!("at most {}", max.unwrap_or_default()),
        };
        let metric = Printable(&self.metric);
        write!(f, "{metric} is {}, {limit} is asked", shown(&self.metric, self.found))
    }
}

impl TaskReport {
    /// The report of a run.
    ///
    /// # Errors
    /// A threshold for a metric that the task does not have.
    pub(crate) fn new(
        request: &TaskRequest,
        run: &Evaluation,
        agreement: Option<Agreement>,
    ) -> Result<TaskReport> {
        let metrics = run.judged.metrics.clone();
        let mut known = metrics.clone();
        known.extend(agreement.iter().flat_map(Agreement::metrics));
        let judge = |threshold: &Threshold, min: bool| -> Result<ThresholdReport> {
            let Threshold { metric, limit } = threshold.clone();
            let found = known.iter().find(|(name, _)| *name == metric).ok_or_else(|| {
                let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
                let message = format!("no metric {metric:?} for a threshold: there are {}", names.join(", "));
                Error::new(Kind::Request, message)
            })?;
            let found = found.1.filter(|found| !found.is_nan());
            let outcome = match found {
                None => Outcome::Undecided,
                Some(found) if (min && found < limit) || (!min && found > limit) => Outcome::Divergence,
                Some(_) => Outcome::Pass,
            };
            let (min, max) = if min { (Some(limit), None) } else { (None, Some(limit)) };
            Ok(ThresholdReport { metric, min, max, found, outcome })
        };
        let mut thresholds = Vec::new();
        for (list, min) in [(&request.min, true), (&request.max, false)] {
            for threshold in list {
                thresholds.push(judge(threshold, min)?);
            }
        }
        let flipped = agreement.as_ref().is_some_and(|agreement| !agreement.flips.is_empty());
        let flips = match flipped && Agreement::must_be_equal(&request.max) {
            true => Outcome::Divergence,
            false => Outcome::Pass,
        };
        let outcomes = thresholds.iter().map(|threshold| threshold.outcome);
        let notes = run.model.notes.iter().chain(&run.judged.notes).cloned();
        Ok(TaskReport {
            schema: SCHEMA,
            producer: PRODUCER,
            task: request.task,
            model: run.model.name.clone(),
            class: run.model.class.to_string(),
            backend: run.model.backend.name().to_owned(),
            outcome: outcomes.chain([flips]).max().unwrap_or(Outcome::Pass),
            examples: run.judged.examples,
            sequences: run.sequences.len(),
            max_length: run.max_length,
            truncated: run.truncated,
            metrics,
            confusion: run.judged.confusion.clone(),
            thresholds,
            agreement,
            notes: notes.collect(),
        })
    }

    /// The report as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A string can always be written to.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let TaskReport { task, model, class, backend, .. } = self;
        writeln!(out, "{task}: {class} by {backend}, {}", Printable(model))?;
        write!(out, "{} examples, {} sequences", self.examples, self.sequences)?;
        writeln!(out, " of at most {} tokens, {} truncated", self.max_length, self.truncated)?;
        for (name, value) in &self.metrics {
            write!(out, "  {:20} {}", Printable(name).to_string(), shown(name, *value))?;
            let others = self.agreement.iter().flat_map(|agreement| &agreement.metrics);
            match others.into_iter().find(|(other, _)| other == name) {
                Some((_, other)) => writeln!(out, ", of the other model {}", shown(name, *other))?,
                None => writeln!(out)?,
            }
        }
        if let Some(confusion) = &self.confusion {
            confusion.write(out)?;
        }
        for note in &self.notes {
            writeln!(out, "note: {}", Printable(note))?;
        }
        if let Some(agreement) = &self.agreement {
            agreement.write(out)?;
        }
        for threshold in &self.thresholds {
            let word = match threshold.outcome {
                Outcome::Pass => "ok",
                Outcome::Divergence => "FAILED",
                Outcome::Undecided => "UNDEFINED",
            };
            writeln!(out, "{word}: {threshold}")?;
        }
        let word = match self.outcome {
            Outcome::Pass => "pass",
            Outcome::Divergence => "failed",
            Outcome::Undecided => "undecided",
        };
        writeln!(out, "{word}")
    }
}

/// How many labels a table of them has.
const MOST_LABELS: usize = 12;

/// How wide its columns are, at least and at most.
const NARROW: usize = 6;
const WIDE: usize = 16;

impl Confusion {
    /// Writes the table; of many labels the most frequent mistakes are of more use.
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let labels: Vec<String> = self.labels.iter().map(|label| Printable(label).to_string()).collect();
        if labels.len() > MOST_LABELS {
            return self.write_mistakes(&labels, out);
        }
        let cut = |label: &str| label.chars().take(WIDE).collect::<String>();
        let width = labels.iter().map(|label| cut(label).chars().count()).max().unwrap_or(0).max(NARROW);
        write!(out, "  {:20}", "expected, predicted")?;
        labels.iter().try_for_each(|label| write!(out, " {:>width$}", cut(label)))?;
        writeln!(out)?;
        for (label, row) in labels.iter().zip(&self.counts) {
            write!(out, "  {:20}", cut(label))?;
            row.iter().try_for_each(|count| write!(out, " {count:>width$}"))?;
            writeln!(out)?;
        }
        Ok(())
    }

    fn write_mistakes(&self, labels: &[String], out: &mut String) -> std::fmt::Result {
        let rows = labels.iter().zip(&self.counts);
        let mut mistakes: Vec<(usize, &String, &String)> = rows
            .flat_map(|(expected, row)| {
                row.iter().zip(labels).map(move |(&count, label)| (count, expected, label))
            })
            .filter(|(count, expected, predicted)| *count > 0 && expected != predicted)
            .collect();
        mistakes.sort_by_key(|(count, ..)| std::cmp::Reverse(*count));
        for (count, expected, predicted) in mistakes.into_iter().take(MOST_LABELS) {
            writeln!(out, "  {count} of {expected} taken for {predicted}")?;
        }
        Ok(())
    }
}

impl Agreement {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Agreement { against, backend, choices, flips, .. } = self;
        writeln!(out, "against {} by {backend}", Printable(against))?;
        writeln!(
            out,
            "  largest difference   {:e} among {} numbers, in sequence {}",
            self.largest_difference, self.numbers, self.largest_in_sequence
        )?;
        if let Some(close) = self.closest.first() {
            let example = Printable(&close.example);
            writeln!(out, "  smallest margin      {:e} in {example}", close.margin)?;
        }
        writeln!(out, "  flips                {} of {choices} choices", flips.len())?;
        for flip in flips.iter().take(SHOWN) {
            let (example, chosen, other) =
                (Printable(&flip.example), Printable(&flip.chosen), Printable(&flip.against));
            writeln!(
                out,
                "    {example}: {chosen:?} by {:e}, against {other:?} by {:e}",
                flip.margin,
                flip.against_margin,
                chosen = chosen.to_string(),
                other = other.to_string()
            )?;
        }
        match flips.len().checked_sub(SHOWN) {
            Some(more) if more > 0 => writeln!(out, "    and {more} more: --format json has all"),
            _ => Ok(()),
        }
    }
}

/// What a metric is: four digits after the point, but none of what is counted.
fn shown(metric: &str, value: Option<f64>) -> String {
    let counted = ["tokens", "replaced", "flips"].contains(&metric) || metric.ends_with("total");
    match value {
        Some(value) if counted => format!("{value}"),
        Some(value) => format!("{value:.4}"),
        None => "undefined".to_owned(),
    }
}
