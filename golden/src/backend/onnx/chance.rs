//! Graphs that draw numbers at random. That of a model that was exported as it trains leaves some out, others in every run.

use deberta_converters::format::TensorFile as _;
use deberta_converters::format::onnx::OnnxFile;
use deberta_converters::format::onnx::proto::{GraphProto, NodeProto, TensorProto};

/// Operators whose results are drawn.
const DRAWN: [&str; 6] =
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"];

/// The first node of a file that draws numbers at random, in words.
pub(super) fn chance(file: &OnnxFile) -> Option<String> {
    let graph = file.graph()?;
    let said = |node: &NodeProto| match node.op_type() {
        "Dropout" if node.input.get(2).is_some_and(|training| is_true(file, graph, training)) => Some(
            "leaves numbers out at random: the model was exported as it trains. Export it again after model.eval()",
        ),
        drawn if DRAWN.contains(&drawn) => Some("draws numbers at random: no two runs compute the same"),
        _ => None,
    };
    graph
        .node
        .iter()
        .find_map(|node| Some(format!("node \"{}\": {} {}", node.name(), node.op_type(), said(node)?)))
}

/// Whether a value is one truth value that the file holds, and true.
fn is_true(file: &OnnxFile, graph: &GraphProto, value: &str) -> bool {
    let stored = file.tensors().iter().position(|info| info.name == value);
    if let Some(bytes) = stored.and_then(|at| file.read(at).ok()) {
        return bytes.iter().any(|&byte| byte != 0);
    }
    let constant = graph.node.iter().find(|node| node.output.iter().any(|output| output == value));
    let tensor = constant.and_then(|node| node.attribute.iter().find_map(|attribute| attribute.t.as_ref()));
    tensor.is_some_and(|TensorProto { raw_data, int32_data, .. }| {
        let raw = raw_data.iter().flatten().any(|&byte| byte != 0);
        raw || int32_data.iter().any(|&number| number != 0)
    })
}

#[cfg(test)]
mod tests {
    use deberta_converters::format::onnx::proto::tensor_proto::DataType;
    use deberta_converters::format::onnx::proto::{AttributeProto, ModelProto, ValueInfoProto};
    use std::path::Path;

    use super::*;

    fn node(operator: &str, input: &[&str], output: &str) -> NodeProto {
        NodeProto {
            name: Some(operator.to_owned()),
            op_type: Some(operator.to_owned()),
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    fn truth(name: &str, value: i32) -> TensorProto {
        TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(DataType::Bool.into()),
            int32_data: vec![value],
            ..TensorProto::default()
        }
    }

    fn said(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Option<String> {
        let input = |name: &str| ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() };
        let input = vec![input("x"), input("ratio")];
        let graph = GraphProto { node: nodes, initializer, input, ..GraphProto::default() };
        let model = ModelProto { ir_version: Some(8), graph: Some(graph), ..ModelProto::default() };
        chance(&deberta_converters::format::onnx::from_model(model, Path::new("model.onnx")).unwrap())
    }

    #[test]
    fn a_model_that_trains_is_told_from_one_that_does_not() {
        let dropout = || node("Dropout", &["x", "ratio", "training"], "y");
        assert!(said(vec![dropout()], vec![truth("training", 1)]).unwrap().contains("model.eval()"));
        assert_eq!(said(vec![dropout()], vec![truth("training", 0)]), None);
        assert_eq!(said(vec![node("Dropout", &["x"], "y")], Vec::new()), None);
        let mut constant = node("Constant", &[], "training");
        constant.attribute = vec![AttributeProto { t: Some(truth("", 1)), ..AttributeProto::default() }];
        assert!(said(vec![constant, dropout()], Vec::new()).is_some());
        assert!(said(vec![node("RandomUniformLike", &["x"], "y")], Vec::new()).is_some());
    }
}
