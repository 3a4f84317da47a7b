//! What config.json and tokenizer_config.json say, and the tokenizer must keep.

use std::path::Path;

use deberta_converters::config_file::ConfigFile;
use deberta_converters::confinement::require_inside;
use deberta_converters::opening;
use deberta_reference::{Meaning, Tokenizer};
use serde_json::{Map, Value};

use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind};

/// The most that is read of tokenizer_config.json, in bytes.
const LONGEST: u64 = 1 << 24;

/// The class that tokenizer_config.json names, if it is of another model than DeBERTa: nobody here reads its files.
pub(super) fn foreign_class(folder: &Path) -> Option<String> {
    let settings = settings(folder);
    let named = settings.get("tokenizer_class").and_then(Value::as_str)?;
    (!GENERIC.contains(&base(named)) && !OWN.contains(&base(named))).then(|| named.to_owned())
}

/// The classes of DeBERTa, without `Fast`.
const OWN: [&str; 2] = ["DebertaTokenizer", "DebertaV2Tokenizer"];

/// Those that read tokenizer.json as it is.
const GENERIC: [&str; 2] = ["PreTrainedTokenizer", "TokenizersBackend"];

/// The name of a class without `Fast`.
fn base(class: &str) -> &str {
    class.strip_suffix("Fast").unwrap_or(class)
}

/// What of the configuration does not fit the tokenizer in a folder, which `file` was read from. A configuration that cannot
/// be read is said where the weights are.
pub(super) fn check(folder: &Path, config: Option<&Path>, file: &str, meaning: &Meaning) -> Vec<Finding> {
    let Ok(config) = ConfigFile::find(config, folder, None) else { return Vec::new() };
    let settings = settings(folder);
    let checks = [
        size(&config, file, meaning),
        padding(&config, file, meaning),
        class(&config, &settings, folder),
        length(&config, &settings),
    ];
    checks.into_iter().flatten().collect()
}

fn finding(outcome: Outcome, message: String) -> Finding {
    Finding::new(FindingKind::TokenizerConfig, outcome, message)
}

/// Ids that the table of word embeddings lacks.
fn size(config: &ConfigFile, file: &str, meaning: &Meaning) -> Option<Finding> {
    let rows = config.config.vocab_size;
    let ids = meaning.tokens.iter().map(|(id, token)| (*id, token.as_str()));
    let added = meaning.added.iter().map(|(id, token)| (*id, token.content.as_str()));
    let beyond: Vec<(u32, &str)> =
        ids.chain(added).filter(|(id, _)| usize::try_from(*id).is_ok_and(|id| id >= rows)).collect();
    let (id, token) = beyond.first()?;
    let message = format!(
        "{file}: token {token:?} has id {id}, vocab_size is {rows}: the model has no embedding for it ({} such tokens)",
        beyond.len()
    );
    Some(finding(Outcome::Divergence, message))
}

/// The token that sequences are filled up with.
fn padding(config: &ConfigFile, file: &str, meaning: &Meaning) -> Option<Finding> {
    let stated = config.map.get("pad_token_id").and_then(Value::as_u64)?;
    let (_, own) = meaning.options.iter().find(|(name, _)| name == "pad_token")?;
    let message = format!("{file}: the padding token has id {own}, pad_token_id of config.json is {stated}");
    (stated.to_string() != *own).then(|| finding(Outcome::Divergence, message))
}

/// The class that `AutoTokenizer` makes.
fn class(config: &ConfigFile, settings: &Map<String, Value>, folder: &Path) -> Option<Finding> {
    let family = config.config.family.model_type();
    let expected = if family == "deberta" { "DebertaTokenizer" } else { "DebertaV2Tokenizer" };
    let Some(named) = settings.get("tokenizer_class").and_then(Value::as_str) else {
        let files = Tokenizer::model_type(folder);
        let message = format!(
            "the files of the tokenizer are those of a model_type {files:?}, config.json says {family:?}: what transformers \
             would make of them was not judged"
        );
        return (files != family).then(|| finding(Outcome::Undecided, message));
    };
    let message = |why: &str| {
        format!("tokenizer_config.json: tokenizer_class {named:?}, the model's is {expected:?}: {why}")
    };
    match base(named) {
        base if base == expected || GENERIC.contains(&base) => None,
        base if OWN.contains(&base) => {
            Some(finding(Outcome::Divergence, message("a tokenizer of the other version")))
        }
        _ => Some(finding(Outcome::Undecided, message("what transformers would make of it was not judged"))),
    }
}

/// Where texts are cut.
fn length(config: &ConfigFile, settings: &Map<String, Value>) -> Option<Finding> {
    let longest = settings.get("model_max_length").and_then(Value::as_u64)?;
    let positions = config.config.max_position_embeddings;
    let taken = usize::try_from(longest).unwrap_or(usize::MAX);
    // Larger numbers mean that there is no limit.
    let limited = longest < 1 << 32;
    let said = match taken.cmp(&positions) {
        std::cmp::Ordering::Less => "texts are cut although the model takes more",
        std::cmp::Ordering::Greater if limited && config.config.position_biased_input => {
            "longer texts than the model has positions are not cut"
        }
        _ => return None,
    };
    let message = format!(
        "tokenizer_config.json: model_max_length {longest}, max_position_embeddings {positions}: {said}"
    );
    Some(finding(Outcome::Pass, message))
}

fn settings(folder: &Path) -> Map<String, Value> {
    let read = || -> Option<Map<String, Value>> {
        let path = folder.join("tokenizer_config.json");
        require_inside(folder, &path).ok()?;
        serde_json::from_str(&opening::read_text(&path, LONGEST).ok()?).ok()
    };
    read().unwrap_or_default()
}
