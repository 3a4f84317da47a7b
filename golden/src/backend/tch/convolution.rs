//! The convolution after the first layer. Source: `ConvLayer`.
//!
//! ```text
//! o = W * x + b                  x the embeddings, 0 before the first token and after the last
//! o = act(o), or act(0) where the mask is not 1
//! y = m LayerNorm(layer₀ + o)    m the mask
//! ```

use deberta_reference::config::ConvConfig;
use deberta_reference::{DebertaConfig, Probe};
use tch::Tensor;

use super::encoder::activate;
use super::failure::Result;
use super::inputs::Mask;
use super::tensors::{keep, length};
use super::weights::{LayerNorm, Scope};

pub(super) struct Convolution {
    config: ConvConfig,
    /// W [H, H / groups, K]
    weight: Tensor,
    /// b [H]
    bias: Tensor,
    layer_norm: LayerNorm,
}

impl Convolution {
    /// The convolution of a configuration, if it has one.
    pub(super) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Option<Convolution>> {
        let Some(conv) = config.convolution else { return Ok(None) };
        let scope = weights.at("conv");
        Ok(Some(Convolution {
            config: conv,
            weight: scope.tensor("weight")?,
            bias: scope.tensor("bias")?,
            layer_norm: weights.layer_norm("LayerNorm", config.layer_norm_eps)?,
        }))
    }

    /// y [b, n, H] from the embeddings [b, n, H] and the output of layer 0 [b, n, H].
    pub(super) fn forward(
        &self,
        embeddings: &Tensor,
        layer: &Tensor,
        mask: &Mask,
        probe: &mut Probe<'_>,
    ) -> Result<Tensor> {
        // o = W * x + b, the features before the tokens                                 [b, H, n]
        let x = embeddings.f_transpose(1, 2)?;
        let (padding, groups) = (length(self.config.kernel / 2), length(self.config.groups));
        let o = x.f_conv1d(&self.weight, Some(&self.bias), 1, padding, 1, groups)?;
        let o = keep(probe, "conv", o)?.f_transpose(1, 2)?; //                           [b, n, H]
        // o = act(o), or act(0) where the mask [b, n, 1] is not 1
        let o = o.f_masked_fill(&mask.embeddings.f_ne(1)?, 0.0)?;
        let o = activate(self.config.act, &o)?;
        // y = m LayerNorm(layer₀ + o)
        let y = keep(probe, "LayerNorm", self.layer_norm.forward(&layer.f_add(&o)?)?)?;
        keep(probe, "", y.f_mul(&mask.embeddings)?)
    }
}
