//! Weights in f32 that are multiples of a scale: an optimizer has computed in advance what a graph dequantizes.

use super::stored::{Stored, Table};

/// How many numbers must be multiples of a scale, so that it is not by chance; the largest, which the scale is made of, always is.
const FEWEST: usize = 15;
/// How far a multiple of 8 bits may be from an integer by computing it in f32.
const NEAR: f32 = 1e-3;

impl Stored {
    /// How numbers were stored in 8 bits that are multiples of one scale, or of one for each index of an axis. Nothing if they
    /// are not.
    pub fn of_multiples(name: &str, numbers: &[f32], shape: &[usize]) -> Option<Stored> {
        let stored = |scales| Stored::integers((-255, 255), name, None, scales, Table::one(0));
        let is_enough = |groups: usize| numbers.len() >= FEWEST + groups;
        if let Some(scale) = scale_of(numbers).filter(|_| is_enough(1)) {
            return Some(stored(Table::one(scale)));
        }
        (0..shape.len()).find_map(|axis| {
            let length = *shape.get(axis).filter(|&&length| is_enough(length))?;
            let behind = shape.get(axis + 1..)?.iter().product::<usize>();
            let mut groups = vec![Vec::new(); length];
            for (at, &number) in numbers.iter().enumerate() {
                groups.get_mut(at.checked_div(behind)?.checked_rem(length)?)?.push(number);
            }
            let scales = groups.iter().map(|group| scale_of(group)).collect::<Option<Vec<f32>>>()?;
            let scales = Table::new(scales, &[length], shape, i64::try_from(axis).ok()?, 0)?;
            Some(stored(scales))
        })
    }
}

/// The scale that all numbers are multiples of: the largest of them, or all that is between the least and the largest, over as many
/// codes as tools have there.
fn scale_of(numbers: &[f32]) -> Option<f32> {
    let ends = |(least, most): (f32, f32), number: &f32| (least.min(*number), most.max(*number));
    let (least, most) = numbers.iter().fold((0.0, 0.0), ends);
    let (largest, span) = (most.max(-least), most - least);
    if !span.is_finite() {
        return None;
    }
    if span == 0.0 {
        return Some(1.0);
    }
    let of_the_largest = [63.0, 64.0, 127.0, 128.0].map(|codes| largest / codes);
    let of_all = [127.0, 254.0, 255.0].map(|codes| span / codes);
    let are_multiples =
        |scale: &f32| numbers.iter().all(|number| (number / scale - (number / scale).round()).abs() < NEAR);
    of_the_largest.into_iter().chain(of_all).find(are_multiples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_a_grid_are_told_from_others() {
        let codes = |at: usize| (at * 37 % 255) as f32 - 127.0;
        let scale = |row: usize| 0.001 + row as f32 / 3000.0;
        let by_row: Vec<f32> = (0..4 * 255).map(|at| codes(at) * scale(at / 255)).collect();
        let of = |numbers: &[f32], shape: &[usize]| Stored::of_multiples("w", numbers, shape);
        let stored = of(&by_row, &[4, 5, 51]).unwrap();
        assert!((0..4).all(|row| (stored.scale_at(row * 255 + 7) / scale(row) - 1.0).abs() < 1e-5));
        let by_column: Vec<f32> = (0..4 * 255).map(|at| codes(at / 4) * scale(at % 4)).collect();
        assert!((of(&by_column, &[255, 4]).unwrap().scale_at(2) / scale(2) - 1.0).abs() < 1e-5);
        // From 0 to 255 codes above the zero point.
        let above: Vec<f32> = (0..255).map(|at| (codes(at) + 100.0) * 0.01).collect();
        assert!((of(&above, &[255]).unwrap().scale_at(0) / 0.01 - 1.0).abs() < 0.01);
        // Kernels of three numbers for each of 16 channels.
        let kernels: Vec<f32> = by_row
            .iter()
            .enumerate()
            .map(|(at, number)| {
                let row = at / 3;
                if at % 3 == 1 { 127.0 * scale(row) } else { number / scale(at / 255) * scale(row) }
            })
            .take(48)
            .collect();
        assert!(of(&kernels, &[16, 1, 3]).is_some() && of(&kernels[..12], &[4, 1, 3]).is_none());
        let mut one_off = by_row;
        one_off[300] += 0.3 * scale(1);
        assert!(of(&one_off, &[4, 5, 51]).is_none() && of(&[1.0, 2.0, 3.0], &[3]).is_none());
    }
}
