//! Where everything goes in an ONNX file.
//!
//! The order of the fields of a message is free, and a message that is written in parts is their union. So the graph
//! is written as its nodes, then each initializer with its data at the end, then its inputs and outputs, and last the
//! metadata; every length follows from the shapes.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};
use crate::error::{Error, Kind, Result};
use crate::format::{FilePlan, Span};
use crate::tensor::{Dtype, TensorInfo};

/// Protobuf's own limit on a message: a larger model needs external data.
pub const LARGEST_MESSAGE: u64 = (1 << 31) - 1;

/// External data starts at a multiple of this, so that a runtime can map it.
const ALIGNMENT: u64 = 4096;

const MODEL_GRAPH: u32 = 7;
const MODEL_METADATA: u32 = 14;
const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_RAW_DATA: u32 = 9;

/// Where everything goes in an ONNX file, or in the file beside it that holds the data.
#[derive(Debug)]
pub struct OnnxPlan {
    spans: Vec<Span>,
    offsets: Vec<u64>,
    digest_offset: Option<u64>,
    file_len: u64,
}

/// Plans a model whose initializers are `tensors` and, before them, those that `model` has already. Its metadata get the
/// weight digest under the key `digest_key`.
///
/// # Errors
/// A message over 2 GiB; a shape whose size overflows.
pub fn plan(model: ModelProto, tensors: &[TensorInfo], digest_key: &str) -> Result<OnnxPlan> {
    let mut messages = Vec::with_capacity(tensors.len());
    for info in tensors {
        let mut message = tensor(info).encode_to_vec();
        let len = info.byte_len()? as u64;
        encode_key(TENSOR_RAW_DATA, WireType::LengthDelimited, &mut message);
        encode_varint(len, &mut message);
        messages.push((message, len));
    }
    layout(model, &messages, digest_key)
}

/// Plans a model as [`plan()`] does, whose data is in another file, called `location`; the second plan is that file's.
///
/// # Errors
/// As [`plan()`].
pub(crate) fn plan_external(
    model: ModelProto,
    tensors: &[TensorInfo],
    digest_key: &str,
    location: &str,
) -> Result<(OnnxPlan, OnnxPlan)> {
    let mut messages = Vec::with_capacity(tensors.len());
    let (mut offsets, mut end) = (Vec::with_capacity(tensors.len()), 0_u64);
    for info in tensors {
        let (start, len) = (end.next_multiple_of(ALIGNMENT), info.byte_len()? as u64);
        end = start.checked_add(len).ok_or_else(too_large)?;
        offsets.push(start);
        let message = TensorProto {
            data_location: Some(DataLocation::External.into()),
            external_data: vec![
                entry("location", location.to_owned()),
                entry("offset", start.to_string()),
                entry("length", len.to_string()),
            ],
            ..tensor(info)
        };
        messages.push((message.encode_to_vec(), 0));
    }
    let model = layout(model, &messages, digest_key)?;
    Ok((
        OnnxPlan { offsets: Vec::new(), ..model },
        OnnxPlan { spans: Vec::new(), offsets, digest_offset: None, file_len: end },
    ))
}

/// Places the parts of a model, given each initializer's message up to its data, and the length of the data.
fn layout(mut model: ModelProto, initializers: &[(Vec<u8>, u64)], digest_key: &str) -> Result<OnnxPlan> {
    let graph = model.graph.take().unwrap_or_default();
    let mut metadata = std::mem::take(&mut model.metadata_props);
    metadata.push(entry(digest_key, "0".repeat(64)));

    let (inputs, outputs) = (graph.input, graph.output);
    let first = GraphProto { input: Vec::new(), output: Vec::new(), ..graph }.encode_to_vec();
    let last = GraphProto { input: inputs, output: outputs, ..GraphProto::default() }.encode_to_vec();
    let mut graph_len = (first.len() + last.len()) as u64;
    for (message, data) in initializers {
        let len = message.len() as u64 + data;
        graph_len = graph_len.checked_add(1 + encoded_len_varint(len) as u64 + len).ok_or_else(too_large)?;
    }

    let mut parts = Parts::default();
    parts.bytes.extend(model.encode_to_vec());
    encode_key(MODEL_GRAPH, WireType::LengthDelimited, &mut parts.bytes);
    encode_varint(graph_len, &mut parts.bytes);
    parts.bytes.extend(first);
    let mut offsets = Vec::with_capacity(initializers.len());
    for (message, data) in initializers {
        encode_key(GRAPH_INITIALIZER, WireType::LengthDelimited, &mut parts.bytes);
        encode_varint(message.len() as u64 + data, &mut parts.bytes);
        parts.bytes.extend(message);
        offsets.push(parts.end());
        if *data > 0 {
            parts.skip(*data);
        }
    }
    parts.bytes.extend(last);
    let mut digest_offset = None;
    for entry in &metadata {
        let message = entry.encode_to_vec();
        encode_key(MODEL_METADATA, WireType::LengthDelimited, &mut parts.bytes);
        encode_varint(message.len() as u64, &mut parts.bytes);
        parts.bytes.extend(message);
        // The value is the last field of the entry.
        digest_offset = parts.end().checked_sub(entry.value().len() as u64);
    }
    let file_len = parts.end();
    if file_len > LARGEST_MESSAGE {
        return Err(too_large());
    }
    parts.skip(0);
    Ok(OnnxPlan { spans: parts.spans, offsets, digest_offset, file_len })
}

/// Bytes and gaps, one after the other.
#[derive(Default)]
struct Parts {
    spans: Vec<Span>,
    /// Where `bytes` start.
    start: u64,
    bytes: Vec<u8>,
}

impl Parts {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Leaves a gap.
    fn skip(&mut self, len: u64) {
        let next = self.end() + len;
        let bytes = std::mem::take(&mut self.bytes);
        self.spans.push(Span { offset: self.start, bytes });
        self.start = next;
    }
}

fn too_large() -> Error {
    Error::new(
        Kind::Request,
        format!(
            "the model is larger than the {LARGEST_MESSAGE} bytes of a protobuf message: its data must be external"
        ),
    )
}

fn entry(key: &str, value: String) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) }
}

/// The message of a tensor without its data.
fn tensor(info: &TensorInfo) -> TensorProto {
    TensorProto {
        dims: info.shape.iter().map(|&dimension| dimension as i64).collect(),
        data_type: Some(data_type(info.dtype).into()),
        name: Some(info.name.clone()),
        ..TensorProto::default()
    }
}

/// ONNX's number of a dtype.
pub(crate) fn data_type(dtype: Dtype) -> DataType {
    match dtype {
        Dtype::F64 => DataType::Double,
        Dtype::F32 => DataType::Float,
        Dtype::F16 => DataType::Float16,
        Dtype::BF16 => DataType::Bfloat16,
        Dtype::I64 => DataType::Int64,
        Dtype::I32 => DataType::Int32,
        Dtype::I16 => DataType::Int16,
        Dtype::I8 => DataType::Int8,
        Dtype::U8 => DataType::Uint8,
        Dtype::Bool => DataType::Bool,
    }
}

/// A small tensor with its data.
pub(crate) fn small_tensor(info: &TensorInfo, bytes: Vec<u8>) -> TensorProto {
    TensorProto { raw_data: Some(Bytes::from(bytes)), ..tensor(info) }
}

impl FilePlan for OnnxPlan {
    fn file_len(&self) -> u64 {
        self.file_len
    }

    fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    fn digest_offset(&self) -> Option<u64> {
        self.digest_offset
    }

    fn seal(&self, _crc32: &[u32]) -> Result<Vec<Span>> {
        Ok(self.spans.clone())
    }
}
