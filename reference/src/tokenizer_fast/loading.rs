//! What every fast tokenizer reads: tokenizer.json, and the tokens that surround it.

use std::path::Path;

use foldhash::{HashMap, HashSet};
use serde_json::Value;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{ModelWrapper, PaddingDirection, PostProcessorWrapper, Tokenizer, TruncationDirection};

use super::template::Template;
use super::{Encoder, PreTrainedTokenizerFast, backend, checks, foreign, to_backend};
use crate::error::{Error, Result};
use crate::tokenizer::base::SpecialTokenIds;
use crate::tokenizer::files::{fault, json_fault, read};
use crate::tokenizer::limits::check_entries;
use crate::tokenizer::settings::{Given, Settings};
use crate::tokenizer::{AddedToken, Side};

/// Reads a tokenizer.json; says what of it is ignored.
pub(super) fn read_tokenizer(file: &Path) -> Result<(Tokenizer, Vec<String>)> {
    let text = read(file)?;
    check_entries(file, &text)?;
    // serde_json says where a syntax error is, the crate does not.
    let object: Value = serde_json::from_str(&text).map_err(|error| json_fault(file, error))?;
    checks::components(file, &object)?;
    checks::added_tokens(file, &object)?;
    checks::normalizers(file, "normalizer", object.get("normalizer").unwrap_or(&Value::Null))?;
    checks::pieces(file, object.get("model").unwrap_or(&Value::Null))?;
    checks::templates(file, "post_processor", object.get("post_processor").unwrap_or(&Value::Null))?;
    let made = foreign::call(|| {
        let mut tokenizer = text.parse::<Tokenizer>()?;
        let ignored = without_sampling(&mut tokenizer, object.get("model").unwrap_or(&Value::Null));
        Ok((tokenizer, ignored))
    });
    made.and_then(|done| done).map_err(|error: tokenizers::Error| json_fault(file, error))
}

/// Makes a tokenizer cut a text in the same way each time: training may leave merges out at random (BPE dropout, Provilkov
/// et al. 2020) or choose among ways to cut (Kudo 2018), and transformers goes on doing so as long as the file asks for it.
/// Says what the model of the file asked for.
fn without_sampling(tokenizer: &mut Tokenizer, model: &Value) -> Vec<String> {
    if let ModelWrapper::BPE(bpe) = tokenizer.get_model()
        && bpe.dropout.is_some()
    {
        let mut bpe = bpe.clone();
        bpe.dropout = None;
        tokenizer.with_model(bpe);
    }
    let asked = |key: &str| Some((key.to_owned(), model.get(key)?.as_f64().filter(|&asked| asked != 0.0)?));
    let asked = ["dropout", "alpha", "nbest_size"].into_iter().filter_map(asked);
    asked
        .map(|(key, asked)| {
            format!(
                "tokenizer.json asks for tokens that differ from run to run (model.{key} {asked}), which is for training \
                 alone: it is ignored here, transformers obeys it"
            )
        })
        .collect()
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
    /// Surrounds a tokenizer of a tokenizer.json, some of which may be ignored, with what the settings say, and the file
    /// where they do not.
    pub(super) fn of_file(
        file: &Path,
        (mut tokenizer, ignored): (Tokenizer, Vec<String>),
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
        let fast = PreTrainedTokenizerFast::surround(tokenizer, &settings, special, encoder)?;
        Ok(PreTrainedTokenizerFast { ignored, ..fast })
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
        let tokens: Vec<tokenizers::AddedToken> = tokens.collect();
        let tokens = as_first_given(&tokenizer, tokens);
        foreign::call(|| tokenizer.add_tokens(tokens)).and_then(|done| done).map_err(backend)?;

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
            template: Template::of(post_processor.as_ref()),
            post_processor,
            ignored: Vec::new(),
            unconverted: Vec::new(),
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
