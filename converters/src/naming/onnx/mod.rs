//! Parameters in a graph: told by what the nodes do with them.
//!
//! An exporter keeps the names of some parameters and makes up others: it stores the transpose of a linear layer's
//! matrix as `onnx::MatMul_1431` or `val_51`, `q_bias` as a tensor `[1, h, 1, d]`, and equal tensors once. What is left
//! is the path of the module in whose code a node stands: in the name of the node (TorchScript's exporter), or in its
//! metadata (the one built on `torch.export`). The path and the place of the operand give the name, or where there is
//! no path, the place in the model does (`structure.rs`); the operation gives the layout (`walk.rs`). Shapes decide nothing:
//! most matrices of this model are square.

use crate::format::TensorFile;
use crate::format::onnx::proto::GraphProto;

mod models;
mod path;
mod structure;
mod walk;

use models::Models;
pub use path::TABLE_OF_LAYERS;
pub(crate) use path::local;
use walk::Walk;
pub use walk::{Layout, Recovered};

/// A second name that the new masked-LM head's nodes give the word embeddings.
pub const LM_HEAD_DECODER: &str = "lm_predictions.lm_head.weight";

/// Everything that the graph tells of each tensor: nothing for most constants, several names for tied and merged ones.
/// None of them is for a tensor that is made integers of. Nothing at all if the file has no graph.
///
/// In a graph of several models the names start with what is before those of each, and in one of a single model if it
/// is to be `named`.
pub fn recover(file: &dyn TensorFile, named: bool) -> Option<Vec<Option<Vec<Recovered>>>> {
    let walk = Walk::new(file.graph()?, file);
    let models = Models::of(&walk, file.tensors(), named);
    let mut recovered: Vec<_> = file.tensors().iter().map(|info| walk.recover(info, &models)).collect();
    models.complete(&mut recovered, |names| structure::complete(&walk, file.tensors(), names));
    let told = recovered.into_iter().zip(file.tensors()).map(|(names, info)| {
        let is_weight = !names.is_empty() || !walk.makes_integers(info);
        is_weight.then_some(names)
    });
    Some(told.collect())
}

/// Whether the nodes compute with integers that stand for weights or activations.
pub fn is_quantized(graph: &GraphProto) -> bool {
    const QUANTIZED: [&str; 10] = [
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "MatMulBnb4",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QGemm",
        "QLinearMatMul",
        "QuantizeLinear",
    ];
    graph.node.iter().any(|node| QUANTIZED.contains(&node.op_type()))
}
