//! The fast tokenizers: texts to tokens and back on the `tokenizers` crate, with the place of every token.
//!
//! Source: transformers 4.57.6, `tokenization_utils_fast.py`, class `PreTrainedTokenizerFast`.

use std::fmt::Debug;

use foldhash::HashSet;
use rayon::prelude::*;
use tokenizers::{
    Decoder as _, Model as _, PostProcessor, PostProcessorWrapper, Tokenizer, TruncationDirection,
    TruncationParams,
};

mod byte_level;
mod byte_level_words;
mod checks;
mod foreign;
mod lists;
mod loading;
mod meaning;
mod metaspace_words;
mod normalization;
mod sentence_piece;
mod template;

pub use byte_level::{ByteLevelFast, DebertaTokenizerFast};
pub use meaning::Meaning;
pub use normalization::Normalization;
pub use sentence_piece::{DebertaV2TokenizerFast, SentencePieceFast};

use template::Template;

use crate::error::{Error, Result};
use crate::tokenizer::base::{PreTrainedTokenizerBase, SpecialTokenIds};
use crate::tokenizer::decode::clean_up_tokenization;
use crate::tokenizer::encoding::Lengths;
use crate::tokenizer::limits::{check_texts, check_tokens};
use crate::tokenizer::{AddedToken, EncodeOptions, Encoding, Side, TruncationStrategy};

/// An [`Encoding`], and where its tokens come from. All lists have n entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodingFast {
    /// What the model takes.
    pub encoding: Encoding,
    /// The tokens as the vocabulary spells them.
    pub tokens: Vec<String>,
    /// The first character of each token in its text and the one after its last; (0, 0) for what is in no text.
    pub offsets: Vec<(usize, usize)>,
    /// The word of each token, counted from 0 in each text; none for what is in no text.
    pub word_ids: Vec<Option<u32>>,
    /// The text of each token, 0 or 1; none for what is in no text.
    pub sequence_ids: Vec<Option<usize>>,
}

/// What a fast class decides for itself: how it encodes faster than the crate alone.
pub trait Encoder: Debug + Send + Sync {
    /// What `Tokenizer::encode_char_offsets` gives without special tokens, or ids alone if nobody asks for offsets. A token that
    /// the vocabulary spells may be left empty.
    ///
    /// # Errors
    /// If the backend fails.
    fn encode(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        offsets: bool,
    ) -> tokenizers::Result<tokenizers::Encoding>;

    /// Takes note of what the tokenizer has become by added tokens.
    fn note(&mut self, tokenizer: &Tokenizer);

    /// What a reader should know of the files.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A fast tokenizer of any class.
pub type FastTokenizer = PreTrainedTokenizerFast<dyn Encoder>;

/// A fast tokenizer: one of the `tokenizers` crate, and what surrounds it.
///
/// [`DebertaTokenizerFast`] and [`DebertaV2TokenizerFast`] are this with an encoder each.
#[derive(Debug)]
pub struct PreTrainedTokenizerFast<E: ?Sized> {
    /// Where padding goes.
    pub padding_side: Side,
    /// Where sequences lose tokens.
    pub truncation_side: Side,
    /// The longest sequence that the model takes; none if the files do not say.
    pub model_max_length: Option<usize>,
    /// Whether `decode` removes the space before punctuation unless told otherwise.
    pub clean_up_tokenization_spaces: bool,
    /// Without its post-processor, since a pair is truncated after the one and before the other.
    tokenizer: Tokenizer,
    post_processor: Option<PostProcessorWrapper>,
    /// The same, if it is a template.
    template: Option<Template>,
    special: HashSet<String>,
    unk_token: String,
    special_ids: SpecialTokenIds,
    pad_token: String,
    /// What of tokenizer.json is ignored.
    ignored: Vec<String>,
    /// What spm.model asks for and its conversion to a fast tokenizer leaves out: names and values.
    unconverted: Vec<(String, String)>,
    encoder: E,
}

impl<E: Encoder + ?Sized> PreTrainedTokenizerFast<E> {
    /// Adds tokens that are found in texts whole. Those that the vocabulary has keep their ids, the others get ids
    /// from its end. Gives how many were new or changed.
    ///
    /// # Errors
    /// If no automaton can be made of them.
    pub fn add_tokens(&mut self, tokens: &[AddedToken]) -> Result<usize> {
        let special = tokens.iter().filter(|token| token.special).map(|token| token.content.clone());
        check_tokens(tokens)?;
        self.special.extend(special);
        let tokens = loading::as_first_given(&self.tokenizer, tokens.iter().map(to_backend).collect());
        let changed =
            foreign::call(|| self.tokenizer.add_tokens(tokens)).and_then(|done| done).map_err(backend)?;
        self.encoder.note(&self.tokenizer);
        Ok(changed)
    }

    /// The tokens of a text, without `[CLS]` and `[SEP]`, as the vocabulary spells them: `Ġ` or `▁` is a space.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn tokenize(&self, text: &str) -> Result<Vec<String>> {
        check_texts([text])?;
        let encoding = foreign::call(|| self.tokenizer.encode(text, false)).and_then(|done| done);
        Ok(encoding.map_err(backend)?.get_tokens().to_vec())
    }

    /// Encodes a text or a pair. An empty second text makes no pair.
    ///
    /// # Errors
    /// If the options contradict each other, or a sequence is too short to be truncated by `OnlyFirst` or
    /// `OnlySecond`.
    pub fn encode_plus(
        &self,
        text: &str,
        text_pair: Option<&str>,
        options: &EncodeOptions,
    ) -> Result<EncodingFast> {
        let text_pair = text_pair.filter(|text| !text.is_empty());
        let lengths = options.lengths(self.model_max_length, self.padding_side)?;
        let mut encoded = self.encoded(text, text_pair, &Pass::with_offsets(&lengths, options))?;
        let length = lengths.padded(encoded.encoding.len());
        self.pad(&mut encoded, length, lengths.padding_side);
        Ok(encoded)
    }

    /// Encodes texts and pairs, on all cores; `PaddingStrategy::Longest` gives them one length. An empty second text
    /// makes a pair.
    ///
    /// # Errors
    /// As `encode_plus`.
    pub fn batch_encode_plus(
        &self,
        batch: &[(&str, Option<&str>)],
        options: &EncodeOptions,
    ) -> Result<Vec<EncodingFast>> {
        let lengths = options.lengths(self.model_max_length, self.padding_side)?;
        let pass = Pass::with_offsets(&lengths, options);
        let encodings = batch.par_iter().map(|(text, text_pair)| self.encoded(text, *text_pair, &pass));
        let mut encodings = encodings.collect::<Result<Vec<EncodingFast>>>()?;
        let length = lengths.padded(encodings.iter().map(|fast| fast.encoding.len()).max().unwrap_or(0));
        encodings.iter_mut().for_each(|encoded| self.pad(encoded, length, lengths.padding_side));
        Ok(encodings)
    }

    /// A text or a pair with all that is known of its tokens, truncated, not padded.
    fn encoded(&self, text: &str, text_pair: Option<&str>, pass: &Pass<'_>) -> Result<EncodingFast> {
        check_texts([text].into_iter().chain(text_pair))?;
        foreign::call(|| self.encoded_by_backend(text, text_pair, pass)).map_err(backend)?
    }

    fn encoded_by_backend(
        &self,
        text: &str,
        text_pair: Option<&str>,
        pass: &Pass<'_>,
    ) -> Result<EncodingFast> {
        let (encoding, pair) = self.truncated(text, text_pair, pass)?;
        let model = self.tokenizer.get_model();
        let spell = |id| if pass.offsets { model.id_to_token(id).unwrap_or_default() } else { String::new() };
        if let Some(template) = &self.template {
            let texts: Vec<&tokenizers::Encoding> = std::iter::once(&encoding).chain(&pair).collect();
            return Ok(template.assemble(&texts, pass.add_special_tokens, spell));
        }
        let encoding = match &self.post_processor {
            Some(processor) => processor.process(encoding, pair, pass.add_special_tokens).map_err(backend)?,
            None => tokenizers::Encoding::merge(std::iter::once(encoding).chain(pair), false),
        };
        let tokens = encoding.get_tokens().iter().zip(encoding.get_ids());
        Ok(EncodingFast {
            tokens: tokens.map(|(token, &id)| spelled(token, || spell(id))).collect(),
            offsets: encoding.get_offsets().to_vec(),
            word_ids: encoding.get_word_ids().to_vec(),
            sequence_ids: encoding.get_sequence_ids(),
            encoding: convert_encoding(&encoding),
        })
    }

    /// Brings the lists to `length`, if they are shorter.
    fn pad(&self, encoded: &mut EncodingFast, length: usize, side: Side) {
        let missing = length.saturating_sub(encoded.encoding.len());
        if missing > 0 {
            side.pad(&mut encoded.tokens, self.pad_token.clone(), missing);
            side.pad(&mut encoded.offsets, (0, 0), missing);
            side.pad(&mut encoded.word_ids, None, missing);
            side.pad(&mut encoded.sequence_ids, None, missing);
            encoded.encoding.pad(length, side, self.special_ids.pad);
        }
    }

    /// Encodes and truncates a text or a pair.
    fn truncated(
        &self,
        text: &str,
        text_pair: Option<&str>,
        pass: &Pass<'_>,
    ) -> Result<(tokenizers::Encoding, Option<tokenizers::Encoding>)> {
        let encode = |text: &str| self.encoder.encode(&self.tokenizer, text, pass.offsets);
        let mut encoding = encode(text).map_err(backend)?;
        let mut pair = text_pair.map(encode).transpose().map_err(backend)?;
        if let Some(pair) = &mut pair {
            pair.set_type_ids(vec![1; pair.len()]);
        }
        let added =
            self.post_processor.as_ref().map_or(0, |processor| processor.added_tokens(pair.is_some()));
        let added = if pass.add_special_tokens { added } else { 0 };
        // A length that has no room for the special tokens means no limit, as in `tokenizers`.
        if let Some((strategy, max_length)) = pass.lengths.truncation
            && let Some(max_length) = max_length.checked_sub(added)
        {
            let strategy = match strategy {
                TruncationStrategy::OnlyFirst => tokenizers::TruncationStrategy::OnlyFirst,
                TruncationStrategy::OnlySecond => tokenizers::TruncationStrategy::OnlySecond,
                TruncationStrategy::LongestFirst | TruncationStrategy::DoNotTruncate => {
                    tokenizers::TruncationStrategy::LongestFirst
                }
            };
            let direction = match self.truncation_side {
                Side::Right => TruncationDirection::Right,
                Side::Left => TruncationDirection::Left,
            };
            let params = TruncationParams { max_length, strategy, stride: 0, direction };
            (encoding, pair) = tokenizers::truncate_encodings(encoding, pair, &params).map_err(backend)?;
        }
        Ok((encoding, pair))
    }

    /// The token of an id; none if no token has it, or if it is special and those are left out.
    ///
    /// As `tokenizers` 0.22 does it: 0.23 gives added tokens as the normalizer spells them, `[unk]` for example.
    fn decoded(&self, id: u32, skip_special_tokens: bool) -> Option<String> {
        let added = self.tokenizer.get_added_vocabulary();
        let token = added.get_added_tokens_decoder().get(&id).map(|token| token.content.clone());
        let token = token.or_else(|| self.tokenizer.get_model().id_to_token(id))?;
        (!skip_special_tokens || !added.is_special_token(&token)).then_some(token)
    }

    /// The tokenizer of the crate, which has no post-processor: it puts no special tokens in.
    pub fn backend(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What a reader should know of the files, such as that transformers 5 wrote tokenizer.json.
    pub fn warnings(&self) -> Vec<String> {
        self.ignored.iter().cloned().chain(self.encoder.warnings()).collect()
    }

    /// What of tokenizer.json is ignored, and transformers obeys: tokens that differ from run to run.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The tokenizer as tokenizer.json holds it.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn to_json(&self) -> Result<String> {
        let mut whole = self.tokenizer.clone();
        whole.with_post_processor(self.post_processor.clone());
        whole.to_string(true).map_err(backend)
    }

    /// 1 for special tokens, 0 for others, of ids that have special tokens already.
    pub fn get_special_tokens_mask(&self, token_ids: &[u32]) -> Vec<u32> {
        let special: HashSet<u32> =
            self.special.iter().filter_map(|content| self.convert_token_to_id(content)).collect();
        token_ids.iter().map(|id| u32::from(special.contains(id))).collect()
    }

    /// The id of each token: `[UNK]`'s if the vocabulary lacks it, none if it lacks that too.
    pub fn convert_tokens_to_ids<T: AsRef<str>>(&self, tokens: &[T]) -> Vec<Option<u32>> {
        tokens.iter().map(|token| self.convert_token_to_id(token.as_ref())).collect()
    }

    fn convert_token_to_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token).or_else(|| self.tokenizer.token_to_id(&self.unk_token))
    }

    /// The token of each id, none if no token has it. Special tokens can be left out.
    pub fn convert_ids_to_tokens(&self, ids: &[u32], skip_special_tokens: bool) -> Vec<Option<String>> {
        let special =
            if skip_special_tokens { self.get_special_tokens_mask(ids) } else { vec![0; ids.len()] };
        let kept = ids.iter().zip(special).filter(|(_, special)| *special == 0);
        kept.map(|(&id, _)| self.decoded(id, false)).collect()
    }
}

impl<E: Encoder + ?Sized> PreTrainedTokenizerBase for PreTrainedTokenizerFast<E> {
    fn special_token_ids(&self) -> &SpecialTokenIds {
        &self.special_ids
    }

    /// The ids of a text or a pair, as `encode_plus` has them; faster, since no offsets are followed.
    ///
    /// # Errors
    /// As `encode_plus`.
    fn encode(&self, text: &str, text_pair: Option<&str>, options: &EncodeOptions) -> Result<Vec<u32>> {
        let lengths = options.lengths(self.model_max_length, self.padding_side)?;
        let text_pair = text_pair.filter(|text| !text.is_empty());
        let pass = Pass { lengths: &lengths, add_special_tokens: options.add_special_tokens, offsets: false };
        let mut encoding = self.encoded(text, text_pair, &pass)?.encoding;
        encoding.pad(lengths.padded(encoding.len()), lengths.padding_side, self.special_ids.pad);
        Ok(encoding.input_ids)
    }

    /// The text of ids; ids without a token are left out.
    ///
    /// # Errors
    /// If the backend fails.
    fn decode(
        &self,
        token_ids: &[u32],
        skip_special_tokens: bool,
        clean_up_tokenization_spaces: Option<bool>,
    ) -> Result<String> {
        let tokens = token_ids.iter().filter_map(|id| self.decoded(*id, skip_special_tokens)).collect();
        let text = match self.tokenizer.get_decoder() {
            Some(decoder) => {
                foreign::call(|| decoder.decode(tokens)).and_then(|done| done).map_err(backend)?
            }
            None => tokens.join(" "),
        };
        let clean = clean_up_tokenization_spaces.unwrap_or(self.clean_up_tokenization_spaces);
        Ok(if clean { clean_up_tokenization(&text) } else { text })
    }

    fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(false)
    }

    fn len(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    fn num_special_tokens_to_add(&self, pair: bool) -> usize {
        self.post_processor.as_ref().map_or(0, |processor| processor.added_tokens(pair))
    }
}

/// How one text or pair is encoded.
struct Pass<'l> {
    lengths: &'l Lengths,
    add_special_tokens: bool,
    offsets: bool,
}

impl<'l> Pass<'l> {
    fn with_offsets(lengths: &'l Lengths, options: &EncodeOptions) -> Pass<'l> {
        Pass { lengths, add_special_tokens: options.add_special_tokens, offsets: true }
    }
}

fn to_backend(token: &AddedToken) -> tokenizers::AddedToken {
    tokenizers::AddedToken {
        content: token.content.clone(),
        single_word: token.single_word,
        lstrip: token.lstrip,
        rstrip: token.rstrip,
        normalized: token.normalized,
        special: token.special,
    }
}

/// A token, which the vocabulary spells where it is empty.
fn spelled(token: &str, spell: impl FnOnce() -> String) -> String {
    if token.is_empty() { spell() } else { token.to_owned() }
}

fn convert_encoding(encoding: &tokenizers::Encoding) -> Encoding {
    Encoding {
        input_ids: encoding.get_ids().to_vec(),
        token_type_ids: encoding.get_type_ids().to_vec(),
        attention_mask: encoding.get_attention_mask().to_vec(),
        special_tokens_mask: encoding.get_special_tokens_mask().to_vec(),
    }
}

fn backend(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}
