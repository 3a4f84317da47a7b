//! f16 and bf16 as f32: every number of theirs is one of f32.

use std::collections::HashMap;

use deberta_reference::DebertaConfig;

use super::Stored;
use super::pass::little_endian;
use crate::error::Result;
use crate::format::TensorFile as _;
use crate::format::onnx::proto::tensor_proto::DataType;
use crate::format::onnx::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use crate::format::onnx::{Half, OnnxFile, put_floats};
use crate::tensor::Dtype;
use crate::values::Values;

/// Makes all tensors, casts and declared types of a graph f32 that are of a half, its branches included. A single number becomes
/// the first of the exact ones that rounds to it.
pub(super) fn widen(
    file: &OnnxFile,
    graph: &mut GraphProto,
    exact: &[f32],
    stored: &mut HashMap<String, Stored>,
) -> Result<()> {
    let places: HashMap<&str, usize> =
        file.tensors().iter().enumerate().map(|(index, info)| (info.name.as_str(), index)).collect();
    for tensor in &mut graph.initializer {
        let place = places.get(tensor.name()).and_then(|&index| Some((index, file.tensors().get(index)?)));
        let Some((index, info)) = place else { continue };
        let Some(half) = half_of(info.dtype) else { continue };
        stored.insert(info.name.clone(), Stored::halves(info.dtype, &info.name));
        let (shape, dtype) = (info.shape.clone(), info.dtype);
        let numbers = Values { bytes: file.read(index)?, dtype, shape, transposed: false }.to_f32()?;
        put_floats(tensor, little_endian(restored(numbers, half, exact)));
    }
    rest(graph, exact);
    Ok(())
}

/// All but the initializers.
fn rest(graph: &mut GraphProto, exact: &[f32]) {
    graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info).for_each(declared);
    for node in &mut graph.node {
        attributes(node, exact);
    }
}

fn attributes(node: &mut NodeProto, exact: &[f32]) {
    let casts = matches!(node.op_type(), "Cast" | "DequantizeLinear" | "EyeLike" | "RandomNormalLike");
    for attribute in &mut node.attribute {
        let is_type = casts && matches!(attribute.name(), "to" | "output_dtype" | "dtype");
        if is_type && attribute.i.and_then(|of| i32::try_from(of).ok()).is_some_and(is_half_type) {
            attribute.i = Some(i64::from(i32::from(DataType::Float)));
        }
        attribute.t.iter_mut().for_each(|tensor| in_a_node(tensor, exact));
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            graph.initializer.iter_mut().for_each(|tensor| in_a_node(tensor, exact));
            rest(graph, exact);
        }
    }
}

/// A tensor that is in a node, and has its elements in the message.
fn in_a_node(tensor: &mut TensorProto, exact: &[f32]) {
    if !is_half_type(tensor.data_type()) {
        return;
    }
    let (dtype, half) = match tensor.data_type() == i32::from(DataType::Float16) {
        true => (Dtype::F16, Half::F16),
        false => (Dtype::BF16, Half::Bf16),
    };
    let bytes = match &tensor.raw_data {
        Some(bytes) if !bytes.is_empty() => bytes.to_vec(),
        // Halves are their bits there.
        _ => tensor.int32_data.iter().flat_map(|&bits| (bits as u16).to_le_bytes()).collect(),
    };
    let shape = vec![bytes.len() / 2];
    if let Ok(numbers) = (Values { bytes: bytes.into(), dtype, shape, transposed: false }).to_f32() {
        put_floats(tensor, little_endian(restored(numbers, half, exact)));
    }
}

/// The numbers that a model of this configuration computes with beside its weights and small integers. What becomes a half is
/// rounded, and so is all that is computed with it.
pub(super) fn exact_numbers(config: &DebertaConfig) -> Vec<f32> {
    let scales = [config.attention_scale(), (config.head_size() as f64).sqrt(), std::f64::consts::SQRT_2];
    let log = config.distances().log_of_most().map(f64::from);
    let numbers = scales.into_iter().chain(log).flat_map(|number| [number, 1.0 / number]);
    numbers.chain([config.layer_norm_eps]).map(|number| number as f32).collect()
}

/// A single number as it was before it was rounded, if it is one of those that are exact, rounded.
fn restored(numbers: Vec<f32>, half: Half, exact: &[f32]) -> Vec<f32> {
    let &[number] = numbers.as_slice() else { return numbers };
    vec![exact.iter().copied().find(|&exact| half.rounded(exact) == number).unwrap_or(number)]
}

fn declared(value: &mut ValueInfoProto) {
    let of = value.r#type.as_mut().and_then(|of| of.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = of
        && tensor.elem_type.is_some_and(is_half_type)
    {
        tensor.elem_type = Some(DataType::Float.into());
    }
}

fn half_of(dtype: Dtype) -> Option<Half> {
    match dtype {
        Dtype::F16 => Some(Half::F16),
        Dtype::BF16 => Some(Half::Bf16),
        _ => None,
    }
}

fn is_half_type(of: i32) -> bool {
    of == i32::from(DataType::Float16) || of == i32::from(DataType::Bfloat16)
}
