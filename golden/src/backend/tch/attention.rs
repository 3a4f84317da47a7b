//! Disentangled self-attention: content and relative position. Source: `DisentangledSelfAttention`.
//!
//! ```text
//! scores[i, j] = qᵢ · kⱼ  +  qᵢ · pos_key[δ(i, j)]  +  kⱼ · pos_query[δ(i, j)]
//!                  c2c               c2p                        p2c
//! context[i]   = Σⱼ softmaxⱼ(scores[i, j]) vⱼ
//! ```

use deberta_reference::{DebertaConfig, MaskedRows, Probe};
use tch::{Kind, Tensor};

use super::failure::Result;
use super::inputs::Mask;
use super::projections::Projections;
use super::relative::{PositionLayers, Relative};
use super::tensors::keep;
use super::weights::{Linear, Scope};

pub(super) struct DisentangledSelfAttention {
    projections: Projections,
    positions: PositionLayers,
    /// [h, h], with talking heads
    head_logits_proj: Option<Linear>,
    /// [h, h], with talking heads
    head_weights_proj: Option<Linear>,
}

/// What the attention of every layer needs besides hidden states.
pub(super) struct Surroundings<'f> {
    pub(super) mask: &'f Mask,
    pub(super) masked_rows: MaskedRows,
    /// The relative position table, if there is one.
    pub(super) relative: Option<Relative>,
}

impl DisentangledSelfAttention {
    pub(super) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<DisentangledSelfAttention> {
        let talking = |name| config.talking_head.then(|| weights.linear_without_bias(name)).transpose();
        let projections = Projections::new(config, weights)?;
        Ok(DisentangledSelfAttention {
            positions: PositionLayers::new(config, weights, &projections)?,
            projections,
            head_logits_proj: talking("head_logits_proj")?,
            head_weights_proj: talking("head_weights_proj")?,
        })
    }

    /// Keys and values from `hidden` [b, n, H], queries from `queries` [b, n, H], or from `hidden` too. Returns the
    /// context [b, n, H] and the probabilities [b, h, n, n].
    pub(super) fn forward(
        &self,
        hidden: &Tensor,
        queries: Option<&Tensor>,
        around: &Surroundings<'_>,
        probe: &mut Probe<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let [q, k, v] = self.projections.forward(hidden, queries, probe)?; //            [b, h, n, d]
        let relative = around.relative.as_ref();
        let positions = relative.map(|table| self.positions.positions(table, probe)).transpose()?;
        let mut scores = keep(probe, "c2c", product(&q, &k)?)?; //                       [b, h, n, n]
        if let Some((Relative { delta, .. }, positions)) = relative.zip(positions) {
            let all = scores.size();
            if let Some(key) = &positions.key {
                // qᵢ · pos_key[m]                                                       [b, h, n, 2s]
                let products = product(&q, key)?;
                let c2p = products.f_gather(-1, &delta.f_expand(all.clone(), false)?, false)?;
                scores = scores.f_add(&keep(probe, "c2p", c2p)?)?;
            }
            if let Some(query) = &positions.query {
                // kⱼ · pos_query[m]                                                     [b, h, n, 2s]
                let products = product(&k, query)?;
                let of_keys = delta.f_transpose(0, 1)?.f_expand(all, false)?; //         [j, i]
                let p2c = products.f_gather(-1, &of_keys, false)?.f_transpose(-1, -2)?;
                scores = scores.f_add(&keep(probe, "p2c", p2c)?)?;
            }
        }
        let mut scores = keep(probe, "scores", scores)?;
        if let Some(proj) = &self.head_logits_proj {
            scores = mix_heads(&scores, proj, "head_logits_proj", probe)?;
        }
        let mut probs = keep(probe, "probs", masked_softmax(&scores, around)?)?; //      [b, h, n, n]
        if let Some(proj) = &self.head_weights_proj {
            probs = mix_heads(&probs, proj, "head_weights_proj", probe)?;
        }
        let context = probs.f_matmul(&v)?.f_transpose(1, 2)?; //                         [b, n, h, d]
        let context = context.f_reshape(hidden.size())?;
        Ok((keep(probe, "", context)?, probs))
    }
}

/// x yᵀ: [b, h, n, d] and [b or 1, h, m, d] to [b, h, n, m].
fn product(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Ok(x.f_matmul(&y.f_transpose(-1, -2)?)?)
}

/// softmaxⱼ over the keys that query i may attend to, and 0 elsewhere. With all keys blocked alike, all get 1/n.
fn masked_softmax(scores: &Tensor, around: &Surroundings<'_>) -> Result<Tensor> {
    let blocked = scores.f_masked_fill(&around.mask.blocked, f64::from(f32::MIN))?;
    let probs = blocked.f_softmax(-1, Kind::Float)?;
    Ok(match around.masked_rows {
        MaskedRows::Uniform => probs,
        MaskedRows::Zero => probs.f_masked_fill(&around.mask.alone, 0.0)?,
    })
}

/// Mixes the heads of [b, h, n, n] by `proj` [h, h]; what is recorded has the heads last.
fn mix_heads(x: &Tensor, proj: &Linear, name: &str, probe: &mut Probe<'_>) -> Result<Tensor> {
    let mixed = keep(probe, name, proj.forward(&x.f_permute([0, 2, 3, 1])?)?)?; //       [b, n, n, h]
    Ok(mixed.f_permute([0, 3, 1, 2])?)
}
