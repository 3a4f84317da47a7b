//! A graph that rounds, or not, as an input says for every node: which of them lose most is found by running it, loaded once.

use std::collections::HashSet;

use super::attributes::int;
use super::pass::Lowering;
use super::reals::Scale;
use super::{Activations, Stored};
use crate::format::onnx::proto::tensor_proto::DataType;
use crate::format::onnx::proto::type_proto::{Tensor, Value};
use crate::format::onnx::proto::{GraphProto, NodeProto, TypeProto, ValueInfoProto};

/// The input with a number for every node that computes with rounded numbers: 1 where it computes with those that were not.
pub const SWITCHES: &str = "not rounded";

/// What can be switched in a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Switched {
    /// The nodes of the file that compute with rounded numbers, in the order of [`SWITCHES`].
    pub nodes: Vec<SwitchedNode>,
    /// Initializers that take the place of rounded ones, each with the tensor of the file whose numbers it has; those of a
    /// model belong there.
    pub exact: Vec<(String, String)>,
}

/// A node of the file that computes with rounded numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SwitchedNode {
    /// Its name in the file.
    pub name: String,
    /// The name that it had before it was quantized, by which tools leave it out.
    pub before: String,
    /// The tensors of the file that it computes with.
    pub tensors: Vec<String>,
}

impl Lowering<'_> {
    /// Whether nodes can be switched.
    pub(super) fn is_switched(&self) -> bool {
        self.options.activations == Activations::Switched
    }

    /// Says which nodes of the file rounding is for that is lowered from here on; returns those that it was for before.
    pub(super) fn round_for(&mut self, users: Vec<usize>) -> Vec<usize> {
        let users = if self.is_switched() { users } else { Vec::new() };
        std::mem::replace(&mut self.users, users)
    }

    /// The exact value, or the rounded one: as the nodes say that rounding is for. It is left out if all of them leave it out.
    pub(super) fn switched(&mut self, of: &NodeProto, exact: &str, rounded: String) -> String {
        if !self.is_switched() || self.users.is_empty() {
            return rounded;
        }
        let switch = self.switch(of);
        self.emit(of, "Where", &[&switch, exact, &rounded], Vec::new())
    }

    /// Adds the initializer of dequantized numbers, and one in the place of it that is of a model.
    pub(super) fn add_switched(
        &mut self,
        shape: &[usize],
        numbers: Vec<f32>,
        stored: &Stored,
    ) -> (String, String) {
        let exact = self.add(&format!("{}, not rounded", stored.name), shape, numbers.clone());
        self.switches.exact.push((exact.clone(), stored.name.clone()));
        for user in self.users.clone() {
            let at = self.place_of(user);
            let node = self.switches.nodes.get_mut(at).filter(|node| !node.tensors.contains(&stored.name));
            if let Some(node) = node {
                node.tensors.push(stored.name.clone());
            }
        }
        (exact, self.add_plain(shape, numbers, stored.clone()))
    }

    /// A table of integers is looked up twice, so that no numbers but those that are needed are moved.
    pub(super) fn gather_switched(&mut self, node: &NodeProto, by: &Scale) -> Option<String> {
        let (table, indices) = (node.input.first()?, node.input.get(1)?);
        let at = self.producer_at(node.output.first()?)?;
        let before = self.round_for(vec![at]);
        let (shape, numbers, stored) = self.dequantize(table, by)?;
        let (exact, rounded) = self.add_switched(&shape, numbers, &stored);
        let [exact, rounded] = [exact, rounded]
            .map(|table| self.emit(node, "Gather", &[&table, indices], node.attribute.clone()));
        let value = self.switched(node, &exact, rounded);
        self.round_for(before);
        Some(value)
    }

    /// The nodes that a value is rounded for whose scale is a constant: those that tools quantize of what takes its numbers, and
    /// of what made them. All that take them where there is none.
    pub(super) fn neighbours(&self, value: &str) -> Vec<usize> {
        let takers = self.takers(value);
        let maker = self.producer(value).filter(|node| node.op_type() == "QuantizeLinear");
        let maker = maker.and_then(|node| self.producer_at(node.input.first()?));
        let is_quantized = |at: &usize| self.before_at(*at).is_some_and(|node| self.is_quantized(node));
        let mut found: Vec<usize> = takers.iter().copied().chain(maker).filter(is_quantized).collect();
        if found.is_empty() {
            found = takers;
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The nodes that compute with a value, which moves and `DequantizeLinear` do not.
    pub(super) fn takers(&self, value: &str) -> Vec<usize> {
        const MOVES: [&str; 12] = [
            "DequantizeLinear",
            "Reshape",
            "Transpose",
            "Slice",
            "Squeeze",
            "Unsqueeze",
            "Identity",
            "Flatten",
            "Expand",
            "Tile",
            "Split",
            "Cast",
        ];
        let (mut found, mut seen, mut ahead) = (Vec::new(), HashSet::new(), vec![value]);
        while let Some(value) = ahead.pop() {
            for &at in self.consumers.get(value).into_iter().flatten().filter(|at| seen.insert(**at)) {
                let Some(node) = self.before_at(at) else { continue };
                if MOVES.contains(&node.op_type()) {
                    ahead.extend(node.output.iter().map(String::as_str));
                } else if !matches!(node.op_type(), "QuantizeLinear" | "Shape" | "Size") {
                    found.push(at);
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// Whether a tool has quantized a node, and does not only read what is rounded for another one.
    fn is_quantized(&self, node: &NodeProto) -> bool {
        let is_read =
            |name: &String| self.producer(name).is_some_and(|of| of.op_type() == "DequantizeLinear");
        let takes_integers = node.op_type().starts_with("QLinear") || node.op_type() == "QGemm";
        takes_integers
            || match node.op_type() {
                "MatMul" | "Gemm" | "Conv" => node.input.iter().take(2).all(is_read),
                "Gather" => node.input.iter().take(1).all(is_read),
                _ => {
                    let made =
                        node.output.iter().flat_map(|made| self.consumers.get(made).into_iter().flatten());
                    let is_rounded = made
                        .filter_map(|&at| self.before_at(at))
                        .any(|taker| taker.op_type() == "QuantizeLinear");
                    is_rounded && node.input.iter().any(is_read)
                }
            }
    }

    /// Which switch is that of a node.
    fn place_of(&mut self, user: usize) -> usize {
        let known = self.switch_of.len();
        if let Some(&place) = self.switch_of.get(&user) {
            return place;
        }
        let node = self.before_at(user).cloned().unwrap_or_default();
        let (name, before) = (node.name().to_owned(), before_quantization(&node));
        self.switches.nodes.push(SwitchedNode { name, before, tensors: Vec::new() });
        self.switch_of.insert(user, known);
        known
    }

    /// A truth value: whether all nodes that rounding is for are switched.
    fn switch(&mut self, of: &NodeProto) -> String {
        let users = self.users.clone();
        if let Some(known) = self.switch_values.get(&users) {
            return known.clone();
        }
        let places: Vec<i64> = users.iter().map(|&user| self.place_of(user) as i64).collect();
        let places = self.integers("switches", &[places.len()], &places);
        let numbers = self.emit(of, "Gather", &[SWITCHES, &places], Vec::new());
        let least = self.emit(of, "ReduceMin", &[&numbers], vec![int("keepdims", 0)]);
        let switch = self.emit(of, "Cast", &[&least], vec![int("to", DataType::Bool as i64)]);
        self.switch_values.insert(users, switch.clone());
        switch
    }
}

/// Adds the input that says which nodes do not round.
pub(super) fn declare(graph: &mut GraphProto) {
    let tensor = Tensor { elem_type: Some(DataType::Float.into()), shape: None };
    let r#type = TypeProto { denotation: None, value: Some(Value::TensorType(tensor)) };
    graph.input.push(ValueInfoProto {
        name: Some(SWITCHES.to_owned()),
        r#type: Some(r#type),
        ..ValueInfoProto::default()
    });
}

/// The name that a node had before a tool quantized it: what the tool put behind it is taken off; where a runtime has made
/// another node of several, what the exporter called the value that it makes tells it.
fn before_quantization(node: &NodeProto) -> String {
    const ENDS: [&str; 6] = ["_quant", "_Q4", "_Q8", "_Q2", "_Bnb4", "_quantized"];
    const MADE: [&str; 3] = ["_output_quantized", "_quantized", "_MatMul"];
    const OUTPUT: &str = "_output_0";
    let name = node.name();
    let plain = ENDS.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    if plain.contains('/') && !plain.is_empty() {
        return plain.to_owned();
    }
    let made = node.output.first().map_or("", String::as_str);
    let value = MADE.iter().find_map(|end| made.strip_suffix(end)).unwrap_or(made);
    value.strip_suffix(OUTPUT).map_or(plain, |of| of).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_the_names_that_tools_leave_them_out_by() {
        let of = |name: &str, output: &str| {
            before_quantization(&NodeProto {
                name: Some(name.to_owned()),
                output: vec![output.to_owned()],
                ..NodeProto::default()
            })
        };
        assert_eq!(of("/layer.0/dense/MatMul_quant", "x"), "/layer.0/dense/MatMul");
        assert_eq!(of("/layer.0/dense/MatMul_Q4", "x"), "/layer.0/dense/MatMul");
        assert_eq!(of("/layer.0/dense/MatMul", "x"), "/layer.0/dense/MatMul");
        assert_eq!(of("fused 3", "/layer.0/dense/MatMul_output_0"), "/layer.0/dense/MatMul");
        assert_eq!(of("node_linear_1_quant", "linear_1_output_quantized"), "node_linear_1");
    }
}
