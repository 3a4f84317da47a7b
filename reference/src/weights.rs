//! From a checkpoint to the parameters of a model: one trait for all formats, one check for all classes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;

use crate::config::DebertaConfig;
use crate::error::{Error, Result};
pub use crate::load_report::{LoadReport, NotFinite, WrongShape};
use crate::modules::Module;
use crate::ops::{LayerNorm, Linear};
use crate::params::{Head, Param, params};
use crate::tensor::Matrix;
pub use crate::tensor::{Floats, Tensor};

/// A checkpoint of any format, by canonical names.
///
/// The base model's names may start with `deberta.` or not, whatever the class that is loaded.
pub trait TensorSource {
    /// The canonical names of all tensors.
    fn names(&self) -> Vec<String>;

    /// The tensor of that name, converted to f32 if it is of another type; nothing if there is none.
    ///
    /// # Errors
    /// Whatever keeps the source from reading the tensor.
    fn tensor(
        &self,
        name: &str,
    ) -> std::result::Result<Option<Tensor>, Box<dyn std::error::Error + Send + Sync>>;
}

/// The parameters of one class, complete and of the right shapes.
pub struct Weights {
    tensors: HashMap<String, Tensor>,
}

impl Weights {
    /// Reads the required parameters of a class from `source`.
    ///
    /// # Errors
    /// Missing parameters, parameters of the wrong shape, whatever the source reports. NaN and infinity are no
    /// error, but they are in the report.
    pub fn read(
        config: &DebertaConfig,
        head: Head,
        source: &dyn TensorSource,
    ) -> Result<(Weights, LoadReport)> {
        let params = params(config, head);
        let names: HashSet<String> = source.names().into_iter().collect();
        let stored = Stored::of(&params, head, &names);
        let mut report = LoadReport { class: head.class_name(config.family), ..LoadReport::default() };
        let mut tensors = HashMap::new();
        for param in params.iter().filter(|param| param.required) {
            let name = stored.name(&param.name);
            let tensor =
                source.tensor(&name).map_err(|error| Error::Source { tensor: name.clone(), error })?;
            match tensor {
                None => report.missing.push(param.name.clone()),
                Some(tensor) if !fits(&tensor, &param.shape) => report.wrong_shape.push(WrongShape {
                    name: param.name.clone(),
                    expected: param.shape.clone(),
                    found: tensor.shape,
                }),
                Some(tensor) => drop(tensors.insert(param.name.clone(), tensor)),
            }
        }
        let known: HashSet<String> = params.iter().map(|param| stored.name(&param.name)).collect();
        report.unexpected =
            names.into_iter().filter(|name| !known.contains(name) && !carries_nothing(name)).collect();
        report.unexpected.sort_unstable();
        report.not_finite = not_finite(&tensors);
        if report.missing.is_empty() && report.wrong_shape.is_empty() {
            Ok((Weights { tensors }, report))
        } else {
            Err(Error::Incomplete(Box::new(report)))
        }
    }

    /// The parameter of that canonical name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The parameters whose names start with `path`.
    pub(crate) fn at(&self, path: impl Into<String>) -> Scope<'_> {
        Scope { weights: self, path: path.into() }
    }
}

/// The names under which a source holds the parameters: `embeddings.LayerNorm.bias` of the base model is
/// `deberta.embeddings.LayerNorm.bias` in a checkpoint of any other class, and each class can be loaded from both.
struct Stored {
    head: Head,
    /// Whether the base model's parameters have the prefix.
    prefixed: bool,
}

impl Stored {
    const PREFIX: &str = "deberta.";

    /// As most of the parameters are called: a tensor that is none may have either name.
    fn of(params: &[Param], head: Head, names: &HashSet<String>) -> Stored {
        let [prefixed, bare] = [true, false].map(|prefixed| Stored { head, prefixed });
        let found =
            |stored: &Stored| params.iter().filter(|param| names.contains(&stored.name(&param.name))).count();
        if found(&prefixed) >= found(&bare) { prefixed } else { bare }
    }

    fn name(&self, canonical: &str) -> String {
        match (self.head, self.prefixed) {
            (Head::Base, true) => format!("{}{canonical}", Stored::PREFIX),
            (_, false) => canonical.strip_prefix(Stored::PREFIX).unwrap_or(canonical).to_owned(),
            (_, true) => canonical.to_owned(),
        }
    }
}

/// Whether the tensor has that shape, and as many numbers as it says.
fn fits(tensor: &Tensor, shape: &[usize]) -> bool {
    let count = shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length));
    tensor.shape == shape && count == Some((*tensor.values).as_ref().len())
}

/// Whether a tensor that is no parameter is expected nevertheless: a buffer of old versions of transformers, or the second
/// name of a parameter: the decoder of masked language modelling is the word embeddings, its bias that of the head.
fn carries_nothing(name: &str) -> bool {
    name.ends_with("embeddings.position_ids")
        || ["weight", "bias"].iter().any(|word| name == format!("{}.{word}", Module::Decoder.path()))
}

fn not_finite(tensors: &HashMap<String, Tensor>) -> Vec<NotFinite> {
    const BLOCK: usize = 1 << 16;
    let finite = |block: &[f32]| block.iter().fold(true, |all, value| all & value.is_finite());
    let mut found: Vec<NotFinite> = tensors
        .par_iter()
        .filter_map(|(name, tensor)| {
            let values = (*tensor.values).as_ref();
            if values.par_chunks(BLOCK).all(finite) {
                return None;
            }
            let first = values.iter().position(|value| !value.is_finite())?;
            let count = values.iter().filter(|value| !value.is_finite()).count();
            Some(NotFinite { name: name.clone(), count, first })
        })
        .collect();
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The parameters below one path.
pub(crate) struct Scope<'w> {
    weights: &'w Weights,
    path: String,
}

impl Scope<'_> {
    /// The parameters of the part `name`.
    pub(crate) fn at(&self, name: &str) -> Scope<'_> {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Scope { weights: self.weights, path }
    }

    /// A linear layer `weight` [out, in] with the `bias` [out].
    pub(crate) fn linear(&self, name: &str) -> Result<Linear> {
        let scope = self.at(name);
        Ok(Linear { weight: scope.matrix("weight")?, bias: Some(scope.vector("bias")?) })
    }

    /// A linear layer `weight` [out, in] without bias.
    pub(crate) fn linear_without_bias(&self, name: &str) -> Result<Linear> {
        Ok(Linear { weight: self.at(name).matrix("weight")?, bias: None })
    }

    /// A layer normalisation, `weight` and `bias`.
    pub(crate) fn layer_norm(&self, name: &str, eps: f64) -> Result<LayerNorm> {
        let scope = self.at(name);
        Ok(LayerNorm { weight: scope.vector("weight")?, bias: scope.vector("bias")?, eps })
    }

    /// The matrix `name`.
    pub(crate) fn matrix(&self, name: &str) -> Result<Matrix> {
        let tensor = self.tensor(name)?;
        match tensor.shape[..] {
            [rows, columns] => Ok(Matrix::new(Arc::clone(&tensor.values), rows, columns)),
            _ => Err(self.missing(name)),
        }
    }

    /// The tensor `name` as a matrix with the same first axis, whose rows hold all that is behind it.
    pub(crate) fn matrix_of_rows(&self, name: &str) -> Result<Matrix> {
        let tensor = self.tensor(name)?;
        let [rows, rest @ ..] = &tensor.shape[..] else { return Err(self.missing(name)) };
        Ok(Matrix::new(Arc::clone(&tensor.values), *rows, rest.iter().product()))
    }

    /// The vector `name`.
    pub(crate) fn vector(&self, name: &str) -> Result<Vec<f32>> {
        Ok((*self.tensor(name)?.values).as_ref().to_vec())
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.weights.tensors.get(&self.at(name).path).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> Error {
        let missing = vec![self.at(name).path];
        Error::Incomplete(Box::new(LoadReport { missing, ..LoadReport::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_model_is_called_as_most_of_its_parameters_are() {
        let config = DebertaConfig::from_json(r#"{"num_hidden_layers": 1}"#).unwrap();
        let params = params(&config, Head::Base);
        let bare: HashSet<String> = params.iter().map(|param| param.name.clone()).collect();
        let prefixed: HashSet<String> = bare.iter().map(|name| format!("{}{name}", Stored::PREFIX)).collect();
        for (mut names, stray, with) in [(bare, "deberta.z_steps", false), (prefixed, "z_steps", true)] {
            names.insert(stray.to_owned());
            assert_eq!(Stored::of(&params, Head::Base, &names).prefixed, with);
        }
    }
}
