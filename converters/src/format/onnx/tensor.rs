//! One tensor: what it declares, and where its elements are.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::external::Externals;
use super::packed::Packed;
use super::proto::TensorProto;
use super::proto::tensor_proto::{DataLocation, DataType};
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::tensor::{Dtype, TensorInfo, byte_len};

/// More than any tensor of a graph has.
const MOST_DIMENSIONS: usize = 16;

/// Where the elements of a tensor are.
pub(super) enum Data {
    /// In the message, as they are needed.
    Raw(Bytes),
    /// In the message, as numbers.
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Integers(Vec<i64>),
    /// In the message, as numbers of another width.
    Converted(Vec<u8>),
    /// In another file.
    External(Arc<Mapped>, Range<usize>),
}

impl Data {
    /// The elements, little-endian.
    pub(super) fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Data::Raw(bytes) => Cow::Borrowed(bytes),
            Data::Floats(values) => little_endian(values, |value| value.to_le_bytes()),
            Data::Doubles(values) => little_endian(values, |value| value.to_le_bytes()),
            Data::Integers(values) => little_endian(values, |value| value.to_le_bytes()),
            Data::Converted(bytes) => Cow::Borrowed(bytes),
            Data::External(file, range) => Cow::Borrowed(file.get(range.clone()).unwrap_or_default()),
        }
    }
}

/// The bytes of numbers; borrowed where memory is little-endian.
fn little_endian<T: bytemuck::NoUninit, const N: usize>(
    values: &[T],
    bytes: impl Fn(&T) -> [u8; N],
) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        Cow::Owned(values.iter().flat_map(bytes).collect())
    }
}

/// Whether the elements are floating-point numbers that a parameter may have.
pub(super) fn is_float(tensor: &TensorProto) -> bool {
    dtype(tensor).is_ok_and(Dtype::is_float)
}

/// What the tensor declares, checked against the data that it has.
pub(super) fn read(tensor: TensorProto, externals: &mut Externals<'_>) -> Result<(TensorInfo, Data)> {
    if tensor.dims.len() > MOST_DIMENSIONS {
        let count = tensor.dims.len();
        return Err(Error::malformed(format!("has {count} dimensions, more than {MOST_DIMENSIONS}")));
    }
    let shape = tensor.dims.iter().map(|&dim| usize::try_from(dim)).collect::<Result<Vec<_>, _>>();
    let shape =
        shape.map_err(|_| Error::malformed(format!("shape {:?} has a negative dimension", tensor.dims)))?;
    let info = TensorInfo { name: tensor.name().to_owned(), dtype: dtype(&tensor)?, shape };
    if tensor.segment.is_some() {
        return Err(Error::unsupported("is a segment of a tensor, which no exporter writes"));
    }
    require_one_place(&tensor)?;
    let (packed, elements) = (packed(&tensor), byte_len(Dtype::U8, &info.shape)?);
    let needed = packed.map_or_else(|| info.byte_len(), |packed| packed.byte_len(elements))?;
    let data = match tensor.data_location() {
        DataLocation::External => {
            let (file, range) = externals.locate(&tensor.external_data, needed)?;
            Data::External(file, range)
        }
        DataLocation::Default => inline(tensor, &info, packed)?,
    };
    let len = data.bytes().len();
    if len != needed {
        return Err(Error::malformed(format!(
            "shape {:?} as {} needs {needed} bytes, the file has {len}",
            info.shape, info.dtype
        ))
        .wanting(needed, len));
    }
    let data = match packed {
        Some(packed) => Data::Converted(packed.unpack(&data.bytes(), elements)),
        None => data,
    };
    Ok((info, data))
}

/// Programs differ in which of several data they take: two that read such a file may see two models.
fn require_one_place(tensor: &TensorProto) -> Result<()> {
    let places = [
        ("external data", tensor.data_location() == DataLocation::External),
        ("raw_data", tensor.raw_data.as_ref().is_some_and(|bytes| !bytes.is_empty())),
        ("float_data", !tensor.float_data.is_empty()),
        ("double_data", !tensor.double_data.is_empty()),
        ("int32_data", !tensor.int32_data.is_empty()),
        ("int64_data", !tensor.int64_data.is_empty()),
        ("uint64_data", !tensor.uint64_data.is_empty()),
        ("string_data", !tensor.string_data.is_empty()),
    ];
    let mut filled = places.into_iter().filter(|&(_, filled)| filled).map(|(place, _)| place);
    match (filled.next(), filled.next()) {
        (Some(one), Some(other)) => {
            Err(Error::malformed(format!("has its elements twice, as {one} and as {other}")))
        }
        _ => Ok(()),
    }
}

/// How the elements are stored, if they are read as a wider dtype.
fn packed(tensor: &TensorProto) -> Option<Packed> {
    DataType::try_from(tensor.data_type.unwrap_or(0)).ok().and_then(Packed::of)
}

fn dtype(tensor: &TensorProto) -> Result<Dtype> {
    let number = tensor.data_type.unwrap_or(0);
    if let Some(packed) = packed(tensor) {
        return Ok(packed.dtype());
    }
    Ok(match DataType::try_from(number) {
        Ok(DataType::Float) => Dtype::F32,
        Ok(DataType::Float16) => Dtype::F16,
        Ok(DataType::Bfloat16) => Dtype::BF16,
        Ok(DataType::Double) => Dtype::F64,
        Ok(DataType::Int64) => Dtype::I64,
        Ok(DataType::Int32) => Dtype::I32,
        Ok(DataType::Int16) => Dtype::I16,
        Ok(DataType::Int8) => Dtype::I8,
        // As bits: what they stand for has a scale.
        Ok(DataType::Uint8 | DataType::Float8e4m3fn | DataType::Float8e5m2) => Dtype::U8,
        Ok(DataType::Bool) => Dtype::Bool,
        Ok(other) => {
            let why = format!("dtype {} is not one that checkpoints have", other.as_str_name());
            return Err(Error::unsupported(why));
        }
        Err(_) => return Err(Error::malformed(format!("dtype number {number} is none of ONNX's"))),
    })
}

/// The elements in the message: as bytes, or in the field of numbers that belongs to the dtype.
fn inline(tensor: TensorProto, info: &TensorInfo, packed: Option<Packed>) -> Result<Data> {
    if let Some(bytes) = tensor.raw_data.filter(|bytes| !bytes.is_empty()) {
        return Ok(Data::Raw(bytes));
    }
    let (dtype, numbers) = (info.dtype, &tensor.int32_data);
    Ok(match dtype {
        Dtype::I32 if packed.is_some() => Data::Converted(narrow(numbers, dtype, u16::to_le_bytes)?),
        Dtype::I8 | Dtype::U8 if packed.is_some() => {
            Data::Converted(narrow(numbers, dtype, u8::to_le_bytes)?)
        }
        // Those of u32 are in the field of u64.
        Dtype::I64 if packed.is_some() => {
            let narrow = |&number: &u64| u32::try_from(number).map(u32::to_le_bytes);
            let narrow = tensor.uint64_data.iter().map(narrow).collect::<Result<Vec<_>, _>>();
            Data::Converted(
                narrow.map_err(|_| Error::malformed("a number that is none of dtype u32"))?.into_flattened(),
            )
        }
        Dtype::F32 => Data::Floats(tensor.float_data),
        Dtype::F64 => Data::Doubles(tensor.double_data),
        Dtype::I64 => Data::Integers(tensor.int64_data),
        // Dtypes without a field of their own are in that of i32; halves are their bits.
        Dtype::F16 | Dtype::BF16 => Data::Converted(narrow(numbers, dtype, u16::to_le_bytes)?),
        Dtype::I32 => Data::Converted(narrow(numbers, dtype, i32::to_le_bytes)?),
        Dtype::I16 => Data::Converted(narrow(numbers, dtype, i16::to_le_bytes)?),
        Dtype::I8 => Data::Converted(narrow(numbers, dtype, i8::to_le_bytes)?),
        Dtype::U8 | Dtype::Bool => Data::Converted(narrow(numbers, dtype, u8::to_le_bytes)?),
    })
}

/// The bytes of numbers in the width of their dtype.
fn narrow<T: TryFrom<i32>, const N: usize>(
    numbers: &[i32],
    dtype: Dtype,
    bytes: fn(T) -> [u8; N],
) -> Result<Vec<u8>> {
    let narrow = |&number: &i32| {
        let out_of_range = |_| Error::malformed(format!("the number {number} is none of dtype {dtype}"));
        T::try_from(number).map(bytes).map_err(out_of_range)
    };
    Ok(numbers.iter().map(narrow).collect::<Result<Vec<_>>>()?.into_flattened())
}
