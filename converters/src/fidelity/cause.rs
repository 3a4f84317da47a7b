//! Why the numbers of a tensor are further from the model's than rounding takes them.

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::lowering::{Codes, Stored};
use crate::matching::Bound;

use super::Dequantized;
use super::blocks::Rounding;
use super::distance::{distance, too_coarse, too_many_cut_off};

/// Numbers this alike are the same, rounded.
const SAME: f64 = 0.99;
/// Numbers this alike differ by a scale, a zero point or a rounding.
const ALIKE: f64 = 0.8;
/// How far apart a factor and 1 are that is none, and of floating-point numbers of 8 bits, which lose more of each.
const FACTOR: f64 = 0.004;
const FACTOR_OF_FLOATS: f64 = 0.03;
/// Rows this alike differ by a factor and a rounding to 4 bits; shorter ones tell nothing.
const RESCALED: f64 = 0.97;
const FEW: usize = 8;
/// Factors explain a difference of which they leave less than a share of this.
const EXPLAINED: f64 = 4.0;
/// The most rows that an order is looked for of.
const MOST_ROWS: usize = 4096;

/// The cause in words, for the tensor `held` whose numbers `got` should be `want`.
pub(super) fn of(
    held: &Bound,
    stored: Option<&Stored>,
    rounding: Option<&Rounding>,
    model: &Checkpoint,
    (want, got): (&[f32], &[f32]),
) -> Result<String> {
    if let Some(at) = got.iter().position(|number| !number.is_finite()) {
        return Ok(format!(
            "number {at} is {}: its code, or its scale, is no number",
            got.get(at).unwrap_or(&f32::NAN)
        ));
    }
    if let Some(coarse) = stored.map(|stored| too_coarse(stored, want)).filter(|&count| count > 0) {
        return Ok(format!(
            "the scale is far too large: {coarse} of its {} numbers are lost in a few steps",
            got.len()
        ));
    }
    if let Some(count) = stored.map(|stored| too_many_cut_off(stored, want, got)).filter(|&count| count > 0) {
        return Ok(format!("the scale is too small: {count} of its {} numbers are cut off", got.len()));
    }
    let alike = cosine(want, got);
    if let Some(stored) = stored
        && let Some(said) = of_the_scale(stored, (want, got))
    {
        return Ok(said);
    }
    if alike >= ALIKE
        && let Some(Rounding::Wrong(said)) = rounding
    {
        return Ok(said.clone());
    }
    if alike < SAME
        && let Some(order) = other_order(held, want, got)
    {
        return Ok(order);
    }
    if alike < SAME
        && let Some(factors) = rescaled(held, want, got)
    {
        return Ok(factors);
    }
    if alike < SAME
        && let Some(other) = other_tensor(held, model, got)?
    {
        return Ok(format!(
            "these are the numbers of {other}: two tensors were exchanged, or one was put in the place of the other"
        ));
    }
    let beyond = |(index, (&want, &got)): (usize, (&f32, &f32))| {
        let (distance, limit) = distance(stored, index, want, got);
        (distance > limit).then_some((index, want, got))
    };
    let others: Vec<(usize, f32, f32)> = want.iter().zip(got).enumerate().filter_map(beyond).collect();
    let Some(&(first, want_there, got_there)) = others.first() else {
        return Ok("its blocks have other scales than their largest numbers".to_owned());
    };
    let (count, all) = (others.len(), got.len());
    if alike >= SAME || count * 10 < all {
        return Ok(format!(
            "{count} of its {all} numbers are not the model's, rounded; the first is number {first}: {got_there}, the model has {want_there}"
        ));
    }
    Ok(format!(
        "other weights: {count} of its {all} numbers are not the model's, rounded (cosine {alike:.3})"
    ))
}

/// A scale or a zero point that is not the one that the numbers were rounded with.
pub(super) fn of_the_scale(stored: &Stored, (want, got): (&[f32], &[f32])) -> Option<String> {
    if matches!(stored.codes, Codes::Halves(_)) {
        return None;
    }
    let groups = stored.scales().max(1);
    let is_float = matches!(stored.codes, Codes::Float8(_));
    // What is beyond the largest of these became it, however far.
    let is_cut_off = |index: usize, got: f32| is_float && stored.is_at_the_end(index, got);
    let mut sums = vec![(0.0_f64, 0.0_f64, 0.0_f64, 0_usize); groups];
    for (index, (&want, &got)) in want.iter().zip(got).enumerate() {
        if is_cut_off(index, got) {
            continue;
        }
        let step = f64::from(stored.step_at(index, got));
        let (want, got) = (f64::from(want), f64::from(got));
        let (product, square, shift, count) = sums.get_mut(stored.group_at(index))?;
        *product += want * got;
        *square += want * want;
        *shift += (got - want) / step.max(f64::MIN_POSITIVE);
        *count += 1;
    }
    let factors: Vec<f64> =
        sums.iter().map(|&(product, square, ..)| if square > 0.0 { product / square } else { 1.0 }).collect();
    let shifts: Vec<f64> =
        sums.iter().map(|&(_, _, shift, count)| (shift / count.max(1) as f64).round()).collect();
    let explained = |of: &dyn Fn(usize, f64, f64) -> f64| {
        want.iter().zip(got).enumerate().all(|(index, (&want, &got))| {
            if is_cut_off(index, got) {
                return true;
            }
            let step = f64::from(stored.step_at(index, got));
            let (want, got) = (f64::from(want), f64::from(got));
            // Of a codebook a step is as wide as the widest gap between two of its numbers.
            let allowed = match stored.codes {
                Codes::Nf4 | Codes::Fp4 => 0.2,
                Codes::Float8(_) => 0.9,
                _ => 0.65,
            };
            (got - of(stored.group_at(index), want, step)).abs() <= allowed * step + 1e-3 * want.abs()
        })
    };
    let place = stored.scale.as_deref().map_or(String::new(), |scale| format!(" (\"{scale}\")"));
    let shifted =
        |group: usize, want: f64, step: f64| want + shifts.get(group).copied().unwrap_or(0.0) * step;
    if !is_float && shifts.iter().any(|&shift| shift != 0.0) && explained(&shifted) {
        let (count, most) = largest(&shifts, 0.0);
        let sign = if most > 0.0 { "small" } else { "large" };
        return Some(format!("the zero point is {:.0} too {sign}{}", most.abs(), of_groups(count, groups)));
    }
    let least = if is_float { FACTOR_OF_FLOATS } else { FACTOR };
    let scaled = |group: usize, want: f64, _: f64| want * factors.get(group).copied().unwrap_or(1.0);
    let differs = factors.iter().any(|factor| (factor - 1.0).abs() > least);
    let spread = factors.iter().all(|&factor| factor.is_finite() && factor > 0.0);
    if differs && spread && explained(&scaled) {
        let (_, most) = largest(&factors, 1.0);
        let count = factors.iter().filter(|&factor| (factor - 1.0).abs() > least).count();
        return Some(format!(
            "the scale{place} is {most:.4} times the one that the numbers were rounded with{}",
            of_groups(count, groups)
        ));
    }
    None
}

fn of_groups(count: usize, groups: usize) -> String {
    if groups > 1 { format!(", in {count} of {groups} channels or blocks") } else { String::new() }
}

/// How many numbers are not `usual`, and the one furthest from it.
fn largest(numbers: &[f64], usual: f64) -> (usize, f64) {
    let others = numbers.iter().copied().filter(|&number| number != usual);
    let most = others.clone().max_by(|a, b| (a - usual).abs().total_cmp(&(b - usual).abs()));
    (others.count(), most.unwrap_or(usual))
}

/// The rows or the columns of a tensor.
struct Rows {
    what: &'static str,
    count: usize,
    length: usize,
    /// Whether they are the columns of what is stored.
    turned: bool,
}

impl Rows {
    /// The rows of a parameter, and if it is a matrix its columns.
    fn of(held: &Bound, numbers: usize) -> Option<Vec<Rows>> {
        let is_matrix = held.param.shape.len() == 2;
        // A row of the parameter is a column of its transpose.
        let turned = held.transposed && is_matrix;
        let count = *held.param.shape.first()?;
        let length = numbers.checked_div(count)?;
        let mut all = vec![Rows { what: "rows", count, length, turned }];
        if is_matrix {
            all.push(Rows { what: "columns", count: length, length: count, turned: !turned });
        }
        all.retain(|rows| (2..=MOST_ROWS).contains(&rows.count) && rows.length > 0);
        Some(all)
    }

    /// One of them.
    fn at(&self, numbers: &[f32], at: usize) -> Vec<f32> {
        let index =
            |place: usize| if self.turned { place * self.count + at } else { at * self.length + place };
        (0..self.length).filter_map(|place| numbers.get(index(place)).copied()).collect()
    }
}

/// That rows or columns of a matrix are the model's, each times a factor: tools move factors of channels from one weight to another.
fn rescaled(held: &Bound, want: &[f32], got: &[f32]) -> Option<String> {
    let of_rows = |rows: Rows| {
        let (mut left, mut least, mut most) = (0.0, f64::INFINITY, f64::NEG_INFINITY);
        for at in 0..rows.count {
            let (want, got) = (rows.at(want, at), rows.at(got, at));
            if rows.length < FEW || cosine(&want, &got) < RESCALED {
                return None;
            }
            let (size, product) = (energy(&want), product(&want, &got));
            let factor = if size > 0.0 { product / size } else { 1.0 };
            left += (energy(&got) - factor * product).max(0.0);
            (least, most) = (factor.min(least), factor.max(most));
        }
        let off: f64 = want.iter().zip(got).map(|(&want, &got)| f64::from(got - want).powi(2)).sum();
        (left * EXPLAINED < off).then(|| {
            format!(
                "its {} are the model's times factors of {least:.3} to {most:.3}, as tools leave it that move them into another weight \
                 (AWQ, SmoothQuant): not the model's weights",
                rows.what
            )
        })
    };
    Rows::of(held, got.len())?.into_iter().find_map(of_rows)
}

/// Rows or columns of a matrix that are those of the model in another order.
fn other_order(held: &Bound, want: &[f32], got: &[f32]) -> Option<String> {
    Rows::of(held, got.len())?.into_iter().find_map(|rows| moved(&rows, want, got))
}

/// That rows are in another order.
fn moved(rows: &Rows, want: &[f32], got: &[f32]) -> Option<String> {
    let Rows { what, count, .. } = *rows;
    let wanted: Vec<Vec<f32>> = (0..count).map(|at| rows.at(want, at)).collect();
    let mut order = Vec::with_capacity(count);
    for at in 0..count {
        let have = rows.at(got, at);
        let alike = |(_, want): &(usize, &Vec<f32>)| same(want, &have);
        let own = wanted.get(at).is_some_and(|want| same(want, &have));
        let found =
            if own { Some(at) } else { wanted.iter().enumerate().find(alike).map(|(other, _)| other) };
        order.push(found?);
    }
    let (at, from) = order.iter().enumerate().find(|(at, from)| at != *from)?;
    let moved = order.iter().enumerate().filter(|(at, from)| at != *from).count();
    let one = what.trim_end_matches('s');
    Some(format!(
        "its {what} are in another order: {moved} of {count} moved, {one} {at} is the model's {one} {from}"
    ))
}

/// Whether two rows are the same, rounded.
fn same(want: &[f32], got: &[f32]) -> bool {
    if want.len() > 2 {
        return cosine(want, got) >= SAME;
    }
    want.iter().zip(got).all(|(want, got)| (want - got).abs() <= 0.01 * want.abs())
}

/// Another parameter whose numbers these are.
fn other_tensor(held: &Bound, model: &Checkpoint, got: &[f32]) -> Result<Option<String>> {
    for bound in &model.bound {
        let has_shape = bound.param.shape == held.param.shape && bound.param.name != held.param.name;
        if has_shape && cosine(&Dequantized::in_layout_of(held, model, bound)?, got) >= ALIKE {
            return Ok(Some(bound.param.name.clone()));
        }
    }
    Ok(None)
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let (first, second) = (energy(one), energy(other));
    if first == 0.0 && second == 0.0 {
        1.0
    } else {
        product(one, other) / (first * second).sqrt().max(f64::MIN_POSITIVE)
    }
}

fn product(one: &[f32], other: &[f32]) -> f64 {
    one.iter().zip(other).map(|(&one, &other)| f64::from(one) * f64::from(other)).sum()
}

fn energy(numbers: &[f32]) -> f64 {
    numbers.iter().map(|&number| f64::from(number).powi(2)).sum()
}
