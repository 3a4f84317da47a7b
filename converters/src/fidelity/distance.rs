//! How far a stored number is from the model's, in steps of how it is stored.

use half::{bf16, f16};

use crate::format::onnx::Float8;
use crate::lowering::{Codes, Stored, codebook};
use crate::tensor::Dtype;

/// The distances of a tensor's numbers.
pub(super) struct Distances {
    count: usize,
    /// How many are beyond the limit.
    pub(super) beyond: usize,
    pub(super) furthest: f64,
    pub(super) limit: f64,
    /// How many may be.
    allowed: f64,
}

/// Integers of 8 bits and more: half a step, and what is lost in computing it.
const WIDE: f64 = 0.51;
/// Integers of 4 bits and less.
const NARROW: f64 = 0.52;
/// The first and the last integer: what is beyond became this one. Scales for as many steps to either side leave one over.
const AT_THE_END: f64 = 1.02;
/// The share of codes that need not be the nearest.
const NOT_NEAREST: f64 = 0.001;
/// The share of floating-point numbers of 8 bits that may be cut off, and how much larger than what is left they may be.
const CUT_OFF: f64 = 0.01;
const MUCH_LARGER: f32 = 4.0;
/// Rows of smaller numbers may have any scale.
const NOTHING: f32 = 1e-6;
/// The number under which, and the one over which tools replace those of f16.
const TINY: f32 = 1.2e-7;
const LARGE: f32 = 1e4;

impl Distances {
    /// The distances of the numbers `got` from those of the model.
    pub(super) fn of(stored: Option<&Stored>, want: &[f32], got: &[f32]) -> Distances {
        let limit = limit(stored);
        let is_codes = stored.is_some_and(|stored| matches!(stored.codes, Codes::Nf4 | Codes::Fp4));
        let allowed = if is_codes { NOT_NEAREST * got.len() as f64 } else { 0.0 };
        let mut distances = Distances { count: got.len(), beyond: 0, furthest: 0.0, limit, allowed };
        for (index, (&want, &got)) in want.iter().zip(got).enumerate() {
            let (distance, limit) = distance(stored, index, want, got);
            distances.furthest = distances.furthest.max(distance);
            distances.beyond += usize::from(distance > limit);
        }
        if want.len() != got.len() {
            distances.beyond = distances.count.max(1);
        }
        if is_codes && let Some(stored) = stored {
            distances.beyond += wrong_scales(stored, want);
        }
        if let Some(stored) = stored {
            distances.beyond += too_many_cut_off(stored, want, got);
            distances.beyond += too_coarse(stored, want);
        }
        distances
    }

    /// Whether more is beyond the limit than may be.
    pub(super) fn is_broken(&self) -> bool {
        self.beyond as f64 > self.allowed
    }
}

/// How far a number may be in general.
fn limit(stored: Option<&Stored>) -> f64 {
    match stored.map(|stored| stored.codes) {
        None => 0.0,
        Some(Codes::Integers(first, last)) if i64::from(last) - i64::from(first) < 16 => NARROW,
        Some(Codes::Integers(..) | Codes::Float8(_)) => WIDE,
        Some(Codes::Nf4 | Codes::Fp4) => 0.0,
        Some(Codes::Halves(_)) => 1.0,
    }
}

/// How far a number is, and may be: in steps of integers, neighbours of floating-point numbers, and of codes how much nearer
/// the nearest is, as a share of the scale.
pub(super) fn distance(stored: Option<&Stored>, index: usize, want: f32, got: f32) -> (f64, f64) {
    let Some(stored) = stored else {
        let differs = want.to_bits() != got.to_bits() && !(want == 0.0 && got == 0.0);
        return (if differs { 1.0 } else { 0.0 }, 0.0);
    };
    match stored.codes {
        Codes::Integers(..) | Codes::Float8(_) => {
            let step = f64::from(stored.step_at(index, got));
            let off = (f64::from(got) - f64::from(want)).abs();
            // What f32, and a scale in a half, lose of a large number.
            let lost = f64::from(want.abs()) * (f64::from(f32::EPSILON) + stored.scale_error());
            let off = if is_cut_off(stored, index, want, got) { 0.0 } else { off - lost };
            let ends = stored.is_at_the_end(index, got);
            let distance = if off <= 0.0 { 0.0 } else { off / step };
            let distance = if distance.is_nan() { f64::INFINITY } else { distance };
            (distance, if ends { AT_THE_END } else { limit(Some(stored)) })
        }
        Codes::Nf4 | Codes::Fp4 => {
            let scale = f64::from(stored.scale_at(index)).abs();
            let off = |number: f64| (number - f64::from(want)).abs();
            let nearest = codebook(stored.codes)
                .iter()
                .map(|&code| off(f64::from(code) * scale))
                .fold(f64::INFINITY, f64::min);
            let further = off(f64::from(got)) - nearest;
            let distance = if further <= 1e-6 * scale { 0.0 } else { further / scale };
            (if distance.is_nan() { f64::INFINITY } else { distance }, 0.0)
        }
        Codes::Halves(dtype) => {
            let factor = stored.factor_at(index);
            (neighbours(dtype, want / factor, got / factor), 1.0)
        }
    }
}

/// How many numbers of a half are between the nearest to a number and the one that is stored. Tools replace what is tiny or
/// large for f16.
fn neighbours(dtype: Dtype, want: f32, got: f32) -> f64 {
    let replaced = dtype == Dtype::F16
        && ((want.abs() < TINY && got.abs() <= TINY) || (want.abs() > LARGE && got == LARGE.copysign(want)));
    if replaced {
        return 0.0;
    }
    let bits = |number: f32| match dtype {
        Dtype::F16 => f16::from_f32(number).to_bits(),
        _ => bf16::from_f32(number).to_bits(),
    };
    let place = |bits: u16| if bits & 0x8000 == 0 { i32::from(bits) } else { -i32::from(bits & 0x7fff) };
    f64::from((place(bits(want)) - place(bits(got))).abs())
}

/// Whether a floating-point number of 8 bits is the largest where the model's is beyond it: tools choose scales by how the numbers
/// are spread.
fn is_cut_off(stored: &Stored, index: usize, want: f32, got: f32) -> bool {
    let (size, largest) = (want.abs(), got.abs());
    matches!(stored.codes, Codes::Float8(_))
        && stored.is_at_the_end(index, got)
        && size - largest > stored.step_at(index, got) / 2.0
        && size < MUCH_LARGER * largest
        && want.signum() == got.signum()
}

/// How many numbers are cut off, if they are more than may be.
pub(super) fn too_many_cut_off(stored: &Stored, want: &[f32], got: &[f32]) -> usize {
    let pairs = want.iter().zip(got).enumerate();
    let count = pairs.filter(|&(index, (&want, &got))| is_cut_off(stored, index, want, got)).count();
    if count as f64 > CUT_OFF * got.len() as f64 { count } else { 0 }
}

/// How many numbers have a scale that is far too large: half a step of it, or a number below all that are normal, is as much as they
/// are. Tools choose scales that take the largest number to the last code, or beyond.
pub(super) fn too_coarse(stored: &Stored, want: &[f32]) -> usize {
    let least = match stored.codes {
        Codes::Integers(first, last) if last.saturating_sub(first) < 256 => {
            (last - first + 1) as f32 / if stored.is_in_blocks() { 16.0 } else { 8.0 }
        }
        Codes::Float8(of) => ((of.least_exponent() + 2) as f32).exp2(),
        _ => return 0,
    };
    // The largest number, the same in steps, and how many share the scale.
    let mut groups = vec![(0.0_f32, 0.0_f32, 0_usize); stored.scales()];
    for (index, want) in want.iter().enumerate() {
        if let Some((largest, steps, count)) = groups.get_mut(stored.group_at(index)) {
            *count += 1;
            // One number settles it.
            if *steps < least {
                *largest = largest.max(want.abs());
                *steps = steps.max((want / stored.scale_at(index)).abs());
            }
        }
    }
    let is_coarse = |(largest, steps, _): &(f32, f32, usize)| *largest > NOTHING && *steps < least;
    groups.into_iter().filter(is_coarse).map(|(_, _, count)| count).sum()
}

/// How many blocks of codes have a scale that is not their largest number.
fn wrong_scales(stored: &Stored, want: &[f32]) -> usize {
    const OFF: f32 = 0.01;
    let mut largest = vec![(0.0_f32, 0.0_f32); stored.scales()];
    for (index, want) in want.iter().enumerate() {
        if let Some((most, scale)) = largest.get_mut(stored.group_at(index)) {
            let factor = stored.factor_at(index);
            *most = most.max((want / factor).abs());
            *scale = (stored.scale_at(index) / factor).abs();
        }
    }
    let block = (want.len() / stored.scales().max(1)).max(1);
    largest.into_iter().filter(|(most, scale)| (most - scale).abs() > OFF * most.max(*scale)).count() * block
}

/// What a tensor is stored as, in words.
pub(super) fn word(stored: &Stored) -> String {
    match stored.codes {
        Codes::Nf4 => "NF4".to_owned(),
        Codes::Fp4 => "FP4".to_owned(),
        Codes::Halves(dtype) => dtype.to_string(),
        Codes::Float8(Float8::E4m3) => "f8e4m3".to_owned(),
        Codes::Float8(Float8::E5m2) => "f8e5m2".to_owned(),
        Codes::Integers(first, last) => {
            let bits = (i64::from(last) - i64::from(first) + 1).ilog2();
            format!("{}int{bits}", if first < 0 { "" } else { "u" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Distances, neighbours};
    use crate::lowering::Stored;
    use crate::tensor::Dtype;

    #[test]
    fn what_is_beyond_the_last_integer_may_be_a_step_off() {
        // 128 steps to either side, of which the last on one side has no code.
        let of = |want: [f32; 4], got: [f32; 4]| {
            let stored = Stored::of_one_scale((-128, 127), "w", 1.0);
            Distances::of(Some(&stored), &want, &got).beyond
        };
        assert_eq!(of([-128.0, 128.0, 127.7, 3.4], [-128.0, 127.0, 127.0, 3.0]), 0);
        assert_eq!(of([-128.0, 128.1, 126.8, 3.4], [-128.0, 127.0, 126.0, 3.0]), 2);
    }

    #[test]
    fn halves_are_the_nearest_or_cut_off() {
        assert_eq!(neighbours(Dtype::F16, 1.0 + 1e-4, 1.0), 0.0);
        assert_eq!(neighbours(Dtype::F16, 1.0 + 9e-4, 1.0), 1.0);
        assert_eq!(neighbours(Dtype::F16, 1.0, -1.0), 2.0 * 15.0 * 1024.0);
        assert_eq!((neighbours(Dtype::F16, 3e-9, 1.19e-7), neighbours(Dtype::F16, -5e4, -1e4)), (0.0, 0.0));
        assert!(neighbours(Dtype::BF16, 1.0, 1.01) > 0.0);
    }
}
