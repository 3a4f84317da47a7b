//! Token classification: entities in CoNLL's files.
//!
//! A word's label is that of its first token, as in transformers' `run_ner.py`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Head, PreTrainedTokenizerBase};
use serde_json::json;

use super::Sequence;
use super::metric::entities::{Counts, Scheme, Tag};
use super::metric::{largest, margin, share};
use super::model::{TaskModel, Texts};
use super::{Choice, Judged, Prepared, Task, misshapen, prediction};
use crate::trace::class::Class;

mod conll;

use conll::Sentence;

/// Sentences with their entities.
pub struct TokenClassification {
    scheme: Scheme,
    sentences: Vec<Sentence>,
    labels: Vec<String>,
    tags: Vec<Tag>,
    /// For each sentence the first token of each word; nothing for words that were cut off.
    firsts: Vec<Vec<Option<usize>>>,
}

impl TokenClassification {
    /// Reads files, of each as many sentences as `limit` says.
    ///
    /// # Errors
    /// A file without sentences; a line that is not of CoNLL's form.
    pub fn read(files: &[PathBuf], limit: Option<usize>, scheme: Scheme) -> Result<TokenClassification> {
        let sentences = conll::read(files, limit, scheme)?;
        Ok(TokenClassification {
            scheme,
            sentences,
            labels: Vec::new(),
            tags: Vec::new(),
            firsts: Vec::new(),
        })
    }
}

impl Task for TokenClassification {
    fn class(&self, checkpoint: &Checkpoint) -> Class {
        Class::of_head(checkpoint.config.family, Head::TokenClassification)
    }

    fn prepare(&mut self, model: &TaskModel, texts: &Texts) -> Result<Prepared> {
        self.labels = model.labels()?.to_vec();
        let tag = |label: &String| {
            Tag::parse(label, self.scheme)
                .map_err(|message| Error::new(Kind::Config, format!("{}: id2label: {message}", model.name)))
        };
        self.tags = self.labels.iter().map(tag).collect::<Result<_>>()?;
        self.firsts = Vec::with_capacity(self.sentences.len());
        let tokenizer = texts.tokenizer();
        let room = texts.max_length.saturating_sub(tokenizer.num_special_tokens_to_add(false));
        let mut prepared = Prepared::default();
        for sentence in &self.sentences {
            let (mut ids, mut firsts) = (Vec::new(), Vec::with_capacity(sentence.words.len()));
            for word in &sentence.words {
                // As `add_prefix_space` and `is_split_into_words` do.
                let (pieces, _) = texts.pieces(&format!(" {word}"))?;
                let first = Some(ids.len()).filter(|&first| first < room && !pieces.is_empty());
                firsts.push(first.map(|first| first + 1));
                ids.extend(pieces);
            }
            prepared.truncated += usize::from(ids.len() > room);
            ids.truncate(room);
            let types = tokenizer.create_token_type_ids_from_sequences(&ids, None);
            let ids = tokenizer.build_inputs_with_special_tokens(&ids, None);
            prepared.sequences.push(Sequence::new(ids, types));
            self.firsts.push(firsts);
        }
        Ok(prepared)
    }

    fn judge(&self, kept: &[Vec<f32>]) -> Result<Judged> {
        let mut judged = Judged { examples: self.sentences.len(), ..Judged::default() };
        let mut counts = BTreeMap::new();
        let (mut right, mut words, mut lost) = (0, 0, 0);
        for ((sentence, firsts), logits) in self.sentences.iter().zip(&self.firsts).zip(kept) {
            let (mut found, mut names) = (Vec::new(), Vec::new());
            for (word, first) in sentence.words.iter().zip(firsts) {
                let Some(first) = first else {
                    lost += 1;
                    found.push(Tag::outside());
                    names.push("O");
                    continue;
                };
                let count = self.labels.len();
                let scores = logits.chunks(count).nth(*first).filter(|scores| scores.len() == count);
                let at = scores.and_then(largest);
                let (Some(scores), Some(at)) = (scores, at) else {
                    return Err(misshapen(&sentence.place, logits.len(), count * (first + 1)));
                };
                let name = self.labels.get(at).map_or("O", String::as_str);
                found.push(self.tags.get(at).cloned().unwrap_or_else(Tag::outside));
                names.push(name);
                judged.choices.push(Choice {
                    example: format!("{} {word}", sentence.place),
                    chosen: name.to_owned(),
                    margin: margin(scores),
                });
            }
            right += found.iter().zip(&sentence.tags).filter(|(found, expected)| found == expected).count();
            words += found.len();
            Counts::add(&mut counts, &sentence.tags, &found, self.scheme);
            judged.predictions.push(prediction([
                ("example", json!(sentence.place)),
                ("words", json!(sentence.words)),
                ("predicted", json!(names)),
            ]));
        }
        let all = Counts::sum(counts.values());
        judged.metrics = vec![
            ("precision".to_owned(), Some(all.precision())),
            ("recall".to_owned(), Some(all.recall())),
            ("f1".to_owned(), Some(all.f1())),
            ("accuracy".to_owned(), share(right, words)),
        ];
        let kinds = counts.iter();
        judged.metrics.extend(kinds.map(|(kind, counts)| (format!("f1.{kind}"), Some(counts.f1()))));
        if lost > 0 {
            judged.notes.push(format!("{lost} words were cut off or have no token: they count as O"));
        }
        if all.expected == 0 {
            judged.notes.push("the data have no entities: precision, recall and F1 are 0".to_owned());
        }
        Ok(judged)
    }
}
