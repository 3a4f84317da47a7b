//! `DebertaTokenizer`: GPT-2's byte-level byte-pair encoding with BERT's special tokens.
//!
//! Source: transformers 4.57.6, `models/deberta/tokenization_deberta.py`, class `DebertaTokenizer`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use foldhash::HashMap;

pub(crate) mod alphabet;
mod bpe;
pub(crate) mod cache;
mod loading;
mod unicode;
pub(crate) mod vocabulary;
pub(crate) mod words;

use super::added_tokens::{AddedToken, is_python_space};
use super::pre_trained::{PreTrainedTokenizer, Vocabulary};
use super::settings::DecodeErrors;
use crate::error::Result;
use bpe::{Bpe, Symbol};
pub(crate) use loading::special_token;
use vocabulary::MergeLine;

/// The tokenizer of DeBERTa: GPT-2's byte-level byte-pair encoding with BERT's special tokens.
///
/// It agrees with transformers' slow class, and so differs from [`DebertaTokenizerFast`](crate::DebertaTokenizerFast):
///
/// | | this class | the fast class |
/// |---|---|---|
/// | letters and numbers | Unicode 18.0, as the Python module `regex` 2026.11.15 | Unicode 16.0, as Oniguruma in `tokenizers` 0.22 |
/// | white space that `[MASK]` takes | what `str.isspace` holds for: U+001C to U+001F too | `\s` |
/// | `add_prefix_space` | one space before the text, unless white space is there | one before every text between added tokens, unless a space is there |
/// | bytes that the vocabulary lacks | `[UNK]` | nothing |
/// | a single-word token | stands alone if the neighbours are spaces | stands alone if the neighbours are not `\w` |
/// | white space between two tokens that both take it, tokens within tokens | as `Trie.split` cuts | leftmost, longest |
/// | `encode_plus(a, Some(""))` | a pair | a single sequence |
/// | a sequence too short to be truncated | is left as it is | is an error, or empty if only special tokens fit |
/// | ids of added tokens | those of the files | one after another from the end of the vocabulary |
/// | padding an empty sequence that is alone, without special tokens | leaves it empty | pads it |
/// | decoding an unknown id | is an error | leaves it out |
/// | decoding an added token that is not special | with spaces around it | without |
pub type DebertaTokenizer = PreTrainedTokenizer<ByteLevel>;

/// The vocabulary of [`DebertaTokenizer`]: bytes, and the merges of their sequences.
#[derive(Debug)]
pub struct ByteLevel {
    /// Whether a text gets a space before it, so that its first word is like any other.
    pub add_prefix_space: bool,
    /// What decoding does with bytes that are not UTF-8.
    pub errors: DecodeErrors,
    /// vocab.json
    encoder: HashMap<String, u32>,
    decoder: HashMap<u32, String>,
    /// merges.txt
    merges: Vec<MergeLine>,
    bpe: Bpe,
    /// The id of every symbol of `bpe`.
    symbol_ids: Vec<u32>,
    unk_token: String,
}

impl ByteLevel {
    /// The vocabulary without added tokens.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (&str, u32)> {
        self.encoder.iter().map(|(token, id)| (token.as_str(), *id))
    }

    /// The lines of merges.txt.
    pub(crate) fn merges(&self) -> &[MergeLine] {
        &self.merges
    }
}

impl Vocabulary for ByteLevel {
    fn size(&self) -> usize {
        self.encoder.len()
    }

    fn find(&self, token: &str) -> Option<u32> {
        self.encoder.get(token).copied()
    }

    fn unknown_id(&self) -> Option<u32> {
        self.find(&self.unk_token)
    }

    fn token(&self, id: u32) -> Option<&str> {
        self.decoder.get(&id).map(String::as_str)
    }

    /// Gives the text its first space.
    fn prepare<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.add_prefix_space && text.chars().next().is_some_and(|first| !is_python_space(first)) {
            Cow::Owned(format!(" {text}"))
        } else {
            Cow::Borrowed(text)
        }
    }

    fn tokenize(&self, text: &str, tokens: &mut Vec<String>) {
        self.bpe.encode(text, |symbols| {
            let texts = symbols.iter().filter_map(|&symbol| self.bpe.texts().get(symbol as usize));
            tokens.extend(texts.cloned());
        });
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        self.bpe.encode(text, |symbols: &[Symbol]| {
            ids.extend(symbols.iter().filter_map(|&symbol| self.symbol_ids.get(symbol as usize)));
        });
    }

    /// # Errors
    /// If a character stands for no byte, or for bytes that are not UTF-8 under [`DecodeErrors::Strict`].
    fn convert_tokens_to_string(&self, tokens: &[&str]) -> Result<String> {
        alphabet::text_of(tokens, self.errors)
    }

    /// A merge can make what is now an added token.
    fn note(&mut self, id: u32, token: &AddedToken) {
        for (symbol_id, text) in self.symbol_ids.iter_mut().zip(self.bpe.texts()) {
            if *text == token.content {
                *symbol_id = id;
            }
        }
    }
}

impl DebertaTokenizer {
    /// Writes vocab.json and merges.txt into an existing folder, their names after `filename_prefix` and `-`. Gives the two paths.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save_vocabulary(
        &self,
        save_directory: impl AsRef<Path>,
        filename_prefix: Option<&str>,
    ) -> Result<(PathBuf, PathBuf)> {
        let tokens = self.vocabulary.tokens().map(|(token, id)| (token.to_string(), id));
        vocabulary::save(save_directory.as_ref(), filename_prefix, tokens, &self.vocabulary.merges)
    }
}
