//! What a dataset declares, checked against the file that it is in.

use std::ops::Range;

use hdf5_pure::{ChunkIndex, Datatype, DatatypeByteOrder, FixedPointLayout, FloatingPointLayout, Layout};

use super::chunked::{Chunk, Chunked};
use super::contents::refused;
use super::filters::Filter;
use super::stored::{Bytes, Stored};
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::tensor::{Dtype, byte_len};

/// The dtype and shape of `dataset`, and where its bytes are in `file`.
///
/// # Errors
///
/// Elements that are no numbers; data that is in another file, was never written, lies outside the file, or does not
/// have the length that the shape needs.
pub(super) fn describe(dataset: &hdf5_pure::Dataset, file: &Mapped) -> Result<(Dtype, Vec<usize>, Stored)> {
    let datatype = dataset.datatype().map_err(refused)?;
    let (dtype, big_endian) =
        number(&datatype).ok_or_else(|| Error::unsupported(format!("elements of type {datatype}")))?;
    let shape = dims(&dataset.shape().map_err(refused)?)?;
    let len = byte_len(dtype, &shape)?;
    let layout = dataset.layout().map_err(refused)?;
    if layout == Layout::Virtual {
        return Err(Error::unsupported("a virtual dataset: its data is in other datasets or files"));
    }
    if matches!(layout, Layout::Contiguous { .. }) {
        // Reads nothing, and fails when the data is in another file. Of chunks it would read the first.
        dataset.read_raw_rows(0, 0).map_err(refused)?;
    }
    let bytes = match layout {
        _ if len == 0 => Bytes::Inline(Vec::new()),
        Layout::Contiguous { address: None, .. } => {
            return Err(Error::malformed("its data was never written"));
        }
        Layout::Contiguous { address: Some(address), size } => {
            check_len(&shape, dtype, len, size)?;
            Bytes::Contiguous(range(file, address, size)?)
        }
        Layout::Compact { size } => {
            check_len(&shape, dtype, len, size)?;
            Bytes::Inline(dataset.read_raw().map_err(refused)?)
        }
        Layout::Chunked { index: ChunkIndex::BTreeV2, .. } => {
            return Err(Error::unsupported(
                "chunks that can grow in several directions, in the newer HDF5 format",
            ));
        }
        Layout::Chunked { chunk_shape, .. } => {
            Bytes::Chunked(chunked(dataset, &shape, &dims(&chunk_shape)?, dtype.size(), file)?)
        }
        other => return Err(Error::unsupported(format!("stored as {other}"))),
    };
    Ok((dtype, shape, Stored { bytes, swap: if big_endian { dtype.size() } else { 1 } }))
}

fn chunked(
    dataset: &hdf5_pure::Dataset,
    shape: &[usize],
    chunk_shape: &[usize],
    element: usize,
    file: &Mapped,
) -> Result<Chunked> {
    let filters = dataset
        .filter_pipeline()
        .iter()
        .map(|filter| Filter::new(filter.id, &filter.client_data))
        .collect::<Result<Vec<_>>>()?;
    // Before the chunks are listed: it bounds their number.
    let mut chunked = Chunked::new(shape, chunk_shape, element, filters, file.len())?;
    for chunk in dataset.chunks().map_err(refused)? {
        let bytes = range(file, chunk.address, chunk.storage_size)?;
        chunked.add(Chunk { origin: dims(&chunk.offset)?, bytes, skipped: chunk.filter_mask })?;
    }
    chunked.check_complete()?;
    Ok(chunked)
}

/// The dtype of elements of an HDF5 type, and whether they are big-endian.
fn number(datatype: &Datatype) -> Option<(Dtype, bool)> {
    let (dtype, order) = match datatype {
        Datatype::FloatingPoint { size, byte_order, layout } => (float(*size, *layout)?, byte_order),
        Datatype::FixedPoint { size, byte_order, layout } => (integer(*size, *layout)?, byte_order),
        _ => return None,
    };
    match order {
        DatatypeByteOrder::LittleEndian => Some((dtype, false)),
        DatatypeByteOrder::BigEndian => Some((dtype, true)),
        DatatypeByteOrder::Vax => None,
    }
}

fn float(size: u32, layout: FloatingPointLayout) -> Option<Dtype> {
    let ieee_754 = |exponent_size, mantissa_size, exponent_bias| FloatingPointLayout {
        bit_offset: 0,
        bit_precision: 1 + u16::from(exponent_size) + u16::from(mantissa_size),
        exponent_location: mantissa_size,
        exponent_size,
        mantissa_location: 0,
        mantissa_size,
        exponent_bias,
    };
    [
        (2, ieee_754(5, 10, 15), Dtype::F16),
        (2, ieee_754(8, 7, 127), Dtype::BF16),
        (4, ieee_754(8, 23, 127), Dtype::F32),
        (8, ieee_754(11, 52, 1023), Dtype::F64),
    ]
    .into_iter()
    .find_map(|(bytes, bits, dtype)| (bytes == size && bits == layout).then_some(dtype))
}

fn integer(size: u32, layout: FixedPointLayout) -> Option<Dtype> {
    if layout.bit_offset != 0 || u32::from(layout.bit_precision) != size.checked_mul(8)? {
        return None;
    }
    match (size, layout.signed) {
        (8, true) => Some(Dtype::I64),
        (4, true) => Some(Dtype::I32),
        (2, true) => Some(Dtype::I16),
        (1, true) => Some(Dtype::I8),
        (1, false) => Some(Dtype::U8),
        _ => None,
    }
}

fn check_len(shape: &[usize], dtype: Dtype, len: usize, size: u64) -> Result<()> {
    if size == len as u64 {
        return Ok(());
    }
    let message = format!("shape {shape:?} as {dtype} needs {len} bytes, its storage has {size}");
    Err(Error::malformed(message).wanting(len, size))
}

/// The place of `size` bytes at `address` in `file`.
fn range(file: &Mapped, address: u64, size: u64) -> Result<Range<usize>> {
    let start = usize::try_from(address).ok();
    let end =
        address.checked_add(size).and_then(|end| usize::try_from(end).ok()).filter(|&end| end <= file.len());
    start.zip(end).map(|(start, end)| start..end).ok_or_else(|| {
        Error::malformed(format!(
            "{size} bytes at offset {address} lie outside the file of {} bytes",
            file.len()
        ))
    })
}

fn dims(dims: &[u64]) -> Result<Vec<usize>> {
    dims.iter()
        .map(|&dim| usize::try_from(dim).map_err(|_| Error::malformed(format!("a dimension of {dim}"))))
        .collect()
}
