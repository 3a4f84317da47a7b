//! The stack of layers. Source: `DebertaEncoder`, `DebertaLayer`, `DebertaAttention`, `DebertaSelfOutput`,
//! `DebertaIntermediate`, `DebertaOutput`, and the same of version 2.

use deberta_reference::activation::Activation;
use deberta_reference::{DebertaConfig, Probe};
use tch::Tensor;

use super::attention::{DisentangledSelfAttention, Surroundings};
use super::convolution::Convolution;
use super::failure::Result;
use super::relative::Table;
use super::tensors::keep;
use super::weights::{LayerNorm, Linear, Scope};

/// L layers, the relative position table that they share, and perhaps a convolution after the first one.
pub(super) struct DebertaEncoder {
    pub(super) layers: Vec<DebertaLayer>,
    /// With relative attention
    pub(super) table: Option<Table>,
    convolution: Option<Convolution>,
}

impl DebertaEncoder {
    pub(super) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<DebertaEncoder> {
        let layer = |i| DebertaLayer::new(config, &weights.at(&format!("layer.{i}")));
        Ok(DebertaEncoder {
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            table: Table::new(config, weights)?,
            convolution: Convolution::new(config, &weights.at("conv"))?,
        })
    }

    /// x₀ = embeddings, xᵢ₊₁ = layerᵢ(xᵢ), but x₁ = convolution(x₀, layer₀(x₀)) if there is one: the last [b, n, H], those
    /// before it, L of [b, n, H], and if `attentions`, the probabilities, L of [b, h, n, n].
    pub(super) fn forward(
        &self,
        embeddings: Tensor,
        around: &Surroundings<'_>,
        attentions: bool,
        probe: &mut Probe<'_>,
    ) -> Result<(Tensor, Vec<Tensor>, Vec<Tensor>)> {
        let (mut states, mut all_probs) = (Vec::new(), Vec::new());
        let mut x = embeddings;
        for (i, layer) in self.layers.iter().enumerate() {
            let (next, probs) = layer.forward(&x, None, around, &mut probe.at(format_args!("layer.{i}")))?;
            let next = match self.convolution.as_ref().filter(|_| i == 0) {
                Some(convolution) => convolution.forward(&x, &next, around.mask, &mut probe.at("conv"))?,
                None => next,
            };
            states.push(std::mem::replace(&mut x, next));
            all_probs.extend(attentions.then_some(probs));
        }
        Ok((x, states, all_probs))
    }
}

/// Attention, then a feed-forward network; each is added to its input and normalised.
pub(super) struct DebertaLayer {
    attention: DisentangledSelfAttention,
    attention_output: Output,
    /// [I, H]
    intermediate: Linear,
    hidden_act: Activation,
    output: Output,
}

impl DebertaLayer {
    fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<DebertaLayer> {
        let attention = weights.at("attention");
        Ok(DebertaLayer {
            attention: DisentangledSelfAttention::new(config, &attention.at("self"))?,
            attention_output: Output::new(config, &attention.at("output"))?,
            intermediate: weights.at("intermediate").linear("dense")?,
            hidden_act: config.hidden_act,
            output: Output::new(config, &weights.at("output"))?,
        })
    }

    /// The layer for the tokens of `queries` [b, n, H], which attend to those of `hidden` [b, n, H]; both are the
    /// same if `queries` is absent. Returns [b, n, H] and the probabilities [b, h, n, n].
    pub(super) fn forward(
        &self,
        hidden: &Tensor,
        queries: Option<&Tensor>,
        around: &Surroundings<'_>,
        probe: &mut Probe<'_>,
    ) -> Result<(Tensor, Tensor)> {
        // a = LayerNorm(W attention(x) + b + x)
        let mut at = probe.at("attention");
        let (context, probs) = self.attention.forward(hidden, queries, around, &mut at.at("self"))?;
        let a = self.attention_output.forward(&context, queries.unwrap_or(hidden), &mut at.at("output"))?;
        let a = keep(&mut at, "", a)?;

        // u = act(W a + b)                                                              [b, n, I]
        let mut at = probe.at("intermediate");
        let u = keep(&mut at, "dense", self.intermediate.forward(&a)?)?;
        let u = keep(&mut at, "", activate(self.hidden_act, &u)?)?;

        // y = LayerNorm(W u + b + a)
        let y = self.output.forward(&u, &a, &mut probe.at("output"))?;
        Ok((keep(probe, "", y)?, probs))
    }
}

/// A linear layer to H, the residual connection, and a normalisation.
struct Output {
    dense: Linear,
    layer_norm: LayerNorm,
}

impl Output {
    fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Output> {
        let layer_norm = weights.layer_norm("LayerNorm", config.layer_norm_eps)?;
        Ok(Output { dense: weights.linear("dense")?, layer_norm })
    }

    /// LayerNorm(W x + b + residual): [b, n, H].
    fn forward(&self, x: &Tensor, residual: &Tensor, probe: &mut Probe<'_>) -> Result<Tensor> {
        let x = keep(probe, "dense", self.dense.forward(x)?)?;
        let x = keep(probe, "LayerNorm", self.layer_norm.forward(&x.f_add(residual)?)?)?;
        keep(probe, "", x)
    }
}

/// An activation function, on every number.
pub(super) fn activate(activation: Activation, x: &Tensor) -> Result<Tensor> {
    Ok(match activation {
        Activation::Gelu => x.f_gelu("none")?,
        Activation::GeluTanh => x.f_gelu("tanh")?,
        Activation::GeluFast => {
            // ½ x (1 + tanh(x 0.7978… (1 + 0.044715 x²)))
            let cubic = x.f_square()?.f_mul_scalar(0.044_715)?.f_add_scalar(1.0)?;
            let inner = x.f_mul_scalar(0.797_884_560_8)?.f_mul(&cubic)?;
            x.f_mul_scalar(0.5)?.f_mul(&inner.f_tanh()?.f_add_scalar(1.0)?)?
        }
        Activation::Relu => x.f_relu()?,
        Activation::Silu => x.f_silu()?,
        Activation::Tanh => x.f_tanh()?,
        Activation::Mish => x.f_mish()?,
        Activation::Linear => x.shallow_clone(),
        Activation::Sigmoid => x.f_sigmoid()?,
    })
}
