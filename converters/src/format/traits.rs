//! What every format has: a reader and a writer.

use std::borrow::Cow;

use serde::Serialize;

use super::onnx::GraphKind;
use super::onnx::proto::GraphProto;
use crate::error::Result;
use crate::tensor::TensorInfo;

/// A checkpoint file opened for reading: names, dtypes and shapes are known, bytes come on demand.
///
/// Opening validates everything that can be validated without reading tensor data, in memory bounded by a small
/// multiple of the file's metadata.
pub trait TensorFile: Send + Sync {
    /// The tensors, in the order of the file.
    fn tensors(&self) -> &[TensorInfo];

    /// The elements of tensor `index`: dense, row-major, little-endian, exactly
    /// [`TensorInfo::byte_len`] bytes. Borrowed from the memory map when the file stores them so. Checksums
    /// that cover the data are verified here.
    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>>;

    /// Entries that are no tensors (an epoch counter, an optimizer's settings), in words.
    fn extras(&self) -> &[Extra] {
        &[]
    }

    /// Further names of tensors, each with the name that the file has the tensor under: a writer that stores tied tensors once
    /// may note what else they are called.
    fn second_names(&self) -> &[(String, String)] {
        &[]
    }

    /// The computation, if the file holds one: it says what its tensors are for.
    fn graph(&self) -> Option<&GraphProto> {
        None
    }

    /// What the computation computes with; nothing if there is none, or its types contradict each other.
    fn graph_kind(&self) -> Option<GraphKind> {
        None
    }

    /// Keys and texts that whoever wrote the file put into it, if its format has room for a configuration.
    fn metadata(&self) -> &[(String, String)] {
        &[]
    }
}

/// An entry of a file that is not a tensor, or none of the model's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Extra {
    /// Where it is, as a path of keys: `optimizer.param_groups`.
    pub name: String,
    /// What it is, for people: `int 3`, `dict of 12 entries`.
    pub what: String,
}

/// Where everything goes in a file that is about to be written.
///
/// The place of every byte is known before the first is written, so that tensors can be written in any order
/// and from several threads.
pub trait FilePlan: Send + Sync {
    /// Length of the whole file in bytes.
    fn file_len(&self) -> u64;

    /// Where the data of each tensor starts, in the order in which the plan was given them.
    fn offsets(&self) -> &[u64];

    /// Whether [`FilePlan::seal`] needs the CRC-32 of every tensor's bytes.
    fn wants_crc32(&self) -> bool {
        false
    }

    /// Where the weight digest goes as 64 hexadecimal digits, if the file tells it.
    fn digest_offset(&self) -> Option<u64> {
        None
    }

    /// All bytes of the file that are not tensor data and not zero. `crc32` holds one checksum per tensor when
    /// [`FilePlan::wants_crc32`], and is empty otherwise.
    fn seal(&self, crc32: &[u32]) -> Result<Vec<Span>>;
}

/// Some bytes and their place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}
