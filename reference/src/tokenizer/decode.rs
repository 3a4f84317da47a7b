//! Ids to text.
//!
//! Source: transformers 4.57.6, `tokenization_utils.py`, `PreTrainedTokenizer._decode`.

use std::sync::LazyLock;

use foldhash::HashMap;

use super::DebertaTokenizer;
use super::bpe::byte_alphabet;
use super::settings::DecodeErrors;
use crate::error::{Error, Result};

/// The byte that each character stands for.
static BYTES: LazyLock<HashMap<char, u8>> =
    LazyLock::new(|| byte_alphabet().into_iter().zip(0..=255).collect());

/// What `clean_up_tokenization_spaces` replaces, one after another.
const CLEAN_UP: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// Removes the space before punctuation and English contractions.
pub(crate) fn clean_up_tokenization(text: &str) -> String {
    CLEAN_UP.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

impl DebertaTokenizer {
    /// The text of ids. Added tokens that are not special stand between spaces.
    ///
    /// `clean_up_tokenization_spaces` is that of the tokenizer if absent, which is false unless its files say otherwise.
    ///
    /// # Errors
    /// If no token has an id, if a special token has characters that stand for no byte, or for bytes that are not
    /// UTF-8 under [`DecodeErrors::Strict`].
    pub fn decode(
        &self,
        token_ids: &[u32],
        skip_special_tokens: bool,
        clean_up_tokenization_spaces: Option<bool>,
    ) -> Result<String> {
        let mut texts: Vec<String> = Vec::new();
        let mut current: Vec<&str> = Vec::new();
        for &id in token_ids {
            let token = self.token(id).ok_or_else(|| {
                Error::Tokenizer(format!("id {id} has no token: the vocabulary has {} tokens", self.len()))
            })?;
            let special = self.special.contains_key(token);
            if skip_special_tokens && (special || self.special.values().any(|s| *s == id)) {
                continue;
            }
            let stands_alone =
                self.added.id(token).is_some() && !special || self.additional.iter().any(|a| a == token);
            if stands_alone {
                let text = self.convert_tokens_to_string(&std::mem::take(&mut current))?;
                texts.extend([text].into_iter().filter(|text| !text.is_empty()));
                texts.push(token.to_string());
            } else {
                current.push(token);
            }
        }
        if !current.is_empty() {
            texts.push(self.convert_tokens_to_string(&current)?);
        }
        let text = texts.join(" ");
        let clean = clean_up_tokenization_spaces.unwrap_or(self.clean_up_tokenization_spaces);
        Ok(if clean { clean_up_tokenization(&text) } else { text })
    }

    /// `decode` of each sequence.
    ///
    /// # Errors
    /// As `decode`.
    pub fn batch_decode(
        &self,
        sequences: &[Vec<u32>],
        skip_special_tokens: bool,
        clean_up_tokenization_spaces: Option<bool>,
    ) -> Result<Vec<String>> {
        sequences
            .iter()
            .map(|ids| self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces))
            .collect()
    }

    /// The text that tokens spell.
    ///
    /// # Errors
    /// If a character stands for no byte, or for bytes that are not UTF-8 under [`DecodeErrors::Strict`].
    pub fn convert_tokens_to_string(&self, tokens: &[&str]) -> Result<String> {
        let byte = |(token, character): (&str, char)| {
            let unknown = || {
                Error::Tokenizer(format!("token {token:?}: the character {character:?} stands for no byte"))
            };
            BYTES.get(&character).copied().ok_or_else(unknown)
        };
        let characters = tokens.iter().flat_map(|token| token.chars().map(|character| (*token, character)));
        let bytes = characters.map(byte).collect::<Result<Vec<u8>>>()?;
        match self.errors {
            DecodeErrors::Replace => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            DecodeErrors::Ignore => Ok(bytes.utf8_chunks().map(|chunk| chunk.valid()).collect()),
            DecodeErrors::Strict => String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                Error::Tokenizer(format!("byte {at} of the decoded text: not UTF-8"))
            }),
        }
    }
}
