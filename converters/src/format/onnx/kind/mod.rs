//! What a graph computes with, told by its operators and element types, never by its name.

use std::collections::HashMap;
use std::fmt;

use super::proto::tensor_proto::DataType;
use super::proto::{GraphProto, NodeProto};
use super::{Float8, OnnxFile, TensorFile as _, Types};

/// What a graph computes with, and whether a tool has put operators of its own into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphKind {
    /// What it computes with.
    pub numbers: Numbers,
    /// Whether it has operators that ONNX Runtime makes of several.
    pub is_fused: bool,
    /// Whether it has `FastGelu`, which is the tanh approximation that transformers calls `gelu_new`.
    pub has_fast_gelu: bool,
    /// Whether it sorts distances into buckets in a half, at least in part.
    pub has_half_buckets: bool,
}

/// What a graph computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// f32, as the weights are stored.
    #[default]
    F32,
    /// f32, with weights that are stored in f16 or bf16 in front of a `Cast`.
    StoredHalves(Half),
    /// A half, at least for what is no matrix product.
    Halves(Half),
    /// Some matrix products in f32 and some in a half.
    Mixed(Half),
    /// Integers of 8 bits, whose scales for activations are computed from each batch.
    Dynamic {
        /// Whether the weights have no sign.
        unsigned: bool,
    },
    /// Integers, whose scales for activations are constants: between `QuantizeLinear` and `DequantizeLinear`.
    Qdq {
        /// Whether the weights have no sign.
        unsigned: bool,
    },
    /// Integers, whose scales for activations are constants: in operators of integers.
    QOperator {
        /// Whether the weights have no sign.
        unsigned: bool,
    },
    /// Floating-point numbers of 8 bits, with constant scales.
    Float8 {
        /// Whether activations are rounded to them, too.
        rounds: bool,
    },
    /// f32, with weights that are stored as integers with a scale for a tensor or a channel.
    IntegerWeights,
    /// f32, with weights that are stored in blocks of integers with so many bits.
    Blocks {
        /// Bits of an integer.
        bits: u8,
        /// The half that everything else is computed in.
        half: Option<Half>,
        /// Whether ONNX Runtime rounds activations to integers of 8 bits, in blocks as well.
        rounds: bool,
    },
    /// f32, with weights that are stored as codes of the 16 numbers of NF4.
    Nf4,
    /// f32, with weights that are stored as codes of the 16 numbers of FP4.
    Fp4,
}

/// A floating-point type of 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Half {
    F16,
    Bf16,
}

/// Operators on integers whose scales for activations are computed from each batch.
const DYNAMIC: [&str; 5] = [
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "ConvInteger",
];

/// Operators that multiply with weights, by the place of the weights among what they take.
const PRODUCTS: [(&str, usize); 8] = [
    ("MatMulInteger", 1),
    ("MatMulIntegerToFloat", 1),
    ("DynamicQuantizeMatMul", 1),
    ("ConvInteger", 1),
    ("QLinearMatMul", 3),
    ("QGemm", 3),
    ("QLinearConv", 3),
    ("DequantizeLinear", 0),
];

impl GraphKind {
    /// What the graph of a file computes with, given its element types.
    pub fn of(file: &OnnxFile, types: &Types) -> GraphKind {
        let Some(graph) = file.graph() else { return GraphKind::default() };
        let has_fast_gelu = graph.node.iter().any(|node| node.op_type() == "FastGelu");
        GraphKind {
            numbers: Numbers::of(file, graph, types),
            is_fused: graph.node.iter().any(is_fused),
            has_fast_gelu,
            has_half_buckets: sorts_in_a_half(graph, types),
        }
    }

    /// Whether weights or activations are stored as integers or codes.
    pub fn is_quantized(self) -> bool {
        !matches!(
            self.numbers,
            Numbers::F32 | Numbers::StoredHalves(_) | Numbers::Halves(_) | Numbers::Mixed(_)
        )
    }

    /// Whether activations are rounded to integers, or to floating-point numbers of 8 bits.
    pub fn rounds_activations(self) -> bool {
        self.has_constant_scales()
            || matches!(self.numbers, Numbers::Dynamic { .. } | Numbers::Blocks { rounds: true, .. })
    }

    /// Whether the scales of rounded activations are constants.
    pub fn has_constant_scales(self) -> bool {
        matches!(
            self.numbers,
            Numbers::Qdq { .. } | Numbers::QOperator { .. } | Numbers::Float8 { rounds: true }
        )
    }

    /// The half that at least a part of it is computed in.
    pub fn half(self) -> Option<Half> {
        match self.numbers {
            Numbers::Halves(half) | Numbers::Mixed(half) => Some(half),
            Numbers::Blocks { half, .. } => half,
            _ => None,
        }
    }
}

impl Numbers {
    fn of(file: &OnnxFile, graph: &GraphProto, types: &Types) -> Numbers {
        let declared: HashMap<&str, DataType> = file
            .tensors()
            .iter()
            .map(|info| info.name.as_str())
            .zip(file.declared().iter().copied())
            .collect();
        let has = |operators: &[&str]| graph.node.iter().any(|node| operators.contains(&node.op_type()));
        let half = [(Half::F16, DataType::Float16), (Half::Bf16, DataType::Bfloat16)];
        let computed = half.iter().find(|(_, of)| graph.node.iter().any(|node| computes(node, types, *of)));
        let unsigned = || {
            let weights = graph.node.iter().filter_map(|node| {
                let (_, place) = PRODUCTS.iter().find(|(operator, _)| *operator == node.op_type())?;
                declared.get(node.input.get(*place)?.as_str())
            });
            let mut weights = weights.filter(|of| **of != DataType::Int32).peekable();
            weights.peek().is_some() && weights.all(|of| matches!(of, DataType::Uint8 | DataType::Uint16))
        };
        // What is stored and dequantized by itself is a weight, and so is what is quantized of a stored one.
        let rounds = |node: &NodeProto| {
            node.op_type() == "QuantizeLinear"
                && node.input.first().is_some_and(|name| !declared.contains_key(name.as_str()))
        };
        if let Some(node) = graph.node.iter().find(|node| node.op_type() == "MatMulBnb4") {
            return if integer(node, "quant_type", 1) == 0 { Numbers::Fp4 } else { Numbers::Nf4 };
        }
        let blocks = graph.node.iter().filter_map(|node| bits_of_blocks(node, &declared)).min();
        if let Some(bits) = blocks {
            let is_real =
                |name: &String| declared.get(name.as_str()).is_some_and(|of| !INTEGERS.contains(of));
            let has_real_zeros = |node: &NodeProto| node.input.get(3).is_some_and(is_real);
            let rounds = graph.node.iter().any(|node| rounds_in_blocks(node) && !has_real_zeros(node));
            return Numbers::Blocks { bits, half: computed.map(|(half, _)| *half), rounds };
        }
        if file.declared().iter().any(|&of| Float8::of(of).is_some()) {
            return Numbers::Float8 { rounds: graph.node.iter().any(rounds) };
        }
        if has(&DYNAMIC) {
            return Numbers::Dynamic { unsigned: unsigned() };
        }
        if graph.node.iter().any(|node| node.op_type().starts_with("QLinear") || node.op_type() == "QGemm") {
            return Numbers::QOperator { unsigned: unsigned() };
        }
        if graph.node.iter().any(rounds) {
            return Numbers::Qdq { unsigned: unsigned() };
        }
        if has(&["DequantizeLinear", "GatherBlockQuantized"]) {
            return Numbers::IntegerWeights;
        }
        // Made numbers by `Cast` and `Mul`.
        let mut tensors = file.tensors().iter().zip(file.declared());
        if computed.is_none() && tensors.any(|(info, &of)| has_few_bits(of) && is_matrix(&info.shape)) {
            return Numbers::IntegerWeights;
        }
        let multiplies = |of: DataType| {
            let products =
                graph.node.iter().filter(|node| matches!(node.op_type(), "MatMul" | "Gemm" | "FusedMatMul"));
            products.filter_map(|node| types.of(node.output.first()?)).any(|made| made == of)
        };
        let stored = half.iter().find(|(_, of)| file.declared().contains(of));
        match (computed, stored) {
            (Some((half, of)), _) if multiplies(DataType::Float) && multiplies(*of) => Numbers::Mixed(*half),
            (Some((half, _)), _) => Numbers::Halves(*half),
            (None, Some((half, _))) => Numbers::StoredHalves(*half),
            (None, None) => Numbers::F32,
        }
    }
}

/// Whether one of the numbers is of a half that are rounded up to buckets of distances, `Ceil(Log(…) / … · …)`: nothing else in a
/// model is rounded up.
fn sorts_in_a_half(graph: &GraphProto, types: &Types) -> bool {
    const MOST: usize = 8;
    let is_half = |name: &String| matches!(types.of(name), Some(DataType::Float16 | DataType::Bfloat16));
    let makes = |name: &String| graph.node.iter().find(|node| node.output.first() == Some(name));
    let mut ups = graph.node.iter().filter(|node| node.op_type() == "Ceil");
    ups.any(|up| {
        let mut node = Some(up);
        for _ in 0..MOST {
            let Some(of) = node.filter(|of| matches!(of.op_type(), "Ceil" | "Mul" | "Div" | "Log" | "Cast"))
            else {
                break;
            };
            if of.op_type() != "Cast" && of.output.iter().any(is_half) {
                return true;
            }
            node = of.input.first().and_then(makes);
        }
        false
    })
}

/// Whether only rounded weights are of a type, if they are a matrix.
pub(crate) fn has_few_bits(of: DataType) -> bool {
    use DataType::{Int2, Int4, Uint2, Uint4};
    INTEGERS.contains(&of) || matches!(of, Int2 | Uint2 | Int4 | Uint4) || Float8::of(of).is_some()
}

/// Whether a tensor has two axes and more that are longer than 1.
pub(crate) fn is_matrix<T: PartialOrd + From<u8>>(lengths: &[T]) -> bool {
    lengths.iter().filter(|&length| *length > T::from(1)).count() > 1
}

/// The types that zero points of blocks are packed in.
const INTEGERS: [DataType; 2] = [DataType::Uint8, DataType::Int8];

/// Whether ONNX Runtime 1.32 rounds what a node takes to integers of 8 bits, in blocks as the weights are: where 8 bits are said
/// to be accurate enough (`accuracy_level` 4) and there is a kernel. It has none for zero points that are no integers.
pub(crate) fn rounds_in_blocks(node: &NodeProto) -> bool {
    const INT8: i64 = 4;
    let has_kernel = match integer(node, "bits", 4) {
        2 => (32..=128).contains(&integer(node, "block_size", 0)),
        bits => matches!(bits, 4 | 8),
    };
    let has_order = node.input.get(4).is_some_and(|order| !order.is_empty());
    let is_enough = integer(node, "accuracy_level", 0) == INT8;
    node.op_type() == "MatMulNBits" && is_enough && has_kernel && !has_order
}

/// How many bits the integers of a node's weights have, if they are stored in blocks.
fn bits_of_blocks(node: &NodeProto, declared: &HashMap<&str, DataType>) -> Option<u8> {
    let bits = match node.op_type() {
        "MatMulNBits" => integer(node, "bits", 4),
        "DequantizeLinear" | "GatherBlockQuantized" => {
            let of = declared.get(node.input.first()?.as_str())?;
            match of {
                DataType::Int4 | DataType::Uint4 => 4,
                DataType::Int2 | DataType::Uint2 => 2,
                _ if node.op_type() == "GatherBlockQuantized" => integer(node, "bits", 4),
                _ if integer(node, "block_size", 0) > 0 => 8,
                _ => return None,
            }
        }
        _ => return None,
    };
    u8::try_from(bits).ok()
}

fn integer(node: &NodeProto, name: &str, otherwise: i64) -> i64 {
    node.attribute
        .iter()
        .find(|attribute| attribute.name() == name)
        .map_or(otherwise, |attribute| attribute.i())
}

/// Whether a node is one that ONNX Runtime makes of several, and not of its quantization.
fn is_fused(node: &NodeProto) -> bool {
    const OF_QUANTIZATION: [&str; 8] = [
        "DequantizeLinear",
        "GatherBlockQuantized",
        "MatMulBnb4",
        "MatMulNBits",
        "QGemm",
        "QuantizeLinear",
        "QAttention",
        "QEmbedLayerNormalization",
    ];
    let operator = node.op_type();
    node.domain() == "com.microsoft"
        && !OF_QUANTIZATION.contains(&operator)
        && !operator.starts_with("QLinear")
}

/// Whether a node computes numbers of a type, and does not only move or convert them.
fn computes(node: &NodeProto, types: &Types, of: DataType) -> bool {
    !moves(node)
        && !matches!(node.op_type(), "Cast" | "DequantizeLinear")
        && node.output.iter().any(|name| types.of(name) == Some(of))
}

/// Whether a node puts numbers elsewhere and makes none.
pub fn moves(node: &NodeProto) -> bool {
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

impl Half {
    /// A number as this type has it.
    pub fn rounded(self, number: f32) -> f32 {
        match self {
            Half::F16 => half::f16::from_f32(number).to_f32(),
            Half::Bf16 => half::bf16::from_f32(number).to_f32(),
        }
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Half::F16 => "f16",
            Half::Bf16 => "bf16",
        })
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let int8 = |unsigned: &bool| if *unsigned { "uint8" } else { "int8" };
        match self {
            Numbers::F32 => f.write_str("f32"),
            Numbers::StoredHalves(half) => write!(f, "f32 (weights in {half})"),
            Numbers::Halves(half) => write!(f, "{half}"),
            Numbers::Mixed(half) => write!(f, "f32 and {half}"),
            Numbers::Dynamic { unsigned } => write!(f, "{} (dynamic)", int8(unsigned)),
            Numbers::Qdq { unsigned } => write!(f, "{} (static, QDQ)", int8(unsigned)),
            Numbers::QOperator { unsigned } => write!(f, "{} (static, QOperator)", int8(unsigned)),
            Numbers::Float8 { rounds: true } => f.write_str("f8 (static, QDQ)"),
            Numbers::Float8 { rounds: false } => f.write_str("f8 (weights)"),
            Numbers::IntegerWeights => f.write_str("int8 (weights)"),
            Numbers::Blocks { bits, half, rounds } => {
                write!(f, "{bits}-bit (blocks)")?;
                half.map_or(Ok(()), |half| write!(f, ", {half}"))?;
                f.write_str(if *rounds { ", activations int8" } else { "" })
            }
            Numbers::Nf4 => f.write_str("4-bit (NF4)"),
            Numbers::Fp4 => f.write_str("4-bit (FP4)"),
        }
    }
}

impl fmt::Display for GraphKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fused = if self.is_fused { ", fused by ONNX Runtime" } else { "" };
        f.pad(&format!("{}{fused}", self.numbers))
    }
}

#[cfg(test)]
mod tests;
