//! What a graph computes with, told by its operators, never by its name.

use std::fmt;

use deberta_converters::format::onnx::Types;
use deberta_converters::format::onnx::proto::tensor_proto::DataType;
use deberta_converters::format::onnx::proto::{GraphProto, NodeProto};

use crate::backend::BackendName;

/// What a graph computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Computation {
    /// f32, whatever the weights are stored in.
    #[default]
    F32,
    /// f16, at least in part.
    F16,
    /// bf16, at least in part.
    Bf16,
    /// Integers of 8 bits, whose scales for activations are computed from each batch.
    Dynamic,
    /// Integers of 8 bits, whose scales for activations are constants.
    Static,
    /// f32, with weights that are stored as integers of 8 bits.
    Int8Weights,
    /// Weights in blocks of few bits.
    Blocks,
}

impl Computation {
    /// What a graph computes with.
    pub(super) fn of(graph: &GraphProto, types: &Types) -> Computation {
        let has = |operators: &[&str]| graph.node.iter().any(|node| operators.contains(&node.op_type()));
        if has(&["MatMulNBits", "MatMulBnb4"]) {
            Computation::Blocks
        } else if has(&[
            "DynamicQuantizeLinear",
            "MatMulInteger",
            "DynamicQuantizeMatMul",
            "MatMulIntegerToFloat",
        ]) {
            Computation::Dynamic
        } else if has(&["QuantizeLinear", "QLinearMatMul", "QGemm"]) {
            Computation::Static
        } else if has(&["DequantizeLinear"]) {
            Computation::Int8Weights
        } else if graph.node.iter().any(|node| computes(node, types, DataType::Bfloat16)) {
            Computation::Bf16
        } else if graph.node.iter().any(|node| computes(node, types, DataType::Float16)) {
            Computation::F16
        } else {
            Computation::F32
        }
    }

    /// Whether weights or activations are integers: no number of f32's tolerance can be expected.
    pub fn is_quantized(self) -> bool {
        !matches!(self, Computation::F32 | Computation::F16 | Computation::Bf16)
    }

    /// What a report says about it, if that is more than f32: what is in the file, and what computed it here.
    pub fn said(self, by: BackendName) -> Option<String> {
        let here = match (self, by) {
            (Computation::F32, _) => return None,
            (
                Computation::F16 | Computation::Bf16 | Computation::Blocks | Computation::Int8Weights,
                BackendName::Onnx,
            ) => "computed in f32 here (rten)",
            (Computation::Dynamic | Computation::Static, BackendName::Onnx) => {
                "its integers computed by rten"
            }
            _ => "computed by ONNX Runtime on this processor",
        };
        Some(format!("{self} graph, {here}"))
    }
}

impl fmt::Display for Computation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Computation::F32 => "f32",
            Computation::F16 => "f16",
            Computation::Bf16 => "bf16",
            Computation::Dynamic => "int8 (dynamic)",
            Computation::Static => "int8 (static)",
            Computation::Int8Weights => "int8 (weights)",
            Computation::Blocks => "4-bit",
        })
    }
}

/// Whether a node computes numbers of a type, and does not only move or convert them.
fn computes(node: &NodeProto, types: &Types, of: DataType) -> bool {
    !moves(node) && node.op_type() != "Cast" && node.output.iter().any(|name| types.of(name) == Some(of))
}

/// Whether a node puts numbers elsewhere and makes none.
pub(super) fn moves(node: &NodeProto) -> bool {
    const MOVING: [&str; 16] = [
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "If",
    ];
    MOVING.contains(&node.op_type())
}
