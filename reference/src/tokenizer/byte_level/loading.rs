//! A tokenizer from files.

use std::path::Path;

use super::bpe::Bpe;
use super::vocabulary::read_merges;
use super::{ByteLevel, DebertaTokenizer};
use crate::error::Result;
use crate::tokenizer::AddedToken;
use crate::tokenizer::files::{fault, read_ids};
use crate::tokenizer::pre_trained::PreTrainedTokenizer;
use crate::tokenizer::settings::Settings;

impl DebertaTokenizer {
    /// Reads a folder: vocab.json and merges.txt, and as far as they exist tokenizer_config.json,
    /// special_tokens_map.json, added_tokens.json and the added tokens of tokenizer.json.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<DebertaTokenizer> {
        let folder = folder.as_ref();
        let settings = Settings::read(folder)?;
        DebertaTokenizer::new(&folder.join("vocab.json"), &folder.join("merges.txt"), &settings)
    }

    /// Reads a vocabulary; everything else has its default.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn from_files(
        vocab_file: impl AsRef<Path>,
        merges_file: impl AsRef<Path>,
    ) -> Result<DebertaTokenizer> {
        DebertaTokenizer::new(vocab_file.as_ref(), merges_file.as_ref(), &Settings::default())
    }

    fn new(vocab_file: &Path, merges_file: &Path, settings: &Settings) -> Result<DebertaTokenizer> {
        let tokens = read_ids(vocab_file)?;
        let merges = read_merges(merges_file)?;
        let vocabulary = ByteLevel {
            add_prefix_space: settings.add_prefix_space,
            errors: settings.errors,
            decoder: tokens.iter().map(|(token, id)| (*id, token.clone())).collect(),
            encoder: tokens.into_iter().collect(),
            bpe: Bpe::new(merges.iter().map(|merge| (&*merge.left, &*merge.right, merge.rank))),
            merges,
            symbol_ids: Vec::new(),
            unk_token: settings.content("unk_token")?,
        };
        let special = settings.all_special_tokens(special_token);
        let mut tokenizer = PreTrainedTokenizer::with_vocabulary(vocabulary, settings, &special, vocab_file)?;
        tokenizer.vocabulary.symbol_ids = tokenizer.ids_of_symbols(vocab_file)?;
        Ok(tokenizer)
    }

    /// The id of every symbol, so that encoding looks no token up by its text.
    fn ids_of_symbols(&self, vocab_file: &Path) -> Result<Vec<u32>> {
        let ByteLevel { bpe, unk_token, .. } = &self.vocabulary;
        let id = |symbol: &String| {
            self.id(symbol).ok_or_else(|| {
                let problem =
                    format!("this byte or merge has no id, and there is no {unk_token:?} to stand for it");
                fault(vocab_file, format!("{symbol:?}"), problem)
            })
        };
        bpe.texts().iter().map(id).collect()
    }
}

/// A special token whose flags no file gives: `[MASK]` takes the white space before it.
pub(crate) fn special_token(name: &str, content: &str) -> AddedToken {
    let mask = name == "mask_token";
    AddedToken { lstrip: mask, normalized: mask, ..AddedToken::new(content, true) }
}
