//! The right side B of a product, packed into panels: 1 to 3 vectors wide, all of a panel's rows one after the other.
//!
//! The product then reads B from one end to the other. For n = 50 and vectors of 16 numbers, B has the panels of columns
//! 0 to 47 and 48 to 63, of which the last 14 are padding.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::real::Real;

/// A matrix [k, n] packed for the right side of a product.
pub(crate) struct Packed<F: Real> {
    /// Panel after panel; in a panel, row after row; padded to whole vectors. In front of them, as many
    /// numbers as put the panels at the start of a cache line.
    storage: Vec<F>,
    /// Where the panels start.
    start: usize,
    /// k
    pub(super) depth: usize,
    /// n
    columns: usize,
    /// Numbers in a vector.
    lanes: usize,
}

impl<F: Real> Packed<F> {
    /// Packs B = Xᵀ, where `rows` are the rows of X [n, k].
    pub(crate) fn transposed(rows: &[&[F]]) -> Packed<F> {
        let mut packed = Packed::with_room(rows.first().map_or(0, |row| row.len()), rows.len());
        let (depth, widest) = (packed.depth, VECTORS * packed.lanes);
        packed.each_panel(|first, width, panel| {
            let rows = &rows[first..(first + widest).min(rows.len())];
            for start in (0..depth).step_by(PACK_BLOCK) {
                let k = start..depth.min(start + PACK_BLOCK);
                let panel = &mut panel[start * width..k.end * width];
                for (columns, rows) in rows.chunks(PACK_BLOCK).enumerate() {
                    let mut block = [[F::zero(); PACK_BLOCK]; PACK_BLOCK];
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
    pub(crate) fn new(rows: &[&[F]]) -> Packed<F> {
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

    fn with_room(depth: usize, columns: usize) -> Packed<F> {
        let lanes = Arch::new().dispatch(Lanes(PhantomData::<F>));
        // Old numbers stay in the padding of the last panel alone, which makes columns of C that nobody stores.
        let mut storage = F::spare().take();
        let room = depth * columns.next_multiple_of(lanes) + LONGEST_VECTOR;
        storage.resize(room.max(storage.len()), F::zero());
        let start = storage.as_ptr().align_offset(CACHE_LINE).min(LONGEST_VECTOR);
        Packed { storage, start, depth, columns, lanes }
    }

    /// The panels, one after another.
    pub(super) fn panels(&self) -> &[F] {
        &self.storage[self.start..][..self.depth * self.columns.next_multiple_of(self.lanes)]
    }

    /// Calls `fill` with the first column, the width and the numbers of every panel.
    fn each_panel(&mut self, fill: impl Fn(usize, usize, &mut [F]) + Sync) {
        let (depth, widest) = (self.depth, VECTORS * self.lanes);
        if depth == 0 {
            return;
        }
        let fill = |(panel, numbers): (usize, &mut [F])| fill(panel * widest, numbers.len() / depth, numbers);
        let panels = &mut self.storage[self.start..][..depth * self.columns.next_multiple_of(self.lanes)];
        if panels.len() < SMALL {
            panels.chunks_mut(widest * depth).enumerate().for_each(fill);
        } else {
            panels.par_chunks_mut(widest * depth).enumerate().for_each(fill);
        }
    }
}

impl<F: Real> Drop for Packed<F> {
    /// Leaves the memory of the largest packed matrix to the next one: fresh memory costs as much as packing.
    fn drop(&mut self) {
        let (storage, spare) = (std::mem::take(&mut self.storage), F::spare().take());
        F::spare().set(if storage.len() > spare.len() { storage } else { spare });
    }
}

/// Vectors in a panel.
pub(super) const VECTORS: usize = 3;
/// Numbers in the longest vector that any processor has.
pub(super) const LONGEST_VECTOR: usize = 16;
/// Bytes in a cache line.
const CACHE_LINE: usize = 64;
/// A square of this side is transposed at a time.
const PACK_BLOCK: usize = 16;
/// Fewer numbers than this are not worth a second thread.
const SMALL: usize = 1 << 17;

/// The rows of a matrix with `columns` columns.
pub(crate) fn rows<F>(matrix: &[F], columns: usize) -> Vec<&[F]> {
    matrix.chunks_exact(columns).collect()
}

/// Asks for the numbers in a vector.
struct Lanes<F>(PhantomData<F>);

impl<F: Real> WithSimd for Lanes<F> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        F::lanes::<S>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_packing_is_packing_of_the_transpose() {
        let (n, k) = (53, 70);
        let x: Vec<f32> = (0..n * k).map(|at| at as f32).collect();
        let xt: Vec<f32> = (0..n * k).map(|at| x[at % n * k + at / n]).collect();
        assert_eq!(Packed::transposed(&rows(&x, k)).panels(), Packed::new(&rows(&xt, n)).panels());
    }
}
