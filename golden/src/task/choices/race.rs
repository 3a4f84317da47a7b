//! RACE: articles with questions. A choice stands in the gap of its question, or after it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deberta_converters::error::{Error, Kind, Result};
use serde::Deserialize;

use super::{MOST, Question};
use crate::report::name_of;
use crate::task::data::{TextFile, quoted};

/// An article of the original files, with several questions, or a line with one.
#[derive(Deserialize)]
struct Record {
    #[serde(alias = "example_id")]
    id: Option<String>,
    article: String,
    #[serde(alias = "question")]
    questions: OneOrMany<String>,
    options: Options,
    #[serde(alias = "answer")]
    answers: OneOrMany<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Options {
    One(Vec<String>),
    Many(Vec<Vec<String>>),
}

/// Reads files and folders, of each as many questions as `limit` says.
pub(super) fn read(files: &[PathBuf], limit: Option<usize>) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    for path in files {
        let start = questions.len();
        let mut articles = Vec::new();
        find(path, 0, &mut articles)?;
        for path in articles {
            if limit.is_some_and(|limit| questions.len() - start >= limit) {
                break;
            }
            read_file(&path, &mut questions)?;
        }
        if questions.len() == start {
            return Err(Error::malformed("no questions: neither .txt nor .jsonl files").in_file(path));
        }
        questions.truncate(start + limit.unwrap_or(usize::MAX).min(questions.len() - start));
    }
    Ok(questions)
}

/// The files in a folder and its folders, by name; or the file itself.
fn find(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    const DEEPEST: usize = 4;
    let metadata = fs::metadata(path).map_err(|error| Error::io(path, "open", error))?;
    if !metadata.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    if depth > DEEPEST {
        return Err(Error::new(Kind::Refused, format!("more than {DEEPEST} folders deep")).in_file(path));
    }
    let entries = fs::read_dir(path).map_err(|error| Error::io(path, "open", error))?;
    let mut inside = Vec::new();
    for entry in entries {
        inside.push(entry.map_err(|error| Error::io(path, "read", error))?.path());
    }
    inside.retain(|path| path.is_dir() || path.extension().is_some_and(|end| end == "txt" || end == "jsonl"));
    inside.sort();
    inside.iter().try_for_each(|path| find(path, depth + 1, found))
}

fn read_file(path: &Path, questions: &mut Vec<Question>) -> Result<()> {
    let file = TextFile::read(path)?;
    let mut found = false;
    // An article by itself can stand on several lines.
    if let Ok(record) = file.json::<Record>() {
        return add(record, path, &name_of(path), 1, &file, questions);
    }
    for line in file.texts() {
        add(line.json()?, path, &line.place(), line.number, &file, questions)?;
        found = true;
    }
    if found { Ok(()) } else { Err(file.empty()) }
}

fn add(
    record: Record,
    path: &Path,
    place: &str,
    line: usize,
    file: &TextFile,
    questions: &mut Vec<Question>,
) -> Result<()> {
    let Record { id, article, questions: asked, options, answers } = record;
    let (asked, answers) = (asked.into_vec(), answers.into_vec());
    let options = match options {
        Options::One(options) => vec![options],
        Options::Many(options) => options,
    };
    if asked.is_empty() || asked.len() != options.len() || asked.len() != answers.len() {
        let counts = format!(
            "{} questions, {} lists of options and {} answers",
            asked.len(),
            options.len(),
            answers.len()
        );
        return Err(file.at(line, &counts));
    }
    let name = id.unwrap_or_else(|| place.to_owned());
    let article: Arc<str> = article.into();
    let group = group(&name, path);
    for (number, ((question, options), answer)) in asked.into_iter().zip(options).zip(answers).enumerate() {
        let wrong = |message: String| file.at(line, &format!("question {number}: {message}"));
        if !(2..=MOST).contains(&options.len()) {
            let count = options.len();
            return Err(wrong(format!("{count} options, expected 4, or another number from 2 to {MOST}")));
        }
        let letters = || ('A'..='Z').take(options.len());
        let at = letters().position(|letter| answer.trim().chars().eq([letter]));
        let at = at.ok_or_else(|| {
            let last = letters().last().unwrap_or_default();
            let all: Vec<String> = letters().map(String::from).collect();
            let others = all.split_last().map_or_else(String::new, |(_, others)| others.join(", "));
            wrong(format!("answer {}, expected {others} or {last}", quoted(&answer)))
        })?;
        questions.push(Question {
            place: format!("{name}#{number}"),
            group: group.clone(),
            first: Arc::clone(&article),
            seconds: options.iter().map(|option| filled(&question, option)).collect(),
            names: options,
            answer: at,
        });
    }
    Ok(())
}

/// `middle`, `high`, or `other`.
fn group(name: &str, path: &Path) -> String {
    let said = |text: &str| ["middle", "high"].into_iter().find(|level| text.starts_with(level));
    let folders = path.iter().rev().filter_map(|part| part.to_str());
    said(name).or_else(|| folders.filter_map(said).next()).unwrap_or("other").to_owned()
}

/// A question with an answer: in the question's gap, or after it.
fn filled(question: &str, option: &str) -> String {
    if question.contains('_') { question.replace('_', option) } else { format!("{question} {option}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_goes_into_the_gap_or_after_the_question() {
        assert_eq!(filled("Ada lives in _ .", "Selby"), "Ada lives in Selby .");
        assert_eq!(filled("Where does Ada live?", "Selby"), "Where does Ada live? Selby");
    }

    #[test]
    fn the_level_is_in_the_name_or_in_the_folder() {
        assert_eq!(group("high19088.txt", Path::new("x")), "high");
        assert_eq!(group("1.txt", Path::new("RACE/test/middle/1.txt")), "middle");
        assert_eq!(group("1.txt", Path::new("test/1.txt")), "other");
    }
}
