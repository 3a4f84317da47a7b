//! SQuAD's JSON: articles of paragraphs with questions.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use deberta_converters::error::{Error, Result};
use serde::Deserialize;

use crate::task::data::{quoted, read_all};

/// A question about a text.
pub(super) struct Question {
    pub(super) id: String,
    pub(super) question: String,
    pub(super) context: Arc<str>,
    /// The place of the context among all.
    pub(super) context_number: usize,
    /// What people answered; nothing where the text has no answer.
    pub(super) answers: Vec<String>,
}

/// The questions of files.
pub(super) struct Questions {
    pub(super) questions: Vec<Question>,
    /// Whether a question may have no answer: SQuAD 2.0.
    pub(super) with_unanswerable: bool,
}

#[derive(Deserialize)]
struct File {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Entry>,
}

/// A question that says the same in all of its fields: what it does not, is told with its line.
#[derive(Deserialize)]
#[serde(try_from = "RawEntry")]
struct Entry {
    id: String,
    question: String,
    is_impossible: Option<bool>,
    answers: Vec<String>,
}

#[derive(Deserialize)]
struct RawEntry {
    id: String,
    question: String,
    is_impossible: Option<bool>,
    #[serde(default)]
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
}

impl TryFrom<RawEntry> for Entry {
    type Error = String;

    fn try_from(raw: RawEntry) -> Result<Entry, String> {
        let RawEntry { id, question, is_impossible, answers } = raw;
        let named = quoted(&id);
        if is_impossible == Some(true) && !answers.is_empty() {
            return Err(format!("question {named} is impossible and has {} answers", answers.len()));
        }
        if is_impossible == Some(false) && answers.is_empty() {
            return Err(format!("question {named} is not impossible and has no answer"));
        }
        let answers = answers.into_iter().map(|answer| answer.text).collect();
        Ok(Entry { id, question, is_impossible, answers })
    }
}

/// Reads files, of each as many questions as `limit` says.
///
/// # Errors
/// A file without questions; an id that was there before; questions that contradict themselves.
pub(super) fn read(files: &[PathBuf], limit: Option<usize>) -> Result<Questions> {
    let (mut seen, mut contexts, mut with_unanswerable) = (HashSet::new(), 0, false);
    let questions = read_all(files, limit, |file, limit| {
        let File { data } = file.json()?;
        let mut questions = Vec::new();
        for paragraph in data.into_iter().flat_map(|article| article.paragraphs) {
            let context: Arc<str> = paragraph.context.into();
            contexts += 1;
            let room = limit - questions.len();
            for Entry { id, question, is_impossible, answers } in paragraph.qas.into_iter().take(room) {
                if !seen.insert(id.clone()) {
                    let message = format!("two questions with the id {}", quoted(&id));
                    return Err(Error::malformed(message).in_file(file.path()));
                }
                with_unanswerable |= is_impossible.is_some() || answers.is_empty();
                let context = Arc::clone(&context);
                questions.push(Question { id, question, context, context_number: contexts, answers });
            }
        }
        Ok(questions)
    })?;
    Ok(Questions { questions, with_unanswerable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(questions: &str) -> Result<Questions> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text =
            format!("{{\"data\": [{{\"paragraphs\": [{{\"context\": \"x\",\n\"qas\": [{questions}]}}]}}]}}");
        std::fs::write(file.path(), text).unwrap();
        read(&[file.path().to_owned()], None)
    }

    #[test]
    fn the_version_is_told_by_the_questions() {
        let one = r#"{"id": "1", "question": "?", "answers": [{"text": "x", "answer_start": 0}]}"#;
        assert!(!read_text(one).unwrap().with_unanswerable);
        let two =
            r#"{"id": "1", "question": "?", "answers": [], "is_impossible": true, "plausible_answers": []}"#;
        assert!(read_text(two).unwrap().with_unanswerable);
    }

    #[test]
    fn what_contradicts_itself_is_told_with_its_line() {
        for (question, message) in [
            (
                r#"{"id": "1", "question": "?", "answers": [], "is_impossible": false}"#,
                "line 2: question \"1\" is not impossible and has no answer",
            ),
            (
                r#"{"id": "1", "question": "?", "answers": [{"text": "x"}], "is_impossible": true}"#,
                "line 2: question \"1\" is impossible and has 1 answers",
            ),
            (r#"{"id": "1", "answers": []}"#, "line 2: missing field `question`"),
            (
                r#"{"id": "1", "question": "?"}, {"id": "1", "question": "?"}"#,
                "two questions with the id \"1\"",
            ),
            ("", "no examples"),
        ] {
            let error = read_text(question).err().unwrap().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
