//! Texts with their labels: tables with tabs, and lines of JSON.

use std::path::PathBuf;

use deberta_converters::error::{Error, Kind, Result};
use serde::Deserialize;

use crate::task::data::{Line, Table, TextFile, quoted, read_all};
use crate::task::labels::{self, DataLabel, NONE};

/// What is read of files.
#[derive(Debug, Default)]
pub(super) struct Examples {
    pub(super) examples: Vec<Example>,
    /// The labels that every text can have.
    pub(super) candidates: Vec<String>,
    /// Examples that have no label, and are left out.
    pub(super) without_label: usize,
}

/// A text with its labels, by their numbers among the candidates.
#[derive(Debug)]
pub(super) struct Example {
    pub(super) place: String,
    pub(super) text: String,
    pub(super) labels: Vec<usize>,
}

/// A line of JSON.
#[derive(Deserialize)]
struct Record {
    #[serde(alias = "premise", alias = "sequence")]
    text: String,
    label: Option<DataLabel>,
    labels: Option<Vec<DataLabel>>,
}

impl Examples {
    /// Reads files, of each as many examples as `limit` says. The candidates are `names`, or else all labels of the files,
    /// also of what is beyond the limit, in the order in which they come. An example has one label, or any number if
    /// `several` may apply.
    ///
    /// # Errors
    /// A file without examples; an example without text or label, or with one that is not among the names.
    pub(super) fn read(
        files: &[PathBuf],
        limit: Option<usize>,
        names: Option<&[String]>,
        several: bool,
    ) -> Result<Examples> {
        let mut read =
            Examples { candidates: names.map(named).transpose()?.unwrap_or_default(), ..Examples::default() };
        let examples = read_all(files, None, |file, _| {
            let examples = lines(file, names, several)?;
            let mut kept = Vec::new();
            for (line, text, labels) in examples {
                if labels.iter().any(|label| label == NONE) {
                    read.without_label += 1;
                    continue;
                }
                let number = |label: &String| read.number(line, label, names.is_some());
                let labels = labels.iter().map(number).collect::<Result<_>>()?;
                kept.push(Example { place: line.place(), text, labels });
            }
            kept.truncate(limit.unwrap_or(usize::MAX));
            Ok(kept)
        })?;
        Ok(Examples { examples, ..read })
    }

    /// The number of a label among the candidates, which it joins unless they are given.
    fn number(&mut self, line: Line<'_>, label: &str, given: bool) -> Result<usize> {
        if label.is_empty() {
            return Err(line.error("an empty label"));
        }
        if let Some(at) = self.candidates.iter().position(|candidate| candidate == label) {
            return Ok(at);
        }
        if given {
            let message =
                format!("label {}, --labels names {}", quoted(label), labels::listed(&self.candidates));
            return Err(line.error(&message));
        }
        self.candidates.push(label.to_owned());
        Ok(self.candidates.len() - 1)
    }
}

/// The labels of the command line, each once.
fn named(names: &[String]) -> Result<Vec<String>> {
    let mut labels: Vec<String> = Vec::new();
    for name in names.iter().map(|name| name.trim()) {
        if name.is_empty() || labels.iter().any(|label| label == name) {
            let message = format!("labels: {} is empty or there twice", quoted(name));
            return Err(Error::new(Kind::Request, message));
        }
        labels.push(name.to_owned());
    }
    Ok(labels)
}

/// The lines of a file with their texts and labels.
fn lines<'f>(
    file: &'f TextFile,
    names: Option<&[String]>,
    several: bool,
) -> Result<Vec<(Line<'f>, String, Vec<String>)>> {
    let checked = |line: Line<'f>, text: &str, labels: Vec<String>| {
        if text.trim().is_empty() {
            return Err(line.error("an empty text"));
        }
        if !several && labels.len() != 1 {
            let count = labels.len();
            return Err(line.error(&format!("{count} labels, expected 1: --multi-label takes any number")));
        }
        Ok((line, text.to_owned(), labels))
    };
    if file.looks_like_json() {
        let of_record = |line: Line<'f>| {
            let Record { text, label, labels } = line.json()?;
            let labels = match (label, labels) {
                (Some(label), None) => vec![label],
                (None, Some(labels)) => labels,
                (Some(_), Some(_)) => return Err(line.error("both label and labels")),
                (None, None) => return Err(line.error("neither label nor labels")),
            };
            let labels = labels.into_iter().map(|label| label.name(names).map_err(|why| line.error(&why)));
            checked(line, &text, labels.collect::<Result<_>>()?)
        };
        return file.texts().map(of_record).collect();
    }
    let column = if Table::open(file, &["text"])?.has("labels") { "labels" } else { "label" };
    let table = Table::open(file, &["text", column])?;
    let rows = table.rows().map(|row| {
        let row = row?;
        let cell = row.get(column).trim();
        let labels: Vec<String> = match column {
            "label" => vec![cell.to_owned()],
            _ if cell.is_empty() => Vec::new(),
            _ => cell.split(',').map(|label| label.trim().to_owned()).collect(),
        };
        checked(row.line, row.get("text"), labels)
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(text: &str, names: Option<&[&str]>, several: bool) -> std::result::Result<Examples, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsv");
        fs::write(&path, text).unwrap();
        let names: Option<Vec<String>> =
            names.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        let read = Examples::read(&[path], Some(2), names.as_deref(), several);
        read.map_err(|error| error.to_string().rsplit("a.tsv: ").next().unwrap().to_owned())
    }

    #[test]
    fn candidates_are_those_of_the_whole_file() {
        let found = read("text\tlabel\na\tx\nb\t-\nc\ty\nd\tz\n", None, false).unwrap();
        assert_eq!(found.candidates, ["x", "y", "z"]);
        assert_eq!((found.examples.len(), found.without_label), (2, 1));
        assert_eq!(found.examples[1].labels, [1]);
    }

    #[test]
    fn several_labels_are_apart_by_commas_or_in_a_list() {
        let found = read("text\tlabels\na\tx, y\nb\t\n", None, true).unwrap();
        assert_eq!(found.examples[0].labels, [0, 1]);
        assert_eq!(found.examples[1].labels, [0; 0]);
        let lines = "{\"premise\": \"a\", \"labels\": [\"y\", 0]}\n";
        assert_eq!(read(lines, Some(&["x", "y"]), true).unwrap().examples[0].labels, [1, 0]);
    }

    #[test]
    fn wrong_lines_are_told() {
        for (text, names, expected) in [
            ("text\tclass\na\tx\n", None, "line 1: no column \"label\" among the 2 of the header"),
            ("text\tlabel\na\tz\n", Some(&["x", "y"][..]), "line 2: label \"z\", --labels names x, y"),
            ("text\tlabel\n \tz\n", None, "line 2: an empty text"),
            ("text\tlabel\na\t\n", None, "line 2: an empty label"),
            ("text\tlabels\na\tx,y\n", None, "line 2: 2 labels, expected 1: --multi-label takes any number"),
            ("{\"text\": \"a\"}", None, "line 1: neither label nor labels"),
            ("{\"text\": \"a\", \"label\": 1}", None, "line 1: label 1: --labels must name"),
            ("text\tlabel\na\tx\n", Some(&["x", "x"]), "labels: \"x\" is empty or there twice"),
        ] {
            let error = read(text, names, false).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
