//! A model's configuration, as a file and as what it means.

use std::path::{Path, PathBuf};

use deberta_reference::{DebertaConfig, Head};
use serde_json::{Map, Value, json};

use crate::companions::CONFIGURATION;
use crate::confinement::require_inside;
use crate::error::{Error, Kind, Result};
use crate::json::{as_python, not_json, read_object, read_text, to_text};
use crate::tensor::Dtype;

/// A configuration file, as it was read and as it is understood.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// Where it was found.
    pub path: PathBuf,
    /// Its text, unchanged.
    pub text: String,
    /// Its keys and values.
    pub map: Map<String, Value>,
    /// What they mean.
    pub config: DebertaConfig,
}

impl ConfigFile {
    /// Reads the configuration at `given`, or else the one beside the weights: `config.json`, or Microsoft's
    /// `model_config.json`; for weights in a folder `onnx` also the one beside that folder; or else the one that the
    /// weight file holds, given with its name.
    ///
    /// # Errors
    /// None found; one that is a link out of the folder; not JSON; not a configuration of DeBERTa.
    pub fn find(given: Option<&Path>, folder: &Path, held: Option<(&Path, &str)>) -> Result<ConfigFile> {
        let candidates = CONFIGURATION.map(|name| folder.join(name));
        let above = folder.parent().filter(|_| folder.ends_with("onnx"));
        let above: Vec<PathBuf> =
            above.into_iter().flat_map(|above| CONFIGURATION.map(|name| above.join(name))).collect();
        let beside = candidates.iter().chain(&above).find(|path| path.exists()).map(PathBuf::as_path);
        if let (None, Some(path)) = (given, beside) {
            // An export may have its configuration by a link to the one above.
            let root = folder.parent().filter(|_| folder.ends_with("onnx")).unwrap_or(folder);
            require_inside(root, path)?;
        }
        match (given.or(beside), held) {
            (Some(path), _) => ConfigFile::read(path),
            (None, Some((path, text))) => ConfigFile::parse(path, text.to_owned()),
            (None, None) => {
                let [first, _] = candidates;
                let why = "not found: the model's configuration must be beside the weights, or be given by --config";
                Err(Error::new(Kind::Config, why).in_file(&first))
            }
        }
    }

    /// Reads the configuration at `path`.
    pub fn read(path: &Path) -> Result<ConfigFile> {
        ConfigFile::parse(path, read_text(path)?)
    }

    /// A configuration from its text. `path` is for messages.
    pub fn parse(path: &Path, text: String) -> Result<ConfigFile> {
        let wrong = |message: String| Error::new(Kind::Config, message).in_file(path);
        let map = read_object(&text).map_err(|error| {
            not_json(&text, || wrong(format!("not a JSON object: {error}"))).in_file(path)
        })?;
        let config = DebertaConfig::from_map(&map).map_err(|error| wrong(as_python(error.to_string())))?;
        Ok(ConfigFile { path: path.to_owned(), text, map, config })
    }

    /// The text of an output's `config.json`: this one's, unless it is in Microsoft's keys or the output has another
    /// masked-LM head or dtype than it says.
    ///
    /// `output` is what the tensors of the output are read with, `head` their class; `remapped` says that the masked-LM
    /// head was moved, `dtype` that every parameter was given this one.
    ///
    /// # Errors
    /// None that can happen: what was JSON can be written as JSON.
    pub fn for_output(
        &self,
        output: &DebertaConfig,
        head: Head,
        remapped: bool,
        dtype: Option<Dtype>,
    ) -> Result<String> {
        let mut map = self.map.clone();
        let mut set = |key: &str, value: Value| {
            map.insert(key.to_owned(), value);
        };
        let mut changed = false;
        if !self.is_hugging_face() {
            changed = true;
            set("model_type", json!(output.model_type()));
            set("pad_token_id", json!(output.pad_token_id));
            set("pooler_dropout", json!(output.pooler_dropout));
            let pooling_act = self.map.get("pooling").and_then(|pooling| pooling.get("hidden_act"));
            if let Some(name) = self.map.get("pooler_hidden_act").or(pooling_act) {
                set("pooler_hidden_act", name.clone());
            }
            if output.architectures.is_empty() {
                set("architectures", json!([head.architecture(output.family)]));
            }
        }
        if output.legacy != self.config.legacy || remapped {
            changed = true;
            set("legacy", json!(output.legacy));
            // transformers would tie lm_head.dense to the embeddings otherwise.
            set("tie_word_embeddings", json!(output.legacy && output.tie_word_embeddings));
        }
        if output.architectures != self.config.architectures {
            changed = true;
            set("architectures", json!(output.architectures));
        }
        // PyTorch's names: float32, bfloat16.
        if let Some(&name) = dtype.and_then(|dtype| dtype.aliases().first()) {
            for key in ["dtype", "torch_dtype"] {
                if self.map.get(key).is_some_and(|value| *value != name) {
                    changed = true;
                    set(key, json!(name));
                }
            }
        }
        if !changed {
            return Ok(self.text.clone());
        }
        to_text(&map).map_err(|error| Error::new(Kind::Config, error.to_string()).in_file(&self.path))
    }

    /// Whether the file is in Hugging Face's keys, so that transformers reads it as it is.
    pub fn is_hugging_face(&self) -> bool {
        self.map.get("model_type").is_some_and(|model_type| *model_type == self.config.model_type())
    }
}
