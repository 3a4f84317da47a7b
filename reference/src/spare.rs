//! Memory that a thread keeps from one use to the next: fresh memory costs as much as filling it.

use std::cell::Cell;

use crate::real::Real;

/// What memory is used for.
#[derive(Clone, Copy)]
pub(crate) enum Use {
    /// The right side of a product.
    Packed,
    /// The scores of a head.
    Scores,
    /// Its products with positions.
    Products,
}

/// What a thread keeps for every [`Use`].
pub struct Spare<F>([Cell<Vec<F>>; 3]);

impl<F> Spare<F> {
    pub(crate) const fn new() -> Spare<F> {
        Spare([const { Cell::new(Vec::new()) }; 3])
    }
}

/// Numbers that may be anything before they are written.
pub(crate) struct Buffer<F: Real> {
    numbers: Vec<F>,
    what: Use,
}

impl<F: Real> Buffer<F> {
    /// A buffer in the memory that this thread keeps, without the right to a number of it.
    pub(crate) fn new(what: Use) -> Buffer<F> {
        Buffer { numbers: F::spare().with(|spare| spare.0[what as usize].take()), what }
    }

    /// `count` of the numbers.
    pub(crate) fn take(&mut self, count: usize) -> &mut [F] {
        self.numbers.resize(count.max(self.numbers.len()), F::zero());
        &mut self.numbers[..count]
    }

    /// All that were taken.
    pub(crate) fn numbers(&self) -> &[F] {
        &self.numbers
    }
}

impl<F: Real> Drop for Buffer<F> {
    /// Leaves the memory to the next use, unless it is what only long texts need.
    fn drop(&mut self) {
        const MOST: usize = 1 << 22;
        let numbers = std::mem::take(&mut self.numbers);
        if numbers.len() <= MOST {
            F::spare().with(|spare| {
                let kept = &spare.0[self.what as usize];
                let other = kept.take();
                kept.set(if numbers.len() > other.len() { numbers } else { other });
            });
        }
    }
}
