//! The stack of layers. Source: `DebertaEncoder`, `DebertaLayer`, `DebertaAttention`, `DebertaSelfOutput`,
//! `DebertaIntermediate`, `DebertaOutput`, and the same of version 2.

use ndarray::{Array3, Array4};

use crate::attention::{DisentangledSelfAttention, Surroundings};
use crate::config::{Activation, DebertaConfig};
use crate::convolution::Convolution;
use crate::error::Result;
use crate::ops::{LayerNorm, Linear, activate};
use crate::outputs::BaseModelOutput;
use crate::probe::Probe;
use crate::real::Real;
use crate::relative::Table;
use crate::weights::Scope;

/// L layers, the relative position table that they share, and perhaps a convolution after the first one.
pub(crate) struct DebertaEncoder {
    pub(crate) layers: Vec<DebertaLayer>,
    /// With relative attention
    pub(crate) table: Option<Table>,
    convolution: Option<Convolution>,
}

impl DebertaEncoder {
    pub(crate) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Self> {
        let layer = |i| DebertaLayer::new(config, &weights.at(&format!("layer.{i}")));
        Ok(DebertaEncoder {
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            table: Table::new(config, weights)?,
            convolution: Convolution::new(config, &weights.at("conv"))?,
        })
    }

    /// x₀ = embeddings, xᵢ₊₁ = layerᵢ(xᵢ), but x₁ = convolution(x₀, layer₀(x₀)) if there is one: [b, n, H].
    pub(crate) fn forward<F: Real>(
        &self,
        embeddings: Array3<F>,
        around: &Surroundings<'_, F>,
        output_hidden_states: bool,
        probe: &mut Probe<'_, F>,
    ) -> Result<BaseModelOutput<F>> {
        let mut x = embeddings;
        let mut hidden_states = output_hidden_states.then(|| vec![x.clone()]);
        let mut attentions = around.attentions.then(Vec::new);
        for (i, layer) in self.layers.iter().enumerate() {
            let (next, probs) = layer.forward(&x, None, around, &mut probe.at(format_args!("layer.{i}")))?;
            x = match self.convolution.as_ref().filter(|_| i == 0) {
                Some(convolution) => {
                    let (x, next) = (around.sequences.unpack(&x), around.sequences.unpack(&next));
                    let y = convolution.forward(&x, &next, &around.mask, &mut probe.at("conv"))?;
                    around.sequences.pack(y)
                }
                None => next,
            };
            hidden_states.iter_mut().for_each(|states| states.push(x.clone()));
            attentions.iter_mut().for_each(|attentions| attentions.extend(probs.clone()));
        }
        Ok(BaseModelOutput { last_hidden_state: x, hidden_states, attentions })
    }
}

/// Attention, then a feed-forward network; each is added to its input and normalised.
pub(crate) struct DebertaLayer {
    attention: DisentangledSelfAttention,
    attention_output: Output,
    /// [I, H]
    intermediate: Linear,
    hidden_act: Activation,
    output: Output,
}

impl DebertaLayer {
    fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Self> {
        Ok(DebertaLayer {
            attention: DisentangledSelfAttention::new(config, &weights.at("attention").at("self"))?,
            attention_output: Output::new(config, &weights.at("attention").at("output"))?,
            intermediate: weights.at("intermediate").linear("dense")?,
            hidden_act: config.hidden_act,
            output: Output::new(config, &weights.at("output"))?,
        })
    }

    /// The layer for the tokens of `queries` [b, n, H], which attend to those of `hidden` [b, n, H]; both are the
    /// same if `queries` is absent. Returns [b, n, H] and, if asked for, the probabilities [b, h, n, n].
    pub(crate) fn forward<F: Real>(
        &self,
        hidden: &Array3<F>,
        queries: Option<&Array3<F>>,
        around: &Surroundings<'_, F>,
        probe: &mut Probe<'_, F>,
    ) -> Result<(Array3<F>, Option<Array4<F>>)> {
        // a = LayerNorm(W attention(x) + b + x)
        let mut at = probe.at("attention");
        let (context, probs) = self.attention.forward(hidden, queries, around, &mut at.at("self"))?;
        let a = self.attention_output.forward(&context, queries.unwrap_or(hidden), &mut at.at("output"))?;
        let a = at.keep("", a)?;

        // u = act(W a + b)                                                             [b, n, I]
        let mut at = probe.at("intermediate");
        let u = at.keep("dense", self.intermediate.forward(&a))?;
        let u = at.keep("", activate(self.hidden_act, u))?;

        // y = LayerNorm(W u + b + a)
        let y = self.output.forward(&u, &a, &mut probe.at("output"))?;
        Ok((probe.keep("", y)?, probs))
    }
}

/// A linear layer to H, the residual connection, and a normalisation.
struct Output {
    dense: Linear,
    layer_norm: LayerNorm,
}

impl Output {
    fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Self> {
        let layer_norm = weights.layer_norm("LayerNorm", config.layer_norm_eps)?;
        Ok(Output { dense: weights.linear("dense")?, layer_norm })
    }

    /// LayerNorm(W x + b + residual): [b, n, H].
    fn forward<F: Real>(
        &self,
        x: &Array3<F>,
        residual: &Array3<F>,
        probe: &mut Probe<'_, F>,
    ) -> Result<Array3<F>> {
        let x = probe.keep("dense", self.dense.forward(x))?;
        let x = probe.keep("LayerNorm", self.layer_norm.forward_sum(x, residual))?;
        probe.keep("", x)
    }
}
