//! The transpose of a few vectors, in registers.

use super::machine::Machine;
use crate::real::Real;

/// Rows that are transposed at a time.
pub(crate) const ROWS: usize = 8;

/// The transpose of 8 rows of a vector each: all first numbers, all second numbers, ….
///
/// The numbers are a list that is shuffled three times as cards are, its halves one into the other. Each shuffle turns
/// the bits of a number's place by one: row (3 bits) and column become column and row.
#[inline(always)]
pub(crate) fn turn<F: Real, M: Machine>(machine: M, rows: [F::Vector<M>; ROWS]) -> [F::Vector<M>; ROWS] {
    let mut list = rows;
    for _ in 0..ROWS.ilog2() {
        let halves = list;
        for at in 0..ROWS / 2 {
            let pair = F::interleave(machine, halves[at], halves[at + ROWS / 2]);
            (list[2 * at], list[2 * at + 1]) = (pair[0], pair[1]);
        }
    }
    list
}

/// The numbers in some vectors.
#[inline(always)]
pub(crate) fn numbers<F: Real, M: Machine>(vectors: &[F::Vector<M>]) -> &[F] {
    bytemuck::cast_slice(vectors)
}

/// The numbers in some vectors, to be changed.
#[inline(always)]
pub(crate) fn numbers_mut<F: Real, M: Machine>(vectors: &mut [F::Vector<M>]) -> &mut [F] {
    bytemuck::cast_slice_mut(vectors)
}

#[cfg(test)]
mod tests {
    use super::super::machine::{WithMachine, dispatch};
    use super::*;

    struct Turned<F>(std::marker::PhantomData<F>);

    impl<F: Real> WithMachine for Turned<F> {
        type Output = ();

        #[inline(always)]
        fn with_machine<M: Machine>(self, machine: M) {
            let lanes = F::lanes::<M>();
            let mut rows = [F::splat(machine, F::zero()); ROWS];
            for (at, number) in numbers_mut::<F, M>(&mut rows).iter_mut().enumerate() {
                *number = F::of(at as f64);
            }
            let turned = turn::<F, M>(machine, rows);
            for (at, number) in numbers::<F, M>(&turned).iter().enumerate() {
                assert_eq!(*number, F::of((at % ROWS * lanes + at / ROWS) as f64), "{at}");
            }
        }
    }

    #[test]
    fn columns_become_rows() {
        dispatch(Turned::<f32>(std::marker::PhantomData));
        dispatch(Turned::<f64>(std::marker::PhantomData));
    }
}
