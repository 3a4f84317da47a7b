//! The right side B of a product, packed into panels: as many vectors wide as a tile, the last one less, all of a panel's rows one after the other.
//!
//! The product then reads B from one end to the other. For n = 50 and panels of 3 vectors of 16 numbers, B has the
//! panels of columns 0 to 47 and 48 to 63, of which the last 14 are padding.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::machine::{Machine, WithMachine, dispatch};
use super::turn::{ROWS, numbers, numbers_mut, turn};
use crate::real::Real;
use crate::spare::{Buffer, Use};

/// A matrix [k, n] packed for the right side of a product.
pub(crate) struct Packed<F: Real> {
    /// Panel after panel; in a panel, row after row; padded to whole vectors. In front of them, as many
    /// numbers as put the panels at the start of a cache line.
    storage: Buffer<F>,
    /// Where the panels start.
    start: usize,
    /// k
    pub(super) depth: usize,
    /// n
    columns: usize,
    /// Numbers in a vector.
    lanes: usize,
    /// Columns of a panel, except for the last.
    pub(super) width: usize,
}

impl<F: Real> Packed<F> {
    /// Packs B = Xᵀ on all threads, where `rows` are the rows of X [n, k], whose numbers become `F`.
    pub(crate) fn transposed<A: Copy + Into<F> + Sync>(rows: &[&[A]]) -> Packed<F> {
        let mut packed = Packed::room_for_transposed(rows);
        packed.panels_mut().par_bridge().for_each(|panel| panel.fill_transposed(rows));
        packed
    }

    /// The same on this thread.
    pub(crate) fn transposed_here<A: Copy + Into<F>>(rows: &[&[A]]) -> Packed<F> {
        let mut packed = Packed::room_for_transposed(rows);
        packed.panels_mut().for_each(|panel| panel.fill_transposed(rows));
        packed
    }

    fn room_for_transposed<A>(rows: &[&[A]]) -> Packed<F> {
        Packed::with_room(rows.first().map_or(0, |row| row.len()), rows.len())
    }

    /// Packs B on this thread, where `rows` are its rows [k, n].
    pub(crate) fn new(rows: &[&[F]]) -> Packed<F> {
        let mut packed = Packed::with_room(rows.len(), rows.first().map_or(0, |row| row.len()));
        let columns = packed.columns;
        for Panel { first, width, numbers } in packed.panels_mut() {
            for (row, panel) in rows.iter().zip(numbers.chunks_exact_mut(width)) {
                let row = &row[first..(first + width).min(columns)];
                panel[..row.len()].copy_from_slice(row);
            }
        }
        packed
    }

    /// n
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    fn with_room(depth: usize, columns: usize) -> Packed<F> {
        let (lanes, width) = dispatch(Widths::<F>(PhantomData));
        // Old numbers stay in the padding of the last panel alone, which makes columns of C that nobody stores.
        let mut storage = Buffer::<F>::new(Use::Packed);
        let room = storage.take(depth * columns.next_multiple_of(lanes) + LONGEST_VECTOR);
        let start = room.as_ptr().align_offset(CACHE_LINE).min(LONGEST_VECTOR);
        Packed { storage, start, depth, columns, lanes, width }
    }

    /// A panel, one row after another.
    pub(super) fn panel(&self, index: usize) -> &[F] {
        let (widest, last) =
            (self.width * self.depth, self.depth * self.columns.next_multiple_of(self.lanes));
        &self.storage.numbers()[self.start..][index * widest..((index + 1) * widest).min(last)]
    }

    /// All panels, to be filled.
    fn panels_mut(&mut self) -> impl Iterator<Item = Panel<'_, F>> + Send {
        let (depth, widest) = (self.depth.max(1), self.width);
        let room = self.depth * self.columns.next_multiple_of(self.lanes);
        let panels =
            self.storage.take(self.start + room)[self.start..].chunks_mut(widest * depth).enumerate();
        panels.map(move |(panel, numbers)| Panel {
            first: panel * widest,
            width: numbers.len() / depth,
            numbers,
        })
    }
}

/// A panel to be filled.
struct Panel<'p, F> {
    /// Its first column of B.
    first: usize,
    width: usize,
    /// [k, `width`]
    numbers: &'p mut [F],
}

impl<F: Real> Panel<'_, F> {
    fn fill_transposed<A: Copy + Into<F>>(self, rows: &[&[A]]) {
        let rows = &rows[self.first..(self.first + self.width).min(rows.len())];
        dispatch(Transpose { rows, width: self.width, panel: self.numbers });
    }
}

/// The transpose of some rows [w, k] into a panel [k, `width`], w ≤ `width`.
struct Transpose<'a, A, F> {
    rows: &'a [&'a [A]],
    width: usize,
    panel: &'a mut [F],
}

impl<A: Copy + Into<F>, F: Real> WithMachine for Transpose<'_, A, F> {
    type Output = ();

    #[inline(always)]
    fn with_machine<M: Machine>(self, machine: M) {
        let lanes = F::lanes::<M>();
        for (piece, panel) in self.panel.chunks_mut(PACK_BLOCK * self.width).enumerate() {
            let (start, depth) = (piece * PACK_BLOCK, panel.len() / self.width);
            for (group, rows) in self.rows.chunks(ROWS).enumerate() {
                let mut done = 0;
                if let Ok(rows) = <&[&[A]; ROWS]>::try_from(rows) {
                    while done + lanes <= depth {
                        let mut square = [F::splat(machine, F::zero()); ROWS];
                        for (vector, row) in square.iter_mut().zip(rows) {
                            let row = &row[start + done..][..lanes];
                            // What the next piece of the panel takes from this row.
                            machine.read_ahead(row.as_ptr().wrapping_add(PACK_BLOCK));
                            let to = numbers_mut::<F, M>(std::slice::from_mut(vector));
                            to.iter_mut().zip(row).for_each(|(to, from)| *to = (*from).into());
                        }
                        let turned = turn::<F, M>(machine, square);
                        let to = panel[done * self.width..].chunks_exact_mut(self.width);
                        for (to, from) in to.zip(numbers::<F, M>(&turned).as_chunks::<ROWS>().0) {
                            to[group * ROWS..][..ROWS].copy_from_slice(from);
                        }
                        done += lanes;
                    }
                }
                for (k, to) in panel.chunks_exact_mut(self.width).enumerate().skip(done) {
                    for (to, row) in to[group * ROWS..].iter_mut().zip(rows) {
                        *to = row[start + k].into();
                    }
                }
            }
        }
    }
}

/// Numbers in the longest vector that any processor has.
pub(super) const LONGEST_VECTOR: usize = 16;
/// Bytes in a cache line.
const CACHE_LINE: usize = 64;
/// Rows of a panel that are filled at a time: as many as stay in the first-level cache.
const PACK_BLOCK: usize = 64;
/// The rows of a matrix with `columns` columns.
pub(crate) fn rows<F>(matrix: &[F], columns: usize) -> Vec<&[F]> {
    matrix.chunks_exact(columns).collect()
}

/// Asks for the numbers in a vector and in a row of a panel.
struct Widths<F>(PhantomData<F>);

impl<F: Real> WithMachine for Widths<F> {
    type Output = (usize, usize);

    #[inline(always)]
    fn with_machine<M: Machine>(self, _: M) -> (usize, usize) {
        (F::lanes::<M>(), M::VECTORS * F::lanes::<M>())
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
        let (x, xt) = (Packed::<f32>::transposed(&rows(&x, k)), Packed::new(&rows(&xt, n)));
        for panel in 0..n.div_ceil(x.width) {
            assert_eq!(x.panel(panel), xt.panel(panel));
        }
    }
}
