//! Metrics: numbers from predictions and what was expected, and nothing about files or models.

pub mod answers;
pub mod confusion;
pub mod correlation;
pub mod entities;
pub(super) mod json;
pub mod threshold;

/// The share of `right` among `total`; nothing if there are none.
pub fn share(right: usize, total: usize) -> Option<f64> {
    (total > 0).then(|| right as f64 / total as f64)
}

/// The place of the largest number, the first of equal ones; nothing if there is none or one is NaN.
pub fn largest(numbers: &[f32]) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    for (at, &number) in numbers.iter().enumerate() {
        if number.is_nan() {
            return None;
        }
        if best.is_none_or(|(_, most)| number > most) {
            best = Some((at, number));
        }
    }
    best.map(|(at, _)| at)
}

/// By how much the largest number is above the next; infinite if there is no other.
pub fn margin(numbers: &[f32]) -> f32 {
    let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for &number in numbers {
        if number > first {
            (first, second) = (number, first);
        } else if number > second {
            second = number;
        }
    }
    first - second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_share() {
        assert_eq!(share(0, 0), None);
        assert_eq!(share(3, 4), Some(0.75));
    }

    #[test]
    fn the_first_of_equal_numbers_is_the_largest_and_nan_is_no_number() {
        assert_eq!(largest(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(largest(&[]), None);
        assert_eq!(largest(&[f32::NAN, 1.0]), None);
        assert_eq!(largest(&[1.0, f32::NAN]), None);
    }

    #[test]
    fn the_margin_is_to_the_second() {
        assert_eq!(margin(&[1.0, 3.0, 2.5]), 0.5);
        assert_eq!(margin(&[3.0, 3.0]), 0.0);
        assert_eq!(margin(&[3.0]), f32::INFINITY);
    }
}
