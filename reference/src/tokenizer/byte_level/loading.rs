//! A tokenizer from files.

use std::path::Path;

use foldhash::{HashMap, HashMapExt};

use super::DebertaTokenizer;
use super::bpe::Bpe;
use super::vocabulary::read_merges;
use crate::error::Result;
use crate::tokenizer::added_tokens::AddedTokens;
use crate::tokenizer::base::SpecialTokenIds;
use crate::tokenizer::files::{fault, read_ids};
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
        let vocabulary = read_ids(vocab_file)?;
        let merges = read_merges(merges_file)?;
        let bpe = Bpe::new(merges.iter().map(|merge| (&*merge.left, &*merge.right, merge.rank)));
        let mut tokenizer = DebertaTokenizer {
            add_prefix_space: settings.add_prefix_space,
            padding_side: settings.padding_side.unwrap_or_default(),
            truncation_side: settings.truncation_side.unwrap_or_default(),
            model_max_length: settings.model_max_length,
            clean_up_tokenization_spaces: settings.clean_up_tokenization_spaces,
            split_special_tokens: settings.split_special_tokens,
            errors: settings.errors,
            decoder: vocabulary.iter().map(|(token, id)| (*id, token.clone())).collect(),
            encoder: vocabulary.into_iter().collect(),
            merges,
            bpe,
            added: AddedTokens::default(),
            symbol_ids: Vec::new(),
            special: HashMap::new(),
            additional: Vec::new(),
            len: 0,
            unk_token: settings.content("unk_token")?,
            special_ids: SpecialTokenIds::default(),
        };
        let special = settings.all_special_tokens();
        for (id, token) in &settings.added_tokens_decoder {
            tokenizer.added.insert(*id, token.clone());
        }
        tokenizer.insert(&special);
        tokenizer.special = special
            .iter()
            .filter_map(|token| Some((token.content.clone(), tokenizer.id(&token.content)?)))
            .collect();
        let additional = settings.additional_special_tokens.iter().map(|given| given.content().to_string());
        let size = tokenizer.encoder.len();
        tokenizer.additional = additional
            .filter(|content| tokenizer.id(content).is_some_and(|id| id as usize >= size))
            .collect();
        let id = |name: &str| -> Result<u32> {
            let content = settings.content(name)?;
            let unknown = || fault(vocab_file, name, format!("{content:?} has no id"));
            tokenizer.id(&content).ok_or_else(unknown)
        };
        tokenizer.special_ids = SpecialTokenIds::new(id)?;
        tokenizer.symbol_ids = tokenizer.ids_of_symbols(vocab_file)?;
        Ok(tokenizer)
    }

    /// The id of every symbol, so that encoding looks no token up by its text.
    fn ids_of_symbols(&self, vocab_file: &Path) -> Result<Vec<u32>> {
        let id = |symbol: &String| {
            self.id(symbol).ok_or_else(|| {
                let problem = format!(
                    "this byte or merge has no id, and there is no {:?} to stand for it",
                    self.unk_token
                );
                fault(vocab_file, format!("{symbol:?}"), problem)
            })
        };
        self.bpe.texts().iter().map(id).collect()
    }
}
