//! Typed access to the keys of a `config.json`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::ConvConfig;
use crate::activation::Activation;
use crate::family::Family;

/// A configuration that cannot be used: the key, what it holds, what it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub(super) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

pub(super) type Result<T> = std::result::Result<T, ConfigError>;

/// How the loss of a sequence classifier is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemType {
    /// Mean squared error.
    Regression,
    /// Cross-entropy over the labels.
    SingleLabelClassification,
    /// Binary cross-entropy per label.
    MultiLabelClassification,
}

/// No dimension of a real model comes near; a hostile one must not make us count for hours.
pub(super) const LARGEST_DIMENSION: u64 = 1 << 28;
pub(super) const MOST_LAYERS: u64 = 4096;
/// A token is convolved with as many others, each a copy of its features.
const LARGEST_KERNEL: usize = 4096;

/// Typed access to the keys of a configuration file. An absent key and `null` mean the default.
pub(super) struct Keys<'a>(pub(super) &'a Map<String, Value>);

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn wrong<T>(&self, key: &str, value: &Value, expected: &str) -> Result<T> {
        let mut shown = value.to_string();
        if shown.chars().count() > 80 {
            shown = shown.chars().take(80).chain(['…']).collect();
        }
        Err(ConfigError(format!("{key}: expected {expected}, found {shown}")))
    }

    /// The family that `model_type` names, or else the keys that one family alone has.
    pub(super) fn family(&self) -> Result<Family> {
        let own = [
            ("position_buckets", self.positive("position_buckets")?.is_some()),
            ("share_att_key", self.boolean("share_att_key", false)?),
            ("norm_rel_ebd", self.norm_rel_ebd()?),
            ("conv_kernel_size", self.positive("conv_kernel_size")?.is_some()),
        ];
        let own = own.into_iter().find(|(_, on)| *on).map(|(key, _)| key);
        let family = match self.get("model_type") {
            None if own.is_some() => Family::V2,
            None => Family::V1,
            Some(model_type) => match (model_type.as_str().and_then(Family::of_model_type), own) {
                (Some(Family::V1), Some(key)) => {
                    return Err(ConfigError(format!(
                        "model_type is {model_type}, but {key} belongs to {}: one of them is wrong",
                        Family::V2.model_type()
                    )));
                }
                (Some(family), _) => family,
                (None, _) => {
                    return Err(ConfigError(format!(
                        "model_type is {model_type}, this toolkit handles {}",
                        Family::ALL.map(|family| format!("{:?}", family.model_type())).join(" and ")
                    )));
                }
            },
        };
        if family == Family::V2 {
            // transformers compares and multiplies the numbers, and takes the words apart.
            let numbers = ["position_buckets", "conv_kernel_size", "conv_groups", "attention_head_size"];
            let words = ["norm_rel_ebd", "conv_act"];
            numbers.into_iter().chain(words).try_for_each(|key| self.not_null(key))?;
        }
        Ok(family)
    }

    /// The convolution of `conv_kernel_size`, `conv_groups` and `conv_act`, if there is one.
    pub(super) fn convolution(&self) -> Result<Option<ConvConfig>> {
        let Some(kernel) = self.positive("conv_kernel_size")? else { return Ok(None) };
        if kernel > LARGEST_KERNEL {
            return Err(ConfigError(format!("conv_kernel_size: {kernel} is more than {LARGEST_KERNEL}")));
        }
        let groups = self.dimension("conv_groups", 1)?;
        let act = self.activation("conv_act")?.unwrap_or(Activation::Tanh);
        Ok(Some(ConvConfig { kernel, groups, act }))
    }

    pub(super) fn integer(&self, key: &str, default: usize, least: u64, most: u64) -> Result<usize> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match value.as_u64().filter(|n| (least..=most).contains(n)).and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(n),
            None => self.wrong(key, value, &format!("an integer from {least} to {most}")),
        }
    }

    pub(super) fn dimension(&self, key: &str, default: usize) -> Result<usize> {
        self.integer(key, default, 1, LARGEST_DIMENSION)
    }

    /// A number that switches something on: nothing if it is absent or not above 0.
    pub(super) fn positive(&self, key: &str) -> Result<Option<usize>> {
        let number = self.signed(key, 0)?.max(0) as u64;
        if number > LARGEST_DIMENSION {
            return Err(ConfigError(format!("{key}: {number} is more than {LARGEST_DIMENSION}")));
        }
        Ok(usize::try_from(number).ok().filter(|&number| number > 0))
    }

    /// Refuses `null` where transformers fails on it.
    pub(super) fn not_null(&self, key: &str) -> Result<()> {
        match self.0.get(key) {
            Some(Value::Null) => {
                Err(ConfigError(format!("{key}: null makes transformers fail: take the key out")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn signed(&self, key: &str, default: i64) -> Result<i64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_i64().map_or_else(|| self.wrong(key, value, "an integer"), Ok)
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_f64().map_or_else(|| self.wrong(key, value, "a number"), |n| Ok(Some(n)))
    }

    pub(super) fn probability(&self, key: &str) -> Result<Option<f64>> {
        match self.number(key)? {
            Some(p) if !(0.0..=1.0).contains(&p) => {
                Err(ConfigError(format!("{key}: expected a number from 0 to 1, found {p}")))
            }
            p => Ok(p),
        }
    }

    pub(super) fn boolean(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().map_or_else(|| self.wrong(key, value, "true or false"), Ok)
    }

    pub(super) fn activation(&self, key: &str) -> Result<Option<Activation>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_str().and_then(Activation::from_name) {
            Some(activation) => Ok(Some(activation)),
            None => self.wrong(key, value, &format!("one of {}", Activation::NAMES.join(", "))),
        }
    }

    pub(super) fn token_id(&self) -> Result<Option<usize>> {
        let key = if self.0.contains_key("pad_token_id") { "pad_token_id" } else { "padding_idx" };
        if self.0.get(key).is_some_and(Value::is_null) {
            return Ok(None);
        }
        self.integer(key, 0, 0, LARGEST_DIMENSION).map(Some)
    }

    /// A list, or a string `c2p|p2c` in any case with any spaces; a list is taken as it is.
    pub(super) fn pos_att_type(&self) -> Result<Vec<String>> {
        match self.get("pos_att_type") {
            Some(Value::String(text)) => {
                Ok(text.to_lowercase().split('|').map(|term| term.trim().to_owned()).collect())
            }
            _ => self.strings("pos_att_type"),
        }
    }

    /// Whether `layer_norm` is among the words of `norm_rel_ebd`, as in `none` or `Layer_Norm | other`.
    pub(super) fn norm_rel_ebd(&self) -> Result<bool> {
        match self.get("norm_rel_ebd") {
            None => Ok(false),
            Some(Value::String(words)) => {
                Ok(words.to_lowercase().split('|').any(|word| word.trim() == "layer_norm"))
            }
            Some(other) => self.wrong("norm_rel_ebd", other, "words with | between them"),
        }
    }

    pub(super) fn strings(&self, key: &str) -> Result<Vec<String>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let strings = value.as_array().and_then(|list| {
            list.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        strings.map_or_else(|| self.wrong(key, value, "a list of strings"), Ok)
    }

    pub(super) fn num_labels(&self) -> Result<usize> {
        match self.get("id2label") {
            Some(Value::Object(labels)) if !labels.is_empty() => Ok(labels.len()),
            Some(Value::Array(labels)) if !labels.is_empty() => Ok(labels.len()),
            Some(other) => self.wrong("id2label", other, "an object from ids to labels"),
            None => self.dimension("num_labels", 2),
        }
    }

    pub(super) fn id2label(&self) -> BTreeMap<usize, String> {
        let name = |value: &Value| value.as_str().map(str::to_owned);
        match self.get("id2label") {
            Some(Value::Object(labels)) => {
                labels.iter().filter_map(|(id, value)| Some((id.parse().ok()?, name(value)?))).collect()
            }
            Some(Value::Array(labels)) => {
                labels.iter().enumerate().filter_map(|(id, value)| Some((id, name(value)?))).collect()
            }
            _ => BTreeMap::new(),
        }
    }

    pub(super) fn problem_type(&self) -> Result<Option<ProblemType>> {
        let Some(value) = self.get("problem_type") else { return Ok(None) };
        match value.as_str() {
            Some("regression") => Ok(Some(ProblemType::Regression)),
            Some("single_label_classification") => Ok(Some(ProblemType::SingleLabelClassification)),
            Some("multi_label_classification") => Ok(Some(ProblemType::MultiLabelClassification)),
            _ => self.wrong(
                "problem_type",
                value,
                "regression, single_label_classification or multi_label_classification",
            ),
        }
    }
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
