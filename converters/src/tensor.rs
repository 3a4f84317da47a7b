//! What a tensor is before anyone knows what it is for: a name, a dtype, a shape, bytes on demand.

use std::fmt;

use crate::error::{Error, Result};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::BF16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// The word for it on a command line and in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Dtype::F64 => "f64",
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::BF16 => "bf16",
            Dtype::I64 => "i64",
            Dtype::I32 => "i32",
            Dtype::I16 => "i16",
            Dtype::I8 => "i8",
            Dtype::U8 => "u8",
            Dtype::Bool => "bool",
        }
    }

    /// Further words for it: those of PyTorch and NumPy.
    pub const fn aliases(self) -> &'static [&'static str] {
        match self {
            Dtype::F64 => &["float64", "fp64", "double"],
            Dtype::F32 => &["float32", "fp32", "float", "single"],
            Dtype::F16 => &["float16", "fp16", "half"],
            Dtype::BF16 => &["bfloat16"],
            _ => &[],
        }
    }

    /// Whether elements are floating point: the only dtypes that a model's parameters may have.
    pub const fn is_float(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A tensor as a file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the file, unchanged.
    pub name: String,
    /// The type of the elements.
    pub dtype: Dtype,
    /// Row-major shape; empty for a scalar.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Bytes that the elements take, or an error naming the tensor if that number does not exist.
    pub fn byte_len(&self) -> Result<usize> {
        byte_len(self.dtype, &self.shape).map_err(|error| error.in_tensor(&self.name))
    }
}

/// Bytes of a dense tensor of `shape`, or an error when they cannot be counted in a `usize`.
pub fn byte_len(dtype: Dtype, shape: &[usize]) -> Result<usize> {
    shape
        .iter()
        .try_fold(dtype.size(), |product, &dim| product.checked_mul(dim))
        .ok_or_else(|| Error::malformed(format!("shape {shape:?} as {dtype} overflows the address space")))
}
