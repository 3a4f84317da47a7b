//! Weights of few bits that a node takes in a way that is not known, so that nothing can be said of them.

use std::collections::HashSet;

use crate::error::{Error, Kind, Result};
use crate::format::onnx::proto::tensor_proto::DataType;
use crate::format::onnx::proto::{NodeProto, TensorProto};
use crate::format::onnx::{has_few_bits, is_matrix};
use crate::lowering::Lowered;

/// Refuses matrices of few bits that are left where all should be numbers.
pub(super) fn refuse(lowered: &Lowered) -> Result<()> {
    let Some(graph) = &lowered.model.graph else { return Ok(()) };
    let is_left = |tensor: &&TensorProto| {
        DataType::try_from(tensor.data_type()).is_ok_and(has_few_bits) && is_matrix(&tensor.dims)
    };
    let matrices: HashSet<&str> = graph.initializer.iter().filter(is_left).map(TensorProto::name).collect();
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
