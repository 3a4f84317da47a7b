//! Queries, keys and values of the tokens. Source: the first lines of `DisentangledSelfAttention.forward`.

use deberta_reference::{DebertaConfig, Probe};
use tch::Tensor;

use super::failure::Result;
use super::tensors::{heads, keep, length};
use super::weights::{Linear, Scope};

/// What makes queries, keys and values.
pub(super) struct Projections {
    /// h
    heads: i64,
    /// [`DebertaConfig::attention_scale`]
    scale: f64,
    layers: Layers,
}

enum Layers {
    /// One projection for all three, interleaved by heads: version 1.
    Interleaved {
        /// [3H, H]: for every head the rows of q, then of k, then of v
        in_proj: Linear,
        /// [h, 1, d]
        q_bias: Tensor,
        /// [h, 1, d]
        v_bias: Tensor,
    },
    /// A projection each, [H, H] with a bias: version 2.
    Separate { query_proj: Linear, key_proj: Linear, value_proj: Linear },
}

impl Projections {
    pub(super) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Projections> {
        let heads = length(config.num_attention_heads);
        let bias = |name: &str| -> Result<Tensor> {
            Ok(weights.tensor(name)?.f_reshape([heads, 1, -1])?) //                      [h, 1, d]
        };
        let layers = if config.has_in_proj() {
            Layers::Interleaved {
                in_proj: weights.linear_without_bias("in_proj")?,
                q_bias: bias("q_bias")?,
                v_bias: bias("v_bias")?,
            }
        } else {
            Layers::Separate {
                query_proj: weights.linear("query_proj")?,
                key_proj: weights.linear("key_proj")?,
                value_proj: weights.linear("value_proj")?,
            }
        };
        Ok(Projections { heads, scale: config.attention_scale(), layers })
    }

    /// The projections of keys and of queries, which relative positions can share. Those of version 2.
    pub(super) fn shared(&self) -> Option<[Linear; 2]> {
        match &self.layers {
            Layers::Separate { query_proj, key_proj, .. } => Some([key_proj.again(), query_proj.again()]),
            Layers::Interleaved { .. } => None,
        }
    }

    /// q, divided by the scale, k and v [b, h, n, d]: keys and values from `hidden` [b, n, H], queries from `queries`
    /// [b, n, H], or from `hidden` too.
    pub(super) fn forward(
        &self,
        hidden: &Tensor,
        queries: Option<&Tensor>,
        probe: &mut Probe<'_>,
    ) -> Result<[Tensor; 3]> {
        let h = self.heads;
        match &self.layers {
            Layers::Interleaved { in_proj, q_bias, v_bias } => {
                // [q; k; v] = in_proj x, interleaved by heads                           [b, n, h 3 d]
                let qkv = keep(probe, "in_proj", in_proj.forward(hidden)?)?;
                let others = match queries {
                    Some(queries) => Some(keep(probe, "query_proj", in_proj.forward(queries)?)?),
                    None => None,
                };
                // q = (q + q_bias) / scale, v = v + v_bias                              [b, h, n, d]
                let q = heads(others.as_ref().unwrap_or(&qkv), h, (0, 3))?.f_add(q_bias)?;
                let k = heads(&qkv, h, (1, 3))?;
                let v = heads(&qkv, h, (2, 3))?.f_add(v_bias)?;
                Ok([q.f_div_scalar(self.scale)?, k, v])
            }
            Layers::Separate { query_proj, key_proj, value_proj } => {
                // q = query_proj x + b, k = key_proj x + b, v = value_proj x + b        [b, n, H]
                let q = keep(probe, "query_proj", query_proj.forward(queries.unwrap_or(hidden))?)?;
                let k = keep(probe, "key_proj", key_proj.forward(hidden)?)?;
                let v = keep(probe, "value_proj", value_proj.forward(hidden)?)?;
                // by heads, q = q / scale                                               [b, h, n, d]
                let q = heads(&q, h, (0, 1))?.f_div_scalar(self.scale)?;
                Ok([q, heads(&k, h, (0, 1))?, heads(&v, h, (0, 1))?])
            }
        }
    }
}
