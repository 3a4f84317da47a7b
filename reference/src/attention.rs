//! Disentangled self-attention: content and relative position. Source: `DisentangledSelfAttention`.
//!
//! For one head, with q, k, v the content of the tokens [n, d] and δ(i, j) the row of the distance i - j in the
//! relative position table:
//!
//! ```text
//! scores[i, j] = qᵢ · kⱼ  +  qᵢ · pos_key[δ(i, j)]  +  kⱼ · pos_query[δ(i, j)]
//!                  c2c               c2p                        p2c
//! context[i]   = Σⱼ softmaxⱼ(scores[i, j]) vⱼ
//! ```
//!
//! The paper prints δ(j, i) in the last term; all implementations use δ(i, j).

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{Array3, Array4};
use rayon::prelude::*;

use crate::attention_head::Head;
use crate::config::DebertaConfig;
use crate::error::Result;
use crate::gemm::{Packed, rows};
use crate::inputs::Mask;
use crate::ops::{
    Linear, MaskedRows, MaskedSoftmax, each_row_here, join_heads, matrix, mix_heads, per_head, split_heads,
};
use crate::probe::Probe;
use crate::real::Real;
use crate::tensor::Matrix;
use crate::weights::Scope;

pub(crate) struct DisentangledSelfAttention {
    /// h
    heads: usize,
    /// √(d (1 + number of position terms))
    scale: f64,
    /// [3H, H]: for every head the rows of q, then of k, then of v
    in_proj: Linear,
    /// [H]
    q_bias: Vec<f32>,
    /// [H]
    v_bias: Vec<f32>,
    /// [H, H], if there is a c2p term
    pos_proj: Option<Linear>,
    /// [H, H] and a bias, if there is a p2c term
    pos_q_proj: Option<Linear>,
    /// [h, h], with talking heads
    head_logits_proj: Option<Linear>,
    /// [h, h], with talking heads
    head_weights_proj: Option<Linear>,
    /// [`Positions`], the projected table, for the longest input so far in f32 or f64. It depends on the weights alone.
    projected: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

/// What the attention of every layer needs besides hidden states.
pub(crate) struct Surroundings<'f> {
    pub(crate) mask: &'f Mask,
    pub(crate) masked_rows: MaskedRows,
    /// The relative position table, if there is one.
    pub(crate) relative: Option<&'f Matrix>,
    /// Whether to return the attention probabilities.
    pub(crate) attentions: bool,
}

impl DisentangledSelfAttention {
    pub(crate) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Self> {
        let (h, d) = (config.num_attention_heads, config.head_size());
        let terms = 1 + config.pos_att_type.len(); // whatever they are, and even if none is computed
        let talking = |name| config.talking_head.then(|| weights.linear_without_bias(name)).transpose();
        Ok(DisentangledSelfAttention {
            heads: h,
            scale: ((d * terms) as f64).sqrt(),
            in_proj: weights.linear_without_bias("in_proj")?,
            q_bias: weights.vector("q_bias")?,
            v_bias: weights.vector("v_bias")?,
            pos_proj: config.c2p().then(|| weights.linear_without_bias("pos_proj")).transpose()?,
            pos_q_proj: config.p2c().then(|| weights.linear("pos_q_proj")).transpose()?,
            head_logits_proj: talking("head_logits_proj")?,
            head_weights_proj: talking("head_weights_proj")?,
            projected: Mutex::new(None),
        })
    }

    /// Keys and values from `hidden` [b, n, H], queries from `queries` [b, n, H], or from `hidden` too. Returns the
    /// context [b, n, H] and, if asked for, the probabilities [b, h, n, n].
    pub(crate) fn forward<F: Real>(
        &self,
        hidden: &Array3<F>,
        queries: Option<&Array3<F>>,
        around: &Surroundings<'_>,
        probe: &mut Probe<'_, F>,
    ) -> Result<(Array3<F>, Option<Array4<F>>)> {
        let (b, n, h) = (hidden.dim().0, hidden.dim().1, self.heads);
        let d = hidden.dim().2 / h;
        let (scale, one) = (F::of(self.scale), F::one());

        // [q; k; v] = in_proj x, interleaved by heads                                  [b, n, h 3 d]
        let qkv = probe.keep("in_proj", self.in_proj.forward(hidden))?;
        let others = match queries {
            Some(queries) => Some(probe.keep("query_proj", self.in_proj.forward(queries))?),
            None => None,
        };
        // q = (q + q_bias) / scale, v = v + v_bias                                     [b, h, n, d]
        let q = split_heads(others.as_ref().unwrap_or(&qkv), (h, 0, 3), Some(&self.q_bias), scale);
        let k = split_heads(&qkv, (h, 1, 3), None, one);
        let v = split_heads(&qkv, (h, 2, 3), Some(&self.v_bias), one);
        drop((qkv, others));

        let positions = match around.relative {
            Some(table) => Some((self.positions(table, n, probe)?, n.min(table.rows / 2))),
            None => None,
        };
        let pos_key = positions.as_ref().and_then(|(table, span)| table.packed_keys(*span));
        let head = |b, h| Head {
            d,
            q: matrix(&q, b, h),
            k: matrix(&k, b, h),
            v: matrix(&v, b, h),
            pos_key: pos_key.as_ref().map(|heads| &heads[h]),
            pos_query: positions.as_ref().and_then(|(table, span)| table.rows(&table.query, h, *span)),
        };
        let softmax = |b, scores: &mut [F]| {
            let softmax = MaskedSoftmax { mask: around.mask, sequence: b, masked_rows: around.masked_rows };
            each_row_here(scores, n, &softmax);
        };

        let inner = ["c2c", "c2p", "p2c", "scores", "probs"].iter().any(|name| probe.wants(name));
        let (context, probs) = if inner || around.attentions || self.head_logits_proj.is_some() {
            // The definition, step by step for all heads                               [b, h, n, n]
            let all = (b, h, n, n);
            let mut scores = probe.keep(
                "c2c",
                per_head(all, |b, h, out, _| {
                    let head = head(b, h);
                    head.c2c(&head.keys(), out);
                }),
            )?;
            if head(0, 0).pos_key.is_some() {
                scores += &probe.keep(
                    "c2p",
                    per_head(all, |b, h, out, scratch| head(b, h).add_c2p(out, &mut scratch.products)),
                )?;
            }
            if head(0, 0).pos_query.is_some() {
                scores += &probe.keep(
                    "p2c",
                    per_head(all, |b, h, out, scratch| {
                        let head = head(b, h);
                        head.add_p2c(&head.keys(), out, &mut scratch.products);
                    }),
                )?;
            }
            let mut scores = probe.keep("scores", scores)?;
            if let Some(proj) = &self.head_logits_proj {
                scores = mix_heads(&scores, |x| probe.keep("head_logits_proj", proj.forward(x)))?;
            }
            let probs = per_head(all, |b, h, out, _| {
                out.copy_from_slice(matrix(&scores, b, h));
                softmax(b, out);
            });
            let mut probs = probe.keep("probs", probs)?;
            if let Some(proj) = &self.head_weights_proj {
                probs = mix_heads(&probs, |x| probe.keep("head_weights_proj", proj.forward(x)))?;
            }
            (
                per_head((b, h, n, d), |b, h, out, _| head(b, h).context(matrix(&probs, b, h), out)),
                Some(probs),
            )
        } else {
            // The same, one head at a time: nothing of the size n² is kept              [n, n]
            let context = per_head((b, h, n, d), |b, h, out, scratch| {
                let head = head(b, h);
                let (keys, scores) = (head.keys(), scratch.scores.take(n * n));
                head.c2c(&keys, scores);
                head.add_c2p(scores, &mut scratch.products);
                head.add_p2c(&keys, scores, &mut scratch.products);
                drop(keys);
                softmax(b, scores);
                head.context(scores, out);
            });
            (context, None)
        };
        let context = probe.keep("", join_heads(&context))?; //                         [b, n, H]
        Ok((context, probs.filter(|_| around.attentions)))
    }

    /// The projected relative positions for n tokens or more.
    fn positions<F: Real>(
        &self,
        table: &Matrix,
        n: usize,
        probe: &mut Probe<'_, F>,
    ) -> Result<Arc<Positions<F>>> {
        let max = table.rows / 2;
        let span = n.min(max);
        if probe.wants("pos_proj") || probe.wants("pos_q_proj") {
            return Ok(Arc::new(self.project(table, span, probe)?));
        }
        let mut projected = self.projected.lock().unwrap_or_else(PoisonError::into_inner);
        let known = projected.clone().and_then(|known| known.downcast::<Positions<F>>().ok());
        if let Some(positions) = known.filter(|known| known.span >= span) {
            return Ok(positions);
        }
        let positions = Arc::new(self.project(table, span, &mut Probe::off())?);
        *projected = Some(Arc::clone(&positions) as _);
        Ok(positions)
    }

    /// R = rows max - s .. max + s of the table [2 max, H], for the distances -s .. s.
    fn project<F: Real>(&self, table: &Matrix, s: usize, probe: &mut Probe<'_, F>) -> Result<Positions<F>> {
        let middle = table.rows / 2;
        let rows = &table.values()[(middle - s) * table.columns..(middle + s) * table.columns];
        let row = |(_, m, x)| F::exactly(rows[m * table.columns + x]);
        let r = Array3::from_shape_fn((1, 2 * s, table.columns), row);
        let mut positions = Positions { span: s, key: None, query: None };
        if let Some(proj) = &self.pos_proj {
            let key = probe.keep("pos_proj", proj.forward(&r))?; // pos_key = pos_proj R     [1, 2s, H]
            positions.key = Some(split_heads(&key, (self.heads, 0, 1), None, F::one()));
        }
        if let Some(proj) = &self.pos_q_proj {
            let query = probe.keep("pos_q_proj", proj.forward(&r))?; // pos_query = (pos_q_proj R + b) / scale
            positions.query = Some(split_heads(&query, (self.heads, 0, 1), None, F::of(self.scale)));
        }
        Ok(positions)
    }
}

/// The relative position table after the projections of one layer.
struct Positions<F> {
    /// S: row m stands for the distance m - S
    span: usize,
    /// [1, h, 2S, d], if there is a c2p term
    key: Option<Array4<F>>,
    /// [1, h, 2S, d], if there is a p2c term
    query: Option<Array4<F>>,
}

impl<F: Real> Positions<F> {
    /// The keys of every head for the distances -s .. s, s <= S, packed: each serves all sequences.
    fn packed_keys(&self, span: usize) -> Option<Vec<Packed<F>>> {
        let heads = self.key.as_ref()?.dim().1;
        let pack = |head| {
            let keys = self.rows(&self.key, head, span)?;
            Some(Packed::transposed(&rows(keys, keys.len() / (2 * span))))
        };
        (0..heads).into_par_iter().map(pack).collect()
    }

    /// The rows of one head for the distances -s .. s, s <= S: [2s, d].
    fn rows<'p>(&self, table: &'p Option<Array4<F>>, head: usize, span: usize) -> Option<&'p [F]> {
        let table = matrix(table.as_ref()?, 0, head); // [2S, d]
        let d = table.len() / (2 * self.span);
        Some(&table[(self.span - span) * d..(self.span + span) * d])
    }
}
