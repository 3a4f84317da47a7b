//! Arrays with an axis of attention heads: made of features and back, and computed one head at a time, on all threads.

use std::ops::Range;

use ndarray::{Array3, Array4, Dim};
use rayon::prelude::*;

use crate::error::Result;
use crate::ops::{row_major, row_major_mut, zeros};
use crate::real::Real;
use crate::sequences::Sequences;
use crate::spare::{Buffer, Use};

/// An array [b, h, n, m] whose matrices [n, m], one a sequence and head, `fill(b, h, matrix, scratch)` computes.
/// The scratch space may hold anything.
pub(crate) fn per_head<F: Real>(
    shape: (usize, usize, usize, usize),
    fill: impl Fn(usize, usize, &mut [F], &mut Scratch<F>) + Sync,
) -> Array4<F> {
    let (_, h, n, m) = shape;
    let mut array = zeros(Dim(shape));
    let matrices = row_major_mut(&mut array).par_chunks_exact_mut(n * m).enumerate();
    matrices.for_each_init(Scratch::default, |scratch, (index, matrix)| {
        fill(index / h, index % h, matrix, scratch);
    });
    array
}

/// An array [h, T, m] whose rows of one sequence and head, at most [n, m], `fill(b, h, rows, scratch)` computes. The scratch
/// space may hold anything.
pub(crate) fn per_sequence<F: Real>(
    (h, m): (usize, usize),
    sequences: &Sequences,
    fill: impl Fn(usize, usize, &mut [F], &mut Scratch<F>) + Sync,
) -> Array3<F> {
    let mut array = zeros(Dim((h, sequences.count(), m)));
    let mut rest = row_major_mut(&mut array);
    let mut tasks = Vec::new();
    for h in 0..h {
        for (b, rows) in sequences.rows().iter().enumerate() {
            let (rows, after) = rest.split_at_mut(rows.len() * m);
            tasks.push((b, h, rows));
            rest = after;
        }
    }
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, (b, h, rows)| fill(b, h, rows, scratch));
    array
}

/// Memory for the intermediate results of a thread, used again for every head.
pub(crate) struct Scratch<F: Real> {
    pub(crate) scores: Buffer<F>,
    pub(crate) products: Buffer<F>,
}

impl<F: Real> Default for Scratch<F> {
    fn default() -> Self {
        Scratch { scores: Buffer::new(Use::Scores), products: Buffer::new(Use::Products) }
    }
}

/// The matrix [n, m] of one sequence and head in an array [b, h, n, m].
pub(crate) fn matrix<F: Real>(array: &Array4<F>, b: usize, h: usize) -> &[F] {
    let (_, heads, n, m) = array.dim();
    let all = array.as_slice().unwrap_or_default();
    &all[(b * heads + h) * n * m..][..n * m]
}

/// Some rows of a head in an array [h, T, d].
pub(crate) fn head_rows<'x, F: Real>(array: &'x Array3<F>, head: usize, rows: &Range<usize>) -> &'x [F] {
    let (_, count, d) = array.dim();
    let all = array.as_slice().unwrap_or_default();
    &all[(head * count + rows.start) * d..][..rows.len() * d]
}

/// Part `part` of the `parts` parts of each head: features [b, n, h parts d] to heads [h, T, d] with T = b n, (x + b) / scale.
/// The bias [h d], if there is one, is that of the part.
pub(crate) fn split_heads<F: Real>(
    x: &Array3<F>,
    (h, part, parts): (usize, usize, usize),
    bias: Option<&[f32]>,
    scale: F,
) -> Array3<F> {
    let (b, n, width) = x.dim();
    let d = width / (h * parts);
    let x = row_major(x);
    let mut heads = zeros(Dim((h, b * n, d)));
    // The features of a token are those of head 0, part 0; head 0, part 1; …; head 1, part 0; …
    let copy = |h: usize, tokens: &[F], out: &mut [F]| {
        for (out, token) in out.chunks_exact_mut(d).zip(tokens.chunks_exact(width)) {
            let token = &token[(parts * h + part) * d..][..d]; // [d]
            match bias {
                Some(bias) => {
                    let features = token.iter().zip(&bias[h * d..]);
                    out.iter_mut()
                        .zip(features)
                        .for_each(|(out, (x, b))| *out = (*x + F::exactly(*b)) / scale);
                }
                None => out.iter_mut().zip(token).for_each(|(out, x)| *out = *x / scale),
            }
        }
    };
    row_major_mut(&mut heads).par_chunks_exact_mut(b * n * d).enumerate().for_each(|(h, head)| {
        let blocks = head.par_chunks_mut(TOKENS * d).zip(x.par_chunks(TOKENS * width));
        blocks.for_each(|(out, tokens)| copy(h, tokens, out));
    });
    heads
}

/// Tokens that a thread rearranges at a time.
const TOKENS: usize = 64;

/// Heads [h, T, d] to features [b, n, h d], T = b n.
pub(crate) fn join_heads<F: Real>(heads: &Array3<F>, (b, n): (usize, usize)) -> Array3<F> {
    let (h, count, d) = heads.dim();
    let mut joined = zeros(Dim((b, n, h * d)));
    let heads = row_major(heads);
    row_major_mut(&mut joined).par_chunks_exact_mut(h * d).enumerate().for_each(|(token, features)| {
        let heads = heads.chunks_exact(count * d); // h of [T, d]
        for (features, head) in features.chunks_exact_mut(d).zip(heads) {
            features.copy_from_slice(&head[token * d..][..d]);
        }
    });
    joined
}

/// Passes an array [b, h, n, m] to `mix` as [b, n, m, h], and brings the result back.
pub(crate) fn mix_heads<F: Real>(
    x: &Array4<F>,
    mix: impl FnOnce(&Array4<F>) -> Result<Array4<F>>,
) -> Result<Array4<F>> {
    let last = x.view().permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned(); // [b, n, m, h]
    Ok(mix(&last)?.permuted_axes([0, 3, 1, 2]).as_standard_layout().into_owned()) // [b, h, n, m]
}
