//! Products of tokens and positions [n, 2s], added to the scores [n, n] of the pairs of tokens that they belong to: which product
//! a pair takes, δ says. In the source it is a `gather`, before which the products of the keys are transposed
//! (`disentangled_att_bias`).

use std::ops::Range;

use crate::distances::Window;
use crate::gemm::{Machine, ROWS, WithMachine, numbers, numbers_mut, turn};
use crate::ops::RowOperation;
use crate::real::Real;

/// scores[i, j] += products[i, δ(i, j)]
pub(crate) struct AddC2p<'p, F> {
    /// [n, 2s]
    pub(crate) products: &'p [F],
    pub(crate) window: &'p Window,
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

/// scores[i, j] += products[j, δ(i, j)]
pub(crate) struct AddP2c<'p, F> {
    /// At most as many as the window is for.
    pub(crate) n: usize,
    /// [n, 2s]
    pub(crate) products: &'p [F],
    pub(crate) window: &'p Window,
    /// [n, n]
    pub(crate) scores: &'p mut [F],
}

impl<F: Real> WithMachine for AddP2c<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_machine<M: Machine>(self, machine: M) {
        let AddP2c { n, products, window, scores } = self;
        let (distances, lanes) = (window.len(), F::lanes::<M>());
        for (block, scores) in scores.chunks_mut(lanes * n).enumerate() {
            let is = block * lanes..block * lanes + scores.len() / n;
            for start in (0..n).step_by(ROWS) {
                let js = start..(start + ROWS).min(n);
                let near = window.near(is.start).end >= js.end && window.near(is.end - 1).start <= js.start;
                if near && is.len() == lanes && js.len() == ROWS {
                    // Near the key, δ goes up by one as i goes up by one: the columns of the scores are pieces of rows.
                    let mut square = [F::splat(machine, F::zero()); ROWS];
                    for (column, j) in square.iter_mut().zip(js.clone()) {
                        let piece = &products[j * distances + window.row(is.start, j)..][..lanes];
                        numbers_mut::<F, M>(std::slice::from_mut(column)).copy_from_slice(piece);
                    }
                    let turned = turn::<F, M>(machine, square);
                    let pieces = numbers::<F, M>(&turned).as_chunks::<ROWS>().0;
                    for (scores, piece) in scores.chunks_exact_mut(n).zip(pieces) {
                        scores[js.clone()]
                            .iter_mut()
                            .zip(piece)
                            .for_each(|(score, product)| *score += *product);
                    }
                } else {
                    for (i, scores) in is.clone().zip(scores.chunks_exact_mut(n)) {
                        for j in js.clone() {
                            scores[j] += products[j * distances + window.row(i, j)];
                        }
                    }
                }
            }
        }
    }
}
