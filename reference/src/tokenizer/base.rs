//! What every tokenizer can do, however it makes its tokens.
//!
//! Source: transformers 4.57.6, `tokenization_utils_base.py`, classes `SpecialTokensMixin` and `PreTrainedTokenizerBase`.

use super::encoding::{EncodeOptions, sequences};
use crate::error::Result;

/// A tokenizer of any class.
///
/// Beside these methods each class has its own: what `encode_plus` returns depends on the class, for example.
pub trait PreTrainedTokenizerBase {
    /// The ids of the special tokens that the tokenizer puts in.
    fn special_token_ids(&self) -> &SpecialTokenIds;

    /// The ids of a text or a pair, as `encode_plus` has them.
    ///
    /// # Errors
    /// As `encode_plus`.
    fn encode(&self, text: &str, text_pair: Option<&str>, options: &EncodeOptions) -> Result<Vec<u32>>;

    /// The text of ids.
    ///
    /// `clean_up_tokenization_spaces` is that of the tokenizer if absent, which is false unless its files say otherwise.
    ///
    /// # Errors
    /// If the class cannot decode the ids; each says when.
    fn decode(
        &self,
        token_ids: &[u32],
        skip_special_tokens: bool,
        clean_up_tokenization_spaces: Option<bool>,
    ) -> Result<String>;

    /// `decode` of each sequence.
    ///
    /// # Errors
    /// As `decode`.
    fn batch_decode(
        &self,
        sequences: &[Vec<u32>],
        skip_special_tokens: bool,
        clean_up_tokenization_spaces: Option<bool>,
    ) -> Result<Vec<String>> {
        let decode = |ids: &Vec<u32>| self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces);
        sequences.iter().map(decode).collect()
    }

    /// The size of the vocabulary without added tokens.
    fn vocab_size(&self) -> usize;

    /// The size of the vocabulary with added tokens.
    fn len(&self) -> usize;

    /// Whether there are no tokens.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many special tokens a sequence or a pair gets.
    fn num_special_tokens_to_add(&self, pair: bool) -> usize;

    /// `[CLS] A [SEP]`, or `[CLS] A [SEP] B [SEP]`.
    fn build_inputs_with_special_tokens(&self, token_ids_0: &[u32], token_ids_1: Option<&[u32]>) -> Vec<u32> {
        let SpecialTokenIds { cls, sep, .. } = *self.special_token_ids();
        sequences(cls, token_ids_0.to_vec(), sep, token_ids_1.map(|ids| (ids.to_vec(), sep)))
    }

    /// 0 for `[CLS] A [SEP]`, 1 for `B [SEP]`.
    fn create_token_type_ids_from_sequences(
        &self,
        token_ids_0: &[u32],
        token_ids_1: Option<&[u32]>,
    ) -> Vec<u32> {
        sequences(0, vec![0; token_ids_0.len()], 0, token_ids_1.map(|ids| (vec![1; ids.len()], 1)))
    }

    /// The id of `[CLS]`.
    fn cls_token_id(&self) -> u32 {
        self.special_token_ids().cls
    }

    /// The id of `[SEP]`.
    fn sep_token_id(&self) -> u32 {
        self.special_token_ids().sep
    }

    /// The id of `[PAD]`.
    fn pad_token_id(&self) -> u32 {
        self.special_token_ids().pad
    }

    /// The id of `[MASK]`, if there is one.
    fn mask_token_id(&self) -> Option<u32> {
        self.special_token_ids().mask
    }
}

/// The ids of the special tokens that a tokenizer puts in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokenIds {
    /// `[CLS]`, in front of a sequence.
    pub cls: u32,
    /// `[SEP]`, behind each of its texts.
    pub sep: u32,
    /// `[PAD]`, which fills a sequence up.
    pub pad: u32,
    /// `[MASK]`, in the place of a word, if there is one.
    pub mask: Option<u32>,
}

impl SpecialTokenIds {
    /// The ids that `id` gives for `cls_token`, `sep_token`, `pad_token` and `mask_token`.
    pub(crate) fn new(id: impl Fn(&str) -> Result<u32>) -> Result<SpecialTokenIds> {
        Ok(SpecialTokenIds {
            cls: id("cls_token")?,
            sep: id("sep_token")?,
            pad: id("pad_token")?,
            mask: id("mask_token").ok(),
        })
    }
}
