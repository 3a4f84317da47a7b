//! Everything about a tokenizer that is not its vocabulary: tokenizer_config.json, special_tokens_map.json,
//! added_tokens.json, and the `added_tokens` of tokenizer.json.
//!
//! Source: transformers 4.57.6, `tokenization_utils_base.py`, `PreTrainedTokenizerBase._from_pretrained`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::added_tokens::AddedToken;
use super::encoding::Side;
use super::files::{fault, read_ids, read_object};
use super::limits::{check_added, check_count};
use crate::error::{Error, Result};

/// What decoding does with bytes that are not UTF-8, `errors` in Python.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecodeErrors {
    /// Puts U+FFFD in their place.
    #[default]
    Replace,
    /// Leaves them out.
    Ignore,
    /// Fails.
    Strict,
}

/// A special token as a file gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// Its text alone; the class decides the flags, such as `lstrip`.
    Text(String),
    /// Its text and its flags.
    Token(AddedToken),
}

impl Given {
    pub(crate) fn content(&self) -> &str {
        match self {
            Given::Text(content) => content,
            Given::Token(token) => &token.content,
        }
    }
}

/// The names of the special tokens, in the order in which they get ids, and their texts.
pub(crate) const SPECIAL_TOKENS: [(&str, &str); 7] = [
    ("bos_token", "[CLS]"),
    ("eos_token", "[SEP]"),
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];

/// Everything about a tokenizer that is not its vocabulary.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// tokenizer_config.json
    file: PathBuf,
    /// What it holds.
    config: Map<String, Value>,
    pub(crate) errors: DecodeErrors,
    /// By name, as in [`SPECIAL_TOKENS`]; null where a file unsets one.
    pub(crate) special: Vec<(&'static str, Option<Given>)>,
    pub(crate) additional_special_tokens: Vec<Given>,
    /// Added tokens with ids of their own.
    pub(crate) added_tokens_decoder: Vec<(u32, AddedToken)>,
    pub(crate) add_prefix_space: bool,
    pub(crate) split_special_tokens: bool,
    pub(crate) clean_up_tokenization_spaces: bool,
    pub(crate) padding_side: Option<Side>,
    pub(crate) truncation_side: Option<Side>,
    pub(crate) model_max_length: Option<usize>,
}

impl Settings {
    /// The settings of a folder; what no file says has the defaults of DeBERTa's classes.
    pub(crate) fn read(folder: &Path) -> Result<Settings> {
        let file = folder.join("tokenizer_config.json");
        let config = if file.is_file() { read_object(&file)? } else { Map::new() };
        let mut settings = Settings::from_config(&file, &config)?;
        if let Some(decoder) = config.get("added_tokens_decoder") {
            settings.read_added_tokens_decoder(&file, decoder)?;
            settings.replace_special(0, &config);
        } else {
            let mut named = config;
            settings.read_special_tokens_map(&folder.join("special_tokens_map.json"), &mut named)?;
            settings.read_added_tokens(&folder.join("added_tokens.json"), &named)?;
            // Of these the special tokens do not take flags over.
            let without_flags = settings.added_tokens_decoder.len();
            settings.read_serialized(&folder.join("tokenizer.json"))?;
            settings.replace_special(without_flags, &named);
        }
        Ok(settings)
    }

    /// What tokenizer_config.json says of an option that only some classes have.
    pub(crate) fn option(&self, key: &str) -> Option<&Value> {
        self.config.get(key).filter(|value| !value.is_null())
    }

    /// An option that is false unless tokenizer_config.json sets it.
    pub(crate) fn flag(&self, key: &str) -> Result<bool> {
        flag(&self.file, &self.config, key)
    }

    /// A fault of tokenizer_config.json.
    pub(crate) fn fault(&self, key: &str, problem: impl ToString) -> Error {
        fault(&self.file, key, problem)
    }

    fn from_config(file: &Path, config: &Map<String, Value>) -> Result<Settings> {
        let flag = |key: &str| flag(file, config, key);
        let side = |key: &str| match config.get(key) {
            None => Ok(None),
            Some(Value::String(side)) if side == "right" => Ok(Some(Side::Right)),
            Some(Value::String(side)) if side == "left" => Ok(Some(Side::Left)),
            Some(other) => Err(fault(file, key, format!("{other} is not \"left\" or \"right\""))),
        };
        let errors = match config.get("errors").map(|errors| (errors.as_str(), errors)) {
            None | Some((Some("replace"), _)) => DecodeErrors::Replace,
            Some((Some("ignore"), _)) => DecodeErrors::Ignore,
            Some((Some("strict"), _)) => DecodeErrors::Strict,
            Some((_, other)) => {
                let problem = format!("{other} is not \"replace\", \"ignore\" or \"strict\"");
                return Err(fault(file, "errors", problem));
            }
        };
        let mut settings = Settings {
            file: file.to_path_buf(),
            config: config.clone(),
            errors,
            add_prefix_space: flag("add_prefix_space")?,
            split_special_tokens: flag("split_special_tokens")?,
            clean_up_tokenization_spaces: flag("clean_up_tokenization_spaces")?,
            padding_side: side("padding_side")?,
            truncation_side: side("truncation_side")?,
            // Larger numbers, such as 1e30, mean that there is no limit.
            model_max_length: config
                .get("model_max_length")
                .and_then(Value::as_u64)
                .and_then(|n| n.try_into().ok()),
            ..Settings::default()
        };
        for (key, value) in config {
            settings.set(file, key, value, false)?;
        }
        Ok(settings)
    }

    /// Takes the value of `key`, if it names a special token or is `additional_special_tokens`; other keys are ignored.
    fn set(&mut self, file: &Path, key: &str, value: &Value, special: bool) -> Result<()> {
        if key == "additional_special_tokens" {
            let Value::Array(tokens) = value else {
                return if value.is_null() {
                    Ok(())
                } else {
                    Err(fault(file, key, format!("{value} is not a list")))
                };
            };
            check_count(file, key, tokens.len())?;
            for token in tokens {
                let given = given(file, key, token, special)?;
                if !self.additional_special_tokens.contains(&given) {
                    self.additional_special_tokens.push(given);
                }
            }
        } else if let Some((_, token)) = self.special.iter_mut().find(|(name, _)| *name == key) {
            *token = if value.is_null() { None } else { Some(given(file, key, value, special)?) };
        }
        Ok(())
    }

    fn read_added_tokens_decoder(&mut self, file: &Path, decoder: &Value) -> Result<()> {
        let place = "added_tokens_decoder";
        let Value::Object(decoder) = decoder else {
            return Err(fault(file, place, "not an object of ids and tokens"));
        };
        check_count(file, place, decoder.len())?;
        for (id, value) in decoder {
            let place = format!("{place}.{id}");
            let id = id.trim().parse().map_err(|_| fault(file, &place, format!("{id:?} is not an id")))?;
            let Given::Token(token) = given(file, &place, value, false)? else {
                return Err(fault(file, place, format!("{value} is not a token with its \"content\"")));
            };
            self.added_tokens_decoder.push((id, token));
        }
        Ok(())
    }

    fn read_special_tokens_map(&mut self, file: &Path, named: &mut Map<String, Value>) -> Result<()> {
        if !file.is_file() {
            return Ok(());
        }
        for (key, value) in read_object(file)? {
            self.set(file, &key, &value, true)?;
            named.insert(key, value);
        }
        Ok(())
    }

    /// Reads added_tokens.json: ids by text. Tokens that the configuration names as special are special.
    fn read_added_tokens(&mut self, file: &Path, named: &Map<String, Value>) -> Result<()> {
        if !file.is_file() {
            return Ok(());
        }
        let added = read_ids(file)?;
        check_count(file, "", added.len())?;
        for (content, id) in added {
            check_added(file, "", &content)?;
            let single = self.special.iter().filter(|(name, _)| named.contains_key(*name));
            let mut specials =
                single.filter_map(|(_, given)| given.as_ref()).chain(&self.additional_special_tokens);
            let special = specials.any(|given| given.content() == content);
            self.added_tokens_decoder.push((id, AddedToken::new(content, special)));
        }
        Ok(())
    }

    /// Reads the `added_tokens` of tokenizer.json.
    fn read_serialized(&mut self, file: &Path) -> Result<()> {
        if !file.is_file() {
            return Ok(());
        }
        let object = read_object(file)?;
        let Some(Value::Array(tokens)) = object.get("added_tokens") else {
            return Err(fault(file, "added_tokens", "there is no such list"));
        };
        check_count(file, "added_tokens", tokens.len())?;
        for (at, value) in tokens.iter().enumerate() {
            let place = format!("added_tokens[{at}]");
            let id = value.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
            match (id, given(file, &place, value, false)?) {
                (Some(id), Given::Token(token)) => self.added_tokens_decoder.push((id, token)),
                _ => return Err(fault(file, place, format!("{value} is not a token with its \"id\""))),
            }
        }
        Ok(())
    }

    /// Gives flags to the special tokens that a file names by their text alone: those of the added token of that text,
    /// the first so many left out.
    fn replace_special(&mut self, without_flags: usize, named: &Map<String, Value>) {
        let decoder = self.added_tokens_decoder.get(without_flags..).unwrap_or_default().to_vec();
        let added = |content: &str| {
            decoder.iter().rev().map(|(_, token)| token).find(|token| token.content == content)
        };
        for (name, given) in &mut self.special {
            let named = given.as_mut().filter(|_| named.contains_key(*name));
            if let Some((given, token)) =
                named.and_then(|given| added(given.content()).map(|token| (given, token)))
            {
                *given = Given::Token(token.clone());
            }
        }
    }

    /// The added token of a text.
    fn added(&self, content: &str) -> Option<&AddedToken> {
        self.added_tokens_decoder.iter().rev().map(|(_, token)| token).find(|token| token.content == content)
    }

    /// Gives a special token that is named by its text alone the flags of its class.
    pub(crate) fn with_flags(mut self, name: &str, by_name: fn(&str, &str) -> AddedToken) -> Settings {
        for (_, given) in self.special.iter_mut().filter(|(other, _)| *other == name) {
            if let Some(Given::Text(content)) = given {
                *given = Some(Given::Token(by_name(name, content)));
            }
        }
        self
    }

    /// The text of a special token.
    ///
    /// # Errors
    /// If a file unsets it.
    pub(crate) fn content(&self, name: &str) -> Result<String> {
        let given = self.special.iter().find(|(n, _)| *n == name).and_then(|(_, given)| given.as_ref());
        let unset = || Error::Tokenizer(format!("{name}: the tokenizer's files unset it, DeBERTa needs it"));
        given.map(|given| given.content().to_string()).ok_or_else(unset)
    }

    /// The special tokens in the order in which they get ids, each text once. `by_name` makes those whose flags no file
    /// gives, as their class does: of `mask_token` and `[MASK]`, for example.
    pub(crate) fn all_special_tokens(&self, by_name: fn(&str, &str) -> AddedToken) -> Vec<AddedToken> {
        let mut tokens: Vec<AddedToken> = Vec::new();
        let single = self.special.iter().filter_map(|(name, given)| Some((*name, given.as_ref()?)));
        let additional =
            self.additional_special_tokens.iter().map(|given| ("additional_special_tokens", given));
        for (name, given) in single.chain(additional) {
            let token = match given {
                Given::Token(token) => AddedToken { special: true, ..token.clone() },
                Given::Text(content) => {
                    let added = self.added(content).filter(|_| name == "additional_special_tokens");
                    added.cloned().unwrap_or_else(|| by_name(name, content))
                }
            };
            if !token.content.is_empty() && tokens.iter().all(|other| other.content != token.content) {
                tokens.push(token);
            }
        }
        tokens
    }
}

impl Default for Settings {
    fn default() -> Settings {
        let special = SPECIAL_TOKENS.map(|(name, content)| (name, Some(Given::Text(content.to_string()))));
        Settings {
            file: PathBuf::new(),
            config: Map::new(),
            errors: DecodeErrors::Replace,
            special: special.to_vec(),
            additional_special_tokens: Vec::new(),
            added_tokens_decoder: Vec::new(),
            add_prefix_space: false,
            split_special_tokens: false,
            clean_up_tokenization_spaces: false,
            padding_side: None,
            truncation_side: None,
            model_max_length: None,
        }
    }
}

/// An entry that is true or false, or absent and so false.
fn flag(file: &Path, config: &Map<String, Value>, key: &str) -> Result<bool> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(fault(file, key, format!("{other} is not true or false"))),
    }
}

/// A token: its text, or an object with its content and flags.
fn given(file: &Path, place: &str, value: &Value, special: bool) -> Result<Given> {
    let object = match value {
        Value::String(content) => {
            check_added(file, place, content)?;
            return Ok(Given::Text(content.clone()));
        }
        Value::Object(object) => object,
        _ => return Err(fault(file, place, format!("{value} is not a token"))),
    };
    let Some(Value::String(content)) = object.get("content") else {
        return Err(fault(file, place, "the token has no \"content\""));
    };
    check_added(file, place, content)?;
    let flag = |key: &str, default: bool| match object.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(fault(file, format!("{place}.{key}"), format!("{other} is not true or false"))),
    };
    let special = special || flag("special", false)?;
    Ok(Given::Token(AddedToken {
        content: content.clone(),
        single_word: flag("single_word", false)?,
        lstrip: flag("lstrip", false)?,
        rstrip: flag("rstrip", false)?,
        normalized: flag("normalized", !special)?,
        special,
    }))
}
