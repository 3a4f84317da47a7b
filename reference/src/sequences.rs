//! Which rows of a batch are computed: those of all positions, or those of the tokens alone.
//!
//! Padding behind a sequence takes as long to compute as tokens do, and no token attends to it. Where nobody looks at its
//! numbers, the sequences stand one behind the other without it. For the mask [[1, 1, 0], [1, 0, 0]]:
//!
//! ```text
//! [b, n, H]: x₀₀ x₀₁ x₀₂ | x₁₀ x₁₁ x₁₂        packed [1, T, H]: x₀₀ x₀₁ x₁₀
//! ```

use std::borrow::Cow;
use std::ops::Range;

use ndarray::{Array3, s};

use crate::inputs::Mask;
use crate::real::Real;

/// The rows of every sequence that are computed, one sequence behind the other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sequences {
    /// Those of sequence b among all T rows.
    rows: Vec<Range<usize>>,
    /// n
    positions: usize,
}

impl Sequences {
    /// All positions of b sequences of n.
    pub(crate) fn whole(b: usize, n: usize) -> Sequences {
        Sequences { rows: (0..b).map(|b| b * n..(b + 1) * n).collect(), positions: n }
    }

    /// The tokens of sequences whose padding is all behind them. Of others, and of those that are nothing but padding, all
    /// positions: there a row of padding can attend to other padding.
    pub(crate) fn of_tokens(mask: &Mask) -> Sequences {
        let (mut rows, positions) = (Vec::new(), mask.embeddings.dim().1);
        for b in 0..mask.embeddings.dim().0 {
            let start = rows.last().map_or(0, |before: &Range<usize>| before.end);
            rows.push(start..start + mask.tokens_before_padding(b).unwrap_or(positions));
        }
        Sequences { rows, positions }
    }

    /// T
    pub(crate) fn count(&self) -> usize {
        self.rows.last().map_or(0, |rows| rows.end)
    }

    /// The rows of every sequence.
    pub(crate) fn rows(&self) -> &[Range<usize>] {
        &self.rows
    }

    /// The most rows of a sequence.
    pub(crate) fn longest(&self) -> usize {
        self.rows.iter().map(Range::len).max().unwrap_or(0)
    }

    fn are_whole(&self) -> bool {
        self.count() == self.rows.len() * self.positions
    }

    /// The rows [1, T, H] of x [b, n, H]; x as it is if they are all.
    pub(crate) fn pack<F: Real>(&self, x: Array3<F>) -> Array3<F> {
        if self.are_whole() {
            return x;
        }
        let mut packed = Array3::zeros((1, self.count(), x.dim().2));
        for (b, rows) in self.rows.iter().enumerate() {
            packed.slice_mut(s![0, rows.clone(), ..]).assign(&x.slice(s![b, ..rows.len(), ..]));
        }
        packed
    }

    /// The other way, [1, T, H] to [b, n, H]; what is not computed is 0.
    pub(crate) fn unpack<'x, F: Real>(&self, packed: &'x Array3<F>) -> Cow<'x, Array3<F>> {
        if self.are_whole() {
            return Cow::Borrowed(packed);
        }
        let mut x = Array3::zeros((self.rows.len(), self.positions, packed.dim().2));
        for (b, rows) in self.rows.iter().enumerate() {
            x.slice_mut(s![b, ..rows.len(), ..]).assign(&packed.slice(s![0, rows.clone(), ..]));
        }
        Cow::Owned(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn only_padding_behind_tokens_is_left_out() {
        let mask = array![[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]].into_dyn();
        let sequences = Sequences::of_tokens(&Mask::new(Some(&mask), 4, 3).unwrap());
        assert_eq!(sequences.rows(), [0..2, 2..5, 5..8, 8..9]);
        assert_eq!((sequences.count(), sequences.longest()), (9, 3));
    }

    #[test]
    fn packing_and_back_leaves_zeros_in_the_place_of_padding() {
        let mask = array![[1.0, 0.0], [1.0, 1.0]].into_dyn();
        let sequences = Sequences::of_tokens(&Mask::new(Some(&mask), 2, 2).unwrap());
        let packed = sequences.pack(array![[[1.0_f32], [2.0]], [[3.0], [4.0]]]);
        assert_eq!(packed, array![[[1.0], [3.0], [4.0]]]);
        assert_eq!(*sequences.unpack(&packed), array![[[1.0], [0.0]], [[3.0], [4.0]]]);
    }

    #[test]
    fn whole_sequences_are_left_as_they_are() {
        let x = array![[[1.0_f32], [2.0]], [[3.0], [4.0]]];
        let sequences = Sequences::whole(2, 2);
        assert_eq!(sequences.pack(x.clone()), x);
        assert_eq!(*sequences.unpack(&x), x);
        assert_eq!(sequences, Sequences::of_tokens(&Mask::new(None, 2, 2).unwrap()));
    }
}
