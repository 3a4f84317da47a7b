//! `adapter_config.json`.

use std::path::Path;

use deberta_reference::Head;
use regex::Regex;
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Printable, Result};
use crate::json::{not_json, read_object, read_text};

/// What an adapter's configuration says of the way in which it is merged.
pub(super) struct Settings {
    alpha: f64,
    /// `r`, if it is said.
    rank: Option<f64>,
    /// Whether the rank counts by its root: `use_rslora`.
    rank_stabilized: bool,
    /// Other values of `alpha` for modules whose names fit, the first counts.
    alphas: Vec<(Regex, f64)>,
    /// Other ranks, likewise.
    ranks: Vec<(Regex, f64)>,
    pub(super) head: Option<Head>,
}

/// Settings that change nothing about merging, whatever they say. `fan_in_fan_out` is for layers that store their weights
/// transposed; DeBERTa has none, and peft sets it to false.
const NO_MATTER: [&str; 24] = [
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "merge_weights",
    "modules_to_save",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "enable_lora",
    "parent_library",
];

/// Settings that are read.
const READ: [&str; 8] = [
    "alpha_pattern",
    "init_lora_weights",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "task_type",
    "use_rslora",
];

/// The ways in which adapters are initialised that leave the base weights as they are.
const INITIALISATIONS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

impl Settings {
    pub(super) fn read(path: &Path) -> Result<Settings> {
        let text = read_text(path)?;
        let map = read_object(&text).map_err(|error| {
            not_json(&text, || Error::new(Kind::Config, format!("not a JSON object: {error}"))).in_file(path)
        })?;
        Settings::of(&map).map_err(|error| error.in_file(path))
    }

    fn of(map: &Map<String, Value>) -> Result<Settings> {
        let unsupported = |what: String| {
            Err(Error::unsupported(format!(
                "{what}: only plain LoRA is merged here; merge it with peft (merge_and_unload, then save_pretrained)"
            )))
        };
        match map.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            Some(other) => return unsupported(format!("is an adapter of the method {}", Printable(other))),
            None => return Err(Error::new(Kind::Config, "has no peft_type: no configuration of an adapter")),
        }
        if map.get("use_dora").and_then(Value::as_bool) == Some(true) {
            return unsupported("is an adapter of the method DoRA (use_dora)".to_owned());
        }
        let is_set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(entries) => !entries.is_empty(),
            _ => true,
        };
        let known = |key: &str| NO_MATTER.contains(&key) || READ.contains(&key);
        if let Some((key, value)) = map.iter().find(|(key, value)| !known(key) && is_set(value)) {
            return unsupported(format!("has {}: {}", Printable(key), Printable(&value.to_string())));
        }
        if let Some(Value::String(way)) = map.get("init_lora_weights")
            && !INITIALISATIONS.contains(&way.as_str())
        {
            return unsupported(format!(
                "has init_lora_weights {}, which changes the base weights",
                Printable(way)
            ));
        }
        let wrong = |key: &str| Error::new(Kind::Config, format!("{key}: expected a number"));
        let alpha =
            map.get("lora_alpha").unwrap_or(&Value::Null).as_f64().ok_or_else(|| wrong("lora_alpha"))?;
        let rank = match map.get("r") {
            None | Some(Value::Null) => None,
            Some(rank) => Some(rank.as_f64().ok_or_else(|| wrong("r"))?),
        };
        let (alphas, ranks) = (by_patterns(map, "alpha_pattern")?, by_patterns(map, "rank_pattern")?);
        let rank_stabilized = map.get("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        let head = map.get("task_type").and_then(Value::as_str).and_then(head);
        Ok(Settings { alpha, rank, rank_stabilized, alphas, ranks, head })
    }

    /// What the product of the two matrices of a module is multiplied by.
    ///
    /// # Errors
    /// A rank that is not the one that is said here.
    pub(super) fn scale(&self, module: &str, rank: usize) -> Result<f64> {
        if rank == 0 {
            return Err(Error::malformed("has rank 0"));
        }
        // Patterns are of the whole name.
        let names = [format!("deberta.{module}"), module.to_owned()];
        let special = |patterns: &[(Regex, f64)]| {
            let mut patterns = patterns.iter();
            let fits = |pattern: &Regex| names.iter().any(|name| pattern.is_match(name));
            patterns.find(|(pattern, _)| fits(pattern)).map(|(_, value)| *value)
        };
        let alpha = special(&self.alphas).unwrap_or(self.alpha);
        let rank = rank as f64;
        if let Some(said) = special(&self.ranks).or(self.rank).filter(|said| *said != rank) {
            let why =
                format!("has rank {rank}, adapter_config.json says {said}: the two are not of one adapter");
            return Err(Error::malformed(why).wanting(said, rank));
        }
        Ok(alpha / if self.rank_stabilized { rank.sqrt() } else { rank })
    }
}

/// The numbers that a setting has for modules whose names fit a pattern.
fn by_patterns(map: &Map<String, Value>, key: &str) -> Result<Vec<(Regex, f64)>> {
    let entries = map.get(key).and_then(Value::as_object).into_iter().flatten();
    entries
        .map(|(pattern, value)| {
            // As peft's get_pattern_key has it.
            let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")).map_err(|_| {
                let why = format!("{key}: \"{}\" is no pattern that is understood here", Printable(pattern));
                Error::new(Kind::Config, why)
            })?;
            let number = value
                .as_f64()
                .ok_or_else(|| Error::new(Kind::Config, format!("{key}: expected a number")))?;
            Ok((regex, number))
        })
        .collect()
}

/// The class of a task of peft.
fn head(task: &str) -> Option<Head> {
    match task {
        "SEQ_CLS" => Some(Head::SequenceClassification),
        "TOKEN_CLS" => Some(Head::TokenClassification),
        "QUESTION_ANS" => Some(Head::QuestionAnswering),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Result<Settings> {
        Settings::of(&read_object(&format!(r#"{{"peft_type": "LORA", "lora_alpha": 16{json}}}"#)).unwrap())
    }

    #[test]
    fn scales_are_pefts() {
        let scale = |json: &str, module: &str| settings(json).unwrap().scale(module, 4).unwrap();
        assert_eq!(scale("", "x"), 4.0);
        assert_eq!(scale(r#", "use_rslora": true"#, "x"), 8.0);
        let patterns = r#", "alpha_pattern": {"layer.1.output.dense": 2, "layer\\.[0-1]\\..*": 8}"#;
        assert_eq!(scale(patterns, "encoder.layer.1.output.dense"), 0.5);
        assert_eq!(scale(patterns, "encoder.layer.0.output.dense"), 2.0);
        assert_eq!(scale(patterns, "encoder.layer.2.output.dense"), 4.0);
        assert!(settings("").unwrap().scale("x", 0).is_err());
    }

    #[test]
    fn ranks_are_those_that_are_said() {
        let said = settings(r#", "r": 8, "rank_pattern": {"layer.1.output.dense": 2}"#).unwrap();
        assert_eq!(said.scale("encoder.layer.1.output.dense", 2).unwrap(), 8.0);
        assert_eq!(said.scale("encoder.layer.0.output.dense", 8).unwrap(), 2.0);
        let error = said.scale("encoder.layer.0.output.dense", 4).unwrap_err();
        assert!(error.to_string().contains("has rank 4, adapter_config.json says 8"), "{error}");
        assert!(settings(r#", "r": "8""#).is_err());
    }

    #[test]
    fn other_methods_are_refused_by_name() {
        let refusal = |json: &str| settings(json).err().unwrap().to_string();
        assert!(refusal(r#", "use_dora": true"#).contains("DoRA"));
        assert!(refusal(r#", "use_qalora": true"#).contains("use_qalora: true"));
        assert!(refusal(r#", "layer_replication": [[0, 2]]"#).contains("layer_replication"));
        assert!(refusal(r#", "init_lora_weights": "pissa""#).contains("pissa"));
        assert!(refusal(r#", "of_the_future": {"a": 1}"#).contains("of_the_future"));
        assert!(refusal(r#", "alpha_pattern": {"(": 1}"#).contains("alpha_pattern"));
        assert!(
            settings(r#", "of_the_future": null, "init_lora_weights": "gaussian", "bias": "all""#).is_ok()
        );
        let ia3 = Settings::of(&read_object(r#"{"peft_type": "IA3"}"#).unwrap()).err().unwrap().to_string();
        assert!(ia3.contains("method IA3"), "{ia3}");
    }
}
