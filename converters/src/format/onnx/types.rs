//! The element types of a graph's values, inferred as `onnx.checker` does with `full_check`, and where they contradict
//! each other: no runtime that checks types loads such a graph.
//!
//! What is not known (an operator of a tool's own, a value made in a branch) has the type that the file declares for it,
//! or none, and contradicts nothing.

use std::collections::HashMap;

use super::proto::tensor_proto::DataType;
use super::proto::{AttributeProto, GraphProto, NodeProto, TypeProto, ValueInfoProto, type_proto};
use super::{Float8, OnnxFile, TensorFile as _};

/// The element types of values, by their names.
pub struct Types(HashMap<String, DataType>);

impl Types {
    /// The type of a value, if it is known.
    pub fn of(&self, value: &str) -> Option<DataType> {
        self.0.get(value).copied()
    }

    /// The types of all values of a graph, branches and bodies of loops left out.
    ///
    /// # Errors
    /// The first contradiction, in words: the node, and both types.
    pub fn infer(file: &OnnxFile) -> Result<Types, String> {
        let graph = &file.graph;
        let mut types = Types(HashMap::new());
        let mut declared: HashMap<&str, DataType> = HashMap::new();
        for value in graph.value_info.iter().chain(&graph.output) {
            declared.extend(elements(value).map(|of| (value.name(), of)));
        }
        let tensors = file.tensors().iter().zip(file.declared()).map(|(info, &of)| (info.name.clone(), of));
        types.0.extend(tensors);
        types
            .0
            .extend(graph.input.iter().filter_map(|input| Some((input.name().to_owned(), elements(input)?))));
        for node in &graph.node {
            check_attributes(node, file.opset())?;
            types.agree(node)?;
            types.check_version(node, file.opset())?;
            let made = types.made(node);
            for (at, output) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                let (inferred, said) = (made.of(at), declared.get(output.as_str()).copied());
                if let (Some(inferred), Some(said)) = (inferred, said)
                    && inferred != said
                {
                    return Err(format!(
                        "{} makes {} of \"{output}\", which the file declares as {}",
                        named(node),
                        word(inferred),
                        word(said)
                    ));
                }
                types.0.extend(inferred.or(said).map(|of| (output.clone(), of)));
            }
        }
        Ok(types)
    }

    fn input(&self, node: &NodeProto, at: usize) -> Option<DataType> {
        self.of(node.input.get(at)?)
    }

    /// Checks that the operands of a node that must have one type have it.
    fn agree(&self, node: &NodeProto) -> Result<(), String> {
        let places: Vec<usize> = match node.op_type() {
            _ if !is_known(node) => return Ok(()),
            "Where" => vec![1, 2],
            "DequantizeLinear" => vec![0, 2],
            "ScatterElements" | "ScatterND" | "Scatter" => vec![0, 2],
            "Gemm" | "Clip" | "Conv" | "Range" => vec![0, 1, 2],
            operation if ALIKE.contains(&operation) || COMPARING.contains(&operation) => {
                (0..node.input.len()).collect()
            }
            _ => Vec::new(),
        };
        let mut first: Option<(usize, DataType)> = None;
        for at in places {
            let Some(of) = self.input(node, at) else { continue };
            let &mut (known, expected) = first.get_or_insert((at, of));
            if of != expected {
                let value = |at| node.input.get(at).map_or("", String::as_str);
                return Err(format!(
                    "{} takes {} (\"{}\") and {} (\"{}\")",
                    named(node),
                    word(expected),
                    value(known),
                    word(of),
                    value(at)
                ));
            }
        }
        let indices = matches!(node.op_type(), "Gather" | "GatherElements" | "GatherND");
        match self.input(node, 1).filter(|_| indices) {
            Some(DataType::Int32 | DataType::Int64) | None => Ok(()),
            Some(other) => Err(format!("{} takes indices of {}", named(node), word(other))),
        }
    }

    /// Checks that the version of a node has the type that it takes.
    fn check_version(&self, node: &NodeProto, version: i64) -> Result<(), String> {
        const WITH_FLOATS: i64 = 19;
        let rounds = is_known(node) && matches!(node.op_type(), "QuantizeLinear" | "DequantizeLinear");
        let floats = (0..3).filter_map(|at| self.input(node, at)).find(|&of| Float8::of(of).is_some());
        match floats.filter(|_| rounds && version < WITH_FLOATS) {
            Some(of) => Err(format!(
                "{} takes {}, as it does from version {WITH_FLOATS} of the operators on, and the file says {version}",
                named(node),
                word(of)
            )),
            None => Ok(()),
        }
    }

    /// What a node makes.
    fn made(&self, node: &NodeProto) -> Made {
        let first = || self.input(node, 0);
        let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name);
        let said = || attribute("output_dtype").and_then(|of| numbered(i32::try_from(of.i()).ok()?));
        match node.op_type() {
            _ if !is_known(node) => Made::Unknown,
            "Cast" => Made::all(attribute("to").and_then(|to| numbered(i32::try_from(to.i()).ok()?))),
            "CastLike" => Made::all(self.input(node, 1)),
            "Where" => Made::all(self.input(node, 1).or(self.input(node, 2))),
            "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" => Made::all(Some(DataType::Int64)),
            "And" | "Or" | "Xor" | "Not" | "IsNaN" | "IsInf" => Made::all(Some(DataType::Bool)),
            "ConstantOfShape" => Made::all(attribute("value").map_or(Some(DataType::Float), of_tensor)),
            "Constant" => Made::all(node.attribute.first().and_then(of_constant).or_else(|| {
                // Its tensor is among those of the file.
                node.output.first().and_then(|name| self.of(name))
            })),
            "DynamicQuantizeLinear" => {
                Made::Each([Some(DataType::Uint8), Some(DataType::Float), Some(DataType::Uint8)])
            }
            "QuantizeLinear" => Made::all(said().or_else(|| self.input(node, 2)).or(Some(DataType::Uint8))),
            "DequantizeLinear" => Made::all(said().or_else(|| self.input(node, 1))),
            "MatMulInteger" | "ConvInteger" => Made::all(Some(DataType::Int32)),
            "QLinearMatMul" => Made::all(self.input(node, 7)),
            "Dropout" | "TopK" | "LayerNormalization" => Made::Each([first(), None, None]),
            operation if COMPARING.contains(&operation) => Made::all(Some(DataType::Bool)),
            operation if ALIKE.contains(&operation) => {
                Made::all((0..node.input.len()).find_map(|at| self.input(node, at)))
            }
            operation if OF_THE_FIRST.contains(&operation) => Made::all(first()),
            _ => Made::Unknown,
        }
    }
}

/// Attributes that an operator no longer has from a version of the operators on, which takes them as inputs: a tool that raises the
/// version without changing the nodes leaves them behind.
const GONE: [(&str, &str, i64); 17] = [
    ("ReduceSum", "axes", 13),
    ("Squeeze", "axes", 13),
    ("Unsqueeze", "axes", 13),
    ("Split", "split", 13),
    ("ReduceL1", "axes", 18),
    ("ReduceL2", "axes", 18),
    ("ReduceLogSum", "axes", 18),
    ("ReduceLogSumExp", "axes", 18),
    ("ReduceMax", "axes", 18),
    ("ReduceMean", "axes", 18),
    ("ReduceMin", "axes", 18),
    ("ReduceProd", "axes", 18),
    ("ReduceSumSquare", "axes", 18),
    ("Slice", "starts", 10),
    ("Clip", "min", 11),
    ("Pad", "pads", 11),
    ("TopK", "k", 10),
];

/// Attributes that an operator has from a version of the operators on.
const NEW: [(&str, &str, i64); 5] = [
    ("QuantizeLinear", "saturate", 19),
    ("QuantizeLinear", "block_size", 21),
    ("DequantizeLinear", "block_size", 21),
    ("QuantizeLinear", "output_dtype", 21),
    ("DequantizeLinear", "output_dtype", 23),
];

/// Checks that a node of ONNX's own operators has no attribute that its version does not have.
fn check_attributes(node: &NodeProto, version: i64) -> Result<(), String> {
    let has = |name: &str| node.attribute.iter().any(|attribute| attribute.name() == name);
    let is_there = |(operator, attribute, _): &&(&str, &str, i64)| {
        matches!(node.domain(), "" | "ai.onnx") && node.op_type() == *operator && has(attribute)
    };
    if let Some((_, attribute, since)) = NEW.iter().filter(is_there).find(|(.., since)| version < *since) {
        return Err(format!(
            "{} has the attribute \"{attribute}\", which there is from version {since} of the operators on, and the file says {version}",
            named(node)
        ));
    }
    match GONE.iter().filter(is_there).find(|(.., since)| version >= *since) {
        Some((_, attribute, since)) => Err(format!(
            "{} has the attribute \"{attribute}\", which is an input from version {since} of the operators on, and the file says {version}",
            named(node)
        )),
        None => Ok(()),
    }
}

/// What the outputs of a node are of.
enum Made {
    Unknown,
    All(DataType),
    Each([Option<DataType>; 3]),
}

impl Made {
    fn all(of: Option<DataType>) -> Made {
        of.map_or(Made::Unknown, Made::All)
    }

    fn of(&self, at: usize) -> Option<DataType> {
        match self {
            Made::Unknown => None,
            Made::All(of) => Some(*of),
            Made::Each(each) => each.get(at).copied().flatten(),
        }
    }
}

/// Operators whose operands all have one type, which is that of the result.
const ALIKE: [&str; 18] = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "MatMul",
    "Concat",
    "Max",
    "Min",
    "Sum",
    "Mean",
    "Einsum",
    "PRelu",
    "Gemm",
    "Conv",
    "Range",
    "Clip",
    "FusedMatMul",
    "BiasGelu",
];

/// Operators whose operands have one type, and whose result is true or false.
const COMPARING: [&str; 5] = ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"];

/// Operators whose result has the type of the first operand.
const OF_THE_FIRST: [&str; 58] = [
    "Abs",
    "Ceil",
    "CumSum",
    "Elu",
    "Erf",
    "Exp",
    "Expand",
    "FastGelu",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "HardSigmoid",
    "Identity",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "Mish",
    "Mod",
    "Neg",
    "Pad",
    "Pow",
    "QuickGelu",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Round",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Sigmoid",
    "Sign",
    "SkipLayerNormalization",
    "Slice",
    "Softmax",
    "Softplus",
    "Split",
    "Sqrt",
    "Squeeze",
    "Tanh",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Sin",
    "Cos",
    "Selu",
];

/// Whether a node is of ONNX's own operators, or of those that ONNX Runtime fuses.
fn is_known(node: &NodeProto) -> bool {
    matches!(node.domain(), "" | "ai.onnx" | "com.microsoft")
}

fn elements(value: &ValueInfoProto) -> Option<DataType> {
    let Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. }) = &value.r#type else {
        return None;
    };
    numbered(tensor.elem_type?)
}

fn numbered(number: i32) -> Option<DataType> {
    DataType::try_from(number).ok().filter(|&of| of != DataType::Undefined)
}

fn of_tensor(attribute: &AttributeProto) -> Option<DataType> {
    numbered(attribute.t.as_ref()?.data_type?)
}

fn of_constant(attribute: &AttributeProto) -> Option<DataType> {
    match attribute.name() {
        "value" => of_tensor(attribute),
        "value_float" | "value_floats" => Some(DataType::Float),
        "value_int" | "value_ints" => Some(DataType::Int64),
        _ => None,
    }
}

fn named(node: &NodeProto) -> String {
    format!("node \"{}\" ({})", node.name(), node.op_type())
}

/// As the rest of the program writes it: `f16`; else as ONNX does.
fn word(of: DataType) -> String {
    let word = match of {
        DataType::Float => "f32",
        DataType::Double => "f64",
        DataType::Float16 => "f16",
        DataType::Bfloat16 => "bf16",
        other => return other.as_str_name().to_ascii_lowercase(),
    };
    word.to_owned()
}

impl GraphProto {
    /// The declared shapes of values, by their names; nothing for free lengths.
    pub fn ranks(&self) -> HashMap<&str, usize> {
        let values = self.value_info.iter().chain(&self.input).chain(&self.output);
        let rank = |value: &ValueInfoProto| match &value.r#type.as_ref()?.value {
            Some(type_proto::Value::TensorType(tensor)) => Some(tensor.shape.as_ref()?.dim.len()),
            _ => None,
        };
        values.filter_map(|value| Some((value.name(), rank(value)?))).collect()
    }
}
