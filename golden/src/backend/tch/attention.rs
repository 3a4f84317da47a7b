//! Disentangled self-attention: content and relative position. Source: `DisentangledSelfAttention`.
//!
//! ```text
//! scores[i, j] = qᵢ · kⱼ  +  qᵢ · pos_key[δ(i, j)]  +  kⱼ · pos_query[δ(i, j)]
//!                  c2c               c2p                        p2c
//! context[i]   = Σⱼ softmaxⱼ(scores[i, j]) vⱼ
//! ```

use deberta_reference::{DebertaConfig, MaskedRows, Probe};
use tch::{Device, Kind, Tensor};

use super::Result;
use super::inputs::Mask;
use super::tensors::keep;
use super::weights::{Linear, Scope};

pub(super) struct DisentangledSelfAttention {
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
    /// [H, H], if there is a c2p term
    pos_proj: Option<Linear>,
    /// [H, H] and a bias, if there is a p2c term
    pos_q_proj: Option<Linear>,
    /// [h, h], with talking heads
    head_logits_proj: Option<Linear>,
    /// [h, h], with talking heads
    head_weights_proj: Option<Linear>,
}

/// What the attention of every layer needs besides hidden states.
pub(super) struct Surroundings<'f> {
    pub(super) mask: &'f Mask,
    pub(super) masked_rows: MaskedRows,
    /// The relative position table [2 max, H], if there is one.
    pub(super) relative: Option<&'f Tensor>,
}

impl DisentangledSelfAttention {
    pub(super) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<DisentangledSelfAttention> {
        let (h, d) = (config.num_attention_heads, config.head_size());
        let terms = 1 + config.pos_att_type.len(); // whatever they are, and even if none is computed
        let heads = i64::try_from(h).unwrap_or(1);
        let talking = |name| config.talking_head.then(|| weights.linear_without_bias(name)).transpose();
        let bias = |name: &str| -> Result<Tensor> { Ok(weights.tensor(name)?.f_reshape([heads, 1, -1])?) };
        Ok(DisentangledSelfAttention {
            heads,
            scale: ((d * terms) as f64).sqrt(),
            in_proj: weights.linear_without_bias("in_proj")?,
            q_bias: bias("q_bias")?,
            v_bias: bias("v_bias")?,
            pos_proj: config.c2p().then(|| weights.linear_without_bias("pos_proj")).transpose()?,
            pos_q_proj: config.p2c().then(|| weights.linear("pos_q_proj")).transpose()?,
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
        // [q; k; v] = in_proj x, interleaved by heads                                   [b, n, h 3 d]
        let qkv = keep(probe, "in_proj", self.in_proj.forward(hidden)?)?;
        let others = match queries {
            Some(queries) => Some(keep(probe, "query_proj", self.in_proj.forward(queries)?)?),
            None => None,
        };
        // q = (q + q_bias) / scale, v = v + v_bias                                      [b, h, n, d]
        let q = self.heads(others.as_ref().unwrap_or(&qkv), 0, 3)?.f_add(&self.q_bias)?;
        let q = q.f_div_scalar(self.scale)?;
        let k = self.heads(&qkv, 1, 3)?;
        let v = self.heads(&qkv, 2, 3)?.f_add(&self.v_bias)?;

        let n = hidden.size3()?.1;
        let positions = around.relative.map(|table| self.positions(table, n, probe)).transpose()?;
        let mut scores = keep(probe, "c2c", product(&q, &k)?)?; //                       [b, h, n, n]
        if let Some(Positions { key, query, delta }) = &positions {
            let all = scores.size();
            if let Some(key) = key {
                // qᵢ · pos_key[m]                                                       [b, h, n, 2s]
                let products = product(&q, key)?;
                let c2p = products.f_gather(-1, &delta.f_expand(all.clone(), false)?, false)?;
                scores = scores.f_add(&keep(probe, "c2p", c2p)?)?;
            }
            if let Some(query) = query {
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

    /// Part `part` of the `parts` parts of each head: features [b, n, h parts d] to heads [b, h, n, d].
    fn heads(&self, x: &Tensor, part: i64, parts: i64) -> Result<Tensor> {
        let (b, n, _) = x.size3()?;
        let heads = x.f_reshape([b, n, self.heads, parts, -1])?; //                      [b, n, h, parts, d]
        Ok(heads.f_select(3, part)?.f_transpose(1, 2)?)
    }

    /// R = rows max - s .. max + s of the table [2 max, H], for the distances -s .. s, after the projections.
    fn positions(&self, table: &Tensor, n: i64, probe: &mut Probe<'_>) -> Result<Positions> {
        let max = table.size2()?.0 / 2;
        let s = n.min(max);
        let r = table.f_narrow(0, max - s, 2 * s)?.f_unsqueeze(0)?; //                   [1, 2s, H]
        let key = match &self.pos_proj {
            Some(proj) => Some(self.heads(&keep(probe, "pos_proj", proj.forward(&r)?)?, 0, 1)?),
            None => None,
        };
        let query = match &self.pos_q_proj {
            Some(proj) => {
                let query = self.heads(&keep(probe, "pos_q_proj", proj.forward(&r)?)?, 0, 1)?;
                Some(query.f_div_scalar(self.scale)?)
            }
            None => None,
        };
        // δ(i, j) = clamp(i - j + s, 0, 2s - 1)                                         [n, n]
        let tokens = Tensor::f_arange(n, (Kind::Int64, Device::Cpu))?;
        let distances = tokens.f_unsqueeze(1)?.f_sub(&tokens.f_unsqueeze(0)?)?;
        let delta = distances.f_add_scalar(s)?.f_clamp(0, 2 * s - 1)?;
        Ok(Positions { key, query, delta })
    }
}

/// The relative position table after the projections of one layer.
struct Positions {
    /// pos_key = pos_proj R [1, h, 2s, d], if there is a c2p term
    key: Option<Tensor>,
    /// pos_query = (pos_q_proj R + b) / scale [1, h, 2s, d], if there is a p2c term
    query: Option<Tensor>,
    /// δ [n, n]
    delta: Tensor,
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
