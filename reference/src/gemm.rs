//! The one matrix product, C = A B, on which all the time is spent.
//!
//! A matrix is the list of its rows. The rows of A are read in place, one number at a time, and each number
//! meets a vector of B; so A may be a weight of any size, which is never copied. B, the smaller operand, is
//! packed into panels: 1 to 3 vectors wide, all of a panel's rows one after the other. The accumulators of 8 rows
//! of A times one panel (4 on machines with 16 vector registers) stay in registers while the product runs along k.
//!
//! Sums run in blocks of 128 along k, as much of a panel as stays in the first-level cache: shorter chains of
//! additions, smaller rounding errors.

use std::cell::Cell;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// A matrix [k, n] packed for the right side of [`product`].
pub(crate) struct Packed {
    /// Panel after panel; in a panel, row after row; padded to whole vectors. In front of them, as many
    /// numbers as put the panels at the start of a cache line.
    storage: Vec<f32>,
    /// Where the panels start.
    start: usize,
    /// k
    depth: usize,
    /// n
    columns: usize,
    /// Numbers in a vector.
    lanes: usize,
}

impl Packed {
    /// Packs B = Xᵀ, where `rows` are the rows of X [n, k].
    pub(crate) fn transposed(rows: &[&[f32]]) -> Packed {
        let mut packed = Packed::with_room(rows.first().map_or(0, |row| row.len()), rows.len());
        let (depth, widest) = (packed.depth, VECTORS * packed.lanes);
        packed.each_panel(|first, width, panel| {
            let rows = &rows[first..(first + widest).min(rows.len())];
            for start in (0..depth).step_by(PACK_BLOCK) {
                let k = start..depth.min(start + PACK_BLOCK);
                let panel = &mut panel[start * width..k.end * width];
                for (columns, rows) in rows.chunks(PACK_BLOCK).enumerate() {
                    let mut block = [[0.0; PACK_BLOCK]; PACK_BLOCK];
                    for (column, row) in rows.iter().enumerate() {
                        block.iter_mut().zip(&row[k.clone()]).for_each(|(to, from)| to[column] = *from);
                    }
                    let first = columns * PACK_BLOCK;
                    for (panel, block) in panel.chunks_exact_mut(width).zip(&block) {
                        match panel[first..].first_chunk_mut() {
                            Some(panel) => *panel = *block,
                            None => panel[first..].copy_from_slice(&block[..width - first]),
                        }
                    }
                }
            }
        });
        packed
    }

    /// Packs B, where `rows` are its rows [k, n].
    pub(crate) fn new(rows: &[&[f32]]) -> Packed {
        let mut packed = Packed::with_room(rows.len(), rows.first().map_or(0, |row| row.len()));
        let columns = packed.columns;
        packed.each_panel(|first, width, panel| {
            for (row, panel) in rows.iter().zip(panel.chunks_exact_mut(width)) {
                let row = &row[first..(first + width).min(columns)];
                panel[..row.len()].copy_from_slice(row);
            }
        });
        packed
    }

    /// n
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    fn with_room(depth: usize, columns: usize) -> Packed {
        let lanes = Arch::new().dispatch(Lanes);
        // What is left there from before only gets into columns that are not stored.
        let mut storage = SPARE.take();
        let room = depth * columns.next_multiple_of(lanes) + LONGEST_VECTOR;
        storage.resize(room.max(storage.len()), 0.0);
        let start = storage.as_ptr().align_offset(CACHE_LINE).min(LONGEST_VECTOR);
        Packed { storage, start, depth, columns, lanes }
    }

    fn panels(&self) -> &[f32] {
        &self.storage[self.start..][..self.depth * self.columns.next_multiple_of(self.lanes)]
    }

    /// Calls `fill` with the first column, the width and the numbers of every panel.
    fn each_panel(&mut self, fill: impl Fn(usize, usize, &mut [f32]) + Sync) {
        let (depth, widest) = (self.depth, VECTORS * self.lanes);
        if depth == 0 {
            return;
        }
        let fill =
            |(panel, numbers): (usize, &mut [f32])| fill(panel * widest, numbers.len() / depth, numbers);
        let panels = &mut self.storage[self.start..][..depth * self.columns.next_multiple_of(self.lanes)];
        if panels.len() < SMALL {
            panels.chunks_mut(widest * depth).enumerate().for_each(fill);
        } else {
            panels.par_chunks_mut(widest * depth).enumerate().for_each(fill);
        }
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        let (storage, spare) = (std::mem::take(&mut self.storage), SPARE.take());
        SPARE.set(if storage.len() > spare.len() { storage } else { spare });
    }
}

thread_local! {
    /// The memory of the largest packed matrix of this thread: fresh memory costs as much as packing.
    static SPARE: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Vectors in a panel.
const VECTORS: usize = 3;
/// Numbers in the longest vector that any processor has.
const LONGEST_VECTOR: usize = 16;
/// Bytes in a cache line.
const CACHE_LINE: usize = 64;
/// A square of this side is transposed at a time.
const PACK_BLOCK: usize = 16;
/// Fewer numbers than this are not worth a second thread.
const SMALL: usize = 1 << 17;
/// Additions in a chain.
const CHAIN: usize = 128;
/// Stripes of A that are multiplied together, at most.
const STRIPES: usize = 16;
/// Panels that are multiplied together, at most.
const MOST_PANELS: usize = 12;
/// Output features that one task of [`linear`] computes.
const FEATURES: usize = 128;

/// y = x Wᵀ + b: `x` [m, k], `weight` [n, k], `bias` [n] or nothing, `y` [m, n].
pub(crate) fn linear(x: &[f32], weight: &[f32], bias: Option<&[f32]>, k: usize, y: &mut [f32]) {
    let (m, n) = (x.len() / k, weight.len() / k);
    let x = Packed::transposed(&rows(x, k));
    // yᵀ = W xᵀ. A task owns a few features of every token.
    let mut tasks: Vec<Vec<&mut [f32]>> = (0..n.div_ceil(FEATURES)).map(|_| Vec::with_capacity(m)).collect();
    for token in y.chunks_exact_mut(n) {
        tasks.iter_mut().zip(token.chunks_mut(FEATURES)).for_each(|(task, features)| task.push(features));
    }
    let weights = weight.par_chunks(FEATURES * k);
    tasks.par_iter_mut().zip(weights).enumerate().for_each(|(task, (tokens, weight))| {
        let bias = bias.map(|bias| &bias[task * FEATURES..]);
        let transposed = vec![[0.0; FEATURES]; VECTORS * LONGEST_VECTOR].into_boxed_slice();
        multiply(&rows(weight, k), &x, 0..m, Transposed { tokens, bias, transposed });
    });
}

/// C = A B on this thread: `a` has the rows of A [m, k], `out` gets C [m, n].
pub(crate) fn product(a: &[&[f32]], b: &Packed, out: &mut [f32]) {
    product_columns(a, b, 0..b.columns, out);
}

/// The same where only some columns of C are wanted; others may be left as they are.
pub(crate) fn product_columns(a: &[&[f32]], b: &Packed, columns: Range<usize>, out: &mut [f32]) {
    multiply(a, b, columns, RowMajor { out, stride: b.columns });
}

/// The rows of a matrix with `columns` columns.
pub(crate) fn rows(matrix: &[f32], columns: usize) -> Vec<&[f32]> {
    matrix.chunks_exact(columns).collect()
}

/// `R` rows of C, as wide as the widest panel.
type Tile<S, const R: usize> = [[<S as Simd>::f32s; VECTORS]; R];

/// Where a product goes.
trait Store {
    /// Stores the first `columns` columns of some tiles, one below the other, given their first row and column.
    fn store<S: Simd, const R: usize>(
        &mut self,
        row: usize,
        column: usize,
        columns: usize,
        tiles: &[Tile<S, R>],
    );
}

/// C [m, n].
struct RowMajor<'a> {
    out: &'a mut [f32],
    stride: usize,
}

impl Store for RowMajor<'_> {
    #[inline(always)]
    fn store<S: Simd, const R: usize>(
        &mut self,
        row: usize,
        column: usize,
        columns: usize,
        tiles: &[Tile<S, R>],
    ) {
        for (r, values) in tiles.as_flattened().iter().enumerate() {
            let start = (row + r) * self.stride + column;
            self.out[start..start + columns].copy_from_slice(&numbers::<S>(values)[..columns]);
        }
    }
}

/// Cᵀ + b: the rows of C are features, its columns are tokens.
struct Transposed<'a, 'y> {
    tokens: &'a mut [&'y mut [f32]],
    bias: Option<&'a [f32]>,
    /// Room for a block of Cᵀ.
    transposed: Box<[[f32; FEATURES]]>,
}

impl Store for Transposed<'_, '_> {
    #[inline(always)]
    fn store<S: Simd, const R: usize>(
        &mut self,
        row: usize,
        column: usize,
        columns: usize,
        tiles: &[Tile<S, R>],
    ) {
        let transposed = &mut self.transposed;
        let features = tiles.len() * R;
        for (stripe, tile) in tiles.iter().enumerate() {
            let mut values = [&[0.0; 0][..]; R];
            for r in 0..R {
                values[r] = &numbers::<S>(&tile[r])[..columns];
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
                    y.iter_mut().zip(token).zip(&bias[row..]).for_each(|((y, value), b)| *y = value + b);
                }
                None => y.copy_from_slice(token),
            }
        }
    }
}

/// The numbers in some vectors.
#[inline(always)]
fn numbers<S: Simd>(vectors: &[S::f32s]) -> &[f32] {
    bytemuck::cast_slice(vectors)
}

/// Computes A B tile by tile and stores it.
fn multiply(a: &[&[f32]], b: &Packed, columns: Range<usize>, store: impl Store) {
    Arch::new().dispatch(Multiply { a, b, columns, store });
}

struct Multiply<'a, T> {
    a: &'a [&'a [f32]],
    b: &'a Packed,
    /// The columns of B that are wanted.
    columns: Range<usize>,
    store: T,
}

impl<T: Store> WithSimd for Multiply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.groups::<S, 8>(simd) } else { self.groups::<S, 4>(simd) }
    }
}

impl<T: Store> Multiply<'_, T> {
    /// Some panels of B at a time; for those, all of A.
    #[inline(always)]
    fn groups<S: Simd, const R: usize>(mut self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        let panel = width * self.b.depth;
        let first = self.columns.start / width;
        let wanted = &self.b.panels()[first * panel..];
        let wanted = &wanted[..wanted.len().min((self.columns.end.div_ceil(width) - first) * panel)];
        let (stripes, rest) = self.a.as_chunks::<R>();
        let mut sums = Vec::new();
        for (index, panels) in wanted.chunks(MOST_PANELS * panel).enumerate() {
            let column = (first + index * MOST_PANELS) * width;
            // A single panel waits for A, which is then best read from one end to the other.
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
        stripes: &[[&[f32]; R]],
        row: usize,
        column: usize,
        panels: &[f32],
        sums: &mut Vec<Tile<S, R>>,
    ) {
        let (vector, width) = (S::F32_LANES * self.b.depth, VECTORS * S::F32_LANES);
        sums.clear();
        sums.resize(
            stripes.len() * panels.len().div_ceil(VECTORS * vector),
            [[simd.splat_f32s(0.0); VECTORS]; R],
        );
        for start in (0..self.b.depth).step_by(CHAIN) {
            let k = start..(start + CHAIN).min(self.b.depth);
            for (panel, sums) in panels.chunks(VECTORS * vector).zip(sums.chunks_mut(stripes.len())) {
                for (rows, sums) in stripes.iter().zip(sums) {
                    match panel.len() / vector {
                        1 => multiply_tile::<S, R, 1>(simd, rows, panel, k.clone(), sums),
                        2 => multiply_tile::<S, R, 2>(simd, rows, panel, k.clone(), sums),
                        _ => multiply_tile::<S, R, 3>(simd, rows, panel, k.clone(), sums),
                    }
                }
            }
        }
        for ((index, panel), sums) in
            panels.chunks(VECTORS * vector).enumerate().zip(sums.chunks(stripes.len()))
        {
            let column = column + index * width;
            let columns = (panel.len() / self.b.depth).min(self.b.columns - column);
            self.store.store::<S, R>(row, column, columns, sums);
        }
    }
}

/// `sums` += `R` rows of A times a panel of V vectors, both from `k` only.
#[inline(always)]
fn multiply_tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: &[&[f32]; R],
    panel: &[f32],
    k: Range<usize>,
    sums: &mut [[S::f32s; VECTORS]; R],
) {
    let panel = &S::as_simd_f32s(panel).0.as_chunks::<V>().0[k.clone()];
    let mut pieces = *rows;
    for piece in &mut pieces {
        *piece = &piece[k.clone()];
    }
    let mut chains = [[simd.splat_f32s(0.0); V]; R];
    for (k, b) in panel.iter().enumerate() {
        for r in 0..R {
            let a = simd.splat_f32s(pieces[r][k]);
            for v in 0..V {
                chains[r][v] = simd.mul_add_e_f32s(a, b[v], chains[r][v]);
            }
        }
    }
    for r in 0..R {
        for v in 0..V {
            sums[r][v] = simd.add_f32s(sums[r][v], chains[r][v]);
        }
    }
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
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
    fn transposed_packing_is_packing_of_the_transpose() {
        let (n, k) = (53, 70);
        let x = numbers(n * k, 6);
        let xt: Vec<f32> = (0..n * k).map(|at| x[at % n * k + at / n]).collect();
        assert_eq!(Packed::transposed(&rows(&x, k)).panels(), Packed::new(&rows(&xt, n)).panels());
    }
}
