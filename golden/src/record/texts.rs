//! Texts, what a tokenizer makes of them, and batches of them.

use std::path::{Path, PathBuf};

use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{DebertaConfig, EncodeOptions, Encoding, Head, Inputs, PaddingStrategy, Tokenizer};

use super::Named;
use super::case::put;
use super::cover::for_class;
use crate::tokens::digest::digest_of_folder;
use crate::tokens::encoded::{Asked, Line};
use crate::tokens::files::{open, vocabulary};
use crate::tokens::recorded::FILE_NAME;
use crate::trace::class::Class;

/// Sequences of one trace, and of all of them.
const AT_ONCE: usize = 8;
pub(crate) const MOST: usize = 64;

/// Texts, and the tokenizer that reads them.
#[derive(Clone, Debug)]
pub struct Texts {
    asked: Vec<Asked>,
    /// The folder of the tokenizer.
    folder: PathBuf,
}

impl Texts {
    /// Texts for the tokenizer in a folder.
    ///
    /// # Errors
    /// No text, or more than 64; no tokenizer.
    pub fn new(asked: Vec<Asked>, folder: PathBuf) -> Result<Texts> {
        if !(1..=MOST).contains(&asked.len()) {
            let message = format!(
                "{} texts, expected 1 to {MOST}: a golden needs few, and different ones",
                asked.len()
            );
            return Err(Error::new(Kind::Request, message));
        }
        if vocabulary(&folder).is_none() {
            let message = "no tokenizer: neither vocab.json, nor spm.model, nor tokenizer.json; --inputs records a trace's \
                           inputs without one";
            return Err(Error::new(Kind::Request, message).in_file(&folder));
        }
        Ok(Texts { asked, folder })
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        open(&self.folder, false)
    }

    /// Writes the texts with their tokens, as a golden has them.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let tokenizer = self.tokenizer()?;
        let mut text = String::new();
        for asked in &self.asked {
            let line = Line { asked: Some(asked), encoded: asked.encoded(&tokenizer)? };
            text.push_str(&line.json()?);
        }
        put(&folder.join(FILE_NAME), &text)
    }

    /// What the model is given: some texts at a time, padded to the longest. Of multiple choice all are the choices of one
    /// question.
    pub(super) fn inputs(&self, config: &DebertaConfig, class: Class) -> Result<Vec<Named>> {
        let tokenizer = self.tokenizer()?;
        let at_once = if class.head == Head::MultipleChoice { MOST } else { AT_ONCE };
        let options = EncodeOptions { padding: PaddingStrategy::Longest, ..EncodeOptions::default() };
        let several = self.asked.len() > at_once;
        let batch = |(number, asked): (usize, &[Asked])| {
            let texts: Vec<_> =
                asked.iter().map(|asked| (asked.text.as_str(), asked.text_pair.as_deref())).collect();
            let inputs = tokenizer
                .batch_encode_plus(&texts, &options)
                .and_then(|encodings| Encoding::inputs(&encodings))
                .map_err(|error| Error::new(Kind::Request, error.to_string()).in_file(&self.folder))?;
            let token_type_ids = inputs.token_type_ids.filter(|_| config.type_vocab_size > 1);
            let name = if several { format!("texts-{number}") } else { "texts".to_owned() };
            Ok((name, for_class(Inputs { token_type_ids, ..inputs }, class)))
        };
        (1..).zip(self.asked.chunks(at_once)).map(batch).collect()
    }

    /// The digest of the tokenizer, if all of its files are of one.
    pub(super) fn tokenizer_digest(&self) -> Option<String> {
        digest_of_folder(&self.folder).ok().flatten()
    }
}
