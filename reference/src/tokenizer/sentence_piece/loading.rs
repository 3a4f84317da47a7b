//! A tokenizer from files.

use std::path::Path;

use foldhash::{HashMap, HashMapExt};

use super::model::{Kind, Model, Piece};
use super::normalizer::Normalizer;
use super::trie::Trie;
use super::unigram::{UNKNOWN_PENALTY, Unigram};
use super::{DebertaV2Tokenizer, SentencePiece};
use crate::error::Result;
use crate::tokenizer::AddedToken;
use crate::tokenizer::files::fault;
use crate::tokenizer::pre_trained::PreTrainedTokenizer;
use crate::tokenizer::settings::Settings;

impl DebertaV2Tokenizer {
    /// Reads a folder: spm.model, and as far as they exist tokenizer_config.json, special_tokens_map.json,
    /// added_tokens.json and the added tokens of tokenizer.json.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<DebertaV2Tokenizer> {
        let folder = folder.as_ref();
        DebertaV2Tokenizer::new(&folder.join("spm.model"), &Settings::read(folder)?)
    }

    /// Reads a vocabulary, spm.model; everything else has its default.
    ///
    /// # Errors
    /// If the file is missing or malformed; the error names it and the place.
    pub fn from_file(vocab_file: impl AsRef<Path>) -> Result<DebertaV2Tokenizer> {
        DebertaV2Tokenizer::new(vocab_file.as_ref(), &Settings::default())
    }

    fn new(vocab_file: &Path, settings: &Settings) -> Result<DebertaV2Tokenizer> {
        if let Some(options) = settings.option("sp_model_kwargs")
            && options.as_object().is_none_or(|options| !options.is_empty())
        {
            let problem = format!("{options}: no options of SentencePiece are supported");
            return Err(settings.fault("sp_model_kwargs", problem));
        }
        let (model, bytes) = Model::read(vocab_file)?;
        let special = settings.all_special_tokens(special_token);
        let texts: Vec<String> = special.iter().map(|token| token.content.clone()).collect();
        let vocabulary = SentencePiece {
            do_lower_case: settings.flag("do_lower_case")?,
            split_by_punct: settings.flag("split_by_punct")?,
            normalizer: normalizer(&model)
                .map_err(|problem| fault(vocab_file, "normalizer_spec.precompiled_charsmap", problem))?,
            denormalizer: denormalizer(&model)
                .map_err(|problem| fault(vocab_file, "denormalizer_spec.precompiled_charsmap", problem))?,
            unigram: unigram(&model),
            ids: (0..).take(model.pieces.len()).collect(),
            model,
            bytes,
            added: HashMap::new(),
            kept: texts.clone(),
            kept_at: HashMap::new(),
            special: texts,
            unk_token: settings.content("unk_token")?,
        };
        PreTrainedTokenizer::with_vocabulary(vocabulary, settings, &special, vocab_file)
    }
}

/// The pieces that texts are cut into: normal and user-defined ones.
fn unigram(model: &Model) -> Unigram<f32> {
    let normal = model.pieces.iter().filter(|piece| piece.kind == Kind::Normal);
    let lowest = normal.fold(f32::MAX, |lowest, piece| lowest.min(piece.score));
    let score = |piece: &Piece| {
        if piece.kind == Kind::UserDefined {
            // Whatever the pieces within it score, they do not add up to more.
            (0.1 * piece.text.len() as f64 - 0.1) as f32
        } else {
            piece.score
        }
    };
    let scores = model.pieces.iter().map(score).collect();
    let cut = |piece: &Piece| matches!(piece.kind, Kind::Normal | Kind::UserDefined);
    let pieces = (0..).zip(&model.pieces).filter(|(_, piece)| cut(piece));
    let pieces = pieces.map(|(id, piece)| (piece.text.as_str(), id));
    Unigram::new(pieces, scores, model.unk_id, lowest - UNKNOWN_PENALTY)
}

fn normalizer(model: &Model) -> std::result::Result<Normalizer, String> {
    let kept = model.pieces.iter().filter(|piece| piece.kind == Kind::UserDefined);
    let kept: Vec<&str> = kept.map(|piece| piece.text.as_str()).collect();
    let kept = (!kept.is_empty()).then(|| Trie::new(kept.into_iter().zip(0..)));
    Normalizer::new(&model.normalizer_spec, kept, model.treat_whitespace_as_suffix)
}

fn denormalizer(model: &Model) -> std::result::Result<Option<Normalizer>, String> {
    model.denormalizer_spec.as_ref().map(|spec| Normalizer::new(spec, None, false)).transpose()
}

/// A special token whose flags no file gives: the unknown token is looked for in normalized text.
pub(crate) fn special_token(name: &str, content: &str) -> AddedToken {
    AddedToken { normalized: name == "unk_token", ..AddedToken::new(content, true) }
}
