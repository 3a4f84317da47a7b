//! Texts, or pairs of them, and one label each: accuracy, F1, and which labels are taken for which.

use std::path::PathBuf;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Printable, Result};
use deberta_reference::{Head, TruncationStrategy};

use super::accuracy::labelled;
use super::data::quoted;
use super::labels;
use super::metric::confusion::Confusion;
use super::model::{TaskModel, Texts};
use super::{Judged, Prepared, Sequence, Task};
use crate::report::name_of;
use crate::trace::class::Class;

pub(super) mod columns;
#[cfg(feature = "parquet")]
mod parquet;
pub(super) mod records;

use columns::Choice;
pub use columns::Columns;

/// Texts with labels.
pub struct Classify {
    examples: Vec<Example>,
    /// Examples without a label.
    without_label: usize,
    /// The names of labels that the data give as numbers.
    names: Option<Vec<String>>,
    /// The names of the model's labels.
    labels: Vec<String>,
    /// The expected label of each example, by its number in `labels`.
    expected: Vec<usize>,
}

struct Example {
    place: String,
    group: String,
    text: String,
    pair: Option<String>,
    label: String,
}

impl Classify {
    /// Reads tables and JSON, of each file as many examples as `limit` says. `names` are those of labels that the data give as
    /// numbers.
    ///
    /// # Errors
    /// A file that cannot be read, has no example, or lacks a column.
    pub fn read(
        files: &[PathBuf],
        limit: Option<usize>,
        columns: &Columns,
        names: Option<&[String]>,
    ) -> Result<Classify> {
        let (mut examples, mut without_label) = (Vec::new(), 0);
        let columns = Choice::Named(columns.clone());
        for path in files {
            let group = name_of(path);
            let group = group.rsplit_once('.').map_or(group.as_str(), |(stem, _)| stem);
            let found = records::read(path, &columns, limit.unwrap_or(usize::MAX))?;
            without_label += found.without_label;
            examples.extend(found.records.into_iter().map(|record| Example {
                place: record.place,
                group: group.to_owned(),
                text: record.text,
                pair: record.pair,
                label: record.label,
            }));
        }
        let names = names.map(<[String]>::to_vec);
        Ok(Classify { examples, without_label, names, labels: Vec::new(), expected: Vec::new() })
    }

    /// The number of a label among those of the model: by its name, or by the name that its number has. Numbers are those of
    /// the model itself where its labels have no names.
    fn number(&self, example: &Example, unnamed: bool) -> Result<usize> {
        let label = example.label.as_str();
        let by_name = |name: &str| self.labels.iter().position(|label| label.eq_ignore_ascii_case(name));
        let number = label.parse::<usize>().ok();
        let found = match (&self.names, number) {
            (Some(names), Some(number)) if unnamed => names.get(number).map(|_| number),
            (Some(names), Some(number)) => names.get(number).and_then(|name| by_name(name)),
            (Some(names), None) if unnamed => names.iter().position(|name| name.eq_ignore_ascii_case(label)),
            (None, Some(number)) if unnamed => Some(number),
            _ => by_name(label),
        };
        found.filter(|&found| found < self.labels.len()).ok_or_else(|| {
            let hint = match (&self.names, number) {
                (None, Some(_)) => {
                    "; --labels must name the data's labels in the order of their numbers, as negative,positive"
                }
                _ => "",
            };
            let (place, known) = (Printable(&example.place), labels::listed(&self.labels));
            let message = format!("{place}: label {}, the model has {known}{hint}", quoted(label));
            Error::new(Kind::Config, message)
        })
    }
}

impl Task for Classify {
    fn class(&self, checkpoint: &Checkpoint) -> Class {
        Class::of_head(checkpoint.config.family, Head::SequenceClassification)
    }

    fn prepare(&mut self, model: &TaskModel, texts: &Texts) -> Result<Prepared> {
        let config = &model.config;
        if config.num_labels < 2 {
            let message =
                format!("{}: one label, nothing to choose from: stsb is the task for scores", model.name);
            return Err(Error::new(Kind::Config, message));
        }
        let own: Vec<String> = (0..config.num_labels).map(|id| config.label(id)).collect();
        let unnamed = own.iter().enumerate().all(|(id, name)| *name == format!("LABEL_{id}"));
        self.labels = if unnamed { own } else { model.labels()?.to_vec() };
        self.expected =
            self.examples.iter().map(|example| self.number(example, unnamed)).collect::<Result<_>>()?;
        let mut prepared = Prepared::default();
        for Example { text, pair, .. } in &self.examples {
            let (encoding, cut) =
                texts.encode_cut(text, pair.as_deref(), TruncationStrategy::LongestFirst)?;
            prepared.sequences.push(Sequence::new(encoding.input_ids, encoding.token_type_ids));
            prepared.truncated += usize::from(cut);
        }
        Ok(prepared)
    }

    fn judge(&self, kept: &[Vec<f32>]) -> Result<Judged> {
        let places = self.examples.iter().map(|example| (example.place.as_str(), example.group.as_str()));
        let mut judged = labelled(places, &self.labels, &self.expected, kept)?;
        let f1 = judged.confusion.as_ref().and_then(Confusion::f1_macro);
        judged.metrics.push(("f1_macro".to_owned(), f1));
        judged.notes.extend(labels::left_out(self.without_label));
        Ok(judged)
    }
}
