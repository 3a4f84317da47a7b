//! What an HDF5 file contains, as `hdf5-pure` sees it: groups, their lists of names, and where datasets keep
//! their bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use hdf5_pure::{Datatype, DatatypeByteOrder, FixedPointLayout, FloatingPointLayout, Layout};

use super::DEEPEST;
use super::chunked::{Chunk, Chunked};
use super::filters::Filter;
use super::source::Metered;
use super::stored::{Bytes, Stored};
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::tensor::{Dtype, byte_len};

/// Most groups and datasets in a file.
const MOST_OBJECTS: usize = 1 << 16;

/// Everything that hard links lead to, by path without a leading slash. The root group is `""`.
pub(super) struct Contents {
    pub(super) groups: BTreeMap<String, hdf5_pure::Group>,
    pub(super) datasets: BTreeMap<String, hdf5_pure::Dataset>,
}

impl Contents {
    /// Walks `file`.
    pub(super) fn read(file: &Arc<Mapped>) -> Result<Self> {
        let hdf5 = hdf5_pure::File::from_source(Metered::new(Arc::clone(file))).map_err(malformed)?;
        let end = hdf5.superblock().eof_address;
        if end > file.len() as u64 {
            return Err(Error::malformed(format!("{} bytes, its superblock says {end}", file.len())));
        }
        let mut contents = Contents { groups: BTreeMap::new(), datasets: BTreeMap::new() };
        let mut waiting = vec![(String::new(), 0, hdf5.root())];
        while let Some((path, depth, group)) = waiting.pop() {
            let within = |name: String| if path.is_empty() { name } else { format!("{path}/{name}") };
            for (name, dataset) in group.iter_datasets().map_err(malformed)? {
                contents.datasets.insert(within(name), dataset);
            }
            for (name, child) in group.iter_groups().map_err(malformed)? {
                if depth == DEEPEST {
                    return Err(Error::malformed(format!("groups nest deeper than {DEEPEST}")));
                }
                waiting.push((within(name), depth + 1, child));
            }
            contents.groups.insert(path, group);
            if contents.groups.len() + contents.datasets.len() + waiting.len() > MOST_OBJECTS {
                return Err(Error::malformed(format!("over {MOST_OBJECTS} groups and datasets")));
            }
        }
        Ok(contents)
    }
}

/// The names that attribute `attribute` of `group` lists, joined if they are split; `None` without one.
pub(super) fn names(group: &hdf5_pure::Group, attribute: &str) -> Result<Option<Vec<String>>> {
    let types = group.attr_datatypes().map_err(malformed)?;
    let values = group.attrs().map_err(malformed)?;
    let list = |attribute: &str| -> Result<Option<Vec<String>>> {
        if !types.contains_key(attribute) {
            return Ok(None);
        }
        let value = values
            .get(attribute)
            .ok_or_else(|| Error::malformed(format!("attribute \"{attribute}\" cannot be decoded")))?;
        if let Some(names) = value.as_strings() {
            let trimmed = names.iter().map(|name| name.trim_end_matches('\0').to_owned()).collect();
            return Ok(Some(trimmed));
        }
        // An empty list of names is an empty array of numpy's default type.
        match value.to_f64s() {
            Some(numbers) if numbers.is_empty() => Ok(Some(Vec::new())),
            _ => Err(Error::malformed(format!(
                "attribute \"{attribute}\" holds {}, not a list of names",
                value.type_name()
            ))),
        }
    };
    if let Some(names) = list(attribute)? {
        return Ok(Some(names));
    }
    let mut all = None;
    for part in 0.. {
        let Some(names) = list(&format!("{attribute}{part}"))? else { break };
        all.get_or_insert_with(Vec::new).extend(names);
    }
    Ok(all)
}

/// The dtype and shape of `dataset`, and where its bytes are.
pub(super) fn describe(dataset: &hdf5_pure::Dataset, file: &Mapped) -> Result<(Dtype, Vec<usize>, Stored)> {
    let datatype = dataset.datatype().map_err(malformed)?;
    let (dtype, big_endian) =
        element(&datatype).ok_or_else(|| Error::unsupported(format!("elements of type {datatype}")))?;
    let shape = dims(&dataset.shape().map_err(malformed)?)?;
    let len = byte_len(dtype, &shape)?;
    // Fails for a dataset whose data is in another file, and reads nothing.
    dataset.read_raw_rows(0, 0).map_err(|error| Error::unsupported(error.to_string()))?;
    let bytes = match dataset.layout().map_err(malformed)? {
        _ if len == 0 => Bytes::Inline(Vec::new()),
        Layout::Contiguous { address: None, .. } => return Err(never_written()),
        Layout::Contiguous { address: Some(address), size } => {
            Bytes::Contiguous(range(file, address, size, len)?)
        }
        Layout::Compact { size } if size == len as u64 => {
            Bytes::Inline(dataset.read_raw().map_err(malformed)?)
        }
        Layout::Compact { size } => return Err(wrong_len(&shape, dtype, len, size)),
        Layout::Chunked { chunk_shape, .. } => {
            let filters = dataset
                .filter_pipeline()
                .iter()
                .map(|filter| Filter::new(filter.id, &filter.client_data))
                .collect::<Result<Vec<_>>>()?;
            let mut chunked =
                Chunked::new(shape.clone(), dims(&chunk_shape)?, dtype.size(), filters, file.len())?;
            for chunk in dataset.chunks().map_err(malformed)? {
                let stored = usize::try_from(chunk.storage_size).map_err(|_| truncated(file))?;
                let bytes = range(file, chunk.address, chunk.storage_size, stored)?;
                chunked.add(Chunk { origin: dims(&chunk.offset)?, bytes, skipped: chunk.filter_mask })?;
            }
            chunked.check_complete()?;
            Bytes::Chunked(chunked)
        }
        Layout::Virtual => {
            return Err(Error::unsupported("a virtual dataset: its data is in other datasets"));
        }
        other => return Err(Error::unsupported(format!("stored as {other}"))),
    };
    Ok((dtype, shape, Stored { bytes, swap: if big_endian { dtype.size() } else { 1 } }))
}

/// The dtype of an HDF5 datatype, and whether it is big-endian.
fn element(datatype: &Datatype) -> Option<(Dtype, bool)> {
    const BINARY16: FloatingPointLayout = FloatingPointLayout {
        bit_offset: 0,
        bit_precision: 16,
        exponent_location: 10,
        exponent_size: 5,
        mantissa_location: 0,
        mantissa_size: 10,
        exponent_bias: 15,
    };
    let (dtype, order) = match *datatype {
        Datatype::FloatingPoint { size: 2, ref byte_order, layout } if layout == BINARY16 => {
            (Dtype::F16, byte_order)
        }
        Datatype::FloatingPoint {
            size: 4,
            ref byte_order,
            layout: FloatingPointLayout::IEEE754_BINARY32,
        } => (Dtype::F32, byte_order),
        Datatype::FloatingPoint {
            size: 8,
            ref byte_order,
            layout: FloatingPointLayout::IEEE754_BINARY64,
        } => (Dtype::F64, byte_order),
        Datatype::FixedPoint {
            size,
            ref byte_order,
            layout: FixedPointLayout { signed, bit_offset: 0, bit_precision },
        } if u32::from(bit_precision) == size.checked_mul(8)? => {
            let dtype = match (size, signed) {
                (8, true) => Dtype::I64,
                (4, true) => Dtype::I32,
                (2, true) => Dtype::I16,
                (1, true) => Dtype::I8,
                (1, false) => Dtype::U8,
                _ => return None,
            };
            (dtype, byte_order)
        }
        _ => return None,
    };
    match order {
        DatatypeByteOrder::LittleEndian => Some((dtype, false)),
        DatatypeByteOrder::BigEndian => Some((dtype, true)),
        DatatypeByteOrder::Vax => None,
    }
}

/// The bytes of `file` from `address`, after checking that there are `len` of them and that the file says so.
fn range(file: &Mapped, address: u64, size: u64, len: usize) -> Result<std::ops::Range<usize>> {
    if size != len as u64 {
        return Err(Error::malformed(format!("needs {len} bytes, its storage has {size}")));
    }
    usize::try_from(address)
        .ok()
        .and_then(|start| Some(start..start.checked_add(len)?))
        .filter(|range| range.end <= file.len())
        .ok_or_else(|| {
            Error::malformed(format!(
                "{len} bytes at offset {address} lie outside the file of {} bytes",
                file.len()
            ))
        })
}

fn dims(dims: &[u64]) -> Result<Vec<usize>> {
    dims.iter()
        .map(|&dim| usize::try_from(dim).map_err(|_| Error::malformed(format!("a dimension of {dim}"))))
        .collect()
}

fn wrong_len(shape: &[usize], dtype: Dtype, len: usize, size: u64) -> Error {
    Error::malformed(format!("shape {shape:?} as {dtype} needs {len} bytes, its storage has {size}"))
}

fn truncated(file: &Mapped) -> Error {
    Error::malformed(format!("a chunk is longer than the file of {} bytes", file.len()))
}

fn never_written() -> Error {
    Error::malformed("its data was never written")
}

/// What `hdf5-pure` says about the file.
fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::malformed(error.to_string()).caused_by(error)
}
