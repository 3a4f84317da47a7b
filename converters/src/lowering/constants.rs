//! The numbers that a file holds.

use std::borrow::Cow;

use crate::format::TensorFile as _;
use crate::format::onnx::Float8;
use crate::format::onnx::proto::NodeProto;
use crate::format::onnx::proto::tensor_proto::DataType;
use crate::tensor::Dtype;
use crate::values::Values;

use super::pass::Lowering;

/// A tensor of the file.
pub(super) struct Constant<'f> {
    /// What the file declares it as.
    pub(super) declared: DataType,
    dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Cow<'f, [u8]>,
}

impl<'f> Lowering<'f> {
    /// The tensor that a value is, directly or through nodes that leave its elements in their order.
    pub(super) fn constant(&self, value: &str) -> Option<Constant<'f>> {
        const MOST: usize = 8;
        let mut value = value.to_owned();
        for _ in 0..MOST {
            if let Some(&index) = self.places.get(value.as_str()) {
                let file = self.file;
                let (info, declared) = (file.tensors().get(index)?, *file.declared().get(index)?);
                let (shape, dtype) = (info.shape.clone(), info.dtype);
                return Some(Constant { declared, dtype, shape, bytes: file.read(index).ok()? });
            }
            let node = self.producer(&value)?;
            match node.op_type() {
                "Identity" | "Reshape" | "Unsqueeze" | "Squeeze" | "Flatten" => {
                    value = node.input.first()?.clone()
                }
                "Constant" => return in_a_node(node),
                _ => return None,
            }
        }
        None
    }
}

/// The number of a node `Constant`, which is no tensor of the file if it is alone.
fn in_a_node<'f>(node: &NodeProto) -> Option<Constant<'f>> {
    let tensor = node.attribute.iter().find_map(|attribute| attribute.t.as_ref())?;
    let declared = DataType::try_from(tensor.data_type()).ok()?;
    let (dtype, numbers) = match declared {
        DataType::Float => (Dtype::F32, tensor.float_data.iter().flat_map(|of| of.to_le_bytes()).collect()),
        DataType::Int64 => (Dtype::I64, tensor.int64_data.iter().flat_map(|of| of.to_le_bytes()).collect()),
        DataType::Int32 => (Dtype::I32, tensor.int32_data.iter().flat_map(|of| of.to_le_bytes()).collect()),
        DataType::Uint8 => (Dtype::U8, tensor.int32_data.iter().map(|&of| of as u8).collect()),
        DataType::Int8 => (Dtype::I8, tensor.int32_data.iter().map(|&of| of as u8).collect()),
        _ => return None,
    };
    let bytes: Vec<u8> = match &tensor.raw_data {
        Some(bytes) if !bytes.is_empty() => bytes.to_vec(),
        _ => numbers,
    };
    let shape: Option<Vec<usize>> = tensor.dims.iter().map(|&length| usize::try_from(length).ok()).collect();
    let shape = shape?;
    let needed = crate::tensor::byte_len(dtype, &shape).ok()?;
    (bytes.len() == needed).then_some(Constant { declared, dtype, shape, bytes: Cow::Owned(bytes) })
}

impl Constant<'_> {
    /// The numbers, if they are floating-point ones.
    pub(super) fn floats(&self) -> Option<Vec<f32>> {
        if let Some(of) = Float8::of(self.declared) {
            return Some(self.bytes.iter().map(|&byte| of.number(byte)).collect());
        }
        if !self.dtype.is_float() {
            return None;
        }
        let bytes = Cow::Borrowed(&*self.bytes);
        Values { bytes, dtype: self.dtype, shape: self.shape.clone(), transposed: false }.to_f32().ok()
    }

    /// The numbers, if they are integers of at most 32 bits, or few of 64.
    pub(super) fn integers(&self) -> Option<Vec<i32>> {
        let bytes = &*self.bytes;
        if Float8::of(self.declared).is_some() {
            return None;
        }
        Some(match self.dtype {
            Dtype::U8 => bytes.iter().map(|&byte| i32::from(byte)).collect(),
            Dtype::I8 => bytes.iter().map(|&byte| i32::from(byte as i8)).collect(),
            Dtype::I16 => {
                bytes.as_chunks::<2>().0.iter().map(|&of| i32::from(i16::from_le_bytes(of))).collect()
            }
            Dtype::I32 => bytes.as_chunks::<4>().0.iter().map(|&of| i32::from_le_bytes(of)).collect(),
            Dtype::I64 => {
                let numbers =
                    bytes.as_chunks::<8>().0.iter().map(|&of| i32::try_from(i64::from_le_bytes(of)).ok());
                numbers.collect::<Option<Vec<i32>>>()?
            }
            _ => return None,
        })
    }

    /// Whether the numbers are integers of 8 bits.
    pub(super) fn is_of_8_bits(&self) -> bool {
        matches!(self.declared, DataType::Int8 | DataType::Uint8)
    }

    /// How far a number may be from what it was in f32, as a share of it.
    pub(super) fn rounding(&self) -> f64 {
        match self.dtype {
            Dtype::F16 => 1.0 / 2048.0,
            Dtype::BF16 => 1.0 / 256.0,
            _ => 0.0,
        }
    }

    /// The least and the largest number that its type has.
    pub(super) fn range(&self) -> Option<(i32, i32)> {
        range(self.declared)
    }
}

/// The least and the largest number of a type of integers.
pub(super) fn range(of: DataType) -> Option<(i32, i32)> {
    Some(match of {
        DataType::Uint2 => (0, 3),
        DataType::Int2 => (-2, 1),
        DataType::Uint4 => (0, 15),
        DataType::Int4 => (-8, 7),
        DataType::Uint8 => (0, 255),
        DataType::Int8 => (-128, 127),
        DataType::Uint16 => (0, 65_535),
        DataType::Int16 => (-32_768, 32_767),
        DataType::Int32 => (i32::MIN, i32::MAX),
        _ => return None,
    })
}
