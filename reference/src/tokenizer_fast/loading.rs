//! Tokenizers from files: from tokenizer.json, or from vocab.json and merges.txt.

use std::path::Path;

use foldhash::HashSet;
use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    ModelWrapper, PaddingDirection, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer, TruncationDirection,
};

use super::byte_level_words::ByteLevelWords;
use super::{DebertaTokenizerFast, backend, template, to_backend};
use crate::error::{Error, Result};
use crate::tokenizer::base::SpecialTokenIds;
use crate::tokenizer::byte_level::vocabulary::MergeLine;
use crate::tokenizer::files::{fault, json_fault, read};
use crate::tokenizer::settings::{Given, Settings};
use crate::tokenizer::{AddedToken, DebertaTokenizer, Side};

impl DebertaTokenizerFast {
    /// Reads a folder: tokenizer.json, or else what [`DebertaTokenizer::from_pretrained`] reads.
    ///
    /// # Errors
    /// If a file is missing or malformed; the error names it and the place.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<DebertaTokenizerFast> {
        let folder = folder.as_ref();
        let file = folder.join("tokenizer.json");
        let settings = Settings::read(folder)?;
        if file.is_file() {
            return DebertaTokenizerFast::from_json(&file, &settings);
        }
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
                slow.vocabulary().map(|(token, id)| (token.to_string(), id)).collect::<Vocab>(),
                merges,
            )
            .build()
            .map_err(|error| fault(merges_file, "", error))?;
        let mut tokenizer = Tokenizer::new(bpe);
        let byte_level = ByteLevel::default();
        tokenizer.with_pre_tokenizer(Some(byte_level.add_prefix_space(settings.add_prefix_space)));
        tokenizer.with_decoder(Some(byte_level));
        // `DebertaConverter` writes these two names, also where the files name other tokens.
        let mut special = Vec::new();
        for name in ["[CLS]", "[SEP]"] {
            let [Some(id)] = slow.convert_tokens_to_ids(&[name])[..] else {
                return Err(Error::Tokenizer(format!("{name} has no id, which the fast tokenizer needs")));
            };
            special.push((name, id));
        }
        let template = TemplateProcessing::builder()
            .try_single("[CLS]:0 $A:0 [SEP]:0")
            .and_then(|builder| builder.try_pair("[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"))
            .and_then(|builder| builder.special_tokens(special).build().map_err(|error| error.to_string()))
            .map_err(Error::Tokenizer)?;
        tokenizer.with_post_processor(Some(template));
        DebertaTokenizerFast::new(tokenizer, settings, settings.all_special_tokens())
    }

    fn from_json(file: &Path, settings: &Settings) -> Result<DebertaTokenizerFast> {
        let text = read(file)?;
        // serde_json says where a syntax error is, the crate does not.
        let object: Value = serde_json::from_str(&text).map_err(|error| json_fault(file, error))?;
        template::check(file, "post_processor", object.get("post_processor").unwrap_or(&Value::Null))?;
        let mut tokenizer: Tokenizer = text.parse().map_err(|error| json_fault(file, error))?;
        if !matches!(tokenizer.get_model(), ModelWrapper::BPE(_)) {
            return Err(fault(file, "model.type", "not BPE, which DeBERTa's is"));
        }
        if let Some(PreTokenizerWrapper::ByteLevel(byte_level)) = tokenizer.get_pre_tokenizer() {
            let byte_level = byte_level.add_prefix_space(settings.add_prefix_space);
            tokenizer.with_pre_tokenizer(Some(byte_level));
        }
        let padding_side = tokenizer.get_padding().map(|padding| match padding.direction {
            PaddingDirection::Left => Side::Left,
            PaddingDirection::Right => Side::Right,
        });
        let truncation_side = tokenizer.get_truncation().map(|truncation| match truncation.direction {
            TruncationDirection::Left => Side::Left,
            TruncationDirection::Right => Side::Right,
        });
        let settings = Settings {
            padding_side: settings.padding_side.or(padding_side),
            truncation_side: settings.truncation_side.or(truncation_side),
            ..settings.clone()
        };
        tokenizer.with_truncation(None).map_err(|error| fault(file, "truncation", error))?;
        tokenizer.with_padding(None);
        // A special token of which only the text is given keeps the flags that the file has for it.
        let added = tokenizer.get_added_tokens_decoder();
        let known = |content: &str| added.values().any(|token| token.content == content);
        let given = settings.special.iter().filter_map(|(_, given)| given.as_ref());
        let given = given.chain(&settings.additional_special_tokens);
        let special = given.filter_map(|given| match given {
            Given::Token(token) => Some(token.clone()),
            Given::Text(content) => (!known(content)).then(|| AddedToken::new(content, true)),
        });
        DebertaTokenizerFast::new(tokenizer, &settings, special.collect())
    }

    fn new(
        mut tokenizer: Tokenizer,
        settings: &Settings,
        special: Vec<AddedToken>,
    ) -> Result<DebertaTokenizerFast> {
        let post_processor = tokenizer.get_post_processor().cloned();
        tokenizer.with_post_processor(None::<PostProcessorWrapper>);
        tokenizer.set_encode_special_tokens(settings.split_special_tokens);
        let names: HashSet<String> =
            settings.all_special_tokens().into_iter().map(|token| token.content).collect();

        let mut added = settings.added_tokens_decoder.clone();
        added.sort_by_key(|(id, _)| *id);
        let known = tokenizer.get_added_tokens_decoder();
        let added = added.into_iter().map(|(_, token)| token);
        let added = added.filter(|token| !known.values().any(|known| *known == to_backend(token)));
        let tokens = added.chain(special).map(|token| {
            let special = token.special || names.contains(&token.content);
            to_backend(&AddedToken { special, ..token })
        });
        let tokens: Vec<_> = tokens.collect();
        tokenizer.add_tokens(tokens).map_err(backend)?;

        let unk_token = settings.content("unk_token")?;
        let id = |name: &str| -> Result<u32> {
            let content = settings.content(name)?;
            let id = tokenizer.token_to_id(&content).or_else(|| tokenizer.token_to_id(&unk_token));
            id.ok_or_else(|| Error::Tokenizer(format!("{name}: {content:?} has no id")))
        };
        Ok(DebertaTokenizerFast {
            padding_side: settings.padding_side.unwrap_or_default(),
            truncation_side: settings.truncation_side.unwrap_or_default(),
            model_max_length: settings.model_max_length,
            clean_up_tokenization_spaces: settings.clean_up_tokenization_spaces,
            special_ids: SpecialTokenIds::new(id)?,
            pad_token: settings.content("pad_token")?,
            unk_token,
            special: names,
            byte_level: ByteLevelWords::of(&tokenizer),
            tokenizer,
            post_processor,
        })
    }
}

/// The merges in the order of their first lines; each must make a token of the vocabulary.
fn first_merges(slow: &DebertaTokenizer, merges_file: &Path) -> Result<Vec<(String, String)>> {
    let mut seen = HashSet::default();
    let mut merges = Vec::new();
    for merge in slow.merges() {
        let MergeLine { left, right, .. } = merge;
        for token in [left, right, &format!("{left}{right}")] {
            if !slow.has_token(token) {
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
