//! Natural language inference: does the first sentence entail the second, contradict it, or neither?
//!
//! Any set of labels will do, as long as the model's configuration names them.

use std::path::{Path, PathBuf};

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Printable, Result};
use deberta_reference::Head;
use serde::Deserialize;

use super::accuracy::labelled;
use super::classify::columns::Choice;
use super::classify::records::{self, Record as Row};
use super::data::{Line, Table, quoted};
use super::labels::{self, DataLabel, NONE};
use super::model::{TaskModel, Texts};
use super::{Judged, Prepared, Task};
use crate::report::name_of;
use crate::trace::class::Class;

/// Pairs of sentences and how they go together.
pub struct Mnli {
    examples: Vec<Example>,
    /// Examples about which the annotators did not agree.
    without_label: usize,
    /// The names of the model's labels.
    labels: Vec<String>,
    /// The expected label of each example, by its number in `labels`.
    expected: Vec<usize>,
}

struct Example {
    place: String,
    group: String,
    premise: String,
    hypothesis: String,
    label: String,
}

/// The columns of files that are read by their names.
const COLUMNS: Choice = Choice::Pair(&["gold_label", "label"]);

/// A line of the original data, or of {premise, hypothesis, label}.
#[derive(Deserialize)]
struct Record {
    gold_label: Option<String>,
    #[serde(alias = "premise")]
    sentence1: String,
    #[serde(alias = "hypothesis")]
    sentence2: String,
    label: Option<DataLabel>,
}

impl Mnli {
    /// Reads tables of GLUE, lines of JSON, and files by their columns, of each file as many examples as `limit` says. `names` are those of labels
    /// that the data give as numbers.
    ///
    /// # Errors
    /// A file without examples; an example without its sentences or label; numbers without `names`.
    pub fn read(files: &[PathBuf], limit: Option<usize>, names: Option<&[String]>) -> Result<Mnli> {
        let mut in_lines = 0;
        let of_row = |path: &Path, row| of_columns(row, &group(path), names);
        let (examples, in_rows) = records::examples(files, &COLUMNS, limit, of_row, |file, limit| {
            let group = group(file.path());
            let mut labelled = |example: Result<Option<Example>>| {
                in_lines += usize::from(matches!(example, Ok(None)));
                example.transpose()
            };
            if file.looks_like_json() {
                let records = file.texts().map(|line| of_record(line, &group, names));
                return records.filter_map(labelled).take(limit).collect();
            }
            let table = Table::open(file, &["sentence1", "sentence2", "gold_label"])?;
            let rows = table.rows().map(|row| {
                let row = row?;
                let sentences = [row.get("sentence1"), row.get("sentence2")];
                example(row.line, &group, sentences, row.get("gold_label"))
            });
            rows.filter_map(&mut labelled).take(limit).collect()
        })?;
        Ok(Mnli { examples, without_label: in_lines + in_rows, labels: Vec::new(), expected: Vec::new() })
    }
}

/// `matched`, `mismatched`, or the name of the file.
fn group(path: &Path) -> String {
    let name = name_of(path);
    let lower = name.to_lowercase();
    let known = ["mismatched", "matched"].into_iter().find(|known| lower.contains(known));
    known.map_or_else(|| name.split('.').next().unwrap_or(&name).to_owned(), str::to_owned)
}

fn of_record(line: Line<'_>, group: &str, names: Option<&[String]>) -> Result<Option<Example>> {
    let record: Record = line.json()?;
    let label = match (record.gold_label, record.label) {
        (Some(label), _) => label,
        (None, Some(label)) => label.name(names).map_err(|why| line.error(&why))?,
        (None, None) => return Err(line.error("neither gold_label nor label")),
    };
    example(line, group, [&record.sentence1, &record.sentence2], &label)
}

fn of_columns(row: Row, group: &str, names: Option<&[String]>) -> Result<Example> {
    let Row { place, text, pair, label } = row;
    let wrong = |why: &str| Error::malformed(format!("{}: {why}", Printable(&place)));
    let label = DataLabel::of(&label).name(names).map_err(|why| wrong(&why))?;
    let (premise, hypothesis) = (text, pair.unwrap_or_default());
    if premise.is_empty() && hypothesis.is_empty() {
        return Err(wrong("two empty sentences"));
    }
    Ok(Example { place, group: group.to_owned(), premise, hypothesis, label })
}

fn example(line: Line<'_>, group: &str, sentences: [&str; 2], label: &str) -> Result<Option<Example>> {
    match (label.trim(), sentences) {
        ("", _) => Err(line.error("no label")),
        (NONE, _) => Ok(None),
        (_, ["", ""]) => Err(line.error("two empty sentences")),
        (label, [premise, hypothesis]) => Ok(Some(Example {
            place: line.place(),
            group: group.to_owned(),
            premise: premise.to_owned(),
            hypothesis: hypothesis.to_owned(),
            label: label.to_owned(),
        })),
    }
}

impl Task for Mnli {
    fn class(&self, checkpoint: &Checkpoint) -> Class {
        Class::of_head(checkpoint.config.family, Head::SequenceClassification)
    }

    fn prepare(&mut self, model: &TaskModel, texts: &Texts) -> Result<Prepared> {
        self.labels = model.labels()?.to_vec();
        let number = |example: &Example| {
            let number = self.labels.iter().position(|label| label.eq_ignore_ascii_case(&example.label));
            number.ok_or_else(|| {
                let (place, label) = (&example.place, quoted(&example.label));
                let message =
                    format!("{place}: label {label}, the model has {}", labels::listed(&self.labels));
                Error::new(Kind::Config, message)
            })
        };
        self.expected = self.examples.iter().map(number).collect::<Result<_>>()?;
        let mut prepared = Prepared::default();
        for example in &self.examples {
            prepared.add(texts, [[&example.premise, &example.hypothesis].map(String::as_str)])?;
        }
        Ok(prepared)
    }

    fn judge(&self, kept: &[Vec<f32>]) -> Result<Judged> {
        let places = self.examples.iter().map(|example| (example.place.as_str(), example.group.as_str()));
        let mut judged = labelled(places, &self.labels, &self.expected, kept)?;
        judged.notes.extend(labels::left_out(self.without_label));
        Ok(judged)
    }
}
