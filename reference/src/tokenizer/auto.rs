//! The tokenizer of a folder, of whichever class its files are.
//!
//! Source: transformers 4.57.6, `models/auto/tokenization_auto.py`, class `AutoTokenizer`.

use std::path::Path;

use serde_json::{Map, Value};

use super::base::{PreTrainedTokenizerBase, SpecialTokenIds};
use super::byte_level::DebertaTokenizer;
use super::encoding::{EncodeOptions, Encoding};
use super::files::read_object;
use super::pre_trained::{PreTrainedTokenizer, Vocabulary};
use super::sentence_piece::DebertaV2Tokenizer;
use crate::error::Result;
use crate::tokenizer_fast::{DebertaTokenizerFast, DebertaV2TokenizerFast, EncodingFast, FastTokenizer};

/// A slow tokenizer of any vocabulary.
pub type SlowTokenizer = PreTrainedTokenizer<dyn Vocabulary>;

/// A tokenizer of any class.
///
/// ```
/// use deberta_reference::tokenizer::{EncodeOptions, PreTrainedTokenizerBase as _, Tokenizer};
///
/// let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/trained/nli");
/// let tokenizer = Tokenizer::from_pretrained(folder)?;
/// let encoding = tokenizer.encode_plus("The kite is red.", None, &EncodeOptions::default())?;
/// assert_eq!(tokenizer.decode(&encoding.input_ids, true, None)?, "The kite is red.");
/// # Ok::<(), deberta_reference::Error>(())
/// ```
#[derive(Debug)]
pub enum Tokenizer {
    /// [`DebertaTokenizer`] or [`DebertaV2Tokenizer`].
    Slow(Box<SlowTokenizer>),
    /// [`DebertaTokenizerFast`] or [`DebertaV2TokenizerFast`].
    Fast(Box<FastTokenizer>),
}

impl Tokenizer {
    /// Reads a folder by the class that `AutoTokenizer` takes: the fast one, [`Tokenizer::fast_from_pretrained`]. Where the
    /// slow class makes other tokens, their documentation says so.
    ///
    /// spm.model is a vocabulary of version 2, vocab.json one of version 1. Where both are there, or neither, the
    /// `tokenizer_class` of tokenizer_config.json decides, then the `model_type` of config.json, then the model of
    /// tokenizer.json.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<Tokenizer> {
        Ok(Tokenizer::Fast(Tokenizer::fast_from_pretrained(folder)?))
    }

    /// Reads a folder by the slow class, which needs the vocabulary: spm.model, or vocab.json and merges.txt.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn slow_from_pretrained(folder: impl AsRef<Path>) -> Result<Box<SlowTokenizer>> {
        let folder = folder.as_ref();
        Ok(match Version::of(folder) {
            Version::One => Box::new(DebertaTokenizer::from_pretrained(folder)?),
            Version::Two => Box::new(DebertaV2Tokenizer::from_pretrained(folder)?),
        })
    }

    /// Reads a folder by the fast class, as `AutoTokenizer` does: from tokenizer.json, or else from the vocabulary.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn fast_from_pretrained(folder: impl AsRef<Path>) -> Result<Box<FastTokenizer>> {
        let folder = folder.as_ref();
        Ok(match Version::of(folder) {
            Version::One => Box::new(DebertaTokenizerFast::from_pretrained(folder)?),
            Version::Two => Box::new(DebertaV2TokenizerFast::from_pretrained(folder)?),
        })
    }

    /// Reads a folder by the fast class as transformers' converters make it of the vocabulary, also where there is a
    /// tokenizer.json: what that file should be.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn fast_from_vocabulary(folder: impl AsRef<Path>) -> Result<Box<FastTokenizer>> {
        let folder = folder.as_ref();
        Ok(match Version::of(folder) {
            Version::One => Box::new(DebertaTokenizerFast::from_vocabulary(folder)?),
            Version::Two => Box::new(DebertaV2TokenizerFast::from_vocabulary(folder)?),
        })
    }

    /// The `model_type` of the models that the tokenizer of a folder is for: `deberta` or `deberta-v2`.
    pub fn model_type(folder: impl AsRef<Path>) -> &'static str {
        match Version::of(folder.as_ref()) {
            Version::One => "deberta",
            Version::Two => "deberta-v2",
        }
    }

    /// The tokens of a text, without `[CLS]` and `[SEP]`, as the vocabulary spells them: `Ġ` or `▁` is a space.
    ///
    /// # Errors
    /// If the backend of the fast class fails.
    pub fn tokenize(&self, text: &str) -> Result<Vec<String>> {
        match self {
            Tokenizer::Slow(slow) => Ok(slow.tokenize(text)),
            Tokenizer::Fast(fast) => fast.tokenize(text),
        }
    }

    /// Encodes a text or a pair.
    ///
    /// # Errors
    /// As [`PreTrainedTokenizer::encode_plus`] and [`FastTokenizer::encode_plus`](FastTokenizer).
    pub fn encode_plus(
        &self,
        text: &str,
        text_pair: Option<&str>,
        options: &EncodeOptions,
    ) -> Result<Encoding> {
        match self {
            Tokenizer::Slow(slow) => slow.encode_plus(text, text_pair, options),
            Tokenizer::Fast(fast) => Ok(fast.encode_plus(text, text_pair, options)?.encoding),
        }
    }

    /// Encodes texts and pairs; `PaddingStrategy::Longest` gives them one length.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_plus`].
    pub fn batch_encode_plus(
        &self,
        batch: &[(&str, Option<&str>)],
        options: &EncodeOptions,
    ) -> Result<Vec<Encoding>> {
        match self {
            Tokenizer::Slow(slow) => slow.batch_encode_plus(batch, options),
            Tokenizer::Fast(fast) => {
                let encodings: Vec<EncodingFast> = fast.batch_encode_plus(batch, options)?;
                Ok(encodings.into_iter().map(|fast| fast.encoding).collect())
            }
        }
    }

    /// What a reader should know of the files, such as that transformers 5 wrote tokenizer.json.
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Tokenizer::Slow(_) => Vec::new(),
            Tokenizer::Fast(fast) => fast.warnings(),
        }
    }
}

impl PreTrainedTokenizerBase for Tokenizer {
    fn special_token_ids(&self) -> &SpecialTokenIds {
        match self {
            Tokenizer::Slow(slow) => slow.special_token_ids(),
            Tokenizer::Fast(fast) => fast.special_token_ids(),
        }
    }

    fn encode(&self, text: &str, text_pair: Option<&str>, options: &EncodeOptions) -> Result<Vec<u32>> {
        match self {
            Tokenizer::Slow(slow) => slow.encode(text, text_pair, options),
            Tokenizer::Fast(fast) => fast.encode(text, text_pair, options),
        }
    }

    fn decode(
        &self,
        token_ids: &[u32],
        skip_special_tokens: bool,
        clean_up_tokenization_spaces: Option<bool>,
    ) -> Result<String> {
        match self {
            Tokenizer::Slow(slow) => {
                slow.decode(token_ids, skip_special_tokens, clean_up_tokenization_spaces)
            }
            Tokenizer::Fast(fast) => {
                fast.decode(token_ids, skip_special_tokens, clean_up_tokenization_spaces)
            }
        }
    }

    fn vocab_size(&self) -> usize {
        match self {
            Tokenizer::Slow(slow) => slow.vocab_size(),
            Tokenizer::Fast(fast) => fast.vocab_size(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Tokenizer::Slow(slow) => slow.len(),
            Tokenizer::Fast(fast) => fast.len(),
        }
    }

    fn num_special_tokens_to_add(&self, pair: bool) -> usize {
        match self {
            Tokenizer::Slow(slow) => slow.num_special_tokens_to_add(pair),
            Tokenizer::Fast(fast) => fast.num_special_tokens_to_add(pair),
        }
    }
}

/// The version of DeBERTa whose classes read a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// A file that cannot be read says nothing here: the class that needs it will say what is wrong with it.
    fn of(folder: &Path) -> Version {
        let has = |name: &str| folder.join(name).is_file();
        match (has("spm.model"), has("vocab.json")) {
            (true, false) => return Version::Two,
            (false, true) => return Version::One,
            _ => {}
        }
        let object = |name: &str| read_object(&folder.join(name)).unwrap_or_default();
        let named = |object: &Map<String, Value>, key: &str| match object.get(key).and_then(Value::as_str)? {
            "DebertaV2Tokenizer" | "DebertaV2TokenizerFast" | "deberta-v2" | "Unigram" => Some(Version::Two),
            "DebertaTokenizer" | "DebertaTokenizerFast" | "deberta" | "BPE" => Some(Version::One),
            _ => None,
        };
        let by_class = || named(&object("tokenizer_config.json"), "tokenizer_class");
        let by_model = || named(&object("config.json"), "model_type");
        let by_file = || named(object("tokenizer.json").get("model")?.as_object()?, "type");
        by_class().or_else(by_model).or_else(by_file).unwrap_or(Version::One)
    }
}
