//! Replaced token detection: which tokens of a text are not the original ones? What DeBERTa v3 was pre-trained for.
//!
//! A token counts as replaced if its logit is above 0, as in Microsoft's `replaced_token_detection_model.py`.

use std::path::PathBuf;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::Result;
use deberta_reference::{Head, PreTrainedTokenizerBase};
use serde_json::json;

use super::metric::entities::Counts;
use super::metric::share;
use super::model::{TaskModel, Texts};
use super::{Choice, Judged, Prepared, Sequence, Task, misshapen, numbers, prediction};
use crate::trace::class::Class;

mod texts;

use texts::{Drawn, Text};

/// Texts with replaced tokens.
pub struct ReplacedTokens {
    texts: Vec<Text>,
    /// Of the replacements that are drawn.
    seed: u64,
    /// The tokens of every text as the model gets them, and which of them were replaced: none of the special ones.
    expected: Vec<(Vec<u32>, Vec<bool>)>,
}

impl ReplacedTokens {
    /// Reads originals beside replaced texts, or texts whose replacements are drawn by `seed`; of each file as many as
    /// `limit` says.
    ///
    /// # Errors
    /// A file without texts; a pair that does not have as many words on both sides.
    pub fn read(files: &[PathBuf], limit: Option<usize>, seed: u64) -> Result<ReplacedTokens> {
        Ok(ReplacedTokens { texts: texts::read(files, limit)?, seed, expected: Vec::new() })
    }
}

/// `[CLS]`, which stands before the first token.
const BEFORE: usize = 1;

impl Task for ReplacedTokens {
    fn class(&self, checkpoint: &Checkpoint) -> Class {
        Class::of_head(checkpoint.config.family, Head::ReplacedTokens)
    }

    fn prepare(&mut self, _model: &TaskModel, texts: &Texts) -> Result<Prepared> {
        let tokenizer = texts.tokenizer();
        let room = texts.max_length.saturating_sub(tokenizer.num_special_tokens_to_add(false));
        let mut drawn = Drawn::new(self.seed, tokenizer);
        let mut prepared = Prepared::default();
        self.expected = Vec::with_capacity(self.texts.len());
        for text in &self.texts {
            let (mut ids, mut replaced) = text.tokens(texts, &mut drawn)?;
            prepared.truncated += usize::from(ids.len() > room);
            ids.truncate(room);
            replaced.truncate(room);
            let types = tokenizer.create_token_type_ids_from_sequences(&ids, None);
            let ids = tokenizer.build_inputs_with_special_tokens(&ids, None);
            prepared.sequences.push(Sequence::new(ids.clone(), types));
            self.expected.push((ids, replaced));
        }
        Ok(prepared)
    }

    fn judge(&self, kept: &[Vec<f32>]) -> Result<Judged> {
        let mut judged = Judged { examples: self.texts.len(), ..Judged::default() };
        let (mut counts, mut same, mut tokens) = (Counts::default(), 0, 0);
        for ((text, (ids, replaced)), logits) in self.texts.iter().zip(&self.expected).zip(kept) {
            if logits.len() != ids.len() {
                return Err(misshapen(&text.place, logits.len(), ids.len()));
            }
            let (mut places, mut found) = (Vec::new(), Vec::new());
            for (at, (&expected, &logit)) in (BEFORE..).zip(replaced.iter().zip(logits.iter().skip(BEFORE))) {
                let chosen = logit > 0.0;
                counts.expected += usize::from(expected);
                counts.found += usize::from(chosen);
                counts.right += usize::from(chosen && expected);
                same += usize::from(chosen == expected);
                tokens += 1;
                places.extend(expected.then_some(at));
                found.extend(chosen.then_some(at));
                judged.choices.push(Choice {
                    example: format!("{} token {at}", text.place),
                    chosen: if chosen { "replaced" } else { "original" }.to_owned(),
                    margin: logit.abs(),
                });
            }
            judged.predictions.push(prediction([
                ("example", json!(text.place)),
                ("input_ids", json!(ids)),
                ("replaced", json!(places)),
                ("predicted", json!(found)),
                ("logits", numbers(logits)),
            ]));
        }
        judged.metrics = vec![
            ("accuracy".to_owned(), share(same, tokens)),
            ("precision".to_owned(), Some(counts.precision())),
            ("recall".to_owned(), Some(counts.recall())),
            ("f1".to_owned(), Some(counts.f1())),
            ("tokens".to_owned(), Some(tokens as f64)),
            ("replaced".to_owned(), Some(counts.expected as f64)),
        ];
        if counts.expected == 0 {
            judged.notes.push("no token was replaced: precision, recall and F1 are 0".to_owned());
        }
        Ok(judged)
    }
}
