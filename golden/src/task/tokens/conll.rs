//! Columns of words and tags, a word a line, sentences apart by empty lines.

use std::path::PathBuf;

use deberta_converters::error::Result;

use crate::task::data::{TextFile, read_all};
use crate::task::metric::entities::{Scheme, Tag};

/// A sentence.
pub(super) struct Sentence {
    /// The file and the line of its first word.
    pub(super) place: String,
    /// The first column.
    pub(super) words: Vec<String>,
    /// The last column.
    pub(super) tags: Vec<Tag>,
}

/// Reads files, of each as many sentences as `limit` says.
///
/// # Errors
/// A file without sentences; a line without a tag, or with another number of columns than the first.
pub(super) fn read(files: &[PathBuf], limit: Option<usize>, scheme: Scheme) -> Result<Vec<Sentence>> {
    read_all(files, limit, |file, limit| sentences_of(file, limit, scheme))
}

fn sentences_of(file: &TextFile, limit: usize, scheme: Scheme) -> Result<Vec<Sentence>> {
    let mut sentences: Vec<Sentence> = Vec::new();
    let (mut inside, mut width) = (false, None);
    for line in file.lines() {
        let columns: Vec<&str> = line.text.split_ascii_whitespace().collect();
        let (first, last) = match columns[..] {
            [] | ["-DOCSTART-", ..] => {
                inside = false;
                continue;
            }
            [only] => return Err(line.error(&format!("one column {only:?}, expected a word and a tag"))),
            [first, .., last] => (first, last),
        };
        let expected = *width.get_or_insert(columns.len());
        if columns.len() != expected {
            return Err(line.error(&format!("{} columns, the lines before have {expected}", columns.len())));
        }
        let tag = Tag::parse(last, scheme).map_err(|message| line.error(&message))?;
        if !inside {
            if sentences.len() >= limit {
                break;
            }
            sentences.push(Sentence { place: line.place(), words: Vec::new(), tags: Vec::new() });
            inside = true;
        }
        if let Some(sentence) = sentences.last_mut() {
            sentence.words.push(first.to_owned());
            sentence.tags.push(tag);
        }
    }
    Ok(sentences)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Sentence>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(&[file.path().to_owned()], None, Scheme::Lenient)
    }

    #[test]
    fn sentences_are_apart_by_empty_lines() {
        let text = "-DOCSTART- -X- O O\n\nAda NNP I-NP B-PER\nsings VB I-VP O\n\n\nSelby NNP I-NP B-LOC\n";
        let sentences = read_text(text).unwrap();
        let words: Vec<&[String]> = sentences.iter().map(|sentence| sentence.words.as_slice()).collect();
        assert_eq!(words, [["Ada", "sings"].as_slice(), ["Selby"].as_slice()]);
        assert!(sentences[1].place.ends_with(":7"), "{}", sentences[1].place);
    }

    #[test]
    fn lines_that_are_not_of_the_form_are_refused() {
        for (text, message) in [
            ("Ada B-PER\nsings\n", "line 2: one column \"sings\""),
            ("Ada B-PER\nsings VB O\n", "line 2: 3 columns, the lines before have 2"),
            ("Ada PERSON\n", "line 1: \"PERSON\" is no tag"),
            ("\n\n", "no examples"),
        ] {
            let error = read_text(text).err().unwrap().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
