//! f16 and bf16 as f32: every number of theirs is one of f32.

use std::collections::HashMap;

use bytes::Bytes;

use super::Stored;
use super::pass::little_endian;
use crate::error::Result;
use crate::format::TensorFile as _;
use crate::format::onnx::OnnxFile;
use crate::format::onnx::proto::tensor_proto::{DataLocation, DataType};
use crate::format::onnx::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use crate::tensor::Dtype;
use crate::values::Values;

/// Makes all tensors, casts and declared types of a graph f32 that are of a half, its branches included.
pub(super) fn widen(
    file: &OnnxFile,
    graph: &mut GraphProto,
    stored: &mut HashMap<String, Stored>,
) -> Result<()> {
    let places: HashMap<&str, usize> =
        file.tensors().iter().enumerate().map(|(index, info)| (info.name.as_str(), index)).collect();
    for tensor in &mut graph.initializer {
        let place = places.get(tensor.name()).and_then(|&index| Some((index, file.tensors().get(index)?)));
        let Some((index, info)) = place.filter(|(_, info)| is_half(info.dtype)) else { continue };
        stored.insert(info.name.clone(), Stored::halves(info.dtype, &info.name));
        let (shape, dtype) = (info.shape.clone(), info.dtype);
        let numbers = Values { bytes: file.read(index)?, dtype, shape, transposed: false }.to_f32()?;
        replace(tensor, numbers);
    }
    rest(graph);
    Ok(())
}

/// All but the initializers.
fn rest(graph: &mut GraphProto) {
    graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info).for_each(declared);
    for node in &mut graph.node {
        attributes(node);
    }
}

fn attributes(node: &mut NodeProto) {
    let casts = matches!(node.op_type(), "Cast" | "DequantizeLinear" | "EyeLike" | "RandomNormalLike");
    for attribute in &mut node.attribute {
        let is_type = casts && matches!(attribute.name(), "to" | "output_dtype" | "dtype");
        if is_type && attribute.i.and_then(|of| i32::try_from(of).ok()).is_some_and(is_half_type) {
            attribute.i = Some(i64::from(i32::from(DataType::Float)));
        }
        attribute.t.iter_mut().for_each(in_a_node);
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            graph.initializer.iter_mut().for_each(in_a_node);
            rest(graph);
        }
    }
}

/// A tensor that is in a node, and has its elements in the message.
fn in_a_node(tensor: &mut TensorProto) {
    if !is_half_type(tensor.data_type()) {
        return;
    }
    let dtype = if tensor.data_type() == i32::from(DataType::Float16) { Dtype::F16 } else { Dtype::BF16 };
    let bytes = match &tensor.raw_data {
        Some(bytes) if !bytes.is_empty() => bytes.to_vec(),
        // Halves are their bits there.
        _ => tensor.int32_data.iter().flat_map(|&bits| (bits as u16).to_le_bytes()).collect(),
    };
    let shape = vec![bytes.len() / 2];
    if let Ok(numbers) = (Values { bytes: bytes.into(), dtype, shape, transposed: false }).to_f32() {
        replace(tensor, numbers);
    }
}

fn replace(tensor: &mut TensorProto, numbers: Vec<f32>) {
    tensor.data_type = Some(DataType::Float.into());
    tensor.data_location = Some(DataLocation::Default.into());
    tensor.external_data.clear();
    tensor.int32_data.clear();
    tensor.raw_data = Some(Bytes::from(little_endian(numbers)));
}

fn declared(value: &mut ValueInfoProto) {
    let of = value.r#type.as_mut().and_then(|of| of.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = of
        && tensor.elem_type.is_some_and(is_half_type)
    {
        tensor.elem_type = Some(DataType::Float.into());
    }
}

fn is_half(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::BF16)
}

fn is_half_type(of: i32) -> bool {
    of == i32::from(DataType::Float16) || of == i32::from(DataType::Bfloat16)
}
