//! What the attention computes for one head of one sequence: the three terms of the scores, and the context. Source:
//! `DisentangledSelfAttention.forward` and `disentangled_att_bias`.

use std::ops::Range;

use crate::by_heads::Buffer;
use crate::distances::Window;
use crate::gemm::{Packed, product, product_columns, rows};
use crate::ops::{RowOperation, each_row_here};
use crate::real::Real;

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
    /// [2s, d]
    pub(crate) pos_query: Option<&'f [F]>,
    /// The 2s rows of relative positions, and δ; absent if there are none.
    pub(crate) window: Option<&'f Window>,
}

impl<F: Real> OneHead<'_, F> {
    /// kᵀ [d, n]
    pub(crate) fn keys(&self) -> Packed<F> {
        Packed::transposed(&rows(self.k, self.d))
    }

    /// scores[i, j] = qᵢ · kⱼ
    pub(crate) fn c2c(&self, keys: &Packed<F>, scores: &mut [F]) {
        product(&rows(self.q, self.d), keys, scores);
    }

    /// scores[i, j] += qᵢ · pos_key[δ(i, j)]
    pub(crate) fn add_c2p(&self, scores: &mut [F], buffer: &mut Buffer<F>) {
        let (Some(pos_key), Some(window)) = (self.pos_key, self.window) else { return };
        let q = rows(self.q, self.d);
        let (n, distances) = (q.len(), pos_key.columns());
        let products = buffer.take(n * distances); // qᵢ · pos_key[m]                    [n, 2s]
        for (block, q) in q.chunks(BLOCK).enumerate() {
            let (first, last) = (block * BLOCK, block * BLOCK + q.len() - 1);
            let used = window.row(first, n - 1)..window.row(last, 0) + 1;
            let products = &mut products[first * distances..][..q.len() * distances];
            product_columns(q, pos_key, used, products);
        }
        each_row_here(scores, n, &AddC2p { products, window });
    }

    /// scores[i, j] += kⱼ · pos_query[δ(i, j)]
    pub(crate) fn add_p2c(&self, keys: &Packed<F>, scores: &mut [F], buffer: &mut Buffer<F>) {
        let (Some(pos_query), Some(window)) = (self.pos_query, self.window) else { return };
        let pos_query = rows(pos_query, self.d);
        let (n, distances) = (keys.columns(), pos_query.len());
        let products = buffer.take(n * distances); // pos_query[m] · kⱼ                  [2s, n]
        for (block, pos_query) in pos_query.chunks(BLOCK).enumerate() {
            let first = block * BLOCK;
            let used = window.keys(first..first + pos_query.len());
            let used = used.start.min(n)..used.end.min(n);
            product_columns(pos_query, keys, used, &mut products[first * n..][..pos_query.len() * n]);
        }
        // Along a row i, j goes down the products diagonally; a few j at a time, so that they stay in the cache.
        const STEP: usize = 16;
        for start in (0..n).step_by(STEP) {
            let js = start..(start + STEP).min(n);
            for (i, scores) in scores.chunks_exact_mut(n).enumerate() {
                let rows = window.along(i, js.clone());
                for ((j, score), row) in js.clone().zip(&mut scores[js.clone()]).zip(rows) {
                    *score += products[row * n + j];
                }
            }
        }
    }

    /// context[i] = Σⱼ probs[i, j] vⱼ
    pub(crate) fn context(&self, probs: &[F], context: &mut [F]) {
        let v = rows(self.v, self.d);
        product(&rows(probs, v.len()), &Packed::new(&v), context);
    }
}

/// Rows of a product that are computed together. Of the products of a row with all the others, at most n are used.
const BLOCK: usize = 32;

/// scores[i, j] += products[i, δ(i, j)]
struct AddC2p<'p, F> {
    /// [n, 2s]
    products: &'p [F],
    window: &'p Window,
}

impl<F: Real> RowOperation<F> for AddC2p<'_, F> {
    #[inline(always)]
    fn apply(&self, i: usize, scores: &mut [F]) {
        let (distances, n) = (self.window.len(), scores.len());
        let products = &self.products[i * distances..][..distances];
        let add = |js: Range<usize>, scores: &mut [F]| {
            let rows = self.window.along(i, js);
            scores.iter_mut().zip(rows).for_each(|(score, row)| *score += products[row]);
        };
        // Near the query, δ goes down by one as j goes up by one.
        let near = self.window.near(i);
        let near = near.start..near.end.min(n);
        let last = &products[self.window.row(i, near.end - 1)..][..near.len()];
        add(0..near.start, &mut scores[..near.start]);
        scores[near.clone()]
            .iter_mut()
            .zip(last.iter().rev())
            .for_each(|(score, product)| *score += *product);
        add(near.end..n, &mut scores[near.end..]);
    }
}
