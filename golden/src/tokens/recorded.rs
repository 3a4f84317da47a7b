//! Texts with the ids that somebody's tokenizer made of them: what goldens hold of a tokenizer.

use std::io::Read as _;
use std::path::Path;

use deberta_converters::error::{Error, Result};
use deberta_converters::opening::open;
use serde::Deserialize;

use super::encoded::{Asked, Encoded};
use crate::yaml::confined;

/// The file of a golden with texts, one a line.
pub const FILE_NAME: &str = "tokenizer.jsonl";

/// The most that such a file may be long, in bytes.
const LONGEST: u64 = 1 << 24;

/// Ids are compared as f32 beside published values, which has all integers up to here.
const LARGEST_ID: u32 = 1 << 24;

/// A text and its tokens, as somebody published or recorded them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedTokens {
    /// The text.
    pub text: String,
    /// The second text, of a pair.
    #[serde(alias = "text_pair")]
    pub pair: Option<String>,
    /// How many tokens there may be, as in [`Asked::max_length`].
    pub max_length: Option<usize>,
    /// What the tokenizer makes of it, special tokens included.
    pub ids: Vec<u32>,
    /// The tokens of the ids.
    pub tokens: Option<Vec<String>>,
    /// The segment of each token.
    pub type_ids: Option<Vec<u32>>,
    /// The characters of each token in its text, as the fast class has them.
    pub offsets: Option<Vec<(usize, usize)>>,
}

impl PublishedTokens {
    /// The texts in the folder of a golden, none if it has no [`FILE_NAME`].
    ///
    /// # Errors
    /// A link out of the folder; more than 16 MiB; a line that is no such object, or is wrong in itself, with its number.
    pub fn read(folder: &Path) -> Result<Vec<PublishedTokens>> {
        let path = folder.join(FILE_NAME);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let path = confined(folder, Path::new(FILE_NAME))?;
        let file = open(&path)?;
        let mut text = String::new();
        let read = file.take(LONGEST + 1).read_to_string(&mut text);
        read.map_err(|error| Error::io(&path, "read as UTF-8", error))?;
        if text.len() as u64 > LONGEST {
            let message = format!("more than {LONGEST} bytes: fewer texts will do");
            return Err(Error::refused(message).in_file(&path));
        }
        let lines = (1..).zip(text.split('\n')).filter(|(_, line)| !line.trim().is_empty());
        let texts = lines.map(|(number, line): (usize, &str)| {
            let wrong =
                |problem: String| Error::malformed(format!("line {number}: {problem}")).in_file(&path);
            let text: PublishedTokens =
                serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            text.check().map_err(wrong)?;
            Ok(text)
        });
        texts.collect()
    }

    /// What reports call it: `tokenizer: "the quick brown fox"`.
    pub fn name(&self) -> String {
        let pair = self.pair.as_ref().map(|pair| format!(", {pair:?}")).unwrap_or_default();
        format!("tokenizer: {:?}{pair}", self.text)
    }

    /// What a tokenizer is given.
    pub fn asked(&self) -> Asked {
        Asked { text: self.text.clone(), text_pair: self.pair.clone(), max_length: self.max_length }
    }

    /// Whether a tokenizer makes the same of the text, as far as this says something, and the tokenizer does.
    pub fn agrees(&self, made: &Encoded) -> bool {
        let offsets = || self.offsets.as_ref().zip(made.offsets.as_ref());
        self.ids == made.ids
            && self.tokens.as_ref().is_none_or(|tokens| *tokens == made.tokens)
            && self.type_ids.as_ref().is_none_or(|types| *types == made.type_ids)
            && offsets().is_none_or(|(offsets, made)| offsets == made)
    }

    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        if let Some(id) = self.ids.iter().find(|id| **id > LARGEST_ID) {
            return Err(format!("ids: {id}, expected ids up to {LARGEST_ID}"));
        }
        let n = self.ids.len();
        if n == 0 {
            return Err("ids: expected at least one".into());
        }
        let lengths = [
            ("tokens", self.tokens.as_ref().map(Vec::len)),
            ("type_ids", self.type_ids.as_ref().map(Vec::len)),
            ("offsets", self.offsets.as_ref().map(Vec::len)),
        ];
        match lengths.into_iter().find(|(_, length)| length.is_some_and(|length| length != n)) {
            Some((name, length)) => {
                Err(format!("{name}: {} entries, there are {n} ids", length.unwrap_or(0)))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<PublishedTokens>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
        PublishedTokens::read(folder.path())
    }

    #[test]
    fn lines_are_texts() {
        let texts = read(concat!(
            "{\"text\": \"a\", \"ids\": [1, 5, 2]}\r\n",
            "{\"text\": \"\", \"text_pair\": \"b\", \"max_length\": 8, \"ids\": [1, 2], \"tokens\": [\"x\", \"y\"], ",
            "\"type_ids\": [0, 0], \"offsets\": null}\n\n",
        ));
        let texts = texts.unwrap();
        assert_eq!(texts.len(), 2);
        assert_eq!(texts[0].ids, [1, 5, 2]);
        assert_eq!(texts[1].asked().text_pair.as_deref(), Some("b"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let error = |line: &str| {
            let error =
                read(&format!("{{\"text\": \"a\", \"ids\": [1]}}\n{line}\n")).unwrap_err().to_string();
            assert!(error.contains("tokenizer.jsonl: line 2: "), "{error}");
            error
        };
        assert!(error("{\"text\": \"a\", \"ids\": []}").contains("ids: expected at least one"));
        assert!(error("{\"text\": \"a\", \"ids\": [1], \"tokenz\": []}").contains("unknown field `tokenz`"));
        let wrong = error("{\"text\": \"a\", \"ids\": [1, 2], \"offsets\": [[0, 0]]}");
        assert!(wrong.ends_with("offsets: 1 entries, there are 2 ids"), "{wrong}");
        assert!(error("[1]").contains("line 2: "));
    }
}
