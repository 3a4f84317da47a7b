//! Extractive question answering: SQuAD 1.1 and 2.0.
//!
//! A text that is too long is shown in windows that overlap, as transformers' `run_qa.py` does; the answer is chosen among
//! the spans of all windows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Head, PreTrainedTokenizerBase};
use serde_json::json;

use super::Sequence;
use super::data::quoted;
use super::metric::answers::{Answered, Best, best_threshold, score, scores};
use super::model::{TaskModel, Texts};
use super::{Choice, Judged, Prepared, Task, number, prediction};
use crate::trace::class::Class;

mod articles;
mod spans;

use articles::{Question, Questions};
use spans::{Found, Rules, Window, best};

/// Where no answer is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NullThreshold {
    /// Where it is preferred by more than that.
    Given(f64),
    /// Where exact matches become most.
    BestExact,
    /// Where F1 becomes best.
    BestF1,
}

impl std::str::FromStr for NullThreshold {
    type Err = String;

    fn from_str(text: &str) -> Result<NullThreshold, String> {
        match text {
            "best-exact" => Ok(NullThreshold::BestExact),
            "best-f1" => Ok(NullThreshold::BestF1),
            _ => match text.parse::<f64>() {
                Ok(number) if !number.is_nan() => Ok(NullThreshold::Given(number)),
                _ => Err(format!("{text:?}: expected a number, best-exact or best-f1")),
            },
        }
    }
}

/// How long texts are shown, and answers chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Tokens that a window shares with the next; a third of the longest sequence when absent.
    pub doc_stride: Option<usize>,
    /// Tokens of a question, at most.
    pub max_query_length: usize,
    /// Tokens of an answer, at most.
    pub max_answer_length: usize,
    /// Starts and ends that are combined.
    pub n_best: usize,
    /// Where no answer is given.
    pub null_threshold: NullThreshold,
}

impl Default for Options {
    fn default() -> Options {
        let null_threshold = NullThreshold::Given(0.0);
        Options { doc_stride: None, max_query_length: 64, max_answer_length: 30, n_best: 20, null_threshold }
    }
}

/// Questions about texts.
pub struct Squad {
    options: Options,
    questions: Vec<Question>,
    with_unanswerable: bool,
    /// The windows of all questions, in the order of the sequences, and how many each question has.
    windows: Vec<Window>,
    counts: Vec<usize>,
}

impl Squad {
    /// Reads files of SQuAD, of each as many questions as `limit` says.
    ///
    /// # Errors
    /// What is not SQuAD's JSON, or has no questions.
    pub fn read(files: &[PathBuf], limit: Option<usize>, options: Options) -> Result<Squad> {
        let Questions { questions, with_unanswerable } = articles::read(files, limit)?;
        Ok(Squad { options, questions, with_unanswerable, windows: Vec::new(), counts: Vec::new() })
    }

    /// What was found for each question.
    fn found(&self, kept: &[Vec<f32>]) -> Result<Vec<Found>> {
        let Options { n_best, max_answer_length: longest, .. } = self.options;
        let rules = Rules { n_best, longest, with_unanswerable: self.with_unanswerable };
        let mut windows = self.windows.iter().zip(kept);
        let mut found = Vec::with_capacity(self.questions.len());
        for (question, &count) in self.questions.iter().zip(&self.counts) {
            let shown: Vec<(&Window, &[f32])> =
                windows.by_ref().take(count).map(|(window, logits)| (window, logits.as_slice())).collect();
            found.push(best(&shown, rules).ok_or_else(|| {
                let message = format!("question {}: the model computes no logits", quoted(&question.id));
                Error::new(Kind::Model, message)
            })?);
        }
        Ok(found)
    }

    fn threshold(&self, answered: &[Answered], best: &[Option<Best>; 2]) -> f64 {
        let [exact, f1] = best.map(|best| best.map_or(0.0, |best| best.threshold));
        match self.options.null_threshold {
            // Without questions that have no answer there is always one.
            _ if !self.with_unanswerable || answered.is_empty() => f64::INFINITY,
            NullThreshold::Given(threshold) => threshold,
            NullThreshold::BestExact => exact,
            NullThreshold::BestF1 => f1,
        }
    }
}

/// What an answer is called if there is no span, as in transformers.
const NO_SPAN: &str = "empty";

/// What stands before a word.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

fn text(context: &str, span: Option<(usize, usize)>) -> String {
    match span {
        Some((start, end)) => context.chars().skip(start).take(end.saturating_sub(start)).collect(),
        None => NO_SPAN.to_owned(),
    }
}

impl Task for Squad {
    fn class(&self, checkpoint: &Checkpoint) -> Class {
        Class::of_head(checkpoint.config.family, Head::QuestionAnswering)
    }

    fn usual_length(&self) -> Option<usize> {
        Some(384)
    }

    fn prepare(&mut self, _model: &TaskModel, texts: &Texts) -> Result<Prepared> {
        let tokenizer = texts.tokenizer();
        let special = tokenizer.num_special_tokens_to_add(true);
        let overlap = self.options.doc_stride.unwrap_or(texts.max_length / 3);
        let mut prepared = Prepared::default();
        let mut contexts = BTreeMap::new();
        (self.windows, self.counts) = (Vec::new(), Vec::new());
        for question in &self.questions {
            let (mut asked, _) = texts.pieces(question.question.trim_start())?;
            prepared.truncated += usize::from(asked.len() > self.options.max_query_length);
            asked.truncate(self.options.max_query_length);
            let (ids, offsets) = match contexts.entry(question.context_number) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    new.insert(texts.pieces(&question.context)?)
                }
            };
            let room = texts.max_length.saturating_sub(special + asked.len());
            if ids.len() > room && room <= overlap {
                let message = format!(
                    "question {}: a window has room for {room} tokens of the text and shares {overlap} with the \
                     next: --max-length must be larger, or --doc-stride smaller",
                    quoted(&question.id)
                );
                return Err(Error::new(Kind::Request, message));
            }
            let windows = windows(ids.len(), room, overlap);
            self.counts.push(windows.len());
            for (start, end) in windows {
                let shown = ids.get(start..end).unwrap_or_default();
                let types = tokenizer.create_token_type_ids_from_sequences(&asked, Some(shown));
                let tokens = tokenizer.build_inputs_with_special_tokens(&asked, Some(shown));
                prepared.sequences.push(Sequence::new(tokens, types));
                self.windows.push(Window {
                    first: asked.len() + 2,
                    offsets: offsets.get(start..end).unwrap_or_default().to_vec(),
                });
            }
        }
        Ok(prepared)
    }

    fn judge(&self, kept: &[Vec<f32>]) -> Result<Judged> {
        let found = self.found(kept)?;
        let texts: Vec<String> = self
            .questions
            .iter()
            .zip(&found)
            .map(|(question, found)| text(&question.context, found.span))
            .collect();
        let answered: Vec<Answered> = (self.questions.iter().zip(&found).zip(&texts))
            .map(|((question, found), text)| Answered {
                answerable: !question.answers.is_empty(),
                has_text: !text.is_empty(),
                scores: score(&question.answers, text),
                no_answer: f64::from(found.no_answer),
            })
            .collect();
        let bests = [
            best_threshold(&answered, |question| question.scores.0),
            best_threshold(&answered, |question| question.scores.1),
        ];
        let threshold = self.threshold(&answered, &bests);
        let mut judged = Judged { examples: self.questions.len(), ..Judged::default() };
        judged.metrics = self.metrics(&answered, threshold, bests);
        for ((question, found), text) in self.questions.iter().zip(&found).zip(texts) {
            let none = self.with_unanswerable && f64::from(found.no_answer) > threshold;
            // A piece of versions 2 and 3 has the space before it: "▁Selby".
            let chosen = if none { String::new() } else { text.trim_start_matches(SPACE).to_owned() };
            let away = (f64::from(found.no_answer) - threshold).abs() as f32;
            judged.predictions.push(prediction([
                ("id", json!(question.id)),
                ("answers", json!(question.answers)),
                ("predicted", json!(chosen)),
                ("score", number(found.score)),
                ("no_answer", number(found.no_answer)),
            ]));
            judged.choices.push(Choice {
                example: question.id.clone(),
                chosen,
                margin: if none { away } else { found.margin.min(away) },
            });
        }
        Ok(judged)
    }
}

impl Squad {
    /// Under the names of the official script.
    fn metrics(
        &self,
        answered: &[Answered],
        threshold: f64,
        bests: [Option<Best>; 2],
    ) -> Vec<(String, Option<f64>)> {
        let mut metrics = Vec::new();
        let mut of = |prefix: &str, which: &dyn Fn(&Answered) -> bool| {
            if let Some(scores) = scores(answered, threshold, which) {
                metrics.push((format!("{prefix}exact"), Some(scores.exact)));
                metrics.push((format!("{prefix}f1"), Some(scores.f1)));
                metrics.push((format!("{prefix}total"), Some(scores.total as f64)));
            }
        };
        of("", &|_| true);
        if self.with_unanswerable {
            of("HasAns_", &|question| question.answerable);
            of("NoAns_", &|question| !question.answerable);
            for (name, best) in ["exact", "f1"].into_iter().zip(bests) {
                metrics.push((format!("best_{name}"), best.map(|best| best.score)));
                metrics.push((format!("best_{name}_thresh"), best.map(|best| best.threshold)));
            }
        }
        metrics
    }
}

/// Where windows of `room` tokens start and end in a text of `length`, each of which shares `overlap` with the next.
fn windows(length: usize, room: usize, overlap: usize) -> Vec<(usize, usize)> {
    if length <= room {
        return vec![(0, length)];
    }
    let step = room.saturating_sub(overlap).max(1);
    let mut windows = Vec::new();
    for start in (0..length).step_by(step) {
        let end = length.min(start + room);
        windows.push((start, end));
        if end == length {
            break;
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_overlap_and_reach_the_end() {
        assert_eq!(windows(5, 5, 2), [(0, 5)]);
        assert_eq!(windows(10, 5, 2), [(0, 5), (3, 8), (6, 10)]);
        assert_eq!(windows(8, 5, 2), [(0, 5), (3, 8)]);
        assert_eq!(windows(0, 5, 2), [(0, 0)]);
    }

    #[test]
    fn thresholds_are_numbers_or_the_best() {
        assert_eq!("-1.5".parse(), Ok(NullThreshold::Given(-1.5)));
        assert_eq!("best-f1".parse(), Ok(NullThreshold::BestF1));
        assert!("best".parse::<NullThreshold>().is_err());
        assert!("nan".parse::<NullThreshold>().is_err());
    }
}
