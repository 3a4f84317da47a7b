//! The weight recipe: numbers for the parameters of any configuration, the same on every machine and in numpy.
//!
//! Weights of a published size, for goldens and measurements, come from a name and a seed instead of a download. They are
//! made to behave like trained ones: `docs/recipe.md` says how, and why. The twin in numpy is `golden/generate/recipe.py`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use deberta_reference::{Head, Param, params};
use serde_json::{Map, Value, json};

use crate::checkpoint::Checkpoint;
use crate::config_file::ConfigFile;
use crate::error::{Error, Kind, Result};
use crate::format::{Format, TensorFile};
use crate::source::Source;
use crate::tensor::{Dtype, TensorInfo};

mod numbers;
mod sizes;
mod stream;

pub use sizes::Size;
pub use stream::Stream;

use numbers::Numbers;

/// The name of the recipe, and its version: another one makes other numbers.
pub const RECIPE: &str = "deberta-recipe-1";

/// A model that is made, not read: a configuration, what stands on the base model, and a seed.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The configuration as `config.json` is to hold it.
    pub config: ConfigFile,
    /// What stands on the base model. The mask decoder has what published checkpoints hold: `lm_predictions`, and position
    /// embeddings that are no part of the input.
    pub head: Head,
    /// Another seed makes other numbers.
    pub seed: u64,
}

impl Recipe {
    /// The recipe for a configuration, which is corrected to say the class, and for the mask decoder the head, that is made.
    ///
    /// # Errors
    /// A configuration that is none after that.
    pub fn new(config: &ConfigFile, head: Head, seed: u64) -> Result<Recipe> {
        let mut map: Map<String, Value> = config.map.clone();
        let model_type = config.config.model_type();
        let mut set = |key: &str, value: Value| {
            map.insert(key.to_owned(), value);
        };
        set("model_type", json!(model_type));
        set("architectures", json!([head.architecture(config.config.family)]));
        if head == Head::MaskDecoder {
            set("legacy", json!(false));
            // transformers would tie lm_head.dense to the embeddings otherwise.
            set("tie_word_embeddings", json!(false));
        }
        let text = serde_json::to_string_pretty(&Value::Object(map)).map(|text| text + "\n");
        let text = text.map_err(|error| Error::new(Kind::Config, error.to_string()).in_file(&config.path))?;
        let config = ConfigFile::parse(&config.path, text)?;
        Ok(Recipe { config, head, seed })
    }

    /// The parameters that are made.
    pub fn params(&self) -> Vec<Param> {
        let mut params = params(&self.config.config, self.head);
        params.retain(|param| param.required);
        params
    }

    /// Bytes of the parameters as f32.
    pub fn byte_len(&self) -> u64 {
        self.params().iter().map(|param| 4 * param.shape.iter().product::<usize>() as u64).sum()
    }

    /// The numbers of one parameter, row-major.
    pub fn numbers(&self, param: &Param) -> Vec<f32> {
        Numbers::of(param, &self.config.config, self.seed).all()
    }

    /// The model as a checkpoint whose tensors are computed when they are read, one at a time.
    ///
    /// # Errors
    /// None that can happen.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let path = self.config.path.clone();
        let source = Source::of_files(path, Vec::new());
        let file: Box<dyn TensorFile> = Box::new(Made::of(self));
        let config = &self.config.config;
        Checkpoint::from_files(source, Format::Safetensors, vec![file], config, Some(self.head))
    }
}

/// The tensors of a recipe in the place of a file.
struct Made {
    recipe: Recipe,
    params: Vec<Param>,
    tensors: Vec<TensorInfo>,
}

impl Made {
    fn of(recipe: &Recipe) -> Made {
        let params = recipe.params();
        let info = |param: &Param| TensorInfo {
            name: param.name.clone(),
            dtype: Dtype::F32,
            shape: param.shape.clone(),
        };
        Made { recipe: recipe.clone(), tensors: params.iter().map(info).collect(), params }
    }
}

impl TensorFile for Made {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let param = self.params.get(index).ok_or_else(|| Error::malformed("no such tensor"))?;
        let numbers = Numbers::of(param, &self.recipe.config.config, self.recipe.seed);
        let mut bytes = Vec::with_capacity(4 * numbers.len());
        numbers.rows(|row| bytes.extend(row.iter().flat_map(|number| number.to_le_bytes())));
        Ok(Cow::Owned(bytes))
    }
}

/// The configuration that a name stands for, or that a file holds.
///
/// # Errors
/// No such file; what is no configuration of DeBERTa.
pub fn configuration(name: &Path) -> Result<ConfigFile> {
    match name.to_str().and_then(Size::from_name) {
        Some(size) if !name.is_file() => {
            ConfigFile::parse(&PathBuf::from(size.name()), size.config_text().to_owned())
        }
        _ => ConfigFile::read(name),
    }
}

#[cfg(test)]
mod tests {
    use deberta_reference::{Module, Role};

    use super::*;

    #[test]
    fn every_head_is_a_complete_checkpoint() {
        let text = r#"{"vocab_size": 31, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 12, "max_position_embeddings": 9, "relative_attention": true, "pos_att_type": "c2p|p2c",
            "position_biased_input": false, "talking_head": true, "embedding_size": 6, "type_vocab_size": 2}"#;
        let config = ConfigFile::parse(Path::new("c.json"), text.to_owned()).unwrap();
        for head in Head::of(config.config.family) {
            let checkpoint = Recipe::new(&config, head, 3).unwrap().checkpoint().unwrap();
            checkpoint.require_complete().unwrap();
            assert_eq!(checkpoint.head, head);
            let positions = checkpoint.bound.iter().any(|bound| bound.param.role == Role::PositionEmbedding);
            assert_eq!(positions, head == Head::MaskDecoder);
        }
        let error = Recipe::new(&config, Head::MultipleChoice, 3).unwrap().checkpoint().err().unwrap();
        assert!(error.to_string().contains("\"deberta\" has no class with the head mc"), "{error}");
        let decoder = Recipe::new(&config, Head::MaskDecoder, 3).unwrap().checkpoint().unwrap();
        assert!(decoder.bound.iter().all(|bound| bound.param.module != Module::Predictions));
    }

    #[test]
    fn every_head_of_version_2_is_a_complete_checkpoint() {
        let text = r#"{"model_type": "deberta-v2", "vocab_size": 31, "hidden_size": 8, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 9, "relative_attention": true,
            "pos_att_type": "c2p|p2c", "position_biased_input": false, "position_buckets": 4, "conv_kernel_size": 3,
            "conv_groups": 2, "norm_rel_ebd": "layer_norm", "num_labels": 1}"#;
        let config = ConfigFile::parse(Path::new("c.json"), text.to_owned()).unwrap();
        for head in Head::of(config.config.family) {
            let checkpoint = Recipe::new(&config, head, 3).unwrap().checkpoint().unwrap();
            checkpoint.require_complete().unwrap();
            assert_eq!(checkpoint.head, head);
        }
    }
}
