//! The values of one tensor, delivered in strips: in any layout and dtype, with a megabyte of memory.

use std::borrow::Cow;

use half::{bf16, f16};

use crate::error::{Error, Kind, Result};
use crate::tensor::Dtype;

/// Strips are at most this long, so that they stay in the cache between being made, hashed and written.
const STRIP: usize = 1 << 20;

/// The values of a floating-point tensor as a file holds them.
pub struct Values<'a> {
    /// Dense, row-major, little-endian.
    pub bytes: Cow<'a, [u8]>,
    /// The type of the elements.
    pub dtype: Dtype,
    /// The canonical shape.
    pub shape: Vec<usize>,
    /// Whether the axes of what `bytes` hold are those of `shape` in reverse: the transpose of a matrix, `[k, in, out]` of a
    /// convolution's `[out, in, k]`.
    pub transposed: bool,
}

/// What converting to another dtype did to the values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rounding {
    /// The largest absolute difference between a value and what became of it.
    pub max_abs: f64,
    /// How many values changed.
    pub changed: u64,
}

impl Rounding {
    /// The rounding of two tensors, or parts of one, taken together.
    #[must_use]
    pub fn and(self, other: Rounding) -> Rounding {
        Rounding { max_abs: self.max_abs.max(other.max_abs), changed: self.changed + other.changed }
    }
}

impl Values<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The elements as f32, in the canonical layout.
    ///
    /// # Errors
    /// What [`Values::strips`] reports.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut floats = Vec::with_capacity(self.len());
        self.strips(Dtype::F32, false, |strip| {
            floats.extend(strip.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
            Ok(())
        })?;
        Ok(floats)
    }

    /// Gives `each` the elements as `dtype`, in the canonical layout or `transposed`, strip by strip, and returns
    /// what the change of dtype did to them.
    ///
    /// # Errors
    /// A finite value that `dtype` cannot hold (it would become infinite); a tensor of more than three axes that would have
    /// to be transposed; an error of `each`.
    pub fn strips(
        &self,
        dtype: Dtype,
        transposed: bool,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Rounding> {
        let mut rounding = Rounding::default();
        let mut converted = Vec::new();
        self.native_strips(transposed, |strip| {
            if dtype == self.dtype {
                return each(strip);
            }
            converted.clear();
            rounding = rounding.and(convert(strip, self.dtype, dtype, &mut converted)?);
            each(&converted)
        })?;
        Ok(rounding)
    }

    /// Gives `each` the elements in their own dtype.
    fn native_strips(&self, transposed: bool, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        // A scalar and a vector are their own transposes.
        if transposed == self.transposed || self.bytes.is_empty() || self.shape.len() < 2 {
            return self.bytes.chunks(STRIP).try_for_each(each);
        }
        let (rows, columns) = match *self.shape.as_slice() {
            [rows, columns] => (rows, columns),
            [a, b, c] => {
                let wanted = if transposed { [c, b, a] } else { [a, b, c] };
                return self.reversed(wanted, each);
            }
            _ => {
                let (shape, axes) = (&self.shape, self.shape.len());
                return Err(Error::unsupported(format!(
                    "shape {shape:?} has {axes} axes, and a tensor with more than 3 is never transposed"
                )));
            }
        };
        // The rows of what is wanted are the columns of what is stored.
        let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
        let size = self.dtype.size();
        let rows_per_strip = (STRIP / (columns * size).max(1)).max(1).next_multiple_of(TILE);
        let mut strip = vec![0; rows_per_strip.min(rows) * columns * size];
        for first in (0..rows).step_by(rows_per_strip) {
            let count = rows_per_strip.min(rows - first);
            let Some(strip) = strip.get_mut(..count * columns * size) else { break };
            match size {
                2 => transpose::<2>(&self.bytes, rows, first, strip, columns),
                4 => transpose::<4>(&self.bytes, rows, first, strip, columns),
                _ => transpose::<8>(&self.bytes, rows, first, strip, columns),
            }
            each(strip)?;
        }
        Ok(())
    }

    /// Gives `each` the elements of a tensor with three axes, in the order of the axes `wanted`, the reverse of those that
    /// the bytes have.
    fn reversed(
        &self,
        [first, second, third]: [usize; 3],
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let size = self.dtype.size();
        let count = [first, second, third].into_iter().try_fold(size, usize::checked_mul);
        if count != Some(self.bytes.len()) {
            let (shape, bytes) = (&self.shape, self.bytes.len());
            return Err(Error::malformed(format!("shape {shape:?} is not that of {bytes} bytes"))
                .wanting_if(count.map(|count| (count, bytes))));
        }
        let mut strip = Vec::with_capacity(STRIP.min(self.bytes.len()));
        for i in 0..first {
            for j in 0..second {
                for k in 0..third {
                    let at = ((k * second + j) * first + i) * size;
                    strip.extend_from_slice(self.bytes.get(at..at + size).unwrap_or_default());
                }
                if strip.len() + third * size > STRIP {
                    each(&strip)?;
                    strip.clear();
                }
            }
        }
        each(&strip)
    }
}

/// A tile of 16 × 16 four-byte elements is sixteen cache lines on either side.
const TILE: usize = 16;

/// Fills `to` with rows `first..` of the transpose of `from`. `from` has `from_columns` columns, `to` has
/// `to_columns`; elements have `N` bytes.
///
/// Sixteen rows of `from` are read at a time, over the whole height of `to`: few pages on the side that does not fit
/// the cache, whole cache lines on both.
fn transpose<const N: usize>(
    from: &[u8],
    from_columns: usize,
    first: usize,
    to: &mut [u8],
    to_columns: usize,
) {
    let (from, _) = from.as_chunks::<N>();
    let (to, _) = to.as_chunks_mut::<N>();
    for (tile_column, from_rows) in from.chunks(TILE * from_columns).enumerate() {
        let left = tile_column * TILE;
        for (tile_row, to_rows) in to.chunks_mut(TILE * to_columns).enumerate() {
            let top = first + tile_row * TILE;
            let is_whole = from_rows.len() == TILE * from_columns && to_rows.len() == TILE * to_columns;
            if is_whole {
                transpose_tile(from_rows, from_columns, top, to_rows, to_columns, left);
                continue;
            }
            for (index, row) in to_rows.chunks_exact_mut(to_columns).enumerate() {
                let column = from_rows.iter().skip(top + index).step_by(from_columns);
                for (place, value) in row.iter_mut().skip(left).zip(column) {
                    *place = *value;
                }
            }
        }
    }
}

/// Transposes the tile at column `top` of sixteen rows of `from` to column `left` of sixteen rows of `to`.
fn transpose_tile<const N: usize>(
    from_rows: &[[u8; N]],
    from_columns: usize,
    top: usize,
    to_rows: &mut [[u8; N]],
    to_columns: usize,
    left: usize,
) {
    let mut tile = [[[0; N]; TILE]; TILE];
    for (line, row) in tile.iter_mut().zip(from_rows.chunks_exact(from_columns)) {
        if let Some(values) = row.get(top..top + TILE) {
            line.copy_from_slice(values);
        }
    }
    for (index, row) in to_rows.chunks_exact_mut(to_columns).enumerate().take(TILE) {
        if let Some(values) = row.get_mut(left..left + TILE) {
            for (value, line) in values.iter_mut().zip(&tile) {
                *value = line[index % TILE];
            }
        }
    }
}

/// Appends the elements of `from` to `to` in another dtype, rounding to nearest even.
fn convert(from: &[u8], from_dtype: Dtype, to_dtype: Dtype, to: &mut Vec<u8>) -> Result<Rounding> {
    macro_rules! each {
        ($read:expr, $write:expr) => {{
            let mut rounding = Rounding::default();
            for element in from.chunks_exact(from_dtype.size()) {
                let wide: f64 = $read(element);
                let (bytes, narrow): (_, f64) = $write(wide);
                to.extend_from_slice(&bytes);
                // NaN stays NaN; an infinity that was one stays one.
                if narrow != wide && !(wide.is_nan() && narrow.is_nan()) {
                    if narrow.is_infinite() {
                        return Err(Error::new(
                            Kind::Request,
                            format!("{wide:e} is more than {to_dtype} can hold: choose a wider --dtype"),
                        ));
                    }
                    rounding.changed += 1;
                    rounding.max_abs = rounding.max_abs.max((narrow - wide).abs());
                }
            }
            Ok(rounding)
        }};
    }
    // Halves by way of f32, as PyTorch makes them of any dtype; `half`'s own way from f64 forgets the last bits of an f32.
    macro_rules! to {
        ($read:expr) => {
            match to_dtype {
                Dtype::F64 => each!($read, |x: f64| (x.to_le_bytes(), x)),
                Dtype::F32 => each!($read, |x: f64| ((x as f32).to_le_bytes(), f64::from(x as f32))),
                Dtype::F16 => each!($read, |x: f64| {
                    let y = f16::from_f32(x as f32);
                    (y.to_le_bytes(), y.to_f64())
                }),
                Dtype::BF16 => each!($read, |x: f64| {
                    let y = bf16::from_f32(x as f32);
                    (y.to_le_bytes(), y.to_f64())
                }),
                other => Err(not_float(other)),
            }
        };
    }
    match from_dtype {
        // The widening that every digest of a half-precision file needs: no rounding, so no bookkeeping.
        Dtype::F16 if to_dtype == Dtype::F32 => {
            to.extend(
                from.as_chunks::<2>().0.iter().flat_map(|&x| f16::from_le_bytes(x).to_f32().to_le_bytes()),
            );
            Ok(Rounding::default())
        }
        Dtype::BF16 if to_dtype == Dtype::F32 => {
            to.extend(from.as_chunks::<2>().0.iter().flat_map(|&[low, high]| [0, 0, low, high]));
            Ok(Rounding::default())
        }
        Dtype::F64 => to!(|bytes: &[u8]| read::<8>(bytes).map_or(0.0, f64::from_le_bytes)),
        Dtype::F32 => to!(|bytes: &[u8]| read::<4>(bytes).map_or(0.0, |b| f64::from(f32::from_le_bytes(b)))),
        Dtype::F16 => to!(|bytes: &[u8]| read::<2>(bytes).map_or(0.0, |b| f16::from_le_bytes(b).to_f64())),
        Dtype::BF16 => to!(|bytes: &[u8]| read::<2>(bytes).map_or(0.0, |b| bf16::from_le_bytes(b).to_f64())),
        other => Err(not_float(other)),
    }
}

fn read<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk::<N>().copied()
}

fn not_float(dtype: Dtype) -> Error {
    Error::new(Kind::Model, format!("dtype {dtype} is not floating point"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn collect(values: &Values<'_>, dtype: Dtype, transposed: bool) -> (Vec<u8>, Rounding) {
        let mut all = Vec::new();
        let rounding = values
            .strips(dtype, transposed, |strip| {
                all.extend_from_slice(strip);
                Ok(())
            })
            .unwrap();
        (all, rounding)
    }

    #[test]
    fn transposes_matrices_of_any_shape_and_size() {
        for (rows, columns) in [(1, 1), (1, 40), (40, 1), (16, 16), (33, 17), (700, 900), (0, 5), (5, 0)] {
            let canonical: Vec<f32> = (0..rows * columns).map(|index| index as f32).collect();
            let stored: Vec<f32> =
                (0..columns).flat_map(|c| (0..rows).map(move |r| (r * columns + c) as f32)).collect();
            let values = Values {
                bytes: f32s(&stored).into(),
                dtype: Dtype::F32,
                shape: vec![rows, columns],
                transposed: true,
            };
            assert_eq!(collect(&values, Dtype::F32, false).0, f32s(&canonical), "{rows} x {columns}");
            assert_eq!(collect(&values, Dtype::F32, true).0, f32s(&stored), "{rows} x {columns}");
        }
    }

    #[test]
    fn axes_of_kernels_are_reversed() {
        for dtype in [Dtype::F16, Dtype::F32, Dtype::F64] {
            for shape in [[2, 3, 4], [1, 5, 1], [3, 1, 2], [4, 4, 1], [600, 700, 3]] {
                let [a, b, c] = shape;
                let element = |at: usize| at.to_le_bytes()[..dtype.size()].to_vec();
                let canonical: Vec<u8> = (0..a * b * c).flat_map(element).collect();
                let mut stored = Vec::new();
                for k in 0..c {
                    for j in 0..b {
                        (0..a).for_each(|i| stored.extend(element((i * b + j) * c + k)));
                    }
                }
                let of = |bytes: &[u8], transposed| Values {
                    bytes: bytes.to_vec().into(),
                    dtype,
                    shape: shape.to_vec(),
                    transposed,
                };
                assert!(collect(&of(&stored, true), dtype, false).0 == canonical, "{shape:?}");
                assert!(collect(&of(&stored, true), dtype, true).0 == stored, "{shape:?}");
                assert!(collect(&of(&canonical, false), dtype, true).0 == stored, "{shape:?}");
            }
        }
        let lies = Values {
            bytes: vec![0; 8].into(),
            dtype: Dtype::F32,
            shape: vec![usize::MAX, 2, 2],
            transposed: true,
        };
        let error = lies.strips(Dtype::F32, false, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("is not that of 8 bytes"), "{error}");
    }

    #[test]
    fn tensors_of_more_axes_are_not_transposed_in_silence() {
        let of = |shape: &[usize]| Values {
            bytes: f32s(&[0.0; 24]).into(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            transposed: true,
        };
        let strips = |values: &Values<'_>, transposed| values.strips(Dtype::F32, transposed, |_| Ok(()));
        let error = strips(&of(&[2, 3, 2, 2]), false).unwrap_err().to_string();
        assert_eq!(error, "shape [2, 3, 2, 2] has 4 axes, and a tensor with more than 3 is never transposed");
        strips(&of(&[2, 3, 2, 2]), true).unwrap();
        strips(&of(&[24]), false).unwrap();
    }

    #[test]
    fn transposes_elements_of_two_and_eight_bytes() {
        for dtype in [Dtype::F16, Dtype::F64] {
            let size = dtype.size();
            let bytes: Vec<u8> = (0..(3 * 2 * size) as u8).collect();
            let values = Values { bytes: bytes.clone().into(), dtype, shape: vec![3, 2], transposed: false };
            let (turned, _) = collect(&values, dtype, true);
            let expected: Vec<u8> =
                [0, 2, 4, 1, 3, 5].iter().flat_map(|&i| bytes[i * size..][..size].to_vec()).collect();
            assert_eq!(turned, expected);
        }
    }

    #[test]
    fn halves_are_the_nearest_ones() {
        // Just above the middle of two halves.
        for (bits, dtype, half) in
            [(0xbec4_8007_u32, Dtype::BF16, 0xbec5_u16), (0x3f80_1001, Dtype::F16, 0x3c01)]
        {
            let bytes = f32s(&[f32::from_bits(bits)]);
            let values = Values { bytes: bytes.into(), dtype: Dtype::F32, shape: vec![1], transposed: false };
            assert_eq!(collect(&values, dtype, false).0, half.to_le_bytes(), "{bits:x}");
        }
    }

    #[test]
    fn rounding_is_reported_and_overflow_refused() {
        let values = |numbers: &[f32]| Values {
            bytes: f32s(numbers).into(),
            dtype: Dtype::F32,
            shape: vec![numbers.len()],
            transposed: false,
        };
        let (bytes, rounding) =
            collect(&values(&[1.0, 1.0 + 1.0 / 4096.0, f32::NAN, f32::INFINITY]), Dtype::F16, false);
        assert_eq!(bytes.len(), 8);
        assert_eq!(rounding, Rounding { max_abs: 1.0 / 4096.0, changed: 1 });
        let error = values(&[1e30]).strips(Dtype::F16, false, |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("1.0000000150474662e30 is more than f16 can hold"), "{error}");
    }

    #[test]
    fn widening_is_exact() {
        let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for dtype in [Dtype::F16, Dtype::BF16] {
            let values =
                Values { bytes: halves.clone().into(), dtype, shape: vec![1 << 16], transposed: false };
            let (wide, rounding) = collect(&values, Dtype::F32, false);
            assert_eq!(rounding, Rounding::default());
            let back =
                Values { bytes: wide.into(), dtype: Dtype::F32, shape: vec![1 << 16], transposed: false };
            let (narrow, rounding) = collect(&back, dtype, false);
            assert_eq!(rounding, Rounding::default());
            let differing = narrow
                .chunks_exact(2)
                .zip(halves.chunks_exact(2))
                .filter(|(a, b)| {
                    a != b
                        && !(f16::from_le_bytes([b[0], b[1]]).is_nan()
                            || bf16::from_le_bytes([b[0], b[1]]).is_nan())
                })
                .count();
            assert_eq!(differing, 0, "{dtype}");
        }
    }
}
