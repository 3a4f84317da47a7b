//! `DebertaTokenizerFast`: from tokenizer.json, or from vocab.json and merges.txt.
//!
//! Source: transformers 4.57.6, `models/deberta/tokenization_deberta_fast.py`, class `DebertaTokenizerFast`, and
//! `convert_slow_tokenizer.py`, class `DebertaConverter`.

use std::path::{Path, PathBuf};

use foldhash::HashSet;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{Encoding, Model, ModelWrapper, PreTokenizerWrapper, Tokenizer};

use super::byte_level_words::ByteLevelWords;
use super::loading::{read_tokenizer, template};
use super::{Encoder, PreTrainedTokenizerFast};
use crate::error::Result;
use crate::tokenizer::byte_level::special_token;
use crate::tokenizer::byte_level::vocabulary::MergeLine;
use crate::tokenizer::files::fault;
use crate::tokenizer::settings::Settings;
use crate::tokenizer::{DebertaTokenizer, Vocabulary as _};

/// The tokenizer of DeBERTa on the `tokenizers` crate, which agrees with transformers' fast class.
///
/// [`DebertaTokenizer`] lists what the slow class does otherwise.
pub type DebertaTokenizerFast = PreTrainedTokenizerFast<ByteLevelFast>;

/// How [`DebertaTokenizerFast`] encodes: the fast way; none for a tokenizer of a kind that the crate alone can encode.
#[derive(Debug)]
pub struct ByteLevelFast(Option<ByteLevelWords>);

impl ByteLevelFast {
    fn of(tokenizer: &Tokenizer) -> ByteLevelFast {
        ByteLevelFast(ByteLevelWords::of(tokenizer))
    }
}

impl Encoder for ByteLevelFast {
    fn encode(&self, tokenizer: &Tokenizer, text: &str, offsets: bool) -> tokenizers::Result<Encoding> {
        match &self.0 {
            Some(words) => words.encode(tokenizer, text, offsets),
            None => tokenizer.encode_char_offsets(text, false),
        }
    }

    fn note(&mut self, _tokenizer: &Tokenizer) {}
}

impl DebertaTokenizerFast {
    /// Reads a folder: tokenizer.json, or else what [`DebertaTokenizer::from_pretrained`] reads.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<DebertaTokenizerFast> {
        let folder = folder.as_ref();
        let file = folder.join("tokenizer.json");
        if file.is_file() {
            return DebertaTokenizerFast::from_json(&file, &Settings::read(folder)?);
        }
        DebertaTokenizerFast::from_vocabulary(folder)
    }

    /// Reads what [`DebertaTokenizer::from_pretrained`] reads, also where there is a tokenizer.json.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn from_vocabulary(folder: impl AsRef<Path>) -> Result<DebertaTokenizerFast> {
        let folder = folder.as_ref();
        let settings = Settings::read(folder)?;
        let slow = DebertaTokenizer::from_pretrained(folder)?;
        DebertaTokenizerFast::convert(&slow, &folder.join("merges.txt"), &settings)
    }

    /// Reads a vocabulary; everything else has its default.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn from_files(
        vocab_file: impl AsRef<Path>,
        merges_file: impl AsRef<Path>,
    ) -> Result<DebertaTokenizerFast> {
        let slow = DebertaTokenizer::from_files(vocab_file, merges_file.as_ref())?;
        DebertaTokenizerFast::convert(&slow, merges_file.as_ref(), &Settings::default())
    }

    /// Reads a tokenizer.json; everything else has its default.
    ///
    /// # Errors
    /// If the file is missing, malformed or no byte-pair encoding; the error names it and the place.
    pub fn from_tokenizer_file(tokenizer_file: impl AsRef<Path>) -> Result<DebertaTokenizerFast> {
        DebertaTokenizerFast::from_json(tokenizer_file.as_ref(), &Settings::default())
    }

    /// Does what `DebertaConverter` does.
    fn convert(
        slow: &DebertaTokenizer,
        merges_file: &Path,
        settings: &Settings,
    ) -> Result<DebertaTokenizerFast> {
        let merges = first_merges(slow, merges_file)?;
        let bpe = BPE::builder()
            .vocab_and_merges(
                slow.vocabulary.tokens().map(|(token, id)| (token.to_string(), id)).collect::<Vocab>(),
                merges,
            )
            .build()
            .map_err(|error| fault(merges_file, "", error))?;
        let mut tokenizer = Tokenizer::new(bpe);
        let byte_level = ByteLevel::default();
        tokenizer.with_pre_tokenizer(Some(byte_level.add_prefix_space(settings.add_prefix_space)));
        tokenizer.with_decoder(Some(byte_level));
        tokenizer.with_post_processor(Some(template(|name| slow.id(name))?));
        let special = settings.all_special_tokens(special_token);
        DebertaTokenizerFast::surround(tokenizer, settings, special, ByteLevelFast::of)
    }

    fn from_json(file: &Path, settings: &Settings) -> Result<DebertaTokenizerFast> {
        let (mut tokenizer, ignored) = read_tokenizer(file)?;
        if !matches!(tokenizer.get_model(), ModelWrapper::BPE(_)) {
            return Err(fault(file, "model.type", "not BPE, which DeBERTa's is"));
        }
        if let Some(PreTokenizerWrapper::ByteLevel(byte_level)) = tokenizer.get_pre_tokenizer() {
            let byte_level = byte_level.add_prefix_space(settings.add_prefix_space);
            tokenizer.with_pre_tokenizer(Some(byte_level));
        }
        DebertaTokenizerFast::of_file(file, (tokenizer, ignored), settings, ByteLevelFast::of)
    }

    /// Writes vocab.json and merges.txt into an existing folder, their names after `filename_prefix` and `-`. Gives
    /// the paths.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save_vocabulary(
        &self,
        save_directory: impl AsRef<Path>,
        filename_prefix: Option<&str>,
    ) -> Result<Vec<PathBuf>> {
        let folder = save_directory.as_ref();
        self.tokenizer.get_model().save(folder, filename_prefix).map_err(|error| fault(folder, "", error))
    }
}

/// The merges in the order of their first lines; each must make a token of the vocabulary.
fn first_merges(slow: &DebertaTokenizer, merges_file: &Path) -> Result<Vec<(String, String)>> {
    let mut seen = HashSet::default();
    let mut merges = Vec::new();
    for merge in slow.vocabulary.merges() {
        let MergeLine { left, right, .. } = merge;
        for token in [left, right, &format!("{left}{right}")] {
            if slow.vocabulary.find(token).is_none() {
                let place = format!("line {}", merge.line());
                return Err(fault(merges_file, place, format!("vocab.json has no token {token:?}")));
            }
        }
        if seen.insert((left, right)) {
            merges.push((left.clone(), right.clone()));
        }
    }
    Ok(merges)
}
