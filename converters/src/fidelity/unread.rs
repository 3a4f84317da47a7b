//! Weights of few bits that a node takes in a way that is not known, so that nothing can be said of them.

use std::collections::HashSet;

use crate::error::{Error, Kind, Result};
use crate::format::onnx::proto::tensor_proto::DataType;
use crate::format::onnx::proto::{NodeProto, TensorProto};
use crate::lowering::Lowered;

/// Types that only rounded weights have.
const FEW_BITS: [DataType; 8] = [
    DataType::Uint8,
    DataType::Int8,
    DataType::Uint4,
    DataType::Int4,
    DataType::Uint2,
    DataType::Int2,
    DataType::Float8e4m3fn,
    DataType::Float8e5m2,
];

/// Refuses matrices of few bits that are left where all should be numbers.
pub(super) fn refuse(lowered: &Lowered) -> Result<()> {
    let Some(graph) = &lowered.model.graph else { return Ok(()) };
    let has_few_bits = |tensor: &&TensorProto| FEW_BITS.map(i32::from).contains(&tensor.data_type());
    let is_matrix = |tensor: &&TensorProto| tensor.dims.iter().filter(|&&length| length > 1).count() > 1;
    let matrices = graph.initializer.iter().filter(has_few_bits).filter(is_matrix);
    let matrices: HashSet<&str> = matrices.map(TensorProto::name).collect();
    let takes = |node: &&NodeProto| node.input.iter().any(|name| matrices.contains(name.as_str()));
    let Some(node) = graph.node.iter().find(takes) else { return Ok(()) };
    let is_packed = node.attribute.iter().any(|attribute| attribute.name() == "weight_prepacked");
    let how = if is_packed {
        "in the order of CUDA's kernels (weight_prepacked): judge the graph that they were packed of"
    } else {
        "in a way that is not known here: they cannot be compared"
    };
    let said = format!("node \"{}\" ({}) takes its weights {how}", node.name(), node.op_type());
    Err(Error::new(Kind::Unsupported, said))
}
