//! Codes and scales of a weight, written and read back in strips.

use super::{Noise, Rows, codes_of, scales_of};
use crate::digest::{TensorDigest, TensorHasher};
use crate::error::{Error, Result};
use crate::format::TensorFile;
use crate::tensor::Dtype;
use crate::values::{Rounding, Values};

/// Gives `each` the codes of a weight, in the canonical layout or `transposed`. Returns the digest of the numbers that they stand
/// for, and how far these are from the weight's.
///
/// # Errors
/// A number that is not finite; an error of `each`.
pub(crate) fn write_codes(
    values: &Values<'_>,
    most: i8,
    transposed: bool,
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<(TensorDigest, Noise, Rounding)> {
    let rows = Rows::of(values, most)?;
    let mut hasher = TensorHasher::new(Dtype::F32, &values.shape);
    let (mut noise, mut rounding, mut at) = (Noise::default(), Rounding::default(), 0_usize);
    let (mut codes, mut numbers) = (Vec::new(), Vec::new());
    values.strips(Dtype::F32, false, |strip| {
        codes.clear();
        numbers.clear();
        for &bytes in strip.as_chunks().0 {
            let (was, scale) = (f32::from_le_bytes(bytes), rows.scale_at(at, false));
            let code = rows.code(was, scale);
            let is = f32::from(code) * scale;
            noise.add(was, is, scale);
            rounding.changed += u64::from(is != was);
            rounding.max_abs = rounding.max_abs.max((f64::from(is) - f64::from(was)).abs());
            codes.extend(code.to_le_bytes());
            numbers.extend(is.to_le_bytes());
            at += 1;
        }
        hasher.update(&numbers)?;
        if transposed { Ok(()) } else { each(&codes) }
    })?;
    if transposed {
        at = 0;
        values.strips(Dtype::F32, true, |strip| {
            codes.clear();
            for &bytes in strip.as_chunks().0 {
                codes.extend(rows.code(f32::from_le_bytes(bytes), rows.scale_at(at, true)).to_le_bytes());
                at += 1;
            }
            each(&codes)
        })?;
    }
    Ok((hasher.finish(), noise, rounding))
}

/// Gives `each` the scales of a weight.
///
/// # Errors
/// As [`write_codes`].
pub(crate) fn write_scales(
    values: &Values<'_>,
    most: i8,
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let rows = Rows::of(values, most)?;
    each(&rows.scales().iter().flat_map(|scale| scale.to_le_bytes()).collect::<Vec<u8>>())
}

/// The digest of the numbers that the codes and scales of a parameter of `shape` stand for in a file.
///
/// # Errors
/// A file without them.
pub(crate) fn read_back(
    file: &dyn TensorFile,
    parameter: &str,
    shape: &[usize],
    transposed: bool,
) -> Result<TensorDigest> {
    /// How many rows are taken out of a transpose at once: as many codes as a cache line has.
    const BLOCK: usize = 64;
    let read = |name: String| {
        let index = file.tensors().iter().position(|info| info.name == name);
        let missing = || Error::malformed("was not written").in_tensor(&name);
        file.read(index.ok_or_else(missing)?)
    };
    let (codes, scales) = (read(codes_of(parameter))?, read(scales_of(parameter))?);
    let scales: Vec<f32> = scales.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let len = (codes.len() / scales.len().max(1)).max(1);
    let mut hasher = TensorHasher::new(Dtype::F32, shape);
    let number = |&code: &u8, scale: f32| (f32::from(i8::from_le_bytes([code])) * scale).to_le_bytes();
    if !transposed {
        for (row, &scale) in codes.chunks(len).zip(&scales) {
            hasher.update(&row.iter().flat_map(|code| number(code, scale)).collect::<Vec<u8>>())?;
        }
        return Ok(hasher.finish());
    }
    for (block, scales_of_block) in scales.chunks(BLOCK).enumerate() {
        let mut numbers = vec![[0_u8; 4]; scales_of_block.len() * len];
        for (column, line) in codes.chunks(scales.len()).enumerate() {
            let line = line.iter().skip(block * BLOCK).zip(scales_of_block);
            for (place, (code, &scale)) in numbers.iter_mut().skip(column).step_by(len).zip(line) {
                *place = number(code, scale);
            }
        }
        hasher.update(numbers.as_flattened())?;
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(rows: usize, columns: usize) -> Values<'static> {
        let numbers =
            (0..rows * columns).map(|at| ((at * 37 % 101) as f32 - 50.0) * (1 + at / columns) as f32);
        let bytes: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
        Values { bytes: bytes.into(), dtype: Dtype::F32, shape: vec![rows, columns], transposed: false }
    }

    fn codes(values: &Values<'_>, transposed: bool) -> (Vec<i8>, TensorDigest, Noise) {
        let mut codes = Vec::new();
        let written = write_codes(values, 127, transposed, |strip| {
            codes.extend(strip.iter().map(|&code| code as i8));
            Ok(())
        });
        let (digest, noise, _) = written.unwrap();
        (codes, digest, noise)
    }

    #[test]
    fn a_transpose_has_the_same_codes_in_another_order() {
        let values = weight(70, 3);
        let ((canonical, digest, noise), (turned, same, _)) = (codes(&values, false), codes(&values, true));
        let expected: Vec<i8> = (0..3)
            .flat_map(|column| (0..70).map(move |row| row * 3 + column))
            .map(|at| canonical[at])
            .collect();
        assert_eq!((turned, same), (expected, digest));
        assert!(noise.steps <= 0.5 + 1e-6 && noise.steps > 0.3, "{noise:?}");
    }

    #[test]
    fn equal_numbers_in_a_row_are_all_the_largest_code() {
        let bytes: Vec<u8> =
            [0.1_f32, -0.1, 0.1, 0.1].iter().flat_map(|number| number.to_le_bytes()).collect();
        let values = Values { bytes: bytes.into(), dtype: Dtype::F32, shape: vec![2, 2], transposed: false };
        assert_eq!(codes(&values, false).0, [127, -127, 127, 127]);
    }
}
