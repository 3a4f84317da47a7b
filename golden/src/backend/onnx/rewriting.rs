//! Where a graph computes in f16, which `rten` computes in f32, the range of f16 put back.

use deberta_converters::format::onnx::proto::attribute_proto::AttributeType;
use deberta_converters::format::onnx::proto::tensor_proto::DataType;
use deberta_converters::format::onnx::proto::type_proto::{Tensor, Value};
use deberta_converters::format::onnx::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto,
};
use deberta_converters::format::onnx::{Types, moves};

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
