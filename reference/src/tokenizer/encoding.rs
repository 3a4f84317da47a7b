//! What a tokenizer makes of a text, and how: special tokens, truncation, padding.
//!
//! Source: transformers 4.57.6, `tokenization_utils_base.py`, class `PreTrainedTokenizerBase`.

use ndarray::Array2;

use crate::error::{Error, Result};
use crate::inputs::Inputs;

/// A sequence, or a pair, as a model takes it. All lists have n entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The tokens.
    pub input_ids: Vec<u32>,
    /// The segment of each token: 0, or 1 for the second sequence and the `[SEP]` after it.
    pub token_type_ids: Vec<u32>,
    /// 1 for a token, 0 for padding.
    pub attention_mask: Vec<u32>,
    /// 1 for what the tokenizer put in, padding too; 0 for what was in the text.
    pub special_tokens_mask: Vec<u32>,
}

impl Encoding {
    /// n
    pub fn len(&self) -> usize {
        self.input_ids.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.input_ids.is_empty()
    }

    /// Encodings of one length as the inputs of a model: `input_ids`, `attention_mask` and `token_type_ids`, [b, n].
    ///
    /// # Errors
    /// If lengths differ: pad to the longest.
    pub fn inputs(encodings: &[Encoding]) -> Result<Inputs> {
        let n = encodings.first().map_or(0, Encoding::len);
        let rows = |list: fn(&Encoding) -> &Vec<u32>| {
            let flat = encodings.iter().flat_map(|encoding| list(encoding).iter().map(|&id| i64::from(id)));
            Array2::from_shape_vec((encodings.len(), n), flat.collect()).ok()
        };
        let even = encodings.iter().all(|encoding| encoding.len() == n);
        let [Some(ids), Some(mask), Some(types)] =
            [rows(|e| &e.input_ids), rows(|e| &e.attention_mask), rows(|e| &e.token_type_ids)]
        else {
            return Err(uneven(encodings));
        };
        if !even {
            return Err(uneven(encodings));
        }
        Ok(Inputs {
            attention_mask: Some(mask.mapv(|m| m as f32).into_dyn()),
            token_type_ids: Some(types),
            ..Inputs::from_ids(ids)
        })
    }

    /// Brings the lists to `length`, if they are shorter: padding is segment 0, masked and special.
    pub(crate) fn pad(&mut self, length: usize, side: Side, pad_token_id: u32) {
        let missing = length.saturating_sub(self.len());
        side.pad(&mut self.input_ids, pad_token_id, missing);
        side.pad(&mut self.token_type_ids, 0, missing);
        side.pad(&mut self.attention_mask, 0, missing);
        side.pad(&mut self.special_tokens_mask, 1, missing);
    }
}

fn uneven(encodings: &[Encoding]) -> Error {
    let lengths: Vec<usize> = encodings.iter().map(Encoding::len).collect();
    Error::Tokenizer(format!("the sequences have lengths {lengths:?}: pad to the longest"))
}

/// A side of a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// The end.
    #[default]
    Right,
    /// The beginning.
    Left,
}

impl Side {
    /// Adds a value so many times.
    pub(crate) fn pad<T: Clone>(self, list: &mut Vec<T>, value: T, times: usize) {
        let at = if self == Side::Right { list.len() } else { 0 };
        list.splice(at..at, std::iter::repeat_n(value, times));
    }

    /// Removes so many entries.
    pub(crate) fn truncate<T>(self, list: &mut Vec<T>, remove: usize) {
        let keep = list.len().saturating_sub(remove);
        match self {
            Side::Right => list.truncate(keep),
            Side::Left => drop(list.drain(..list.len() - keep)),
        }
    }
}

/// Which sequence loses tokens when there are more than `max_length`, special tokens included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TruncationStrategy {
    /// The longer one of a pair, token by token.
    LongestFirst,
    /// The first one.
    OnlyFirst,
    /// The second one.
    OnlySecond,
    /// None.
    DoNotTruncate,
}

/// How far sequences are padded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PaddingStrategy {
    /// To the longest sequence of the batch.
    Longest,
    /// To `max_length`.
    MaxLength,
    /// Not at all.
    #[default]
    DoNotPad,
}

/// The arguments of `encode_plus` and `batch_encode_plus`, with the defaults of transformers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Whether `[CLS]` and `[SEP]` are put in.
    pub add_special_tokens: bool,
    /// Who loses tokens. If absent: nobody, but `LongestFirst` if there is a `max_length` and no padding.
    pub truncation: Option<TruncationStrategy>,
    /// The longest sequence, or the length to pad to. If absent: the tokenizer's `model_max_length`, if it has one.
    pub max_length: Option<usize>,
    /// How far sequences are padded.
    pub padding: PaddingStrategy,
    /// Padded lengths are rounded up to a multiple of this.
    pub pad_to_multiple_of: Option<usize>,
    /// Where padding goes. If absent: the tokenizer's `padding_side`.
    pub padding_side: Option<Side>,
}

impl Default for EncodeOptions {
    fn default() -> EncodeOptions {
        EncodeOptions {
            add_special_tokens: true,
            truncation: None,
            max_length: None,
            padding: PaddingStrategy::DoNotPad,
            pad_to_multiple_of: None,
            padding_side: None,
        }
    }
}

/// Options whose defaults are resolved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    /// Who loses tokens, and the length to reach.
    pub(crate) truncation: Option<(TruncationStrategy, usize)>,
    padding: PaddingStrategy,
    max_length: Option<usize>,
    multiple: usize,
    pub(crate) padding_side: Side,
}

impl EncodeOptions {
    /// Source: `PreTrainedTokenizerBase._get_padding_truncation_strategies`.
    pub(crate) fn lengths(&self, model_max_length: Option<usize>, padding_side: Side) -> Result<Lengths> {
        let max_length = self.max_length.or(model_max_length);
        let implied = self.max_length.is_some() && self.padding == PaddingStrategy::DoNotPad;
        let strategy = match self.truncation {
            None if implied => TruncationStrategy::LongestFirst,
            strategy => strategy.unwrap_or(TruncationStrategy::DoNotTruncate),
        };
        let truncation = max_length
            .filter(|_| strategy != TruncationStrategy::DoNotTruncate)
            .map(|length| (strategy, length));
        let multiple = self.pad_to_multiple_of.unwrap_or(1);
        if multiple == 0 {
            return Err(Error::Tokenizer("pad_to_multiple_of: 0, at least 1 is needed".into()));
        }
        if let Some((_, length)) = truncation
            && self.padding != PaddingStrategy::DoNotPad
            && length % multiple != 0
        {
            return Err(Error::Tokenizer(format!(
                "max_length: {length} is not a multiple of pad_to_multiple_of, {multiple}"
            )));
        }
        let padding_side = self.padding_side.unwrap_or(padding_side);
        Ok(Lengths { truncation, padding: self.padding, max_length, multiple, padding_side })
    }
}

impl Lengths {
    /// The length to pad to, for a batch whose longest sequence has `longest` tokens.
    pub(crate) fn padded(&self, longest: usize) -> usize {
        let length = match self.padding {
            PaddingStrategy::Longest => Some(longest),
            PaddingStrategy::MaxLength => self.max_length,
            PaddingStrategy::DoNotPad => None,
        };
        length.map_or(0, |length| length.checked_next_multiple_of(self.multiple).unwrap_or(length))
    }
}

/// Makes a pair shorter by `remove` tokens, if the strategy can.
///
/// As in transformers' slow tokenizers, a sequence that would lose all its tokens or more loses none, but a pair
/// under `LongestFirst` can end up empty.
///
/// Source: `PreTrainedTokenizerBase.truncate_sequences`.
pub(crate) fn truncate_sequences(
    ids: &mut Vec<u32>,
    pair_ids: Option<&mut Vec<u32>>,
    remove: usize,
    strategy: TruncationStrategy,
    side: Side,
) {
    let shorten = |ids: &mut Vec<u32>| {
        if ids.len() > remove {
            side.truncate(ids, remove);
        }
    };
    match (strategy, pair_ids) {
        (TruncationStrategy::OnlyFirst, _) | (TruncationStrategy::LongestFirst, None) => shorten(ids),
        (TruncationStrategy::OnlySecond, Some(pair_ids)) => shorten(pair_ids),
        (TruncationStrategy::LongestFirst, Some(pair_ids)) => {
            // First the surplus of the longer one, then half each; an odd token is taken from the second.
            let surplus = ids.len().abs_diff(pair_ids.len()).min(remove);
            let half = (remove - surplus) / 2;
            let other_half = remove - surplus - half;
            let (from_ids, from_pair) = if ids.len() > pair_ids.len() {
                (surplus + half, other_half)
            } else {
                (half, surplus + other_half)
            };
            side.truncate(ids, from_ids);
            side.truncate(pair_ids, from_pair);
        }
        (TruncationStrategy::OnlySecond, None) | (TruncationStrategy::DoNotTruncate, _) => {}
    }
}

/// `first A separator`, and `B end` of a pair.
pub(crate) fn sequences(
    first: u32,
    mut a: Vec<u32>,
    separator: u32,
    pair: Option<(Vec<u32>, u32)>,
) -> Vec<u32> {
    a.insert(0, first);
    a.push(separator);
    if let Some((b, end)) = pair {
        a.extend(b);
        a.push(end);
    }
    a
}
