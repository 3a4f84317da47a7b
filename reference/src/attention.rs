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
//! The paper prints δ(j, i) in the last term; all implementations use δ(i, j). Where the parts come from: q, k, v
//! `projections.rs`; pos_key, pos_query `relative.rs`; δ `distances.rs`; one head of the scores `attention_head.rs`.

use ndarray::{Array3, Array4};

use crate::attention_head::OneHead;
use crate::by_heads::{head_rows, join_heads, matrix, mix_heads, per_head, per_sequence};
use crate::config::DebertaConfig;
use crate::error::Result;
use crate::inputs::Mask;
use crate::ops::{Linear, MaskedRows, MaskedSoftmax, each_row_here};
use crate::probe::Probe;
use crate::projections::Projections;
use crate::real::Real;
use crate::relative::{PositionLayers, Relative};
use crate::sequences::Sequences;
use crate::weights::Scope;

pub(crate) struct DisentangledSelfAttention {
    projections: Projections,
    positions: PositionLayers,
    /// [h, h], with talking heads
    head_logits_proj: Option<Linear>,
    /// [h, h], with talking heads
    head_weights_proj: Option<Linear>,
}

/// What the attention of every layer needs besides hidden states.
pub(crate) struct Surroundings<'f, F> {
    pub(crate) mask: Mask,
    /// Which rows of the hidden states there are.
    pub(crate) sequences: Sequences,
    pub(crate) masked_rows: MaskedRows,
    /// The relative position table, if there is one.
    pub(crate) relative: Option<Relative<'f, F>>,
    /// Whether to return the attention probabilities.
    pub(crate) attentions: bool,
}

impl DisentangledSelfAttention {
    pub(crate) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Self> {
        let talking = |name| config.talking_head.then(|| weights.linear_without_bias(name)).transpose();
        Ok(DisentangledSelfAttention {
            projections: Projections::new(config, weights)?,
            positions: PositionLayers::new(config, weights)?,
            head_logits_proj: talking("head_logits_proj")?,
            head_weights_proj: talking("head_weights_proj")?,
        })
    }

    /// Keys and values from `hidden` [b, n, H], queries from `queries` [b, n, H], or from `hidden` too. Returns the
    /// context [b, n, H] and, if asked for, the probabilities [b, h, n, n].
    pub(crate) fn forward<F: Real>(
        &self,
        hidden: &Array3<F>,
        queries: Option<&Array3<F>>,
        around: &Surroundings<'_, F>,
        probe: &mut Probe<'_, F>,
    ) -> Result<(Array3<F>, Option<Array4<F>>)> {
        let [q, k, v] = self.projections.forward(hidden, queries, probe)?; //           [h, T, d]
        let (heads, _, d) = k.dim();
        let (b, n) = (around.sequences.rows().len(), around.sequences.longest());
        let relative = around.relative.as_ref();
        let positions = relative.map(|table| self.positions.positions(table, probe)).transpose()?;
        let positions = relative.map(|table| &table.window).zip(positions);
        let [pos_key, pos_query] =
            positions.map(|(window, positions)| positions.packed(window)).unwrap_or_default(); // [h] of [d, 2s]
        let head = |b, h| OneHead {
            d,
            q: head_rows(&q, h, &around.sequences.rows()[b]),
            k: head_rows(&k, h, &around.sequences.rows()[b]),
            v: head_rows(&v, h, &around.sequences.rows()[b]),
            pos_key: pos_key.as_ref().map(|heads| &heads[h]),
            pos_query: pos_query.as_ref().map(|heads| &heads[h]),
            window: relative.map(|table| &table.window),
        };
        let softmax = |b, n, scores: &mut [F]| {
            let softmax = MaskedSoftmax { mask: &around.mask, sequence: b, masked_rows: around.masked_rows };
            each_row_here(scores, n, &softmax);
        };

        let inner = ["c2c", "c2p", "p2c", "scores", "probs"].iter().any(|name| probe.wants(name));
        let (context, probs) = if inner || around.attentions || self.head_logits_proj.is_some() {
            let all = (b, heads, n, n);
            let scores = self.scores(all, &head, probe)?;
            let probs = per_head(all, |b, h, out, _| {
                out.copy_from_slice(matrix(&scores, b, h));
                softmax(b, n, out);
            });
            let mut probs = probe.keep("probs", probs)?;
            if let Some(proj) = &self.head_weights_proj {
                probs = mix_heads(&probs, |x| probe.keep("head_weights_proj", proj.forward(x)))?;
            }
            let context = |b, h, out: &mut [F], _: &mut _| head(b, h).context(matrix(&probs, b, h), out);
            (per_sequence((heads, d), &around.sequences, context), Some(probs))
        } else {
            // The same, one head at a time: nothing of the size n² is kept              [n, n]
            let context = per_sequence((heads, d), &around.sequences, |b, h, out, scratch| {
                let (head, n) = (head(b, h), out.len() / d);
                let scores = scratch.scores.take(n * n);
                head.c2c(scores);
                head.add_c2p(scores, &mut scratch.products);
                head.add_p2c(scores, &mut scratch.products);
                softmax(b, n, scores);
                head.context(scores, out);
            });
            (context, None)
        };
        let (b, n, _) = hidden.dim();
        let context = probe.keep("", join_heads(&context, (b, n)))?; //                 [b, n, H]
        Ok((context, probs.filter(|_| around.attentions)))
    }

    /// scores = c2c + c2p + p2c, mixed if the heads talk: the definition, step by step for all heads [b, h, n, n].
    fn scores<'f, F: Real>(
        &self,
        all: (usize, usize, usize, usize),
        head: &(impl Fn(usize, usize) -> OneHead<'f, F> + Sync),
        probe: &mut Probe<'_, F>,
    ) -> Result<Array4<F>> {
        let c2c = per_head(all, |b, h, out, _| head(b, h).c2c(out));
        let mut scores = probe.keep("c2c", c2c)?;
        if head(0, 0).pos_key.is_some() {
            let c2p = per_head(all, |b, h, out, scratch| head(b, h).add_c2p(out, &mut scratch.products));
            scores += &probe.keep("c2p", c2p)?;
        }
        if head(0, 0).pos_query.is_some() {
            let p2c = per_head(all, |b, h, out, scratch| head(b, h).add_p2c(out, &mut scratch.products));
            scores += &probe.keep("p2c", p2c)?;
        }
        let scores = probe.keep("scores", scores)?;
        match &self.head_logits_proj {
            Some(proj) => mix_heads(&scores, |x| probe.keep("head_logits_proj", proj.forward(x))),
            None => Ok(scores),
        }
    }
}
