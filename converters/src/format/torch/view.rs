//! How a tensor lies in its storage.

use std::borrow::Cow;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::tensor::{self, Dtype};

/// A tensor's elements as a strided view of some bytes of a storage.
#[derive(Clone, Debug)]
pub(crate) struct View {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Elements from one index to the next, for each dimension.
    strides: Vec<usize>,
    /// The bytes of the storage from the first element to the end of the last; empty for a tensor without
    /// elements.
    bytes: Range<usize>,
    /// Bytes of the dense tensor.
    dense_len: usize,
}

impl View {
    /// The view of a tensor whose first element is number `offset` of a storage's `window`, a range of bytes.
    ///
    /// # Errors
    /// If an element lies outside the window, or if the dense tensor takes more bytes than the window and more than
    /// the `file_len` of the whole file (strides of 0 make a tensor of any size from one element).
    pub(crate) fn new(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        window: &Range<usize>,
        file_len: usize,
    ) -> Result<View> {
        if shape.len() != strides.len() {
            return Err(Error::malformed(format!(
                "shape {shape:?} has {} dimensions, strides {strides:?} have {}",
                shape.len(),
                strides.len()
            ))
            .wanting(shape.len(), strides.len()));
        }
        let dense_len = tensor::byte_len(dtype, &shape)?;
        if dense_len == 0 {
            return Ok(View { dtype, shape, strides, bytes: window.start..window.start, dense_len });
        }
        let end = end_of(&shape, &strides, offset).and_then(|end| end.checked_mul(dtype.size()));
        let bytes = (|| {
            let start = window.start.checked_add(offset.checked_mul(dtype.size())?)?;
            Some(start..window.start.checked_add(end?)?)
        })();
        let Some(bytes) = bytes.filter(|bytes| bytes.end <= window.end) else {
            let mut what = format!("shape {shape:?}");
            if !is_dense(&shape, &strides) {
                what += &format!(" with strides {strides:?}");
            }
            what += &format!(" as {dtype}");
            if offset > 0 {
                what += &format!(" from element {offset} on");
            }
            let needed =
                end.map_or_else(|| "more bytes than can be counted".to_owned(), |end| format!("{end} bytes"));
            let error = Error::malformed(format!("{what} needs {needed}, storage has {}", window.len()));
            return Err(error.wanting(end.map_or(needed, |end| end.to_string()), window.len()));
        };
        if dense_len > window.len().max(file_len) {
            return Err(Error::refused(format!(
                "shape {shape:?} with strides {strides:?} as {dtype} expands {} stored bytes to {dense_len}, more than \
                 the {file_len} of the whole file",
                bytes.len()
            ))
            .wanting(file_len, dense_len));
        }
        Ok(View { dtype, shape, strides, bytes, dense_len })
    }

    /// The shape of the tensor.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes of the dense tensor.
    pub(crate) fn dense_len(&self) -> usize {
        self.dense_len
    }

    /// The dense tensor, row-major and little-endian. `storage` holds all bytes of the storage; `swapped` says
    /// that its elements are big-endian. Borrowed where the storage is and has it in that form.
    pub(crate) fn dense<'s>(&self, storage: Cow<'s, [u8]>, swapped: bool) -> Result<Cow<'s, [u8]>> {
        let short = || Error::malformed(format!("needs {} bytes, storage is shorter", self.bytes.end));
        let size = self.dtype.size();
        let mut dense = if is_dense(&self.shape, &self.strides) {
            part(storage, &self.bytes).ok_or_else(short)?
        } else {
            let bytes = storage.get(self.bytes.clone()).ok_or_else(short)?;
            let gathered = match size {
                1 => self.gather::<1>(bytes),
                2 => self.gather::<2>(bytes),
                4 => self.gather::<4>(bytes),
                _ => self.gather::<8>(bytes),
            };
            Cow::Owned(gathered.ok_or_else(short)?)
        };
        if swapped && size > 1 {
            dense.to_mut().chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        Ok(dense)
    }

    /// Copies the elements, of `N` bytes each, in row-major order. `None` if one is outside `bytes`.
    fn gather<const N: usize>(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (elements, _) = bytes.as_chunks::<N>();
        let (Some((&row_len, outer_shape)), Some((&step, outer_strides))) =
            (self.shape.split_last(), self.strides.split_last())
        else {
            return elements.first().map(|element| element.to_vec());
        };
        let mut dense = Vec::with_capacity(self.dense_len);
        let mut index = vec![0usize; outer_shape.len()];
        let mut row_start = 0usize;
        while dense.len() < self.dense_len {
            for column in 0..row_len {
                dense.extend_from_slice(elements.get(row_start + column * step)?);
            }
            // The next row: the last outer index that can grow does, those behind it start again.
            for ((index, &dim), &stride) in index.iter_mut().zip(outer_shape).zip(outer_strides).rev() {
                if *index + 1 < dim {
                    *index += 1;
                    row_start += stride;
                    break;
                }
                row_start -= *index * stride;
                *index = 0;
            }
        }
        Some(dense)
    }
}

/// Those bytes of `storage`, in the memory that it is in.
fn part<'s>(storage: Cow<'s, [u8]>, bytes: &Range<usize>) -> Option<Cow<'s, [u8]>> {
    match storage {
        Cow::Borrowed(storage) => storage.get(bytes.clone()).map(Cow::Borrowed),
        Cow::Owned(mut storage) if bytes.end <= storage.len() => {
            storage.truncate(bytes.end);
            storage.drain(..bytes.start);
            Some(Cow::Owned(storage))
        }
        Cow::Owned(_) => None,
    }
}

/// One past the last element, counted from the start of the storage. `shape` has no zero.
fn end_of(shape: &[usize], strides: &[usize], offset: usize) -> Option<usize> {
    shape
        .iter()
        .zip(strides)
        .try_fold(offset, |last, (&dim, &stride)| last.checked_add((dim - 1).checked_mul(stride)?))?
        .checked_add(1)
}

/// Whether elements lie one after the other in row-major order.
fn is_dense(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.iter().zip(strides).rev().all(|(&dim, &stride)| {
        let fits = dim == 1 || stride == expected;
        expected = expected.saturating_mul(dim);
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shape: &[usize], strides: &[usize], offset: usize, len: usize) -> Result<View> {
        View::new(Dtype::F32, shape.to_vec(), strides.to_vec(), offset, &(0..len), 4096)
    }

    fn floats(values: impl IntoIterator<Item = u16>) -> Vec<u8> {
        values.into_iter().flat_map(|value| f32::from(value).to_le_bytes()).collect()
    }

    #[test]
    fn a_dense_tensor_is_borrowed() {
        let storage = floats(0..8);
        let view = view(&[1, 2, 2], &[99, 2, 1], 3, 32).unwrap();
        assert!(
            matches!(view.dense((&storage).into(), false).unwrap(), Cow::Borrowed(bytes) if bytes == floats(3..7))
        );
    }

    #[test]
    fn strided_tensors_are_gathered() {
        let storage = floats(0..12);
        let transposed = view(&[3, 4], &[1, 3], 0, 48).unwrap();
        assert_eq!(
            transposed.dense((&storage).into(), false).unwrap(),
            floats([0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11])
        );
        let expanded = view(&[2, 2, 2], &[1, 0, 1], 4, 48).unwrap();
        assert_eq!(expanded.dense((&storage).into(), false).unwrap(), floats([4, 5, 4, 5, 5, 6, 5, 6]));
        let scalar = view(&[], &[], 5, 48).unwrap();
        assert_eq!(scalar.dense((&storage).into(), false).unwrap(), floats([5]));
        assert_eq!(
            view(&[3, 0], &[1, 1], 1000, 48).unwrap().dense((&storage).into(), false).unwrap().len(),
            0
        );
    }

    #[test]
    fn big_endian_elements_are_swapped() {
        let view = view(&[2], &[1], 0, 8).unwrap();
        let swapped = [1f32.to_be_bytes(), 2f32.to_be_bytes()].concat();
        assert_eq!(view.dense((&swapped).into(), true).unwrap(), floats([1, 2]));
    }

    #[test]
    fn elements_outside_the_storage_are_errors() {
        let message = |result: Result<View>| result.unwrap_err().to_string();
        assert_eq!(
            message(view(&[2, 3], &[3, 1], 0, 20)),
            "shape [2, 3] as f32 needs 24 bytes, storage has 20"
        );
        assert_eq!(
            message(view(&[2], &[1], 4, 20)),
            "shape [2] as f32 from element 4 on needs 24 bytes, storage has 20"
        );
        assert_eq!(
            message(view(&[2, 2], &[9, 1], 0, 40)),
            "shape [2, 2] with strides [9, 1] as f32 needs 44 bytes, storage has 40"
        );
        assert_eq!(
            message(view(&[2], &[usize::MAX], 2, 40)),
            format!(
                "shape [2] with strides [{}] as f32 from element 2 on needs more bytes than can be counted, storage has 40",
                usize::MAX
            )
        );
        assert!(message(view(&[usize::MAX, 2], &[0, 0], 0, 40)).contains("overflows"));
        assert!(message(view(&[2], &[], 0, 40)).contains("1 dimensions, strides [] have 0"));
    }

    #[test]
    fn an_expanded_tensor_cannot_outgrow_the_file() {
        assert!(view(&[1024], &[0], 0, 4).is_ok());
        let error = view(&[1025], &[0], 0, 4).unwrap_err().to_string();
        assert!(error.contains("expands 4 stored bytes to 4100, more than the 4096"), "{error}");
    }
}
