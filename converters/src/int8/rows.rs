//! The scales of a weight, one for each row, and the codes of its numbers.

use crate::error::{Error, Kind, Result};
use crate::tensor::Dtype;
use crate::values::Values;

/// The scales of a weight `[rows, …]`.
#[derive(Debug, PartialEq)]
pub(crate) struct Rows {
    scales: Vec<f32>,
    /// How many numbers a row has.
    len: usize,
    most: f32,
}

impl Rows {
    /// The scales that take the largest number of every row to the code `most`.
    ///
    /// # Errors
    /// A number that is not finite.
    pub(crate) fn of(values: &Values<'_>, most: i8) -> Result<Rows> {
        let (rows, len) = match values.shape.as_slice() {
            [rows, rest @ ..] => (*rows, rest.iter().product::<usize>().max(1)),
            [] => (1, 1),
        };
        let most = f32::from(most);
        let mut largest = vec![0.0_f32; rows];
        let mut at = 0_usize;
        values.strips(Dtype::F32, false, |strip| {
            for &bytes in strip.as_chunks().0 {
                let number = f32::from_le_bytes(bytes);
                if !number.is_finite() {
                    let why = format!("{number} in row {} cannot be rounded to int8", at / len);
                    return Err(Error::new(Kind::Model, why));
                }
                if let Some(row) = largest.get_mut(at / len) {
                    *row = row.max(number.abs());
                }
                at += 1;
            }
            Ok(())
        })?;
        let scale = |largest: f32| if largest == 0.0 { 1.0 } else { (largest / most).max(f32::MIN_POSITIVE) };
        Ok(Rows { scales: largest.into_iter().map(scale).collect(), len, most })
    }

    /// The scales.
    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The scale of the number at `index` in the canonical layout, or in that of the transpose.
    pub(crate) fn scale_at(&self, index: usize, transposed: bool) -> f32 {
        let row = if transposed { index % self.scales.len().max(1) } else { index / self.len };
        self.scales.get(row).copied().unwrap_or(1.0)
    }

    /// The code of a number: the nearest, of two the even one.
    pub(crate) fn code(&self, number: f32, scale: f32) -> i8 {
        // Within ±most, and whole.
        (number / scale).round_ties_even().clamp(-self.most, self.most) as i8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(numbers: &[f32], shape: &[usize]) -> Values<'static> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Values { bytes: bytes.into(), dtype: Dtype::F32, shape: shape.to_vec(), transposed: false }
    }

    #[test]
    fn every_row_has_the_scale_of_its_largest_number() {
        let values = weight(&[1.27, -0.635, 0.005, 0.0, 0.0, 0.0, -254.0, 3.0, 1.0], &[3, 3]);
        let rows = Rows::of(&values, 127).unwrap();
        assert_eq!(rows.scales(), [0.01, 1.0, 2.0]);
        let codes: Vec<i8> = values
            .to_f32()
            .unwrap()
            .into_iter()
            .enumerate()
            .map(|(index, number)| rows.code(number, rows.scale_at(index, false)))
            .collect();
        // 63.5, 0.5 and 1.5 steps are in the middle: the even code is taken.
        assert_eq!(codes, [127, -64, 0, 0, 0, 0, -127, 2, 0]);
        // The transpose has the rows in turn.
        assert_eq!([0, 1, 2, 5].map(|index| rows.scale_at(index, true)), [0.01, 1.0, 2.0, 2.0]);
        assert_eq!(Rows::of(&values, 63).unwrap().scales()[2], 254.0 / 63.0);
    }

    #[test]
    fn a_kernel_has_a_scale_for_each_output() {
        let numbers: Vec<f32> = (0..12).map(|number| number as f32).collect();
        let rows = Rows::of(&weight(&numbers, &[2, 3, 2]), 127).unwrap();
        assert_eq!(rows.scales(), [5.0 / 127.0, 11.0 / 127.0]);
        assert_eq!(rows.scale_at(6, false), 11.0 / 127.0);
    }

    #[test]
    fn tiny_numbers_have_codes_and_infinite_ones_are_refused() {
        let rows = Rows::of(&weight(&[1e-44, -1e-44], &[1, 2]), 127).unwrap();
        assert_eq!((rows.scales(), rows.code(1e-44, f32::MIN_POSITIVE)), (&[f32::MIN_POSITIVE][..], 0));
        let error = Rows::of(&weight(&[0.0, 1.0, f32::NAN, 0.0], &[2, 2]), 127).unwrap_err().to_string();
        assert_eq!(error, "NaN in row 1 cannot be rounded to int8");
    }
}
