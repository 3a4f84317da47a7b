//! The one matrix product, C = A B, on which all the time is spent.
//!
//! A *tile* of C, 8 rows by 3 vectors (6 by 2 where there are few registers: `machine.rs`), stays in registers while the
//! product runs along k. The rows of A are read in place, one number at a time, and each number meets the vectors of a
//! row of B, which is packed into *panels* as wide as a tile (`packed.rs`):
//!
//! ```text
//! for 8 rows of A                                            [`Multiply::tiles`]
//!     for 3 vectors of columns of B: a panel
//!         for k: tile[r, v] += a[r, k] · b[k, v]             [`multiply_tile`]
//!         store the tile
//! ```
//!
//! A linear layer y = x Wᵀ + b is either of two products. With few tokens the weight is read once, which takes most of the
//! time: yᵀ = W xᵀ, where A is W, in place, and B is xᵀ, packed once; the tiles are transposed as they are stored. With
//! many tokens, A is x, in place, and B is Wᵀ: a task packs a few features of W, which is little work beside all tokens,
//! and stores its tiles as they are.
//!
//! Sums run in chains of 128 along k, in the same order in both: shorter chains of additions make smaller rounding errors,
//! and the numbers of a token do not depend on how many others there are.

use std::ops::Range;

use rayon::prelude::*;

use crate::real::{Real, Vectors};

mod machine;
mod packed;
mod turn;

use machine::MOST_VECTORS;
pub(crate) use machine::{Machine, WithMachine, dispatch};
use packed::LONGEST_VECTOR;
pub(crate) use packed::{Packed, rows};
pub(crate) use turn::{ROWS, numbers, numbers_mut, turn};

/// Additions in a chain.
const CHAIN: usize = 128;
/// Up to so many tokens the weight stays in place.
const FEW_TOKENS: usize = 256;
/// Most features of a task: those of a few panels, so that x is read once for all of them.
const FEATURES: usize = 192;
/// Numbers of each feature that a task packs at a time: as much as stays in the second-level cache.
const DEPTH: usize = 768;
/// How many numbers of a row of A ahead of the product are asked for: as far as memory is away.
const AHEAD: usize = 96;

/// y = x Wᵀ + b: `x` [m, k], `weight` [n, k], `bias` [n] or nothing, `y` [m, n].
pub(crate) fn linear<F: Real>(x: &[F], weight: &[f32], bias: Option<&[f32]>, k: usize, y: &mut [F]) {
    let (m, n) = (x.len() / k, weight.len() / k);
    let x = rows(x, k);
    let packed = (m <= FEW_TOKENS).then(|| Packed::transposed(&x));
    // A task owns a few features of every token; there are two tasks a thread, or more.
    let panel = MOST_VECTORS * LONGEST_VECTOR;
    let features = n.div_ceil(2 * rayon::current_num_threads()).next_multiple_of(panel).min(FEATURES);
    let mut tasks: Vec<Vec<&mut [F]>> = (0..n.div_ceil(features)).map(|_| Vec::with_capacity(m)).collect();
    for token in y.chunks_exact_mut(n) {
        tasks.iter_mut().zip(token.chunks_mut(features)).for_each(|(task, features)| task.push(features));
    }
    let weights = weight.par_chunks(features * k);
    tasks.par_iter_mut().zip(weights).enumerate().for_each(|(task, (tokens, weight))| {
        let weight = rows(weight, k);
        let bias = bias.map(|bias| &bias[task * features..]);
        match &packed {
            Some(x) => {
                let store = Transposed { tokens, bias };
                dispatch(Multiply { a: &weight, k: 0..k, b: x, columns: 0..m, in_order: true, store });
            }
            None => many_tokens(&x, &weight, bias, tokens),
        }
    });
}

/// Some features of many tokens, on this thread: `x` has the rows of x [m, k], `weight` those of W [n, k], `y` those of
/// y [m, n].
fn many_tokens<F: Real>(x: &[&[F]], weight: &[&[f32]], bias: Option<&[f32]>, y: &mut [&mut [F]]) {
    let depth = weight.first().map_or(0, |row| row.len());
    for start in (0..depth).step_by(DEPTH) {
        let k = start..(start + DEPTH).min(depth);
        let weight: Vec<&[f32]> = weight.iter().map(|row| &row[k.clone()]).collect();
        let packed = Packed::transposed_here(&weight);
        let store = RowMajor { rows: y, begun: start > 0, bias: bias.filter(|_| k.end == depth) };
        dispatch(Multiply { a: x, k, b: &packed, columns: 0..weight.len(), in_order: false, store });
    }
}

/// C = A B on this thread: `a` has the rows of A [m, k], `out` gets C [m, n].
pub(crate) fn product<F: Real>(a: &[&[F]], b: &Packed<F>, out: &mut [F]) {
    product_columns(a, b, 0..b.columns(), out);
}

/// As [`product`] where only some `columns` of C are wanted; others may be left as they are.
pub(crate) fn product_columns<F: Real>(a: &[&[F]], b: &Packed<F>, columns: Range<usize>, out: &mut [F]) {
    let mut rows: Vec<&mut [F]> = out.chunks_exact_mut(b.columns()).collect();
    let store = RowMajor { rows: &mut rows, begun: false, bias: None };
    dispatch(Multiply { a, k: 0..b.depth, b, columns, in_order: false, store });
}

/// `R` rows of C, as wide as the widest panel.
type Tile<F, M, const R: usize> = [[<F as Vectors>::Vector<M>; MOST_VECTORS]; R];

/// Where a product goes.
trait Store<F: Real> {
    /// What the sums of a tile start from, which are 0 when it comes.
    fn load<M: Machine, const R: usize>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        tile: &mut Tile<F, M, R>,
    );

    /// Takes the sums of a tile, of which these `rows` and `columns` of C are there.
    fn store<M: Machine, const R: usize>(
        &mut self,
        machine: M,
        rows: Range<usize>,
        columns: Range<usize>,
        tile: &Tile<F, M, R>,
    );
}

/// C + b [m, n].
struct RowMajor<'a, 'y, F> {
    rows: &'a mut [&'y mut [F]],
    /// Whether the product of another piece of k stands there, to which this one is added.
    begun: bool,
    bias: Option<&'a [f32]>,
}

impl<F: Real> Store<F> for RowMajor<'_, '_, F> {
    #[inline(always)]
    fn load<M: Machine, const R: usize>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        tile: &mut Tile<F, M, R>,
    ) {
        if self.begun {
            for (row, tile) in self.rows[rows].iter().zip(tile) {
                numbers_mut::<F, M>(tile)[..columns.len()].copy_from_slice(&row[columns.clone()]);
            }
        }
    }

    #[inline(always)]
    fn store<M: Machine, const R: usize>(
        &mut self,
        _: M,
        rows: Range<usize>,
        columns: Range<usize>,
        tile: &Tile<F, M, R>,
    ) {
        let bias = self.bias.map(|bias| &bias[columns.clone()]);
        for (row, tile) in self.rows[rows].iter_mut().zip(tile) {
            let (y, values) = (&mut row[columns.clone()], numbers::<F, M>(tile));
            let width = M::VECTORS * F::lanes::<M>();
            // The width of most tiles is known to the compiler.
            if y.len() == width {
                write(&mut y[..width], &values[..width], bias)
            } else {
                write(y, values, bias)
            }
        }
    }
}

/// y = `values` + `bias`
#[inline(always)]
fn write<F: Real>(y: &mut [F], values: &[F], bias: Option<&[f32]>) {
    let pairs = y.iter_mut().zip(values);
    match bias {
        Some(bias) => pairs.zip(bias).for_each(|((y, value), b)| *y = *value + F::exactly(*b)),
        None => pairs.for_each(|(y, value)| *y = *value),
    }
}

/// Cᵀ + b: the rows of C are features, its columns are tokens.
struct Transposed<'a, 'y, F> {
    tokens: &'a mut [&'y mut [F]],
    bias: Option<&'a [f32]>,
}

impl<F: Real> Store<F> for Transposed<'_, '_, F> {
    #[inline(always)]
    fn load<M: Machine, const R: usize>(&self, _: Range<usize>, _: Range<usize>, _: &mut Tile<F, M, R>) {}

    #[inline(always)]
    fn store<M: Machine, const R: usize>(
        &mut self,
        machine: M,
        rows: Range<usize>,
        columns: Range<usize>,
        tile: &Tile<F, M, R>,
    ) {
        let zero = F::splat(machine, F::zero());
        let mut bias = [zero; R];
        for (bias, b) in bias.iter_mut().zip(self.bias.iter().flat_map(|bias| &bias[rows.clone()])) {
            *bias = F::splat(machine, F::exactly(*b));
        }
        for (v, tokens) in self.tokens[columns].chunks_mut(F::lanes::<M>()).enumerate() {
            let mut features = [zero; ROWS];
            for r in 0..R {
                features[r] = match self.bias {
                    Some(_) => F::add_vectors(machine, tile[r][v], bias[r]),
                    None => tile[r][v],
                };
            }
            let turned = turn::<F, M>(machine, features);
            for (token, features) in tokens.iter_mut().zip(numbers::<F, M>(&turned).as_chunks::<ROWS>().0) {
                match token[rows.start..].first_chunk_mut::<R>() {
                    Some(token) if rows.len() == R => token.copy_from_slice(&features[..R]),
                    _ => token[rows.clone()].copy_from_slice(&features[..rows.len()]),
                }
            }
        }
    }
}

/// A product to be computed with the vectors of this processor. The numbers of A are `F`, or f32 that become `F` as they
/// are used.
struct Multiply<'a, A, F: Real, T> {
    a: &'a [&'a [A]],
    /// The piece of the rows of A that meets B.
    k: Range<usize>,
    b: &'a Packed<F>,
    /// The columns of B that are wanted.
    columns: Range<usize>,
    /// Whether the rows of A lie one behind the other in memory, and are read for the first time.
    in_order: bool,
    store: T,
}

impl<A: Copy + Into<F>, F: Real, T: Store<F>> WithMachine for Multiply<'_, A, F, T> {
    type Output = ();

    #[inline(always)]
    fn with_machine<M: Machine>(self, machine: M) {
        if M::REGISTER_COUNT >= 32 { self.tiles::<M, 8>(machine) } else { self.tiles::<M, 6>(machine) }
    }
}

impl<A: Copy + Into<F>, F: Real, T: Store<F>> Multiply<'_, A, F, T> {
    #[inline(always)]
    fn tiles<M: Machine, const R: usize>(mut self, machine: M) {
        let (width, last) = (M::VECTORS * F::lanes::<M>(), self.a.len().saturating_sub(1));
        let panels = self.columns.start / width..self.columns.end.div_ceil(width);
        for row in (0..self.a.len()).step_by(R) {
            let rows = row..(row + R).min(self.a.len());
            // Where fewer than R rows are left, the last one is multiplied again and again, and stored once.
            let mut stripe = [&[][..]; R];
            for (r, stripe) in stripe.iter_mut().enumerate() {
                *stripe = &self.a[(row + r).min(last)][self.k.clone()];
            }
            for index in panels.clone() {
                let columns = index * width..((index + 1) * width).min(self.b.columns());
                let panel = self.b.panel(index);
                let ahead = self.in_order && index == panels.start;
                let mut sums = [[F::splat(machine, F::zero()); MOST_VECTORS]; R];
                self.store.load::<M, R>(rows.clone(), columns.clone(), &mut sums);
                match (columns.len().div_ceil(F::lanes::<M>()), ahead) {
                    (1, false) => multiply_tile::<A, F, M, R, 1, false>(machine, &stripe, panel, &mut sums),
                    (2, false) => multiply_tile::<A, F, M, R, 2, false>(machine, &stripe, panel, &mut sums),
                    (_, false) => multiply_tile::<A, F, M, R, 3, false>(machine, &stripe, panel, &mut sums),
                    (1, true) => multiply_tile::<A, F, M, R, 1, true>(machine, &stripe, panel, &mut sums),
                    (2, true) => multiply_tile::<A, F, M, R, 2, true>(machine, &stripe, panel, &mut sums),
                    (_, true) => multiply_tile::<A, F, M, R, 3, true>(machine, &stripe, panel, &mut sums),
                }
                self.store.store::<M, R>(machine, rows.clone(), columns, &sums);
            }
        }
    }
}

/// `sums` += `R` rows of A times a panel of V vectors. If the rows are read `IN_ORDER`, what comes next is asked for.
#[inline(always)]
fn multiply_tile<A, F, M, const R: usize, const V: usize, const IN_ORDER: bool>(
    machine: M,
    rows: &[&[A]; R],
    panel: &[F],
    sums: &mut Tile<F, M, R>,
) where
    A: Copy + Into<F>,
    F: Real,
    M: Machine,
{
    let panel = F::vectors::<M>(panel).as_chunks::<V>().0;
    for (chain, panel) in panel.chunks(CHAIN).enumerate() {
        let start = chain * CHAIN;
        let mut pieces = *rows;
        for piece in &mut pieces {
            *piece = &piece[start..start + panel.len()];
        }
        let mut products = [[F::splat(machine, F::zero()); V]; R];
        for (k, b) in panel.iter().enumerate() {
            if IN_ORDER && k % 16 == 0 {
                rows.iter().for_each(|row| read_ahead::<A, M, R>(machine, row, start + k));
            }
            for r in 0..R {
                let a = F::splat(machine, pieces[r][k].into());
                for v in 0..V {
                    products[r][v] = F::mul_add_vectors(machine, a, b[v], products[r][v]);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                sums[r][v] = F::add_vectors(machine, sums[r][v], products[r][v]);
            }
        }
    }
}

/// Asks for the numbers of a row [`AHEAD`] of k; beyond its end, for those of the row R below it, which comes next.
#[inline(always)]
fn read_ahead<A, M: Machine, const R: usize>(machine: M, row: &[A], k: usize) {
    let at = k + AHEAD;
    let below = if at < row.len() { 0 } else { (R - 1) * row.len() };
    machine.read_ahead(row.as_ptr().wrapping_add(at + below));
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
        for (m, n, k) in
            [(1, 1, 1), (2, 3, 48), (17, 129, 90), (130, 260, 40), (50, 300, 3000), (200, 70, 1601)]
        {
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
    fn the_numbers_of_a_token_do_not_depend_on_the_others() {
        let (m, n, k) = (FEW_TOKENS + 13, 100, 1700);
        let (x, w, b) = (numbers(m * k, 3), numbers(n * k, 4), numbers(n, 5));
        let mut all = vec![f32::NAN; m * n];
        linear(&x, &w, Some(&b), k, &mut all);
        for few in [1, 2, 8, 49, FEW_TOKENS] {
            let mut y = vec![f32::NAN; few * n];
            linear(&x[..few * k], &w, Some(&b), k, &mut y);
            assert_eq!(y, all[..few * n], "{few}");
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
