//! Queries, keys and values of the tokens. Source: the first lines of `DisentangledSelfAttention.forward`.

use ndarray::{Array3, Array4};

use crate::config::DebertaConfig;
use crate::error::Result;
use crate::ops::{Linear, split_heads};
use crate::probe::Probe;
use crate::real::Real;
use crate::weights::Scope;

/// One projection for all three, interleaved by heads.
pub(crate) struct Projections {
    /// h
    heads: usize,
    /// [`DebertaConfig::attention_scale`]
    scale: f64,
    /// [3H, H]: for every head the rows of q, then of k, then of v
    in_proj: Linear,
    /// [H]
    q_bias: Vec<f32>,
    /// [H]
    v_bias: Vec<f32>,
}

impl Projections {
    pub(crate) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Self> {
        Ok(Projections {
            heads: config.num_attention_heads,
            scale: config.attention_scale(),
            in_proj: weights.linear_without_bias("in_proj")?,
            q_bias: weights.vector("q_bias")?,
            v_bias: weights.vector("v_bias")?,
        })
    }

    /// q, divided by the scale, k and v [b, h, n, d]: keys and values from `hidden` [b, n, H], queries from `queries`
    /// [b, n, H], or from `hidden` too.
    pub(crate) fn forward<F: Real>(
        &self,
        hidden: &Array3<F>,
        queries: Option<&Array3<F>>,
        probe: &mut Probe<'_, F>,
    ) -> Result<[Array4<F>; 3]> {
        let (h, one) = (self.heads, F::one());
        // [q; k; v] = in_proj x, interleaved by heads                                  [b, n, h 3 d]
        let qkv = probe.keep("in_proj", self.in_proj.forward(hidden))?;
        let others = match queries {
            Some(queries) => Some(probe.keep("query_proj", self.in_proj.forward(queries))?),
            None => None,
        };
        // q = (q + q_bias) / scale, v = v + v_bias                                     [b, h, n, d]
        let scale = F::of(self.scale);
        let q = split_heads(others.as_ref().unwrap_or(&qkv), (h, 0, 3), Some(&self.q_bias), scale);
        let k = split_heads(&qkv, (h, 1, 3), None, one);
        let v = split_heads(&qkv, (h, 2, 3), Some(&self.v_bias), one);
        Ok([q, k, v])
    }
}
