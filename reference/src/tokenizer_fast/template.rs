//! Special tokens around sequences, by a template as tokenizer.json has it: what `TemplateProcessing` of the `tokenizers` crate does,
//! which copies every list three times.

use foldhash::HashMap;
use serde::Deserialize;
use tokenizers::processors::template::{Piece, Sequence};
use tokenizers::{Encoding as Text, PostProcessorWrapper};

use super::EncodingFast;
use crate::tokenizer::Encoding;

/// What a text and a pair become.
#[derive(Debug)]
pub(super) struct Template {
    single: Vec<Part>,
    pair: Vec<Part>,
}

/// What stands in a template.
#[derive(Debug)]
enum Part {
    /// The tokens of the first or the second text, 0 or 1.
    Sequence { index: usize, type_id: u32 },
    /// What is put in.
    Special { token: Special, type_id: u32 },
}

/// A special token, which may be several of the vocabulary.
#[derive(Clone, Debug, Deserialize)]
struct Special {
    ids: Vec<u32>,
    tokens: Vec<String>,
}

/// The post-processor in tokenizer.json.
#[derive(Deserialize)]
struct Written {
    single: Vec<Piece>,
    pair: Vec<Piece>,
    special_tokens: HashMap<String, Special>,
}

impl Template {
    /// None for a post-processor of another kind, and for a template in which a text is missing or comes twice.
    pub(super) fn of(processor: Option<&PostProcessorWrapper>) -> Option<Template> {
        let Some(PostProcessorWrapper::Template(processor)) = processor else { return None };
        let written: Written = serde_json::from_value(serde_json::to_value(processor).ok()?).ok()?;
        let part = |piece: &Piece| {
            Some(match piece {
                Piece::Sequence { id, type_id } => {
                    Part::Sequence { index: usize::from(*id == Sequence::B), type_id: *type_id }
                }
                Piece::SpecialToken { id, type_id } => {
                    let token = written
                        .special_tokens
                        .get(id)
                        .filter(|token| token.ids.len() == token.tokens.len())?;
                    Part::Special { token: token.clone(), type_id: *type_id }
                }
            })
        };
        let parts = |pieces: &[Piece], texts: usize| {
            let parts = pieces.iter().map(part).collect::<Option<Vec<Part>>>()?;
            let times = |text| {
                parts
                    .iter()
                    .filter(|part| matches!(part, Part::Sequence { index, .. } if *index == text))
                    .count()
            };
            (times(0) == 1 && times(1) == texts - 1).then_some(parts)
        };
        Some(Template { single: parts(&written.single, 1)?, pair: parts(&written.pair, 2)? })
    }

    /// The encodings of a text, or of two, with special tokens if they are wanted. `spell` gives the token of an id, for tokens
    /// that are empty.
    pub(super) fn assemble(
        &self,
        texts: &[&Text],
        special: bool,
        spell: impl Fn(u32) -> String,
    ) -> EncodingFast {
        let parts = if texts.len() > 1 { &self.pair } else { &self.single };
        let mut out =
            EncodingFast::with_capacity(texts.iter().map(|text| text.len()).sum::<usize>() + parts.len());
        for part in parts {
            match part {
                Part::Sequence { index, type_id } => {
                    let Some(text) = texts.get(*index) else { continue };
                    let n = text.len();
                    let spelled = text.get_tokens().iter().zip(text.get_ids());
                    let spelled = spelled.map(|(token, &id)| super::spelled(token, || spell(id)));
                    out.tokens.extend(spelled);
                    out.encoding.input_ids.extend_from_slice(text.get_ids());
                    out.encoding.special_tokens_mask.extend_from_slice(text.get_special_tokens_mask());
                    out.offsets.extend_from_slice(text.get_offsets());
                    out.word_ids.extend_from_slice(text.get_word_ids());
                    out.extend(n, *type_id, Some(*index));
                }
                Part::Special { token, type_id } if special => {
                    let n = token.ids.len();
                    out.tokens.extend_from_slice(&token.tokens);
                    out.encoding.input_ids.extend_from_slice(&token.ids);
                    out.encoding.special_tokens_mask.extend(std::iter::repeat_n(1, n));
                    out.offsets.extend(std::iter::repeat_n((0, 0), n));
                    out.word_ids.extend(std::iter::repeat_n(None, n));
                    out.extend(n, *type_id, None);
                }
                Part::Special { .. } => {}
            }
        }
        out
    }
}

impl EncodingFast {
    fn with_capacity(n: usize) -> EncodingFast {
        EncodingFast {
            encoding: Encoding {
                input_ids: Vec::with_capacity(n),
                token_type_ids: Vec::with_capacity(n),
                attention_mask: Vec::with_capacity(n),
                special_tokens_mask: Vec::with_capacity(n),
            },
            tokens: Vec::with_capacity(n),
            offsets: Vec::with_capacity(n),
            word_ids: Vec::with_capacity(n),
            sequence_ids: Vec::with_capacity(n),
        }
    }

    /// Adds what all tokens of a part have in common.
    fn extend(&mut self, n: usize, type_id: u32, sequence: Option<usize>) {
        self.encoding.token_type_ids.extend(std::iter::repeat_n(type_id, n));
        self.encoding.attention_mask.extend(std::iter::repeat_n(1, n));
        self.sequence_ids.extend(std::iter::repeat_n(sequence, n));
    }
}
