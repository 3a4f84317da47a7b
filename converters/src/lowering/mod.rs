//! A graph in standard operators on f32: what a runtime needs to compute every graph that tools write.
//!
//! Weights that are stored as integers, codes or halves become their numbers in f32. The rounding of activations is left out,
//! or kept in f32. Operators that ONNX Runtime makes of several become these again. What is not known stays as it is.
//!
//! ```text
//! pass         one node after the other, and what is not needed any more
//!   constants    the numbers that a file holds
//!   stored       how a dequantized tensor is stored in the file
//!     multiples    and what is in f32 that was dequantized by a tool
//!   reals        the numbers that integers stand for
//!     rounding     activations, rounded as the graph says, or not
//!     switches     both, as an input says
//!   halves       f16 and bf16 in f32
//!   channels     factors that tools took out of weights
//! operators
//!   linear       QuantizeLinear, DequantizeLinear
//!   casts        Cast and Mul of stored integers
//!   integers     MatMulInteger, ConvInteger and their scales
//!   qoperator    QLinearMatMul, QGemm and others
//!   blocks       MatMulNBits, GatherBlockQuantized
//!     bnb4         MatMulBnb4: NF4 and FP4
//!   fused        FusedMatMul, FusedGemm, Dropout
//!   gelu         BiasGelu, FastGelu, QuickGelu, Mish
//!   norms        SkipLayerNormalization, EmbedLayerNormalization
//! ```

use std::collections::HashMap;

use bytes::Bytes;
use deberta_reference::DebertaConfig;
use deberta_reference::activation::Activation;
use prost::Message as _;

use crate::error::{Error, Result};
use crate::format::TensorFile as _;
use crate::format::onnx::proto::tensor_proto::DataType;
use crate::format::onnx::proto::{ModelProto, NodeProto};
use crate::format::onnx::{OnnxFile, put_in_order};
use crate::mapped::Mapped;
use pass::Lowering;

mod attributes;
mod blocks;
mod bnb4;
mod casts;
mod channels;
mod constants;
mod fused;
mod gelu;
mod halves;
mod integers;
mod linear;
mod multiples;
mod norms;
mod pass;
mod qoperator;
mod ranks;
mod reals;
mod rounding;
mod stored;
mod switches;

pub use bnb4::codebook;
pub(crate) use channels::{Uses, multiplied, product_with, uses_of};
pub(crate) use pass::little_endian;
pub use stored::{Codes, Stored};
pub use switches::{SWITCHES, Switched, SwitchedNode};

/// What becomes of activations that a graph rounds to integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// They are not rounded: the graph computes with its dequantized weights alone.
    Exact,
    /// They are rounded as the graph says, and computed with in f32.
    Rounded,
    /// As an input says for every node, weights too: [`SWITCHES`].
    Switched,
}

/// How a graph is lowered.
#[derive(Clone, Debug)]
pub struct Options {
    /// What becomes of activations that are rounded.
    pub activations: Activations,
    /// Whether `FastGelu` becomes the function that it approximates: in the graph of a model with `gelu`.
    pub exact_gelu: bool,
    /// How many `Relu` the model has. Where the graph has fewer, tools left them out in front of integers that start at zero.
    pub relus: usize,
    /// What single numbers in f16 or bf16 were before they were rounded: each becomes the first of these that rounds to it.
    pub exact_numbers: Vec<f32>,
}

impl Options {
    /// The graph as it is, activations as they are said.
    pub fn new(activations: Activations) -> Options {
        Options { activations, exact_gelu: false, relus: 0, exact_numbers: Vec::new() }
    }

    /// The graph of a model of this configuration, with the numbers that this gives and the function that it names.
    pub fn of_a_model(activations: Activations, config: &DebertaConfig) -> Options {
        let of_layers = if config.hidden_act == Activation::Relu { config.num_hidden_layers } else { 0 };
        Options {
            activations,
            exact_gelu: config.hidden_act == Activation::Gelu,
            relus: of_layers + usize::from(config.pooler_hidden_act == Activation::Relu),
            exact_numbers: halves::exact_numbers(config),
        }
    }
}

/// A graph in standard operators on f32.
#[derive(Debug)]
pub struct Lowered {
    /// The model. Data in other files that needed no change are still there.
    pub model: ModelProto,
    /// How the initializers are stored in the file that are other numbers there.
    pub stored: HashMap<String, Stored>,
    /// What can be switched; nothing but with [`Activations::Switched`].
    pub switched: Switched,
}

/// Whether a graph has anything to lower.
pub fn is_needed(file: &OnnxFile) -> bool {
    let nodes = file.graph().into_iter().flat_map(|graph| &graph.node);
    let halves = [DataType::Float16, DataType::Bfloat16];
    file.declared().iter().any(|of| halves.contains(of)) || nodes.into_iter().any(is_lowered)
}

/// Whether a node is no standard operator on f32, or one that runtimes lack.
fn is_lowered(node: &NodeProto) -> bool {
    const STANDARD: [&str; 7] = [
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "ConvInteger",
        "QLinearMatMul",
        "QLinearConv",
    ];
    node.domain() == "com.microsoft"
        || matches!(node.op_type(), "Dropout" | "FusedMatMul" | "Mish")
        || STANDARD.contains(&node.op_type())
}

/// Lowers the graph of a file, whose `bytes` these are.
///
/// # Errors
/// Bytes that are no model.
pub fn lower(file: &OnnxFile, bytes: Mapped, options: Options) -> Result<Lowered> {
    let mut model = ModelProto::decode(Bytes::from_owner(bytes))
        .map_err(|error| Error::malformed(format!("not an ONNX model: {error}")).caused_by(error))?;
    let (mut stored, mut switched) = (HashMap::new(), Switched::default());
    if let Some(graph) = &mut model.graph {
        put_in_order(graph)?;
        halves::widen(file, graph, &options.exact_numbers, &mut stored)?;
        switched = Lowering::new(file, options, graph).run(graph, &mut stored);
    }
    Ok(Lowered { model, stored, switched })
}

#[cfg(test)]
mod tests;
