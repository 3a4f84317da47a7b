//! Similarity of two sentences, from 0 to 5: how the model's scores go together with those of people.

use std::path::{Path, PathBuf};

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Printable, Result};
use deberta_reference::Head;
use serde::Deserialize;
use serde_json::json;

use super::classify::columns::Choice;
use super::classify::records::{self, Record as Row};
use super::data::{Line, Table, quoted};
use super::labels;
use super::metric::correlation::{pearson, spearman};
use super::model::{TaskModel, Texts};
use super::{Judged, Prepared, Task, misshapen, number, prediction};
use crate::trace::class::Class;

/// Pairs of sentences and their scores.
pub struct Stsb {
    examples: Vec<Example>,
    /// Examples whose score nobody tells, as in the test data of GLUE.
    without_score: usize,
}

/// The columns of files that are read by their names.
const COLUMNS: Choice = Choice::Pair(&["score", "label"]);

struct Example {
    place: String,
    sentences: [String; 2],
    score: f64,
}

/// A line of JSON.
#[derive(Deserialize)]
struct Record {
    sentence1: String,
    sentence2: String,
    #[serde(alias = "label")]
    score: f64,
}

impl Stsb {
    /// Reads tables of GLUE, lines of JSON, and files by their columns, of each file as many examples as `limit` says.
    ///
    /// # Errors
    /// A file without examples; an example without its sentences or score.
    pub fn read(files: &[PathBuf], limit: Option<usize>) -> Result<Stsb> {
        let of_row = |_: &Path, row| of_columns(row);
        let (examples, without_score) = records::examples(files, &COLUMNS, limit, of_row, |file, limit| {
            if file.looks_like_json() {
                let of_line = |line: Line<'_>| {
                    let Record { sentence1, sentence2, score } = line.json()?;
                    example(line, [&sentence1, &sentence2], score)
                };
                return file.texts().take(limit).map(of_line).collect();
            }
            let table = Table::open(file, &["sentence1", "sentence2", "score"])?;
            let rows = table.rows().take(limit).map(|row| {
                let row = row?;
                let text = row.get("score").trim();
                let wrong = |_: std::num::ParseFloatError| {
                    row.line.error(&format!("score {}: no number", quoted(text)))
                };
                let score = text.parse().map_err(wrong)?;
                example(row.line, [row.get("sentence1"), row.get("sentence2")], score)
            });
            rows.collect()
        })?;
        Ok(Stsb { examples, without_score })
    }
}

fn of_columns(row: Row) -> Result<Example> {
    let Row { place, text, pair, label } = row;
    let wrong = |why: &str| Error::malformed(format!("{}: {why}", Printable(&place)));
    let score = label.parse::<f64>().ok().filter(|score| score.is_finite());
    let score = score.ok_or_else(|| wrong(&format!("score {}: no number", quoted(&label))))?;
    let sentences = [text, pair.unwrap_or_default()];
    if sentences.iter().all(String::is_empty) {
        return Err(wrong("two empty sentences"));
    }
    Ok(Example { place, sentences, score })
}

fn example(line: Line<'_>, sentences: [&str; 2], score: f64) -> Result<Example> {
    if !score.is_finite() {
        return Err(line.error(&format!("score {score}: not finite")));
    }
    if sentences == ["", ""] {
        return Err(line.error("two empty sentences"));
    }
    Ok(Example { place: line.place(), sentences: sentences.map(str::to_owned), score })
}

impl Task for Stsb {
    fn class(&self, checkpoint: &Checkpoint) -> Class {
        Class::of_head(checkpoint.config.family, Head::SequenceClassification)
    }

    fn prepare(&mut self, model: &TaskModel, texts: &Texts) -> Result<Prepared> {
        model.require_one_label("a similarity is one number")?;
        let mut prepared = Prepared::default();
        for Example { sentences: [first, second], .. } in &self.examples {
            prepared.add(texts, [[first.as_str(), second]])?;
        }
        Ok(prepared)
    }

    fn judge(&self, kept: &[Vec<f32>]) -> Result<Judged> {
        let mut judged = Judged { examples: self.examples.len(), ..Judged::default() };
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        for (example, logits) in self.examples.iter().zip(kept) {
            let [score] = logits[..] else { return Err(misshapen(&example.place, logits.len(), 1)) };
            expected.push(example.score);
            found.push(f64::from(score));
            judged.predictions.push(prediction([
                ("example", json!(example.place)),
                ("score", json!(example.score)),
                ("predicted", number(score)),
            ]));
        }
        judged.metrics = vec![
            ("pearson".to_owned(), pearson(&found, &expected)),
            ("spearman".to_owned(), spearman(&found, &expected)),
        ];
        judged.notes.extend(labels::left_out(self.without_score));
        Ok(judged)
    }
}
