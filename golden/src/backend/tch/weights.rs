//! From the parameters of a checkpoint to layers.

use deberta_reference::weights::Weights;
use deberta_reference::{self as reference, LoadReport};
use tch::Tensor;

use super::failure::Result;
use super::tensors::parameter;

/// The parameters below one path.
pub(super) struct Scope<'w> {
    weights: &'w Weights,
    path: String,
}

impl<'w> Scope<'w> {
    /// All parameters.
    pub(super) fn of(weights: &'w Weights) -> Scope<'w> {
        Scope { weights, path: String::new() }
    }

    /// The parameters of the part `name`.
    pub(super) fn at(&self, name: &str) -> Scope<'w> {
        let path = match (self.path.as_str(), name) {
            (path, "") => path.to_owned(),
            ("", name) => name.to_owned(),
            (path, name) => format!("{path}.{name}"),
        };
        Scope { weights: self.weights, path }
    }

    /// The parameter `name`.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor> {
        let path = self.at(name).path;
        match self.weights.get(&path) {
            Some(values) => parameter(values),
            None => {
                let report = LoadReport { missing: vec![path], ..LoadReport::default() };
                Err(reference::Error::Incomplete(Box::new(report)).into())
            }
        }
    }

    /// A linear layer `weight` [out, in] with the `bias` [out].
    pub(super) fn linear(&self, name: &str) -> Result<Linear> {
        let scope = self.at(name);
        Ok(Linear { weight: scope.tensor("weight")?, bias: Some(scope.tensor("bias")?) })
    }

    /// A linear layer `weight` [out, in] without bias.
    pub(super) fn linear_without_bias(&self, name: &str) -> Result<Linear> {
        Ok(Linear { weight: self.at(name).tensor("weight")?, bias: None })
    }

    /// A layer normalisation, `weight` and `bias`.
    pub(super) fn layer_norm(&self, name: &str, eps: f64) -> Result<LayerNorm> {
        let scope = self.at(name);
        Ok(LayerNorm { weight: scope.tensor("weight")?, bias: scope.tensor("bias")?, eps })
    }
}

/// A linear layer: y = x Wᵀ + b.
pub(super) struct Linear {
    /// W [out, in]
    weight: Tensor,
    /// b [out]
    bias: Option<Tensor>,
}

impl Linear {
    /// The same layer for another use, of the same numbers in memory.
    pub(super) fn again(&self) -> Linear {
        Linear {
            weight: self.weight.shallow_clone(),
            bias: self.bias.as_ref().map(|bias| bias.shallow_clone()),
        }
    }

    /// x […, in] to y […, out].
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, self.bias.as_ref())?)
    }
}

/// A layer normalisation: y = w (x - mean) / √(variance + ε) + b, over the features.
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// x […, H] to y […, H].
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, false)?)
    }
}
