//! How far two lists of numbers are apart.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::judge::tolerance::Tolerance;

/// How far numbers are from the ones that were expected. What is not finite in either list is not part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// How many numbers were compared.
    pub count: usize,
    /// How many are further off than the tolerance allows.
    pub beyond: usize,
    /// The largest absolute difference.
    pub max_abs: f64,
    /// The largest difference in relation to the expected number, where that is not 0.
    pub max_rel: f64,
    /// The largest number of f32 values between the two, plus one.
    pub max_ulp: u64,
    /// The cosine of the angle between the two as vectors; 1 if both are 0, 0 if one is.
    pub cosine: f64,
    /// The energy of the expected numbers over that of the difference, in decibels; infinite if they are equal.
    #[serde(with = "crate::judge::unbounded")]
    pub sqnr_db: f64,
    /// The largest difference as a share of what the tolerance allows.
    #[serde(with = "crate::judge::unbounded")]
    pub share: f64,
    /// Where that is.
    pub at: Vec<usize>,
    /// The number that was expected there.
    pub want: f32,
    /// The number that was found there.
    pub got: f32,
}

/// Compares those numbers of two tensors of a shape that are `part` of the comparison (all of them if absent).
/// Nothing if there are none.
pub fn difference(
    want: &[f32],
    got: &[f32],
    shape: &[usize],
    part: Option<(&[bool], bool)>,
    tolerance: Tolerance,
) -> Option<Difference> {
    const CHUNK: usize = 1 << 14;
    let finite = |value: &f32| if value.is_finite() { value.abs() } else { 0.0 };
    let largest = match tolerance.scale > 0.0 {
        true => want
            .par_chunks(CHUNK)
            .map(|want| want.iter().map(finite).fold(0.0, f32::max))
            .reduce(|| 0.0, f32::max),
        false => 0.0,
    };
    let chunks = want.len().min(got.len()).div_ceil(CHUNK);
    let sums = (0..chunks).into_par_iter().map(|chunk| {
        let (start, end) = (chunk * CHUNK, ((chunk + 1) * CHUNK).min(want.len()).min(got.len()));
        let mut sums = Sums::default();
        for (at, (&want, &got)) in (start..end).zip(want[start..end].iter().zip(&got[start..end])) {
            let belongs = part.is_none_or(|(flags, wanted)| flags.get(at) == Some(&wanted));
            if belongs && want.is_finite() && got.is_finite() {
                sums.add(at, want, got, tolerance.allowance(want, largest));
            }
        }
        sums
    });
    let sums = sums.collect::<Vec<_>>().into_iter().reduce(Sums::join)?;
    let (worst, want, got) = sums.worst?;
    let cosine = match (sums.want2 > 0.0, sums.got2 > 0.0) {
        (true, true) => (sums.product / (sums.want2 * sums.got2).sqrt()).clamp(-1.0, 1.0),
        (false, false) => 1.0,
        _ => 0.0,
    };
    let sqnr_db = match sums.difference2 > 0.0 {
        true => 10.0 * (sums.want2 / sums.difference2).log10(),
        false => f64::INFINITY,
    };
    Some(Difference {
        count: sums.count,
        beyond: sums.beyond,
        max_abs: sums.max_abs,
        max_rel: sums.max_rel,
        max_ulp: sums.max_ulp,
        cosine,
        sqnr_db,
        share: sums.share,
        at: coordinates(worst, shape),
        want,
        got,
    })
}

/// The coordinates of the element `flat` of a row-major tensor.
pub fn coordinates(flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = flat;
    let mut coordinates: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&length| {
            let length = length.max(1);
            let at = rest % length;
            rest /= length;
            at
        })
        .collect();
    coordinates.reverse();
    coordinates
}

/// How many steps from one f32 to the next lie between two numbers.
fn ulps(a: f32, b: f32) -> u64 {
    // The bits of positive numbers count up; those of negative ones count down from 0.
    let ordered = |x: f32| {
        let bits = i64::from(x.to_bits() & 0x7fff_ffff);
        if x.is_sign_negative() { -bits } else { bits }
    };
    ordered(a).abs_diff(ordered(b))
}

#[derive(Default)]
struct Sums {
    count: usize,
    beyond: usize,
    max_abs: f64,
    max_rel: f64,
    max_ulp: u64,
    want2: f64,
    got2: f64,
    product: f64,
    difference2: f64,
    share: f64,
    /// The element with the largest share, or else the largest difference, and both its numbers.
    worst: Option<(usize, f32, f32)>,
    worst_abs: f64,
}

impl Sums {
    #[inline]
    fn add(&mut self, at: usize, want32: f32, got32: f32, allowed: f64) {
        let (want, got) = (f64::from(want32), f64::from(got32));
        let off = (got - want).abs();
        self.count += 1;
        self.want2 += want * want;
        self.got2 += got * got;
        self.product += want * got;
        if off > 0.0 {
            self.difference2 += off * off;
            self.max_abs = self.max_abs.max(off);
            if want != 0.0 {
                self.max_rel = self.max_rel.max(off / want.abs());
            }
            self.max_ulp = self.max_ulp.max(ulps(want32, got32));
        }
        let share = if off == 0.0 { 0.0 } else { off / allowed };
        self.beyond += usize::from(off > allowed);
        if self.worst.is_none() || (share, off) > (self.share, self.worst_abs) {
            (self.share, self.worst_abs, self.worst) = (share, off, Some((at, want32, got32)));
        }
    }

    fn join(self, other: Sums) -> Sums {
        let other_is_worse = match (self.worst, other.worst) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(_), Some(_)) => (other.share, other.worst_abs) > (self.share, self.worst_abs),
        };
        let (share, worst_abs, worst) = match other_is_worse {
            true => (other.share, other.worst_abs, other.worst),
            false => (self.share, self.worst_abs, self.worst),
        };
        Sums {
            count: self.count + other.count,
            beyond: self.beyond + other.beyond,
            max_abs: self.max_abs.max(other.max_abs),
            max_rel: self.max_rel.max(other.max_rel),
            max_ulp: self.max_ulp.max(other.max_ulp),
            want2: self.want2 + other.want2,
            got2: self.got2 + other.got2,
            product: self.product + other.product,
            difference2: self.difference2 + other.difference2,
            share,
            worst,
            worst_abs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance::absolute(0.1);

    #[test]
    fn the_worst_number_has_a_place() {
        let (want, got) = ([1.0, 2.0, -4.0, 0.0, 5.0, 6.0], [1.0, 2.25, -4.5, 0.05, 5.0, 6.0]);
        let found = difference(&want, &got, &[2, 3], None, TOLERANCE).unwrap();
        assert_eq!((found.count, found.beyond, found.max_abs, found.max_rel), (6, 2, 0.5, 0.125));
        assert_eq!((found.at.as_slice(), found.want, found.got), ([0, 2].as_slice(), -4.0, -4.5));
        assert!((found.share - 5.0).abs() < 1e-12);
        assert!((found.sqnr_db - 10.0 * (82.0_f64 / 0.315).log10()).abs() < 1e-6);
    }

    #[test]
    fn a_part_is_compared_alone() {
        let flags = [true, true, false];
        let (want, got) = ([1.0, 2.0, 3.0], [1.0, 2.0, 9.0]);
        let part = |real| difference(&want, &got, &[3], Some((&flags, real)), TOLERANCE).unwrap();
        let (real, padding) = (part(true), part(false));
        assert_eq!((real.count, real.max_abs, real.cosine), (2, 0.0, 1.0));
        assert!(real.sqnr_db.is_infinite());
        assert_eq!((padding.count, padding.max_abs, padding.at), (1, 6.0, vec![2]));
        assert_eq!(difference(&want, &got, &[3], Some((&[true; 3], false)), TOLERANCE), None);
    }

    #[test]
    fn the_relative_part_decides_what_is_worst() {
        let tolerance = Tolerance { atol: 0.01, rtol: 0.1, scale: 0.0 };
        let found = difference(&[100.0, 0.0], &[105.0, 0.02], &[2], None, tolerance).unwrap();
        assert_eq!((found.at, found.beyond, found.max_abs), (vec![1], 1, 5.0));
    }

    #[test]
    fn the_largest_number_of_the_tensor_counts() {
        let tolerance = Tolerance { atol: 0.0, rtol: 0.0, scale: 0.001 };
        let found = difference(&[100.0, 0.0, f32::NAN], &[100.0, 0.05, 0.0], &[3], None, tolerance).unwrap();
        assert_eq!((found.count, found.beyond, found.at), (2, 0, vec![1]));
        assert!((found.share - 0.5).abs() < 1e-6);
    }

    #[test]
    fn steps_between_numbers_are_counted_across_zero() {
        assert_eq!(ulps(1.0, 1.0_f32.next_up().next_up()), 2);
        assert_eq!(ulps(0.0, -0.0), 0);
        assert_eq!(ulps(f32::from_bits(1), -f32::from_bits(1)), 2);
        assert_eq!(ulps(f32::MAX, f32::MIN), 2 * u64::from(f32::MAX.to_bits()));
    }

    #[test]
    fn long_tensors_are_compared_in_pieces() {
        let want: Vec<f32> = (0..100_000).map(|at| at as f32).collect();
        let mut got = want.clone();
        got[70_001] += 16.0;
        let found = difference(&want, &got, &[100, 1000], None, TOLERANCE).unwrap();
        assert_eq!((found.count, found.beyond, found.at), (100_000, 1, vec![70, 1]));
    }
}
