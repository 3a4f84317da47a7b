//! A graph as `rten` computes it: operators of ONNX Runtime that it does not have, in those of the standard; and where a
//! graph computes in f16, which `rten` computes in f32, the range of f16 put back.

use std::collections::HashMap;

use deberta_converters::format::onnx::Types;
use deberta_converters::format::onnx::proto::attribute_proto::AttributeType;
use deberta_converters::format::onnx::proto::tensor_proto::DataType;
use deberta_converters::format::onnx::proto::type_proto::{Tensor, Value};
use deberta_converters::format::onnx::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto,
};

use super::computation::moves;

/// Whether a graph has operators that are rewritten.
pub(super) fn is_needed(graph: &GraphProto) -> bool {
    graph.node.iter().any(|node| matches!(node.op_type(), "FusedMatMul" | "Dropout"))
}

/// Replaces every `FusedMatMul`, whose operands' ranks the file declares, by `Transpose`, `MatMul` and `Mul`. One whose ranks
/// are not known stays.
pub(super) fn unfuse(graph: &mut GraphProto) {
    let ranks: HashMap<String, usize> = graph
        .ranks()
        .into_iter()
        .map(|(name, rank)| (name.to_owned(), rank))
        .chain(graph.initializer.iter().map(|tensor| (tensor.name().to_owned(), tensor.dims.len())))
        .collect();
    let ranks = inferred(graph, ranks);
    let nodes = std::mem::take(&mut graph.node);
    for mut node in nodes {
        // Nothing is dropped outside of training.
        if node.op_type() == "Dropout" && node.input.get(2).is_none_or(String::is_empty) {
            node.op_type = Some("Identity".to_owned());
            node.input.truncate(1);
            node.output.truncate(1);
            node.attribute.clear();
        }
        match (node.op_type() == "FusedMatMul")
            .then(|| unfused(&node, &ranks, &mut graph.initializer))
            .flatten()
        {
            Some(nodes) => graph.node.extend(nodes),
            None => graph.node.push(node),
        }
    }
}

/// The ranks of values, those of elementwise operators and products from their operands.
fn inferred(graph: &GraphProto, mut ranks: HashMap<String, usize>) -> HashMap<String, usize> {
    // How many numbers a list has, as the shapes that `Reshape` takes.
    let mut lengths: HashMap<&str, usize> = HashMap::new();
    for tensor in graph.initializer.iter().filter(|tensor| tensor.dims.len() == 1) {
        let length = tensor.dims.first().and_then(|&length| usize::try_from(length).ok());
        lengths.extend(length.map(|length| (tensor.name(), length)));
    }
    for node in &graph.node {
        let output = node.output.first().map(String::as_str);
        let length = match node.op_type() {
            // Of one number, as exporters make shapes.
            "Unsqueeze" => Some(1),
            "Concat" => node.input.iter().map(|name| lengths.get(name.as_str()).copied()).sum(),
            _ => None,
        };
        lengths.extend(output.zip(length));
        let of = |at: usize| node.input.get(at).and_then(|name| ranks.get(name)).copied();
        let ints = |name: &str| {
            let attribute = node.attribute.iter().find(|attribute| attribute.name() == name)?;
            Some(attribute.ints.len())
        };
        let rank = match node.op_type() {
            "Add" | "Sub" | "Mul" | "Div" | "MatMul" | "FusedMatMul" => {
                of(0).zip(of(1)).map(|(one, other)| one.max(other))
            }
            "Transpose" => ints("perm").or(of(0)),
            "GatherElements" | "Softmax" | "Tile" | "Cast" | "Identity" | "Slice" | "LayerNormalization"
            | "Expand" => of(0),
            "Where" => of(1).into_iter().chain(of(2)).max(),
            "Gather" => of(0).zip(of(1)).map(|(data, indices)| (data + indices).saturating_sub(1)),
            "Reshape" => node.input.get(1).and_then(|shape| lengths.get(shape.as_str())).copied(),
            _ => None,
        };
        if let (Some(rank), Some(output)) = (rank, node.output.first()) {
            ranks.entry(output.clone()).or_insert(rank);
        }
    }
    ranks
}

fn unfused(
    node: &NodeProto,
    ranks: &HashMap<String, usize>,
    constants: &mut Vec<TensorProto>,
) -> Option<Vec<NodeProto>> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name);
    let flag = |name: &str| attribute(name).is_some_and(|attribute| attribute.i() != 0);
    let ([left, right], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return None };
    let mut nodes = Vec::new();
    let mut turned = |operand: &String, turn: bool, batch: bool| {
        if !turn && !batch {
            return Some(operand.clone());
        }
        let rank = i64::try_from(*ranks.get(operand)?).ok().filter(|&rank| rank >= 2)?;
        // The batch: the first axis goes before the last.
        let mut axes: Vec<i64> = (0..rank).collect();
        if batch {
            axes = (1..rank - 1).chain([0, rank - 1]).collect();
        }
        if turn {
            let last = axes.len().checked_sub(1)?;
            axes.swap(last - 1, last);
        }
        let name = format!("{output}/turned {}", nodes.len());
        let perm = AttributeProto {
            name: Some("perm".to_owned()),
            r#type: Some(AttributeType::Ints.into()),
            ints: axes,
            ..AttributeProto::default()
        };
        nodes.push(standard(node, "Transpose", vec![operand.clone()], &name, vec![perm]));
        Some(name)
    };
    let left = turned(left, flag("transA"), flag("transBatchA"))?;
    let right = turned(right, flag("transB"), flag("transBatchB"))?;
    let alpha = attribute("alpha").map_or(1.0, AttributeProto::f);
    if alpha == 1.0 {
        nodes.push(standard(node, "MatMul", vec![left, right], output, Vec::new()));
    } else {
        let (product, factor) = (format!("{output}/product"), format!("{output}/alpha"));
        nodes.push(standard(node, "MatMul", vec![left, right], &product, Vec::new()));
        nodes.push(standard(node, "Mul", vec![product, factor.clone()], output, Vec::new()));
        constants.push(number(&factor, alpha));
    }
    Some(nodes)
}

/// What stands before the names of outputs that tell how large numbers get.
const LARGEST: &str = "largest of ";
const LEAST: &str = "least of ";

/// The names of the outputs that tell the largest and the least number of a value.
pub(super) fn extremes(value: &str) -> [String; 2] {
    [format!("{LARGEST}{value}"), format!("{LEAST}{value}")]
}

/// Puts the range of f16 back into a graph whose values in f16 are computed in f32: from 2^16 on a number becomes infinite.
/// Adds as outputs how large each of these values gets before that, and returns the values in the order of execution, each
/// with the node that makes it.
pub(super) fn restrict(graph: &mut GraphProto, types: &Types) -> Vec<(String, String)> {
    const FACTOR: &str = "to the edge of f32";
    const INVERSE: &str = "back from the edge of f32";
    graph.initializer.extend([number(FACTOR, 2.0_f32.powi(112)), number(INVERSE, 2.0_f32.powi(-112))]);
    let mut restricted = Vec::new();
    let nodes = std::mem::take(&mut graph.node);
    for mut node in nodes {
        let mut after = Vec::new();
        if !moves(&node) {
            let outputs: Vec<String> = node.output.clone();
            for (at, value) in outputs.into_iter().enumerate() {
                if types.of(&value) != Some(DataType::Float16) {
                    continue;
                }
                let (computed, scaled) = (format!("{value}/in f32"), format!("{value}/scaled"));
                if let Some(output) = node.output.get_mut(at) {
                    output.clone_from(&computed);
                }
                for (name, operator) in extremes(&value).into_iter().zip(["ReduceMax", "ReduceMin"]) {
                    let flat = AttributeProto {
                        name: Some("keepdims".to_owned()),
                        r#type: Some(AttributeType::Int.into()),
                        i: Some(0),
                        ..AttributeProto::default()
                    };
                    after.push(standard(&node, operator, vec![computed.clone()], &name, vec![flat]));
                    graph.output.push(output_of(&name));
                }
                after.push(standard(&node, "Mul", vec![computed, FACTOR.to_owned()], &scaled, Vec::new()));
                after.push(standard(&node, "Mul", vec![scaled, INVERSE.to_owned()], &value, Vec::new()));
                restricted.push((value, format!("node \"{}\" ({})", node.name(), node.op_type())));
            }
        }
        graph.node.push(node);
        graph.node.extend(after);
    }
    restricted
}

/// A node of ONNX's own operators, in the place of another one.
fn standard(
    of: &NodeProto,
    operator: &str,
    input: Vec<String>,
    output: &str,
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        name: Some(format!("{}/{output}", of.name())),
        op_type: Some(operator.to_owned()),
        input,
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

fn number(name: &str, value: f32) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(DataType::Float.into()),
        float_data: vec![value],
        ..TensorProto::default()
    }
}

fn output_of(name: &str) -> ValueInfoProto {
    let tensor = Tensor { elem_type: Some(DataType::Float.into()), shape: None };
    let r#type = TypeProto { denotation: None, value: Some(Value::TensorType(tensor)) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(r#type), ..ValueInfoProto::default() }
}
