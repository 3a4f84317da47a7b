//! Queries, keys and values of the tokens. Source: the first lines of `DisentangledSelfAttention.forward`.

use ndarray::Array3;

use crate::by_heads::split_heads;
use crate::config::DebertaConfig;
use crate::error::Result;
use crate::ops::Linear;
use crate::probe::Probe;
use crate::real::Real;
use crate::weights::Scope;

/// What makes queries, keys and values.
pub(crate) struct Projections {
    /// h
    heads: usize,
    /// [`DebertaConfig::attention_scale`]
    scale: f64,
    layers: Layers,
}

enum Layers {
    /// One projection for all three, interleaved by heads: version 1.
    Interleaved {
        /// [3H, H]: for every head the rows of q, then of k, then of v
        in_proj: Linear,
        /// [H]
        q_bias: Vec<f32>,
        /// [H]
        v_bias: Vec<f32>,
    },
    /// A projection each, [H, H] with a bias: version 2.
    Separate { query_proj: Linear, key_proj: Linear, value_proj: Linear },
}

impl Projections {
    pub(crate) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Self> {
        let layers = if config.has_in_proj() {
            Layers::Interleaved {
                in_proj: weights.linear_without_bias("in_proj")?,
                q_bias: weights.vector("q_bias")?,
                v_bias: weights.vector("v_bias")?,
            }
        } else {
            Layers::Separate {
                query_proj: weights.linear("query_proj")?,
                key_proj: weights.linear("key_proj")?,
                value_proj: weights.linear("value_proj")?,
            }
        };
        Ok(Projections { heads: config.num_attention_heads, scale: config.attention_scale(), layers })
    }

    /// q, divided by the scale, k and v [h, T, d] with T = b n: keys and values from `hidden` [b, n, H], queries from `queries`
    /// [b, n, H], or from `hidden` too.
    pub(crate) fn forward<F: Real>(
        &self,
        hidden: &Array3<F>,
        queries: Option<&Array3<F>>,
        probe: &mut Probe<'_, F>,
    ) -> Result<[Array3<F>; 3]> {
        let (h, scale, one) = (self.heads, F::of(self.scale), F::one());
        match &self.layers {
            Layers::Interleaved { in_proj, q_bias, v_bias } => {
                // [q; k; v] = in_proj x, interleaved by heads                          [b, n, h 3 d]
                let qkv = probe.keep("in_proj", in_proj.forward(hidden))?;
                let others = match queries {
                    Some(queries) => Some(probe.keep("query_proj", in_proj.forward(queries))?),
                    None => None,
                };
                // q = (q + q_bias) / scale, v = v + v_bias                             [h, T, d]
                Ok(at_once(
                    || split_heads(others.as_ref().unwrap_or(&qkv), (h, 0, 3), Some(q_bias), scale),
                    || split_heads(&qkv, (h, 1, 3), None, one),
                    || split_heads(&qkv, (h, 2, 3), Some(v_bias), one),
                ))
            }
            Layers::Separate { query_proj, key_proj, value_proj } => {
                // q = (query_proj x + b) / scale, k = key_proj x + b, v = value_proj x + b    [b, n, H]
                let q = probe.keep("query_proj", query_proj.forward(queries.unwrap_or(hidden)))?;
                let k = probe.keep("key_proj", key_proj.forward(hidden))?;
                let v = probe.keep("value_proj", value_proj.forward(hidden))?;
                // by heads                                                             [h, T, d]
                let by_heads = |x, scale| split_heads(x, (h, 0, 1), None, scale);
                Ok(at_once(|| by_heads(&q, scale), || by_heads(&k, one), || by_heads(&v, one)))
            }
        }
    }
}

/// What three functions return that share the threads, so that none waits for another.
fn at_once<T: Send>(
    a: impl FnOnce() -> T + Send,
    b: impl FnOnce() -> T + Send,
    c: impl FnOnce() -> T + Send,
) -> [T; 3] {
    let (a, (b, c)) = rayon::join(a, || rayon::join(b, c));
    [a, b, c]
}
