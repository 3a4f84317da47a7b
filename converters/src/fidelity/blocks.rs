//! Integers in blocks that are not the nearest ones.
//!
//! Tools that know what a layer takes let the errors of a row make up for one another (GPTQ): a number is then several steps
//! off. Others round twice, or choose a scale that what is large is beyond. How far a single number is tells nothing of these;
//! what does is how much noise all of them make, in multiples of what rounding to the nearest makes with as many codes in the same
//! blocks, and whether a scale or a zero point explains it.

use crate::lowering::{Codes, Stored};

/// The most noise that a tensor may have, in multiples of that of rounding to the nearest. How it was found: `docs/quantized.md`.
const MOST_NOISE: f64 = 12.0;
/// A tensor of a file has no more than this many times the noise that is usual there.
const MOST_OF_USUAL: f64 = 4.0;
/// What is rounded twice is at most so many steps off, and makes as little noise as what is rounded once.
const TWICE: f64 = 1.1;
/// Fewer codes than these are not looked for among more: with so few, other weights make hardly more noise than rounding does.
const FEWEST_CODES: f64 = 8.0;

/// How far factors of a whole tensor, and of a block, are from 1 that no rounding explains.
const FACTOR: f64 = 0.1;
const FACTOR_OF_A_BLOCK: f64 = 0.4;
/// The same of shifts, in steps.
const SHIFT: f64 = 0.3;
const SHIFT_OF_A_BLOCK: f64 = 1.5;
/// A block whose numbers are explained by a factor or a shift this many standard errors away from none is not by chance.
const ERRORS: f64 = 8.0;
/// Fewer numbers tell nothing of their scale.
const FEW: f64 = 8.0;

/// What is known of a tensor in blocks of which not every number is the nearest.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rounding {
    /// Every number is the nearest one, but for those beyond the first or last code that their block has. The noise, as below.
    Clipped(f64),
    /// Otherwise than to the nearest, with so much noise.
    Other(f64),
    /// The scale or the zero point is wrong, in words.
    Wrong(String),
    /// More noise than rounding makes.
    Noisy,
}

/// What the numbers of a block have in common with those of the model, those beyond the codes of their block left out.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: f64,
    want_want: f64,
    want_got: f64,
    /// Of how far a number is off, in steps.
    off: f64,
    off_off: f64,
    /// Of the model's numbers, in steps; and of their products with how far they are off.
    want_steps: f64,
    want_off: f64,
    /// How far the one is off that is furthest.
    furthest: f64,
}

/// The codes that a tensor or a block of it has, of those that it is stored with: 3 bits are stored in 4, and what was cut off
/// before it was rounded need not have the first or the last code.
#[derive(Clone, Copy)]
struct CodesInUse {
    least: i64,
    most: i64,
}

impl Rounding {
    /// How a tensor whose numbers `got` should be `want` was rounded, where a number is the nearest within `limit` steps. Nothing
    /// if it is not stored in blocks of integers.
    pub(super) fn of(stored: &Stored, want: &[f32], got: &[f32], limit: f64) -> Option<Rounding> {
        if !matches!(stored.codes, Codes::Integers(..)) || !stored.is_in_blocks() || want.len() != got.len() {
            return None;
        }
        let codes = CodesInUse::of_blocks(stored, got);
        let mut blocks = vec![Sums::default(); stored.scales()];
        let (mut whole, mut is_nearest) = (Sums::default(), true);
        for (index, (&want, &got)) in want.iter().zip(got).enumerate() {
            if codes.get(stored.group_at(index))?.are_exceeded(stored, index, want, got) {
                continue;
            }
            let step = f64::from(stored.scale_at(index)).abs();
            let (want, got) = (f64::from(want), f64::from(got));
            let of = Sums::of(want, got, step.max(f64::MIN_POSITIVE));
            is_nearest &= of.off.abs() <= limit + want.abs() / step * stored.scale_error();
            whole.add(of);
            blocks.get_mut(stored.group_at(index))?.add(of);
        }
        let nearest = nearest(stored, want, got);
        let noise = energy(want, got) / energy(want, &nearest).max(f64::MIN_POSITIVE);
        Some(match wrong(stored, &whole, &blocks) {
            Some(said) => Rounding::Wrong(said),
            None if !noise.is_finite() || noise > MOST_NOISE => Rounding::Noisy,
            None if is_nearest => Rounding::Clipped(noise),
            None => Rounding::Other(noise),
        })
    }
}

impl Rounding {
    /// Whether it is one to the nearest, done twice: what tools leave that round what was rounded before. No number is more than
    /// `furthest` steps off.
    pub(super) fn is_done_twice(&self, furthest: f64) -> bool {
        matches!(self, Rounding::Other(noise) if *noise <= TWICE && furthest <= TWICE)
    }
}

/// Whether so much noise is more than the tensors of a file have of which `all` is that of each.
pub(super) fn stands_out(noise: f64, all: &[f64]) -> bool {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).is_some_and(|usual| noise > MOST_OF_USUAL * usual.max(1.0))
}

/// The scale or the zero point that is wrong, of the whole tensor or of some blocks.
fn wrong(stored: &Stored, whole: &Sums, blocks: &[Sums]) -> Option<String> {
    let scale = stored.scale.as_deref().map_or(String::new(), |scale| format!(" (\"{scale}\")"));
    let of_blocks = |count: usize| format!(", in {count} of {} blocks", blocks.len());
    if (whole.factor() - 1.0).abs() > FACTOR {
        return Some(format!(
            "the scale{scale} is {:.4} times the one that the numbers were rounded with",
            whole.factor()
        ));
    }
    if whole.shift().abs() > SHIFT {
        let (count, sign) = (whole.shift(), if whole.shift() > 0.0 { "small" } else { "large" });
        return Some(format!("the zero point is {:.1} too {sign} on average", count.abs()));
    }
    let scaled: Vec<f64> = blocks.iter().filter(|of| of.is_scaled()).map(|of| of.factor()).collect();
    if let Some(most) = scaled.iter().copied().max_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs())) {
        let blocks = of_blocks(scaled.len());
        return Some(format!(
            "the scale{scale} is {most:.4} times the one that the numbers were rounded with{blocks}"
        ));
    }
    let shifted: Vec<f64> = blocks.iter().filter(|of| of.is_shifted()).map(|of| of.shift()).collect();
    let most = shifted.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()))?;
    let (sign, blocks) = (if most > 0.0 { "small" } else { "large" }, of_blocks(shifted.len()));
    Some(format!("the zero point is {:.0} too {sign}{blocks}", most.abs()))
}

impl CodesInUse {
    const NONE: CodesInUse = CodesInUse { least: i64::MAX, most: i64::MIN };

    /// Those of a tensor.
    fn of(stored: &Stored, got: &[f32]) -> CodesInUse {
        let of_blocks = CodesInUse::of_blocks(stored, got);
        of_blocks.into_iter().fold(CodesInUse::NONE, |all, of| all.with(of.least).with(of.most))
    }

    /// Those of each of its blocks.
    fn of_blocks(stored: &Stored, got: &[f32]) -> Vec<CodesInUse> {
        let mut blocks = vec![CodesInUse::NONE; stored.scales()];
        for (index, &got) in got.iter().enumerate() {
            if let Some(block) = blocks.get_mut(stored.group_at(index)) {
                *block = block.with(stored.code(index, got));
            }
        }
        blocks
    }

    fn with(self, code: i64) -> CodesInUse {
        CodesInUse { least: self.least.min(code), most: self.most.max(code) }
    }

    /// As many as fit into the bits that they need.
    fn count(&self) -> f64 {
        let used = self.most.saturating_sub(self.least).max(0) as f64 + 1.0;
        used.log2().ceil().exp2().max(FEWEST_CODES)
    }

    /// Whether the number of element `index` that `want` should be is beyond them, and became the first or the last.
    fn are_exceeded(&self, stored: &Stored, index: usize, want: f32, got: f32) -> bool {
        let (code, beyond) = (stored.code(index, got), (want - got) / stored.scale_at(index));
        (code <= self.least && beyond < 0.0) || (code >= self.most && beyond > 0.0)
    }
}

impl Sums {
    fn of(want: f64, got: f64, step: f64) -> Sums {
        let (off, steps) = ((got - want) / step, want / step);
        Sums {
            count: 1.0,
            want_want: want * want,
            want_got: want * got,
            off,
            off_off: off * off,
            want_steps: steps * steps,
            want_off: steps * off,
            furthest: off.abs(),
        }
    }

    fn add(&mut self, other: Sums) {
        self.count += other.count;
        self.want_want += other.want_want;
        self.want_got += other.want_got;
        self.off += other.off;
        self.off_off += other.off_off;
        self.want_steps += other.want_steps;
        self.want_off += other.want_off;
        self.furthest = self.furthest.max(other.furthest);
    }

    /// Whether there are numbers enough to tell, and one of them is not rounded up or down: a block of small numbers that all
    /// became 0 has no factor.
    fn tells(&self) -> bool {
        self.count >= FEW && self.furthest > 1.0
    }

    /// By how much the numbers are larger than the model's.
    fn factor(&self) -> f64 {
        if self.want_want > 0.0 { self.want_got / self.want_want } else { 1.0 }
    }

    /// How many steps the numbers are above the model's.
    fn shift(&self) -> f64 {
        if self.count > 0.0 { self.off / self.count } else { 0.0 }
    }

    /// Whether another scale explains how far the numbers are off, and chance does not.
    fn is_scaled(&self) -> bool {
        let slope = self.want_off / self.want_steps.max(f64::MIN_POSITIVE);
        let rest = (self.off_off - slope * self.want_off).max(0.0) / self.count.max(1.0);
        let error = (rest / self.want_steps.max(f64::MIN_POSITIVE)).sqrt();
        self.tells() && (self.factor() - 1.0).abs() > FACTOR_OF_A_BLOCK && slope.abs() > ERRORS * error
    }

    /// Whether another zero point does.
    fn is_shifted(&self) -> bool {
        let shift = self.shift();
        let rest = (self.off_off - shift * self.off).max(0.0) / self.count.max(1.0);
        let error = (rest / self.count.max(1.0)).sqrt();
        self.tells() && shift.abs() > SHIFT_OF_A_BLOCK && shift.abs() > ERRORS * error
    }
}

/// The numbers of the model rounded to the nearest, with as many codes in the same blocks as `got` has, from the least number to
/// the largest.
pub(super) fn nearest(stored: &Stored, want: &[f32], got: &[f32]) -> Vec<f32> {
    let Codes::Integers(first, last) = stored.codes else { return want.to_vec() };
    let all = f64::from(last) - f64::from(first) + 1.0;
    let codes = CodesInUse::of(stored, got).count().min(all) - 1.0;
    let mut ends = vec![(0.0_f64, 0.0_f64); stored.scales()];
    // Of a channel that has a factor, what it was divided by this is rounded.
    let divided = |index: usize, want: f32| f64::from(want) / f64::from(stored.factor_at(index));
    for (index, &want) in want.iter().enumerate() {
        if let Some((least, most)) = ends.get_mut(stored.group_at(index)) {
            let want = divided(index, want);
            (*least, *most) = (least.min(want), most.max(want));
        }
    }
    let rounded = |(index, &want): (usize, &f32)| {
        let (least, most) = ends.get(stored.group_at(index)).copied().unwrap_or_default();
        let step = (most - least) / codes;
        if step <= 0.0 {
            return want;
        }
        let zero = (-least / step).round();
        let code = ((divided(index, want) / step).round() + zero).clamp(0.0, codes);
        ((code - zero) * step * f64::from(stored.factor_at(index))) as f32
    };
    want.iter().enumerate().map(rounded).collect()
}

fn energy(want: &[f32], got: &[f32]) -> f64 {
    want.iter().zip(got).map(|(&want, &got)| (f64::from(got) - f64::from(want)).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 32;

    /// Numbers of about the size of weights, the same every time.
    fn numbers(count: usize) -> Vec<f32> {
        let mut state = 19_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count).map(|_| (0..6).map(|_| uniform()).sum()).collect()
    }

    /// What is stored of these numbers with these codes, a scale for each block.
    fn stored(scales: Vec<f32>) -> Stored {
        Stored::of_blocks((0, 15), "w", "s", scales, BLOCK)
    }

    /// The scales of symmetric rounding.
    fn scales(want: &[f32]) -> Vec<f32> {
        let most = |block: &[f32]| block.iter().fold(0.0_f32, |most, number| most.max(number.abs()));
        want.chunks(BLOCK).map(|block| most(block) / 7.5).collect()
    }

    fn of(want: &[f32], scales: Vec<f32>, code: impl Fn(usize, f32) -> f32) -> Rounding {
        let stored = stored(scales);
        let number = |(index, _): (usize, &f32)| {
            let step = stored.scale_at(index);
            code(index, step).clamp(-8.0, 7.0) * step
        };
        let got: Vec<f32> = want.iter().enumerate().map(number).collect();
        Rounding::of(&stored, want, &got, 0.52).unwrap()
    }

    /// The nearest integer, but for one number in `every`: the other one of the two that are around it.
    fn to_another_side(number: f32, index: usize, every: usize) -> f32 {
        let nearest = number.round();
        if index.is_multiple_of(every) { number.floor() + number.ceil() - nearest } else { nearest }
    }

    #[test]
    fn roundings_are_told_from_what_is_none() {
        let want = numbers(64 * BLOCK);
        let at = |index: usize, step: f32| want[index] / step;
        let nearest = of(&want, scales(&want), |index, step| at(index, step).round());
        assert!(matches!(nearest, Rounding::Clipped(noise) if (0.8..1.6).contains(&noise)), "{nearest:?}");
        // What is beyond two thirds of the largest number becomes that.
        let narrow = scales(&want).iter().map(|scale| scale / 1.5).collect();
        let clipped = of(&want, narrow, |index, step| at(index, step).round());
        assert!(matches!(clipped, Rounding::Clipped(_)), "{clipped:?}");
        // One number in three is rounded to the other side.
        let other = |index: usize, step: f32| to_another_side(at(index, step), index, 3);
        let rounded = of(&want, scales(&want), other);
        assert!(matches!(rounded, Rounding::Other(noise) if noise > 1.5), "{rounded:?}");
    }

    #[test]
    fn fewer_codes_than_bits_are_judged_by_those() {
        let want = numbers(64 * BLOCK);
        // Codes from -4 to 3, of which every other one is rounded to the other side.
        let wide: Vec<f32> = scales(&want).iter().map(|scale| scale * 7.5 / 3.5).collect();
        let stored = stored(wide);
        let rounded = |(index, want): (usize, &f32)| {
            to_another_side(want / stored.scale_at(index), index, 2).clamp(-4.0, 3.0) * stored.scale_at(index)
        };
        let got: Vec<f32> = want.iter().enumerate().map(rounded).collect();
        // One in two that is three times as far off makes four times the noise.
        let of_eight = Rounding::of(&stored, &want, &got, 0.52);
        assert!(
            matches!(of_eight, Some(Rounding::Other(noise)) if (3.0..6.0).contains(&noise)),
            "{of_eight:?}"
        );
        // The same with one code that only 4 bits have.
        let last = |(index, &got): (usize, &f32)| if index == 0 { 7.0 * stored.scale_at(0) } else { got };
        let got: Vec<f32> = got.iter().enumerate().map(last).collect();
        assert_eq!(Rounding::of(&stored, &want, &got, 0.52), Some(Rounding::Noisy));
    }

    #[test]
    fn what_is_cut_off_before_the_last_code_has_no_wrong_scale() {
        let want = numbers(64 * BLOCK);
        // A block of which all beyond a third of the largest number is cut off, at 7 on either side; the others are rounded to
        // the other side here and there.
        let mut narrow = scales(&want);
        narrow[3] /= 3.0;
        let code = |index: usize, step: f32| {
            let code = to_another_side(want[index] / step, index, 3);
            if index / BLOCK == 3 { code.clamp(-7.0, 7.0) } else { code }
        };
        let rounded = of(&want, narrow, code);
        assert!(matches!(rounded, Rounding::Other(_)), "{rounded:?}");
    }

    #[test]
    fn a_block_of_numbers_that_became_zero_has_no_wrong_scale() {
        let want = numbers(64 * BLOCK);
        let mut wide = scales(&want);
        wide[3] *= 8.0;
        let other = |index: usize, step: f32| to_another_side(want[index] / step, index, 5);
        let rounded =
            of(&want, wide, |index, step| if index / BLOCK == 3 { 0.0 } else { other(index, step) });
        assert!(matches!(rounded, Rounding::Other(_)), "{rounded:?}");
    }

    #[test]
    fn what_is_rounded_twice_is_as_good_as_once() {
        assert!(Rounding::Other(1.0).is_done_twice(1.04));
        assert!(!Rounding::Other(1.2).is_done_twice(1.04) && !Rounding::Other(1.0).is_done_twice(1.5));
        assert!(!Rounding::Noisy.is_done_twice(0.6));
    }

    #[test]
    fn a_scale_or_a_zero_point_is_named_whatever_the_rounding_is() {
        let want = numbers(64 * BLOCK);
        let other = |index: usize, step: f32| to_another_side(want[index] / step, index, 3);
        let said = |rounding: Rounding| match rounding {
            Rounding::Wrong(said) => said,
            rounding => panic!("{rounding:?}"),
        };
        let right = scales(&want);
        // Codes of the right scale under one that is 1.5 times it; what is cut off makes it a little less.
        let all: Vec<f32> = right.iter().map(|scale| scale * 1.5).collect();
        assert!(said(of(&want, all, |index, step| other(index, step / 1.5))).contains("is 1.4"));
        let mut one = right.clone();
        one[3] *= 1.6;
        let of_one =
            |index: usize, step: f32| other(index, if index / BLOCK == 3 { step / 1.6 } else { step });
        assert!(said(of(&want, one, of_one)).contains("in 1 of 64 blocks"));
        assert!(said(of(&want, right.clone(), |index, step| other(index, step) + 1.0)).contains("too small"));
        let shifted =
            |index: usize, step: f32| other(index, step) - if index / BLOCK == 5 { 4.0 } else { 0.0 };
        assert!(said(of(&want, right.clone(), shifted)).contains("4 too large, in 1 of 64 blocks"));
        let shuffled = |index: usize, step: f32| (want[(index * 37) % want.len()] / step).round();
        assert!(matches!(of(&want, right, shuffled), Rounding::Noisy | Rounding::Wrong(_)));
    }

    #[test]
    fn what_stands_out_has_several_times_the_usual_noise() {
        assert!(stands_out(9.0, &[1.5, 2.0, 2.2, 9.0]) && !stands_out(7.0, &[2.0, 4.0, 7.0]));
    }
}
