//! Questions with choices: which of several texts goes with the first one?
//!
//! The highest score is the answer. Multiple choice sees the choices of a question together and scores every one of them by
//! itself; so does a sequence classifier with one label, which is what version 1 has, for which transformers lacks the
//! class.

use std::path::PathBuf;
use std::sync::Arc;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::Result;
use deberta_reference::Head;

use super::accuracy::{Candidates, accuracy};
use super::labels;
use super::model::{TaskModel, Texts};
use super::{Judged, Prepared, Task};
use crate::trace::class::Class;

mod race;
mod swag;

/// The most choices of a question: as many as there are letters.
const MOST: usize = 26;

/// Questions, each with its choices.
pub struct MultipleChoice {
    questions: Vec<Question>,
    /// Questions whose answer the data do not tell.
    without_label: usize,
}

/// A question: a pair of texts for every choice.
struct Question {
    place: String,
    group: String,
    /// The first text of all pairs.
    first: Arc<str>,
    /// The second text of each pair.
    seconds: Vec<String>,
    /// What each choice is called.
    names: Vec<String>,
    /// The choice that is right.
    answer: usize,
}

impl MultipleChoice {
    /// Reads articles of RACE: files or lines of JSON, and folders of such files with their folders; of each of `files`
    /// as many questions as `limit` says.
    ///
    /// # Errors
    /// A file without questions; a question without choices or the right one.
    pub fn race(files: &[PathBuf], limit: Option<usize>) -> Result<MultipleChoice> {
        Ok(MultipleChoice { questions: race::read(files, limit)?, without_label: 0 })
    }

    /// Reads SWAG: tables with commas, or lines of JSON; of each of `files` as many examples as `limit` says.
    ///
    /// # Errors
    /// A file without examples; an example without its sentences, endings or label.
    pub fn swag(files: &[PathBuf], limit: Option<usize>) -> Result<MultipleChoice> {
        let mut without_label = 0;
        let questions = swag::read(files, limit, &mut without_label)?;
        Ok(MultipleChoice { questions, without_label })
    }
}

impl Task for MultipleChoice {
    fn class(&self, checkpoint: &Checkpoint) -> Class {
        let chooses = checkpoint.head == Head::MultipleChoice;
        let head = if chooses { Head::MultipleChoice } else { Head::SequenceClassification };
        Class::of_head(checkpoint.config.family, head)
    }

    fn prepare(&mut self, model: &TaskModel, texts: &Texts) -> Result<Prepared> {
        let together = model.class.head == Head::MultipleChoice;
        if !together {
            model.require_one_label("it scores every choice by itself")?;
        }
        let mut prepared = Prepared::default();
        for question in &self.questions {
            let start = prepared.sequences.len();
            prepared.add(texts, question.seconds.iter().map(|second| [&*question.first, second]))?;
            if together {
                prepared.questions.push(start..prepared.sequences.len());
            }
        }
        Ok(prepared)
    }

    fn judge(&self, kept: &[Vec<f32>]) -> Result<Judged> {
        let mut kept = kept.iter();
        let mut judged = accuracy(self.questions.iter().map(|question| Candidates {
            place: &question.place,
            group: &question.group,
            what: "answer",
            names: &question.names,
            expected: question.answer,
            logits: kept.by_ref().take(question.seconds.len()).flatten().copied().collect(),
        }))?;
        judged.notes.extend(labels::left_out(self.without_label));
        Ok(judged)
    }
}
