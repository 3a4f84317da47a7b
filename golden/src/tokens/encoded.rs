//! A text, and what a tokenizer makes of it.

use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{EncodeOptions, FastTokenizer, Tokenizer, TruncationStrategy};
use serde::{Deserialize, Serialize};

/// What a tokenizer is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The text.
    pub text: String,
    /// The second text, of a pair.
    #[serde(default, alias = "pair", skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<String>,
    /// How many tokens there may be, special ones included: the longer text loses its last tokens first (`longest_first`). All
    /// are kept when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
}

/// What a tokenizer makes of a text or a pair, special tokens included. All lists have n entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Encoded {
    /// The ids.
    pub ids: Vec<u32>,
    /// The tokens as the vocabulary spells them, `convert_ids_to_tokens` in transformers.
    pub tokens: Vec<String>,
    /// The segment of each token, 0 or 1.
    pub type_ids: Vec<u32>,
    /// The first character (code point) of each token in its text and the one after its last, (0, 0) for special tokens;
    /// nothing from the slow class.
    pub offsets: Option<Vec<(usize, usize)>>,
}

/// A text and its tokens, as a line of JSON has them.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    /// The text, if it is to be there.
    #[serde(flatten)]
    pub(crate) asked: Option<&'a Asked>,
    /// What a tokenizer makes of it.
    #[serde(flatten)]
    pub(crate) encoded: Encoded,
}

impl Line<'_> {
    /// The line, which ends with a line break.
    ///
    /// # Errors
    /// None that is known.
    pub(crate) fn json(&self) -> Result<String> {
        let text = serde_json::to_string(self);
        Ok(text.map_err(|error| Error::new(Kind::Io, format!("cannot print: {error}")))? + "\n")
    }
}

impl Asked {
    /// Reads an object with `text` and, if wanted, `text_pair` and `max_length`; other entries are ignored.
    ///
    /// # Errors
    /// Anything else.
    pub fn from_json(line: &str) -> Result<Asked> {
        serde_json::from_str(line).map_err(|error| {
            let message = format!("expected an object with \"text\", as {{\"text\": \"a\"}}: {error}");
            Error::malformed(message).caused_by(error)
        })
    }

    /// A text alone.
    pub fn text(text: impl Into<String>) -> Asked {
        Asked { text: text.into(), ..Asked::default() }
    }

    /// What a tokenizer makes of it.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn encoded(&self, tokenizer: &Tokenizer) -> Result<Encoded> {
        match tokenizer {
            Tokenizer::Slow(slow) => {
                let encoding = slow.encode_plus(&self.text, self.text_pair.as_deref(), &self.options());
                let encoding = encoding.map_err(|error| failed(&error))?;
                let tokens = slow.convert_ids_to_tokens(&encoding.input_ids, false);
                Ok(Encoded {
                    tokens: tokens.into_iter().map(|token| token.unwrap_or_default().to_owned()).collect(),
                    ids: encoding.input_ids,
                    type_ids: encoding.token_type_ids,
                    offsets: None,
                })
            }
            Tokenizer::Fast(fast) => self.encoded_fast(fast),
        }
    }

    /// What a tokenizer of the fast class makes of it.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn encoded_fast(&self, fast: &FastTokenizer) -> Result<Encoded> {
        let made = fast.encode_plus(&self.text, self.text_pair.as_deref(), &self.options());
        let made = made.map_err(|error| failed(&error))?;
        let tokens = fast.convert_ids_to_tokens(&made.encoding.input_ids, false);
        Ok(Encoded {
            tokens: tokens.into_iter().map(Option::unwrap_or_default).collect(),
            ids: made.encoding.input_ids,
            type_ids: made.encoding.token_type_ids,
            offsets: Some(made.offsets),
        })
    }

    fn options(&self) -> EncodeOptions {
        let strategy = match self.max_length {
            Some(_) => TruncationStrategy::LongestFirst,
            None => TruncationStrategy::DoNotTruncate,
        };
        EncodeOptions { truncation: Some(strategy), max_length: self.max_length, ..EncodeOptions::default() }
    }
}

fn failed(error: &deberta_reference::Error) -> Error {
    Error::new(Kind::Model, error.to_string())
}
