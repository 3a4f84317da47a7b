//! Queries, keys and values of the tokens. Source: the first lines of `DisentangledSelfAttention.forward`.

use deberta_reference::{DebertaConfig, Probe};
use tch::Tensor;

use super::failure::Result;
use super::tensors::{heads, keep};
use super::weights::{Linear, Scope};

/// One projection for all three, interleaved by heads.
pub(super) struct Projections {
    /// h
    heads: i64,
    /// √(d (1 + number of position terms))
    scale: f64,
    /// [3H, H]: for every head the rows of q, then of k, then of v
    in_proj: Linear,
    /// [h, 1, d]
    q_bias: Tensor,
    /// [h, 1, d]
    v_bias: Tensor,
}

impl Projections {
    pub(super) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Projections> {
        let heads = i64::try_from(config.num_attention_heads).unwrap_or(1);
        let bias = |name: &str| -> Result<Tensor> { Ok(weights.tensor(name)?.f_reshape([heads, 1, -1])?) };
        Ok(Projections {
            heads,
            scale: config.attention_scale(),
            in_proj: weights.linear_without_bias("in_proj")?,
            q_bias: bias("q_bias")?,
            v_bias: bias("v_bias")?,
        })
    }

    /// q, divided by the scale, k and v [b, h, n, d]: keys and values from `hidden` [b, n, H], queries from `queries`
    /// [b, n, H], or from `hidden` too.
    pub(super) fn forward(
        &self,
        hidden: &Tensor,
        queries: Option<&Tensor>,
        probe: &mut Probe<'_>,
    ) -> Result<[Tensor; 3]> {
        // [q; k; v] = in_proj x, interleaved by heads                                   [b, n, h 3 d]
        let qkv = keep(probe, "in_proj", self.in_proj.forward(hidden)?)?;
        let others = match queries {
            Some(queries) => Some(keep(probe, "query_proj", self.in_proj.forward(queries)?)?),
            None => None,
        };
        // q = (q + q_bias) / scale, v = v + v_bias                                      [b, h, n, d]
        let q = heads(others.as_ref().unwrap_or(&qkv), self.heads, (0, 3))?.f_add(&self.q_bias)?;
        let q = q.f_div_scalar(self.scale)?;
        let k = heads(&qkv, self.heads, (1, 3))?;
        let v = heads(&qkv, self.heads, (2, 3))?.f_add(&self.v_bias)?;
        Ok([q, k, v])
    }
}
