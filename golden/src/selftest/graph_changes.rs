//! What the selftest changes in a graph: faults, each with what must be blamed for it, and what tools do to a good graph.

use std::collections::{HashMap, HashSet};

use deberta_converters::format::onnx::proto::attribute_proto::AttributeType;
use deberta_converters::format::onnx::proto::tensor_proto::DataType;
use deberta_converters::format::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use deberta_converters::format::onnx::put_floats;
use deberta_reference::Head;

use crate::trace::tensor::{Data, Tensor};

/// A change of a graph.
pub(super) struct Change {
    pub(super) kind: &'static str,
    pub(super) description: &'static str,
    /// Changes the graph; nothing if it has nothing to change. If there is none, what depends on weights alone is computed.
    pub(super) change: Option<fn(&mut GraphProto) -> Option<()>>,
    /// Which classes it is for.
    pub(super) has: fn(Head) -> bool,
    pub(super) expected: Expected,
}

/// How the verification of a changed graph must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Nothing is wrong.
    Pass,
    /// It diverges, and the graph is not blamed.
    Weights,
    /// It diverges, and the graph is blamed.
    Graph,
    /// It diverges, because no runtime loads it.
    Invalid,
    /// It diverges, and one finding about its quantization has all of these words.
    Named(&'static [&'static str]),
}

pub(super) const ANY: fn(Head) -> bool = |_| true;
const WITH_LOGITS: fn(Head) -> bool = |head| !matches!(head, Head::QuestionAnswering | Head::Base);

/// All changes.
pub(super) const CHANGES: &[Change] = &[
    of("graph-weight", "a weight of the graph changed", ANY, Expected::Weights, |graph| {
        let weight =
            graph.initializer.iter_mut().find(|tensor| tensor.name().ends_with("output.dense.weight"))?;
        edit(weight, |numbers| numbers.iter_mut().take(1).for_each(|number| *number += 0.5))
    }),
    of("graph-zeroed-weight", "a matrix of the graph zeroed", ANY, Expected::Weights, |graph| {
        let named = |tensor: &&mut TensorProto| tensor.name().ends_with("intermediate.dense.weight");
        edit(graph.initializer.iter_mut().find(named)?, |numbers| numbers.fill(0.0))
    }),
    of(
        "graph-transpose",
        "a Transpose dropped: heads stay where tokens must be",
        ANY,
        Expected::Graph,
        |graph| {
            let node = graph.node.iter_mut().find(|node| {
                node.op_type() == "Transpose"
                    && node.name().contains("attention")
                    && perm(node) == [0, 2, 1, 3]
                    && node.name().ends_with("Transpose_2")
            })?;
            replace(node, "Identity");
            Some(())
        },
    ),
    of("graph-scale", "the scale of scores a tenth larger", ANY, Expected::Graph, |graph| {
        let divisors: HashSet<String> = graph
            .node
            .iter()
            .filter(|node| node.op_type() == "Div" && node.name().contains("attention"))
            .filter_map(|node| node.input.get(1).cloned())
            .collect();
        let scale = graph.initializer.iter_mut().find(|tensor| divisors.contains(tensor.name()))?;
        edit(scale, |numbers| numbers.iter_mut().for_each(|number| *number *= 1.1))
    }),
    of("graph-mask", "the mask taken out of the scores", ANY, Expected::Graph, |graph| {
        edit(constant(graph, f32::MIN)?, |numbers| numbers.fill(0.0))
    }),
    of("graph-activation", "an Erf made a Tanh", ANY, Expected::Graph, |graph| {
        graph.node.iter_mut().find(|node| node.op_type() == "Erf")?.op_type = Some("Tanh".to_owned());
        Some(())
    }),
    of("graph-types", "half the operands of an Add in f16", ANY, Expected::Invalid, |graph| {
        let at =
            graph.node.iter().position(|node| node.op_type() == "Add" && node.name().contains("dense"))?;
        let operand = graph.node.get(at)?.input.first()?.clone();
        let narrow = format!("{operand}/narrow");
        graph.node.get_mut(at)?.input.first_mut()?.clone_from(&narrow);
        let mut cast = node("Cast", vec![operand], narrow);
        cast.attribute = vec![integer("to", 10)];
        graph.node.insert(at, cast);
        Some(())
    }),
    of(
        "graph-epsilon",
        "the epsilon of a LayerNormalization a million times as large",
        ANY,
        Expected::Graph,
        |graph| {
            let node = graph.node.iter_mut().find(|node| node.op_type() == "LayerNormalization")?;
            let epsilon = node.attribute.iter_mut().find(|attribute| attribute.name() == "epsilon")?;
            epsilon.f = epsilon.f.map(|epsilon| epsilon * 1e6);
            Some(())
        },
    ),
    of(
        "graph-exchanged-outputs",
        "the names of the two outputs exchanged",
        |head| head == Head::QuestionAnswering,
        Expected::Graph,
        |graph| {
            let names: Vec<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
            let [one, other] = names.as_slice() else { return None };
            let exchanged = HashMap::from([(one.clone(), other.clone()), (other.clone(), one.clone())]);
            let outputs = graph.node.iter_mut().flat_map(|node| &mut node.output);
            outputs.for_each(|name| {
                if let Some(other) = exchanged.get(name) {
                    name.clone_from(other);
                }
            });
            Some(())
        },
    ),
    of("good-renamed-outputs", "outputs that are called by numbers", ANY, Expected::Pass, |graph| {
        let names: Vec<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
        for (at, name) in names.iter().enumerate() {
            rename(graph, name, &format!("{}", 2000 + at));
        }
        Some(())
    }),
    of("good-softmax", "an output that is the softmax of the logits", WITH_LOGITS, Expected::Pass, |graph| {
        rename(graph, "logits", "scores");
        let mut softmax = node("Softmax", vec!["scores".to_owned()], "output".to_owned());
        softmax.attribute = vec![integer("axis", -1)];
        graph.node.push(softmax);
        graph.output.iter_mut().for_each(|output| output.name = Some("output".to_owned()));
        Some(())
    }),
    of("good-reordered-inputs", "inputs without names, the mask first", ANY, Expected::Pass, |graph| {
        graph.input.rotate_left(1);
        for (name, other) in [("input_ids", "b"), ("attention_mask", "a"), ("token_type_ids", "c")] {
            rename(graph, name, other);
        }
        Some(())
    }),
    Change {
        kind: "good-folded",
        description: "what depends on weights alone computed beforehand, as optimizers do",
        change: None,
        has: ANY,
        expected: Expected::Pass,
    },
];

pub(super) const fn of(
    kind: &'static str,
    description: &'static str,
    has: fn(Head) -> bool,
    expected: Expected,
    change: fn(&mut GraphProto) -> Option<()>,
) -> Change {
    Change { kind, description, change: Some(change), has, expected }
}

/// Puts values that depend on weights alone into a graph, and takes out what nothing needs then.
pub(super) fn fold(graph: &mut GraphProto, values: &[Tensor]) {
    let floats = values.iter().filter_map(|value| match &value.data {
        Data::Floats(numbers) => Some(TensorProto {
            name: Some(value.name.clone()),
            dims: value.shape.iter().filter_map(|&length| i64::try_from(length).ok()).collect(),
            data_type: Some(DataType::Float.into()),
            raw_data: Some(numbers.iter().flat_map(|number| number.to_le_bytes()).collect()),
            ..TensorProto::default()
        }),
        _ => None,
    });
    let known: HashSet<String> = graph.initializer.iter().map(|tensor| tensor.name().to_owned()).collect();
    let folded: Vec<TensorProto> = floats.filter(|tensor| !known.contains(tensor.name())).collect();
    let made: HashSet<String> = folded.iter().map(|tensor| tensor.name().to_owned()).collect();
    graph.node.retain(|node| !node.output.iter().any(|name| made.contains(name)));
    graph.initializer.extend(folded);
    let mut needed: HashSet<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
    let mut live = Vec::new();
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|name| needed.contains(name)) {
            needed.extend(node.input.iter().cloned());
            live.push(node);
        }
    }
    live.reverse();
    graph.node = live;
    graph.initializer.retain(|tensor| needed.contains(tensor.name()));
}

/// Changes the numbers of a tensor in f32.
pub(super) fn edit(tensor: &mut TensorProto, change: impl FnOnce(&mut Vec<f32>)) -> Option<()> {
    let mut numbers = floats(tensor)?;
    change(&mut numbers);
    put_floats(tensor, numbers.iter().flat_map(|number| number.to_le_bytes()).collect());
    Some(())
}

pub(super) fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type() != i32::from(DataType::Float) {
        return None;
    }
    Some(match &tensor.raw_data {
        Some(bytes) => bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        None => tensor.float_data.clone(),
    })
}

/// The constant of one number.
fn constant(graph: &mut GraphProto, number: f32) -> Option<&mut TensorProto> {
    graph.initializer.iter_mut().find(|tensor| floats(tensor).is_some_and(|numbers| numbers == [number]))
}

/// Calls a value something else.
fn rename(graph: &mut GraphProto, name: &str, other: &str) {
    let values = graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
    values.filter(|value| *value == name).for_each(|value| other.clone_into(value));
    let declared = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
    declared.filter(|value| value.name() == name).for_each(|value| value.name = Some(other.to_owned()));
}

fn perm(node: &NodeProto) -> &[i64] {
    let perm = node.attribute.iter().find(|attribute| attribute.name() == "perm");
    perm.map_or(&[], |perm| perm.ints.as_slice())
}

fn replace(node: &mut NodeProto, operator: &str) {
    node.op_type = Some(operator.to_owned());
    node.attribute.clear();
}

pub(super) fn node(operator: &str, input: Vec<String>, output: String) -> NodeProto {
    NodeProto {
        name: Some(output.clone()),
        op_type: Some(operator.to_owned()),
        input,
        output: vec![output],
        ..NodeProto::default()
    }
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int.into()),
        i: Some(value),
        ..AttributeProto::default()
    }
}
