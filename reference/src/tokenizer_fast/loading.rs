//! What every fast tokenizer reads: tokenizer.json, and the tokens that surround it.

use std::path::Path;

use foldhash::{HashMap, HashSet};
use serde_json::Value;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{PaddingDirection, PostProcessorWrapper, Tokenizer, TruncationDirection};

use super::{Encoder, PreTrainedTokenizerFast, backend, checks, to_backend};
use crate::error::{Error, Result};
use crate::tokenizer::base::SpecialTokenIds;
use crate::tokenizer::files::{fault, json_fault, read};
use crate::tokenizer::settings::{Given, Settings};
use crate::tokenizer::{AddedToken, Side};

/// Reads a tokenizer.json.
pub(super) fn read_tokenizer(file: &Path) -> Result<Tokenizer> {
    let text = read(file)?;
    // serde_json says where a syntax error is, the crate does not.
    let object: Value = serde_json::from_str(&text).map_err(|error| json_fault(file, error))?;
    checks::normalizers(file, "normalizer", object.get("normalizer").unwrap_or(&Value::Null))?;
    checks::pieces(file, object.get("model").unwrap_or(&Value::Null))?;
    checks::templates(file, "post_processor", object.get("post_processor").unwrap_or(&Value::Null))?;
    text.parse().map_err(|error| json_fault(file, error))
}

/// The post-processor that transformers' converters write: `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`, under these
/// names also where the files name other tokens. `id` gives their ids.
pub(super) fn template(id: impl Fn(&str) -> Option<u32>) -> Result<TemplateProcessing> {
    let mut special = Vec::new();
    for name in ["[CLS]", "[SEP]"] {
        let lacks = || Error::Tokenizer(format!("{name} has no id, which the fast tokenizer needs"));
        special.push((name, id(name).ok_or_else(lacks)?));
    }
    TemplateProcessing::builder()
        .try_single("[CLS]:0 $A:0 [SEP]:0")
        .and_then(|builder| builder.try_pair("[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"))
        .and_then(|builder| builder.special_tokens(special).build().map_err(|error| error.to_string()))
        .map_err(Error::Tokenizer)
}

impl<E: Encoder> PreTrainedTokenizerFast<E> {
    /// Surrounds a tokenizer of a tokenizer.json with what the settings say, and the file where they do not.
    pub(super) fn of_file(
        file: &Path,
        mut tokenizer: Tokenizer,
        settings: &Settings,
        encoder: impl FnOnce(&Tokenizer) -> E,
    ) -> Result<PreTrainedTokenizerFast<E>> {
        let padding_side = tokenizer.get_padding().map(|padding| match padding.direction {
            PaddingDirection::Left => Side::Left,
            PaddingDirection::Right => Side::Right,
        });
        let truncation_side = tokenizer.get_truncation().map(|truncation| match truncation.direction {
            TruncationDirection::Left => Side::Left,
            TruncationDirection::Right => Side::Right,
        });
        let mut settings = settings.clone();
        settings.padding_side = settings.padding_side.or(padding_side);
        settings.truncation_side = settings.truncation_side.or(truncation_side);
        tokenizer.with_truncation(None).map_err(|error| fault(file, "truncation", error))?;
        tokenizer.with_padding(None);
        let special = lacking(&tokenizer, &settings);
        PreTrainedTokenizerFast::surround(tokenizer, &settings, special, encoder)
    }

    /// Surrounds a tokenizer with what the settings say. `special` are the special tokens that it may lack, `encoder`
    /// makes what encodes once they are added.
    pub(super) fn surround(
        mut tokenizer: Tokenizer,
        settings: &Settings,
        special: Vec<AddedToken>,
        encoder: impl FnOnce(&Tokenizer) -> E,
    ) -> Result<PreTrainedTokenizerFast<E>> {
        let post_processor = tokenizer.get_post_processor().cloned();
        tokenizer.with_post_processor(None::<PostProcessorWrapper>);
        tokenizer.set_encode_special_tokens(settings.split_special_tokens);
        let texts = settings.all_special_tokens(|_, content| AddedToken::new(content, true));
        let names: HashSet<String> = texts.into_iter().map(|token| token.content).collect();

        let mut added = settings.added_tokens_decoder.clone();
        added.sort_by_key(|(id, _)| *id);
        let known = tokenizer.get_added_tokens_decoder();
        let added = added.into_iter().map(|(_, token)| token);
        let added = added.filter(|token| !known.values().any(|known| *known == to_backend(token)));
        let tokens = added.chain(special).map(|token| {
            let special = token.special || names.contains(&token.content);
            to_backend(&AddedToken { special, ..token })
        });
        let tokens = tokens.collect();
        let tokens = as_first_given(&tokenizer, tokens);
        tokenizer.add_tokens(tokens).map_err(backend)?;

        let unk_token = settings.content("unk_token")?;
        let id = |name: &str| -> Result<u32> {
            let content = settings.content(name)?;
            let id = tokenizer.token_to_id(&content).or_else(|| tokenizer.token_to_id(&unk_token));
            id.ok_or_else(|| Error::Tokenizer(format!("{name}: {content:?} has no id")))
        };
        Ok(PreTrainedTokenizerFast {
            padding_side: settings.padding_side.unwrap_or_default(),
            truncation_side: settings.truncation_side.unwrap_or_default(),
            model_max_length: settings.model_max_length,
            clean_up_tokenization_spaces: settings.clean_up_tokenization_spaces,
            special_ids: SpecialTokenIds::new(id)?,
            pad_token: settings.content("pad_token")?,
            unk_token,
            special: names,
            encoder: encoder(&tokenizer),
            tokenizer,
            post_processor,
        })
    }
}

/// The special tokens that a tokenizer lacks, or that have flags of their own. One of which only the text is given keeps
/// the flags that the tokenizer has for it.
pub(super) fn lacking(tokenizer: &Tokenizer, settings: &Settings) -> Vec<AddedToken> {
    let added = tokenizer.get_added_tokens_decoder();
    let known = |content: &str| {
        let mut given = settings.added_tokens_decoder.iter().map(|(_, token)| token);
        added.values().any(|token| token.content == content) || given.any(|token| token.content == content)
    };
    let given = settings.special.iter().filter_map(|(_, given)| given.as_ref());
    let given = given.chain(&settings.additional_special_tokens);
    let special = given.filter_map(|given| match given {
        Given::Token(token) => Some(token.clone()),
        Given::Text(content) => (!known(content)).then(|| AddedToken::new(content, true)),
    });
    special.collect()
}

/// Tokens to be added. A special token that is given again is looked for where it was before, in normalized text or not.
///
/// As `tokenizers` 0.22 does it: 0.23 looks for it where the last one says.
pub(super) fn as_first_given(
    tokenizer: &Tokenizer,
    mut tokens: Vec<tokenizers::AddedToken>,
) -> Vec<tokenizers::AddedToken> {
    let added = tokenizer.get_added_tokens_decoder();
    let special = added.values().filter(|token| token.special);
    let mut first: HashMap<String, bool> =
        special.map(|token| (token.content.clone(), token.normalized)).collect();
    for token in tokens.iter_mut().filter(|token| token.special) {
        token.normalized = *first.entry(token.content.clone()).or_insert(token.normalized);
    }
    tokens
}
