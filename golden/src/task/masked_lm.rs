//! Masked language modelling: how well every token of a text is guessed from all others.
//!
//! The pseudo-perplexity of Salazar et al. (2020), "Masked Language Model Scoring": every token is masked in turn, and the
//! mean of its negative log-probability is exponentiated.

use std::path::PathBuf;
use std::sync::Arc;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::forward::CLASS_KEY;
use deberta_reference::{Head, Param, PreTrainedTokenizerBase, Role};
use serde_json::json;

use super::data::read_all;
use super::metric::{margin, share};
use super::model::{TaskModel, Texts};
use super::{Choice, Judged, Prepared, Task, misshapen, number, prediction};
use super::{Logits, Sequence};
use crate::trace::class::Class;

/// What guesses masked tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Decoder {
    /// The enhanced mask decoder that DeBERTa was trained with
    Emd,
    /// The head on the last layer, as transformers has it
    Plain,
}

/// Texts, a line each.
pub struct MaskedLm {
    lines: Vec<(String, String)>,
    /// When absent, the mask decoder if the model has its parameters.
    decoder: Option<Decoder>,
    /// For every sequence its line, the masked place, and the token that stood there.
    masked: Vec<(usize, usize, u32)>,
    /// What every token of the vocabulary is called.
    names: Vec<String>,
}

impl MaskedLm {
    /// Reads text files, of each as many lines as `limit` says. Empty lines are left out.
    ///
    /// # Errors
    /// A file without text.
    pub fn read(files: &[PathBuf], limit: Option<usize>, decoder: Option<Decoder>) -> Result<MaskedLm> {
        let lines = read_all(files, limit, |file, limit| {
            Ok(file.texts().take(limit).map(|line| (line.place(), line.text.to_owned())).collect())
        })?;
        Ok(MaskedLm { lines, decoder, masked: Vec::new(), names: Vec::new() })
    }
}

impl Task for MaskedLm {
    fn class(&self, checkpoint: &Checkpoint) -> Class {
        let has = |of: &dyn Fn(&Param) -> bool| checkpoint.bound.iter().any(|bound| of(&bound.param));
        let has_positions = has(&|param| param.role == Role::PositionEmbedding);
        // Also beside the detection of replaced tokens, as v3 is published.
        let has_head = has(&|param| param.name.starts_with("lm_predictions."));
        // The tensors of a quantized graph have other names.
        let of_graph = checkpoint.metadata(CLASS_KEY).and_then(|name| Class::from_name(name).ok());
        match self.decoder {
            Some(Decoder::Emd) => Class::MASK_DECODER,
            None if of_graph.map_or(has_head && has_positions, |of| of == Class::MASK_DECODER) => {
                Class::MASK_DECODER
            }
            _ => Class::of_head(checkpoint.config.family, Head::MaskedLm),
        }
    }

    fn prepare(&mut self, model: &TaskModel, texts: &Texts) -> Result<Prepared> {
        let positions = model.config.max_position_embeddings;
        if model.class == Class::MASK_DECODER && texts.max_length > positions {
            let message =
                format!("--max-length {}: the mask decoder has {positions} positions", texts.max_length);
            return Err(Error::new(Kind::Request, message));
        }
        let mask = texts
            .tokenizer()
            .mask_token_id()
            .ok_or_else(|| Error::new(Kind::Model, format!("{}: the tokenizer has no [MASK]", model.name)))?;
        self.masked = Vec::new();
        let mut prepared = Prepared::default();
        for (line, (_, text)) in self.lines.iter().enumerate() {
            let (encoding, cut) = texts.encode(text, None)?;
            prepared.truncated += usize::from(cut);
            let (ids, types): (Arc<[u32]>, Arc<[u32]>) =
                (encoding.input_ids.into(), encoding.token_type_ids.into());
            for (place, special) in encoding.special_tokens_mask.iter().enumerate() {
                let Some(&token) = ids.get(place).filter(|_| *special == 0) else { continue };
                self.masked.push((line, place, token));
                prepared.sequences.push(Sequence {
                    ids: Arc::clone(&ids),
                    types: Arc::clone(&types),
                    replaced: Some((place, mask)),
                });
            }
        }
        let every: Vec<u32> = (0..).take(model.config.vocab_size).collect();
        let names = texts.tokenizer().convert_ids_to_tokens(&every, false);
        self.names = names.into_iter().map(Option::unwrap_or_default).collect();
        Ok(prepared)
    }

    /// Of the masked place: the log-probability of the token that stood there, the likeliest token, its logit, and by
    /// how much that is above the next.
    fn keep(&self, sequence: usize, logits: Logits<'_>) -> Vec<f32> {
        let Some(&(_, place, token)) = self.masked.get(sequence) else { return Vec::new() };
        if place >= logits.nrows() {
            return Vec::new();
        }
        let row = logits.row(place);
        let values: Vec<f32> = row.to_vec();
        let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let best = values.iter().position(|&value| value == most);
        let sum: f64 = values.iter().map(|&value| f64::from(value - most).exp()).sum();
        let of_token = usize::try_from(token).ok().and_then(|token| values.get(token));
        let (Some(of_token), Some(best)) = (of_token, best) else { return vec![f32::NAN] };
        let log_probability = f64::from(of_token - most) - sum.ln();
        vec![log_probability as f32, best as f32, most, margin(&values)]
    }

    fn judge(&self, kept: &[Vec<f32>]) -> Result<Judged> {
        let mut judged = Judged { examples: self.lines.len(), ..Judged::default() };
        let mut by_line = vec![(0.0f64, 0usize, 0usize); self.lines.len()];
        for (&(line, place, token), values) in self.masked.iter().zip(kept) {
            let name = self.lines.get(line).map_or("", |(name, _)| name.as_str());
            let [log_probability, best, _, margin] = values[..] else {
                return Err(misshapen(name, values.len(), 4));
            };
            let best = best as usize;
            if let Some((sum, right, count)) = by_line.get_mut(line) {
                *sum += f64::from(log_probability);
                *right += usize::from(u32::try_from(best) == Ok(token));
                *count += 1;
            }
            judged.choices.push(Choice {
                example: format!("{name} token {place}"),
                chosen: self.names.get(best).cloned().unwrap_or_default(),
                margin,
            });
        }
        let (mut sum, mut right, mut count) = (0.0, 0, 0);
        for ((name, text), of_line) in self.lines.iter().zip(&by_line) {
            sum += of_line.0;
            right += of_line.1;
            count += of_line.2;
            judged.predictions.push(prediction([
                ("example", json!(name)),
                ("text", json!(text)),
                ("tokens", json!(of_line.2)),
                ("right", json!(of_line.1)),
                ("pseudo_log_likelihood", number(of_line.0 as f32)),
            ]));
        }
        let loss = (count > 0).then(|| -sum / count as f64);
        judged.metrics = vec![
            ("pseudo_perplexity".to_owned(), loss.map(f64::exp)),
            ("loss".to_owned(), loss),
            ("accuracy".to_owned(), share(right, count)),
            ("tokens".to_owned(), Some(count as f64)),
        ];
        Ok(judged)
    }
}
