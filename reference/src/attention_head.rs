//! What the attention computes for one head of one sequence: the three terms of the scores, and the context. Source:
//! `DisentangledSelfAttention.forward` and `disentangled_att_bias`.

use std::ops::Range;

use crate::distances::Window;
use crate::gemm::{Packed, dispatch, product, product_columns, rows};
use crate::ops::each_row_here;
use crate::position_scores::{AddC2p, AddP2c};
use crate::real::Real;
use crate::spare::Buffer;

/// One head of one sequence.
pub(crate) struct OneHead<'f, F: Real> {
    pub(crate) d: usize,
    /// [n, d]
    pub(crate) q: &'f [F],
    /// [n, d]
    pub(crate) k: &'f [F],
    /// [n, d]
    pub(crate) v: &'f [F],
    /// pos_keyᵀ [d, 2s]
    pub(crate) pos_key: Option<&'f Packed<F>>,
    /// pos_queryᵀ [d, 2s]
    pub(crate) pos_query: Option<&'f Packed<F>>,
    /// The 2s rows of relative positions, and δ; absent if there are none.
    pub(crate) window: Option<&'f Window>,
}

impl<F: Real> OneHead<'_, F> {
    /// scores[i, j] = qᵢ · kⱼ
    pub(crate) fn c2c(&self, scores: &mut [F]) {
        let keys = Packed::transposed_here(&rows(self.k, self.d)); // kᵀ                  [d, n]
        product(&rows(self.q, self.d), &keys, scores);
    }

    /// scores[i, j] += qᵢ · pos_key[δ(i, j)]
    pub(crate) fn add_c2p(&self, scores: &mut [F], buffer: &mut Buffer<F>) {
        let (Some(pos_key), Some(window)) = (self.pos_key, self.window) else { return };
        let q = rows(self.q, self.d);
        let last = q.len() - 1;
        let met = |is: Range<usize>| window.row(is.start, last)..window.row(is.end - 1, 0) + 1;
        let products = with_positions(&q, pos_key, met, buffer);
        each_row_here(scores, q.len(), &AddC2p { products, window });
    }

    /// scores[i, j] += kⱼ · pos_query[δ(i, j)]
    pub(crate) fn add_p2c(&self, scores: &mut [F], buffer: &mut Buffer<F>) {
        let (Some(pos_query), Some(window)) = (self.pos_query, self.window) else { return };
        let k = rows(self.k, self.d);
        let last = k.len() - 1;
        let met = |js: Range<usize>| window.row(0, js.end - 1)..window.row(last, js.start) + 1;
        let products = with_positions(&k, pos_query, met, buffer);
        dispatch(AddP2c { n: k.len(), products, window, scores });
    }

    /// context[i] = Σⱼ probs[i, j] vⱼ
    pub(crate) fn context(&self, probs: &[F], context: &mut [F]) {
        let v = rows(self.v, self.d);
        product(&rows(probs, v.len()), &Packed::new(&v), context);
    }
}

/// Tokens that are multiplied together. Of the products of a token with all positions, at most n are used.
const BLOCK: usize = 32;

/// The products of `tokens` [n, d] and `positions` [d, 2s]: [n, 2s]. Of some tokens, only those with the positions are
/// computed that they have `met`; others may be anything.
fn with_positions<'b, F: Real>(
    tokens: &[&[F]],
    positions: &Packed<F>,
    met: impl Fn(Range<usize>) -> Range<usize>,
    buffer: &'b mut Buffer<F>,
) -> &'b [F] {
    let distances = positions.columns();
    let products = buffer.take(tokens.len() * distances);
    for (block, tokens) in tokens.chunks(BLOCK).enumerate() {
        let first = block * BLOCK;
        let products = &mut products[first * distances..][..tokens.len() * distances];
        product_columns(tokens, positions, met(first..first + tokens.len()), products);
    }
    products
}
