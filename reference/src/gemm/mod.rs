//! The one matrix product, C = A B, on which all the time is spent.
//!
//! A matrix is the list of its rows. The rows of A are read in place, one number at a time, and each number meets a
//! vector of B; so A may be a weight of any size, which is never copied, and is f32 whatever B is. B, the smaller
//! operand, is packed into panels (`packed.rs`). The accumulators of 8 rows of A times one panel (4 on machines with
//! 16 vector registers) stay in registers while the product runs along k.
//!
//! Sums run in blocks of 128 along k, as much of a panel as stays in the first-level cache: shorter chains of
//! additions, smaller rounding errors.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::real::{Real, Vectors};

mod packed;

use packed::{LONGEST_VECTOR, VECTORS};
pub(crate) use packed::{Packed, rows};

/// Additions in a chain.
const CHAIN: usize = 128;
/// Stripes of A, 8 or 4 rows each, that are multiplied together, at most.
const STRIPES: usize = 16;
/// Panels that are multiplied together, at most.
const MOST_PANELS: usize = 12;
/// Output features that one task of [`linear`] computes.
const FEATURES: usize = 128;

/// y = x Wᵀ + b: `x` [m, k], `weight` [n, k], `bias` [n] or nothing, `y` [m, n].
pub(crate) fn linear<F: Real>(x: &[F], weight: &[f32], bias: Option<&[f32]>, k: usize, y: &mut [F]) {
    let (m, n) = (x.len() / k, weight.len() / k);
    let x = Packed::transposed(&rows(x, k));
    // yᵀ = W xᵀ. A task owns a few features of every token.
    let mut tasks: Vec<Vec<&mut [F]>> = (0..n.div_ceil(FEATURES)).map(|_| Vec::with_capacity(m)).collect();
    for token in y.chunks_exact_mut(n) {
        tasks.iter_mut().zip(token.chunks_mut(FEATURES)).for_each(|(task, features)| task.push(features));
    }
    let weights = weight.par_chunks(FEATURES * k);
    tasks.par_iter_mut().zip(weights).enumerate().for_each(|(task, (tokens, weight))| {
        let bias = bias.map(|bias| &bias[task * FEATURES..]);
        let transposed = vec![[F::zero(); FEATURES]; VECTORS * LONGEST_VECTOR].into_boxed_slice();
        multiply(&rows(weight, k), &x, 0..m, Transposed { tokens, bias, transposed });
    });
}

/// C = A B on this thread: `a` has the rows of A [m, k], `out` gets C [m, n].
pub(crate) fn product<F: Real>(a: &[&[F]], b: &Packed<F>, out: &mut [F]) {
    product_columns(a, b, 0..b.columns(), out);
}

/// As [`product`] where only some `columns` of C are wanted; others may be left as they are.
pub(crate) fn product_columns<F: Real>(a: &[&[F]], b: &Packed<F>, columns: Range<usize>, out: &mut [F]) {
    multiply(a, b, columns, RowMajor { out, stride: b.columns() });
}

/// `R` rows of C, as wide as the widest panel.
type Tile<F, S, const R: usize> = [[<F as Vectors>::Vector<S>; VECTORS]; R];

/// Where a product goes.
trait Store<F: Real> {
    /// Stores the first `columns` columns of some tiles, one below the other, given their first row and column.
    fn store<S: Simd, const R: usize>(
        &mut self,
        row: usize,
        column: usize,
        columns: usize,
        tiles: &[Tile<F, S, R>],
    );
}

/// C [m, n].
struct RowMajor<'a, F> {
    out: &'a mut [F],
    stride: usize,
}

impl<F: Real> Store<F> for RowMajor<'_, F> {
    #[inline(always)]
    fn store<S: Simd, const R: usize>(
        &mut self,
        row: usize,
        column: usize,
        columns: usize,
        tiles: &[Tile<F, S, R>],
    ) {
        for (r, values) in tiles.as_flattened().iter().enumerate() {
            let start = (row + r) * self.stride + column;
            self.out[start..start + columns].copy_from_slice(&numbers::<F, S>(values)[..columns]);
        }
    }
}

/// Cᵀ + b: the rows of C are features, its columns are tokens.
struct Transposed<'a, 'y, F> {
    tokens: &'a mut [&'y mut [F]],
    bias: Option<&'a [f32]>,
    /// Room for a block of Cᵀ.
    transposed: Box<[[F; FEATURES]]>,
}

impl<F: Real> Store<F> for Transposed<'_, '_, F> {
    #[inline(always)]
    fn store<S: Simd, const R: usize>(
        &mut self,
        row: usize,
        column: usize,
        columns: usize,
        tiles: &[Tile<F, S, R>],
    ) {
        let transposed = &mut self.transposed;
        let features = tiles.len() * R;
        for (stripe, tile) in tiles.iter().enumerate() {
            let mut values = [&[][..]; R];
            for r in 0..R {
                values[r] = &numbers::<F, S>(&tile[r])[..columns];
            }
            for (column, token) in transposed[..columns].iter_mut().enumerate() {
                for (r, feature) in token[stripe * R..][..R].iter_mut().enumerate() {
                    *feature = values[r][column];
                }
            }
        }
        for (y, token) in self.tokens[column..column + columns].iter_mut().zip(transposed) {
            let (y, token) = (&mut y[row..row + features], &token[..features]);
            match self.bias {
                Some(bias) => {
                    y.iter_mut()
                        .zip(token)
                        .zip(&bias[row..])
                        .for_each(|((y, value), b)| *y = *value + F::exactly(*b));
                }
                None => y.copy_from_slice(token),
            }
        }
    }
}

/// The numbers in some vectors.
#[inline(always)]
fn numbers<F: Real, S: Simd>(vectors: &[F::Vector<S>]) -> &[F] {
    bytemuck::cast_slice(vectors)
}

/// Computes A B tile by tile and stores it.
fn multiply<A: Copy + Into<F>, F: Real>(
    a: &[&[A]],
    b: &Packed<F>,
    columns: Range<usize>,
    store: impl Store<F>,
) {
    Arch::new().dispatch(Multiply { a, b, columns, store });
}

/// A product to be computed with the vectors of this processor. The numbers of A are `F`, or f32 that become `F` as they
/// are used.
struct Multiply<'a, A, F: Real, T> {
    a: &'a [&'a [A]],
    b: &'a Packed<F>,
    /// The columns of B that are wanted.
    columns: Range<usize>,
    store: T,
}

impl<A: Copy + Into<F>, F: Real, T: Store<F>> WithSimd for Multiply<'_, A, F, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.groups::<S, 8>(simd) } else { self.groups::<S, 4>(simd) }
    }
}

impl<A: Copy + Into<F>, F: Real, T: Store<F>> Multiply<'_, A, F, T> {
    /// Some panels of B at a time; for those, all of A.
    #[inline(always)]
    fn groups<S: Simd, const R: usize>(mut self, simd: S) {
        let width = VECTORS * F::lanes::<S>();
        let panel = width * self.b.depth;
        let first = self.columns.start / width;
        let wanted = &self.b.panels()[first * panel..];
        let wanted = &wanted[..wanted.len().min((self.columns.end.div_ceil(width) - first) * panel)];
        let (stripes, rest) = self.a.as_chunks::<R>();
        let mut sums = Vec::new();
        for (index, panels) in wanted.chunks(MOST_PANELS * panel).enumerate() {
            let column = (first + index * MOST_PANELS) * width;
            // With a single panel all the time is that of reading A, which is fastest row after row.
            let block = if panels.len() > panel { STRIPES } else { 1 };
            for (index, stripes) in stripes.chunks(block).enumerate() {
                self.block::<S, R>(simd, stripes, index * block * R, column, panels, &mut sums);
            }
            let done = stripes.len() * R;
            for (index, row) in rest.iter().enumerate() {
                self.block::<S, 1>(simd, &[[row]], done + index, column, panels, &mut Vec::new());
            }
        }
    }

    /// Some stripes of `R` rows of A times some panels, a piece of k at a time: the piece of a panel stays in the
    /// first-level cache for all stripes.
    #[inline(always)]
    fn block<S: Simd, const R: usize>(
        &mut self,
        simd: S,
        stripes: &[[&[A]; R]],
        row: usize,
        column: usize,
        panels: &[F],
        sums: &mut Vec<Tile<F, S, R>>,
    ) {
        let (vector, width) = (F::lanes::<S>() * self.b.depth, VECTORS * F::lanes::<S>());
        sums.clear();
        sums.resize(
            stripes.len() * panels.len().div_ceil(VECTORS * vector),
            [[F::splat(simd, F::zero()); VECTORS]; R],
        );
        for start in (0..self.b.depth).step_by(CHAIN) {
            let k = start..(start + CHAIN).min(self.b.depth);
            for (panel, sums) in panels.chunks(VECTORS * vector).zip(sums.chunks_mut(stripes.len())) {
                for (rows, sums) in stripes.iter().zip(sums) {
                    match panel.len() / vector {
                        1 => multiply_tile::<A, F, S, R, 1>(simd, rows, panel, k.clone(), sums),
                        2 => multiply_tile::<A, F, S, R, 2>(simd, rows, panel, k.clone(), sums),
                        _ => multiply_tile::<A, F, S, R, 3>(simd, rows, panel, k.clone(), sums),
                    }
                }
            }
        }
        for ((index, panel), sums) in
            panels.chunks(VECTORS * vector).enumerate().zip(sums.chunks(stripes.len()))
        {
            let column = column + index * width;
            let columns = (panel.len() / self.b.depth).min(self.b.columns() - column);
            self.store.store::<S, R>(row, column, columns, sums);
        }
    }
}

/// `sums` += `R` rows of A times a panel of V vectors, both from `k` only.
#[inline(always)]
fn multiply_tile<A: Copy + Into<F>, F: Real, S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: &[&[A]; R],
    panel: &[F],
    k: Range<usize>,
    sums: &mut Tile<F, S, R>,
) {
    let panel = &F::vectors::<S>(panel).as_chunks::<V>().0[k.clone()];
    let mut pieces = *rows;
    for piece in &mut pieces {
        *piece = &piece[k.clone()];
    }
    let mut chains = [[F::splat(simd, F::zero()); V]; R];
    for (k, b) in panel.iter().enumerate() {
        for r in 0..R {
            let a = F::splat(simd, pieces[r][k].into());
            for v in 0..V {
                chains[r][v] = F::mul_add_vectors(simd, a, b[v], chains[r][v]);
            }
        }
    }
    for r in 0..R {
        for v in 0..V {
            sums[r][v] = F::add_vectors(simd, sums[r][v], chains[r][v]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in (-1, 1) that look random.
    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Σₖ a[i, k] b(k, j) in f64.
    fn exact(a: &[f32], k: usize, i: usize, b: impl Fn(usize) -> f32) -> f32 {
        (0..k).map(|p| f64::from(a[i * k + p]) * f64::from(b(p))).sum::<f64>() as f32
    }

    #[test]
    fn products_agree_with_f64_for_every_shape() {
        for (m, n, k) in
            [(1, 1, 1), (8, 48, 256), (9, 49, 257), (3, 17, 5), (13, 100, 64), (33, 31, 700), (7, 300, 3)]
        {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let mut out = vec![f32::NAN; m * n];
            product(&rows(&a, k), &Packed::new(&rows(&b, n)), &mut out);
            for (at, value) in out.iter().enumerate() {
                let expected = exact(&a, k, at / n, |p| b[p * n + at % n]);
                assert!(
                    (value - expected).abs() < 1e-6 * (k as f32).sqrt(),
                    "{m} {n} {k} at {at}: {value} {expected}"
                );
            }
        }
    }

    #[test]
    fn linear_layers_agree_with_f64_for_every_shape() {
        for (m, n, k) in [(1, 1, 1), (2, 3, 48), (17, 129, 90), (130, 260, 40), (50, 300, 3000)] {
            let (x, w, b) = (numbers(m * k, 3), numbers(n * k, 4), numbers(n, 5));
            let (mut y, mut without_bias) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
            linear(&x, &w, Some(&b), k, &mut y);
            linear(&x, &w, None, k, &mut without_bias);
            for (at, value) in y.iter().enumerate() {
                let expected = exact(&x, k, at / n, |p| w[at % n * k + p]) + b[at % n];
                assert!(
                    (value - expected).abs() < 1e-6 * (k as f32).sqrt(),
                    "{m} {n} {k} at {at}: {value} {expected}"
                );
            }
            assert_eq!(without_bias[m * n - 1] + b[n - 1], y[m * n - 1]);
        }
    }

    #[test]
    fn products_of_integers_are_exact_in_f64() {
        let integers = |count, seed| numbers(count, seed).into_iter().map(|x| (x * 3e4).round());
        for (m, n, k) in [(1, 1, 1), (9, 49, 257), (17, 129, 90), (50, 300, 700)] {
            let x: Vec<f64> = integers(m * k, 7).map(f64::from).collect();
            let w: Vec<f32> = integers(n * k, 8).collect();
            let (mut y, mut again) = (vec![f64::NAN; m * n], vec![f64::NAN; m * n]);
            linear(&x, &w, None, k, &mut y);
            let wide: Vec<f64> = w.iter().copied().map(f64::from).collect();
            product(&rows(&x, k), &Packed::transposed(&rows(&wide, k)), &mut again);
            for (at, value) in y.iter().enumerate() {
                let terms = (0..k).map(|p| x[at / n * k + p] as i64 * w[at % n * k + p] as i64);
                assert_eq!(*value, terms.sum::<i64>() as f64, "{m} {n} {k} at {at}");
            }
            assert_eq!(y, again);
        }
    }
}
