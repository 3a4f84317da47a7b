//! `DebertaV2TokenizerFast`: from tokenizer.json, or from spm.model.
//!
//! Source: transformers 4.57.6, `models/deberta_v2/tokenization_deberta_v2_fast.py`, class `DebertaV2TokenizerFast`, and
//! `convert_slow_tokenizer.py`, class `DebertaV2Converter`.

use std::path::{Path, PathBuf};

use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, Precompiled, Replace, Sequence, Strip};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::{
    Encoding, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
};

use super::loading::{lacking, read_tokenizer, template};
use super::metaspace_words::MetaspaceWords;
use super::normalization::Normalization;
use super::{Encoder, PreTrainedTokenizerFast, backend, to_backend};
use crate::error::{Error, Result};
use crate::tokenizer::files::{fault, read_bytes};
use crate::tokenizer::sentence_piece::model::{Kind, LARGEST_FILE, Model};
use crate::tokenizer::sentence_piece::{save, special_token};
use crate::tokenizer::settings::Settings;
use crate::tokenizer::{AddedToken, DebertaV2Tokenizer};

/// The tokenizer of DeBERTa v2, v3 and mDeBERTa on the `tokenizers` crate, which agrees with transformers' fast class.
///
/// [`DebertaV2Tokenizer`] lists what the slow class does otherwise.
pub type DebertaV2TokenizerFast = PreTrainedTokenizerFast<SentencePieceFast>;

/// How [`DebertaV2TokenizerFast`] encodes.
#[derive(Debug)]
pub struct SentencePieceFast {
    /// The fast way; none for a tokenizer of a kind that the crate alone can encode.
    words: Option<MetaspaceWords>,
    normalization: Normalization,
    /// spm.model, if there is one.
    vocab_file: Option<PathBuf>,
}

impl SentencePieceFast {
    fn of(tokenizer: &Tokenizer, vocab_file: &Path) -> SentencePieceFast {
        SentencePieceFast {
            words: MetaspaceWords::of(tokenizer),
            normalization: Normalization::of(tokenizer.get_normalizer()),
            vocab_file: vocab_file.is_file().then(|| vocab_file.to_path_buf()),
        }
    }
}

impl Encoder for SentencePieceFast {
    fn encode(&self, tokenizer: &Tokenizer, text: &str, offsets: bool) -> tokenizers::Result<Encoding> {
        match &self.words {
            Some(words) => words.encode(tokenizer, text, offsets),
            None => tokenizer.encode_char_offsets(text, false),
        }
    }

    fn note(&mut self, tokenizer: &Tokenizer) {
        self.words = MetaspaceWords::of(tokenizer);
    }

    fn warnings(&self) -> Vec<String> {
        self.normalization.warning().into_iter().collect()
    }
}

impl DebertaV2TokenizerFast {
    /// Reads a folder: tokenizer.json, or else what [`DebertaV2Tokenizer::from_pretrained`] reads.
    ///
    /// [`normalization`](Self::normalization) says whether tokenizer.json was written by transformers 5, which makes other
    /// tokens of some texts.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<DebertaV2TokenizerFast> {
        let folder = folder.as_ref();
        let (file, vocab_file) = (folder.join("tokenizer.json"), folder.join("spm.model"));
        if file.is_file() {
            return DebertaV2TokenizerFast::from_json(&file, &vocab_file, &Settings::read(folder)?);
        }
        DebertaV2TokenizerFast::from_vocabulary(folder)
    }

    /// Reads what [`DebertaV2Tokenizer::from_pretrained`] reads, also where there is a tokenizer.json.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn from_vocabulary(folder: impl AsRef<Path>) -> Result<DebertaV2TokenizerFast> {
        let folder = folder.as_ref();
        let settings = Settings::read(folder)?;
        let slow = DebertaV2Tokenizer::from_pretrained(folder)?;
        DebertaV2TokenizerFast::convert(&slow, &folder.join("spm.model"), settings)
    }

    /// Reads a vocabulary, spm.model; everything else has its default.
    ///
    /// # Errors
    /// If the file is missing or malformed; the error names it and the place.
    pub fn from_file(vocab_file: impl AsRef<Path>) -> Result<DebertaV2TokenizerFast> {
        let slow = DebertaV2Tokenizer::from_file(vocab_file.as_ref())?;
        DebertaV2TokenizerFast::convert(&slow, vocab_file.as_ref(), Settings::default())
    }

    /// Reads a tokenizer.json; everything else has its default.
    ///
    /// # Errors
    /// If the file is missing, malformed or no unigram model; the error names it and the place.
    pub fn from_tokenizer_file(tokenizer_file: impl AsRef<Path>) -> Result<DebertaV2TokenizerFast> {
        DebertaV2TokenizerFast::from_json(tokenizer_file.as_ref(), Path::new(""), &Settings::default())
    }

    fn from_json(file: &Path, vocab_file: &Path, settings: &Settings) -> Result<DebertaV2TokenizerFast> {
        let read = read_tokenizer(file)?;
        if !matches!(read.0.get_model(), ModelWrapper::Unigram(_)) {
            return Err(fault(file, "model.type", "not Unigram, which DeBERTa's is since version 2"));
        }
        DebertaV2TokenizerFast::of_file(file, read, settings, |tokenizer| {
            SentencePieceFast::of(tokenizer, vocab_file)
        })
    }

    /// Does what `DebertaV2Converter` does.
    fn convert(
        slow: &DebertaV2Tokenizer,
        vocab_file: &Path,
        settings: Settings,
    ) -> Result<DebertaV2TokenizerFast> {
        let model = slow.vocabulary.model();
        let mut tokenizer = Tokenizer::new(unigram(model, vocab_file)?);
        let outside = model.pieces.iter().filter_map(|piece| match piece.kind {
            Kind::Control => Some(AddedToken::new(&piece.text, true)),
            Kind::UserDefined => {
                Some(AddedToken { normalized: false, ..AddedToken::new(&piece.text, false) })
            }
            _ => None,
        });
        tokenizer.add_tokens(outside.map(|token| to_backend(&token))).map_err(backend)?;
        let normalizer = normalizer(model, slow.vocabulary.do_lower_case)?;
        tokenizer.with_normalizer(Some(normalizer)).map_err(backend)?;
        let metaspace = Metaspace::new('▁', PrependScheme::Always, true);
        let mut cuts = vec![PreTokenizerWrapper::Metaspace(metaspace.clone())];
        if slow.vocabulary.split_by_punct {
            let punctuation = Punctuation::new(SplitDelimiterBehavior::Isolated);
            cuts.insert(0, PreTokenizerWrapper::Punctuation(punctuation));
        }
        tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(cuts)));
        tokenizer.with_decoder(Some(metaspace));
        tokenizer.with_post_processor(Some(template(|name| slow.id(name))?));
        let settings = settings.with_flags("unk_token", special_token);
        let special = lacking(&tokenizer, &settings);
        let fast = DebertaV2TokenizerFast::surround(tokenizer, &settings, special, |tokenizer| {
            SentencePieceFast::of(tokenizer, vocab_file)
        })?;
        Ok(DebertaV2TokenizerFast { unconverted: model.unconverted(), ..fast })
    }

    /// How characters are normalized, which is not the same in transformers 4 and 5.
    pub fn normalization(&self) -> Normalization {
        self.encoder.normalization
    }

    /// Copies spm.model into an existing folder, its name after `filename_prefix` and `-`. Gives the path.
    ///
    /// # Errors
    /// If the tokenizer was read from a tokenizer.json without an spm.model beside it, or the file cannot be copied.
    pub fn save_vocabulary(
        &self,
        save_directory: impl AsRef<Path>,
        filename_prefix: Option<&str>,
    ) -> Result<PathBuf> {
        let lacks = || Error::Tokenizer("there was no spm.model beside tokenizer.json to be saved".into());
        let file = self.encoder.vocab_file.as_ref().ok_or_else(lacks)?;
        let bytes = read_bytes(file, LARGEST_FILE)?;
        save(save_directory.as_ref(), filename_prefix, &bytes)
    }
}

/// All pieces, also those that SentencePiece cuts no text into, and no bytes for what they do not spell.
fn unigram(model: &Model, vocab_file: &Path) -> Result<Unigram> {
    let scores = model.pieces.iter().map(|piece| (piece.text.clone(), f64::from(piece.score))).collect();
    let unk_id = usize::try_from(model.noted_unk_id).ok().filter(|id| *id < model.pieces.len());
    if unk_id.is_none() {
        let problem = format!("{}, there are {} pieces", model.noted_unk_id, model.pieces.len());
        return Err(fault(vocab_file, "trainer_spec.unk_id", problem));
    }
    Unigram::from(scores, unk_id, false).map_err(|error| fault(vocab_file, "", error))
}

fn normalizer(model: &Model, do_lower_case: bool) -> Result<NormalizerWrapper> {
    let mut normalizers = Vec::new();
    if do_lower_case {
        normalizers.push(NormalizerWrapper::Lowercase(Lowercase));
    }
    normalizers.push(NormalizerWrapper::StripNormalizer(Strip::new(true, true)));
    let charsmap = model.normalizer_spec.precompiled_charsmap();
    if !charsmap.is_empty() {
        let precompiled = Precompiled::from(charsmap);
        let precompiled = precompiled.map_err(|error| Error::Tokenizer(error.to_string()))?;
        normalizers.push(NormalizerWrapper::Precompiled(precompiled));
    }
    let spaces = ReplacePattern::Regex(" {2,}".into());
    normalizers.push(NormalizerWrapper::Replace(Replace::new(spaces, " ").map_err(backend)?));
    Ok(NormalizerWrapper::Sequence(Sequence::new(normalizers)))
}
