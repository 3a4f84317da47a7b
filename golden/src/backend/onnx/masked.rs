//! What becomes of attention rows whose every key is masked, by how a graph is built.

use std::collections::{HashMap, HashSet};

use deberta_converters::format::onnx::proto::{GraphProto, NodeProto};
use deberta_reference::MaskedRows;

/// The convention that a graph follows, if its nodes tell: code that gives masked rows no attention sets the
/// probabilities of masked pairs to zero behind the softmax, by `Where` or by a product with the mask; the other code takes
/// them as they are. Nothing for a graph without attention in it.
pub(super) fn masked_rows(graph: &GraphProto) -> Option<MaskedRows> {
    let mut consumers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
    for node in &graph.node {
        for name in &node.input {
            consumers.entry(name).or_default().push(node);
        }
    }
    let outputs: HashSet<&str> = graph.output.iter().map(|output| output.name()).collect();
    let computed: HashSet<&str> =
        graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    let (mut zero, mut uniform) = (0, 0);
    for softmax in graph.node.iter().filter(|node| node.op_type() == "Softmax") {
        let Some(mut value) = softmax.output.first().map(String::as_str) else { continue };
        if outputs.contains(value) && !consumers.contains_key(value) {
            continue; // probabilities that the graph returns
        }
        loop {
            let next = consumers.get(value).map(Vec::as_slice).unwrap_or_default();
            let passed = next.iter().find(|node| matches!(node.op_type(), "Cast" | "Identity" | "Dropout"));
            match passed.and_then(|node| node.output.first()) {
                Some(output) if next.len() == 1 => value = output,
                _ => break,
            }
        }
        let of_mask = |node: &&NodeProto| match node.op_type() {
            "Where" => true,
            "Mul" => node.input.iter().any(|name| name != value && computed.contains(name.as_str())),
            _ => false,
        };
        let next = consumers.get(value).map(Vec::as_slice).unwrap_or_default();
        if next.iter().any(of_mask) {
            zero += 1;
        } else if next.iter().any(|node| matches!(node.op_type(), "MatMul" | "Transpose" | "FusedMatMul")) {
            uniform += 1;
        }
    }
    match (zero, uniform) {
        (0, 0) => None,
        (0, _) => Some(MaskedRows::Uniform),
        (_, 0) => Some(MaskedRows::Zero),
        _ => None,
    }
}
