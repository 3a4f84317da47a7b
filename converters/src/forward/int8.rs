//! Weights that are stored as integers of 8 bits, and what is computed with them.
//!
//! ```text
//! y = x Wᵀ   x̂ = round(x / s), s from the largest and the least number of the batch     DynamicQuantizeLinear
//!            y = (x̂ - zero point) Ŵᵀ · (s S), S the scales of the rows of W              MatMulInteger, Cast, Mul
//! W[ids]     Ŵ[ids] · S[ids]                                                            Gather, Cast, Mul
//! elsewhere  W = Ŵ · S, which a runtime computes when it loads the model                 Cast, Mul
//! ```
//!
//! ONNX Runtime makes one operator of the first. It never computes a `DequantizeLinear` of weights when it loads a model, and so
//! there is none.

use std::collections::{HashMap, HashSet};

use crate::format::onnx::proto::NodeProto;
use crate::format::onnx::{Attribute, attribute, data_type};
use crate::int8::{Int8Weight, Kept, codes_of, module_path, scales_of};
use crate::tensor::Dtype;

/// Weights with fewer rows stay in f32: the labels of a classifier, the types of tokens. Their products are not worth the rounding.
const FEWEST_ROWS: usize = 16;

/// What a node does with a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Multiplies the numbers of tokens with it.
    Product,
    /// Multiplies other weights with it.
    ProductOfWeights,
    /// Takes rows of it.
    Rows,
    /// Takes it as it is: a kernel, a table that is normalised or projected.
    Whole,
}

/// The weights of a graph that are rounded, and those that are not.
#[derive(Debug, Default)]
pub struct Rounded {
    /// The weights that are codes and scales, sorted by name.
    pub weights: Vec<Int8Weight>,
    /// The parameters that stay in f32 on request.
    pub kept: Vec<String>,
    /// The names of the request that only parameters have which are not rounded anyway.
    pub needless: Vec<String>,
}

/// The nodes with weights as codes and scales.
pub(super) struct Rewritten {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) rounded: Rounded,
}

/// The nodes so far.
#[derive(Default)]
struct Nodes {
    nodes: Vec<NodeProto>,
    /// What is made already: numbers of weights and integers of activations.
    made: HashSet<String>,
}

/// The nodes with every weight rounded that has many rows and is not `kept`. `shapes` are those of the parameters, `inputs` the
/// names of the graph's inputs, and `last_axis` and `two_axes` the constants [-1] and [1, 2].
pub(super) fn rewritten<'n>(
    nodes: Vec<NodeProto>,
    shapes: &HashMap<String, Vec<usize>>,
    inputs: impl Iterator<Item = &'n str>,
    kept: &Kept<'_>,
    [last_axis, two_axes]: [&str; 2],
) -> Rewritten {
    let mut of_inputs: HashSet<String> = inputs.map(str::to_owned).collect();
    for node in &nodes {
        if node.input.iter().any(|input| of_inputs.contains(input)) {
            of_inputs.extend(node.output.iter().cloned());
        }
    }
    let (rounded, in_f32) = choose(&nodes, shapes, &of_inputs, kept);
    let mut all = Nodes::default();
    for node in nodes {
        let weight = node.input.iter().enumerate().find_map(|(operand, name)| {
            Some((rounded.get(name.as_str())?, use_of(&node, operand, &of_inputs)?))
        });
        match weight {
            Some((weight, Use::Product)) => all.product(&node, weight),
            Some((weight, Use::Rows)) => all.rows(&node, weight, last_axis),
            Some(_) => all.whole(node, &rounded, shapes, [last_axis, two_axes]),
            None => all.nodes.push(node),
        }
    }
    let mut weights: Vec<Int8Weight> = rounded.into_values().collect();
    weights.sort_by(|one, other| one.name.cmp(&other.name));
    let rounded = Rounded { weights, kept: in_f32, needless: kept.needless() };
    Rewritten { nodes: all.nodes, rounded }
}

/// What a node does with its operand, if that may be a rounded weight.
fn use_of(node: &NodeProto, operand: usize, of_inputs: &HashSet<String>) -> Option<Use> {
    let takes_tokens = node.input.first().is_some_and(|input| of_inputs.contains(input));
    match (node.op_type(), operand) {
        ("Gemm", 1) if takes_tokens => (node.input.len() == 2).then_some(Use::Product),
        ("Gemm", 1) => Some(Use::ProductOfWeights),
        ("Gather", 0) => Some(Use::Rows),
        ("Gemm" | "LayerNormalization", 0) | ("Conv", 1) => Some(Use::Whole),
        _ => None,
    }
}

/// The parameters that are rounded, by their names, and those that would be if they were not kept.
fn choose(
    nodes: &[NodeProto],
    shapes: &HashMap<String, Vec<usize>>,
    of_inputs: &HashSet<String>,
    kept: &Kept<'_>,
) -> (HashMap<String, Int8Weight>, Vec<String>) {
    let mut uses: HashMap<&str, Vec<(Option<Use>, String)>> = HashMap::new();
    for node in nodes {
        for (operand, name) in node.input.iter().enumerate() {
            if shapes.contains_key(name) {
                let with = (use_of(node, operand, of_inputs), module_path(node.name()));
                uses.entry(name).or_default().push(with);
            }
        }
    }
    let (mut rounded, mut in_f32) = (HashMap::new(), Vec::new());
    for name in shapes.keys() {
        let uses = uses.remove(name.as_str()).unwrap_or_default();
        let has_rows =
            |shape: &Vec<usize>| shape.len() > 1 && shape.first().is_some_and(|&rows| rows >= FEWEST_ROWS);
        let module = module_path(name);
        let modules = uses.iter().map(|(_, module)| module.as_str()).chain([module.as_str()]);
        let is_rounded = uses.iter().all(|(of, _)| of.is_some());
        if !shapes.get(name).is_some_and(has_rows) || !is_rounded {
            kept.note_in_f32(modules.chain([name.as_str()]));
            continue;
        }
        if kept.has(modules) {
            in_f32.push(name.to_owned());
            continue;
        }
        let is_factor = |of: &Option<Use>| matches!(of, Some(Use::Product | Use::ProductOfWeights));
        let transposed = !uses.is_empty() && uses.iter().all(|(of, _)| is_factor(of));
        rounded.insert(name.to_owned(), Int8Weight { name: name.to_owned(), transposed });
    }
    in_f32.sort();
    (rounded, in_f32)
}

impl Nodes {
    /// A product of tokens and a weight.
    fn product(&mut self, node: &NodeProto, weight: &Int8Weight) {
        let ([x, _], [y]) = (node.input.as_slice(), node.output.as_slice()) else { return };
        let [codes, scales] = [codes_of(&weight.name), scales_of(&weight.name)];
        let integers = ["quantized", "scale", "zero"].map(|what| format!("{x}_{what}"));
        let [quantized, scale, zero_point] = &integers;
        if self.made.insert(quantized.clone()) {
            self.push("DynamicQuantizeLinear", &[x], &integers.each_ref().map(String::as_str), &[]);
        }
        let codes = if weight.transposed {
            codes
        } else {
            let turned = format!("{codes}_Transposed");
            if self.made.insert(turned.clone()) {
                self.push("Transpose", &[&codes], &[&turned], &[Attribute::Ints("perm", &[1, 0])]);
            }
            turned
        };
        let [sums, factors] = ["quant", "scales"].map(|what| made_for(node, what));
        // What other tools call a node that they quantized.
        let name = sums.clone();
        self.push_named(name, "MatMulInteger", &[quantized, &codes, zero_point], &[&sums], &[]);
        let sums = self.cast(&sums);
        self.push("Mul", &[scale, &scales], &[&factors], &[]);
        self.push_named(node.name().to_owned(), "Mul", &[&sums, &factors], &[y], &[]);
    }

    /// Rows of a table.
    fn rows(&mut self, node: &NodeProto, weight: &Int8Weight, last_axis: &str) {
        let ([_, ids], [y]) = (node.input.as_slice(), node.output.as_slice()) else { return };
        let [codes, scales, column] = ["codes", "scales", "column"].map(|what| made_for(node, what));
        let axis = [Attribute::Int("axis", 0)];
        self.push("Gather", &[&codes_of(&weight.name), ids], &[&codes], &axis);
        self.push("Gather", &[&scales_of(&weight.name), ids], &[&scales], &axis);
        self.push("Unsqueeze", &[&scales, last_axis], &[&column], &[]);
        let numbers = self.cast(&codes);
        self.push_named(node.name().to_owned(), "Mul", &[&numbers, &column], &[y], &[]);
    }

    /// A node whose weights are numbers again.
    fn whole(
        &mut self,
        mut node: NodeProto,
        rounded: &HashMap<String, Int8Weight>,
        shapes: &HashMap<String, Vec<usize>>,
        axes: [&str; 2],
    ) {
        for (operand, input) in node.input.iter_mut().enumerate() {
            let Some(weight) = rounded.get(input.as_str()) else { continue };
            if weight.transposed && operand == 1 {
                node.attribute.retain(|attribute| attribute.name() != "transB");
            }
            let rank = shapes.get(input.as_str()).map_or(0, Vec::len);
            *input = self.numbers(weight, rank, axes);
        }
        self.nodes.push(node);
    }

    /// The numbers of a weight with `rank` axes.
    fn numbers(&mut self, weight: &Int8Weight, rank: usize, [last, two]: [&str; 2]) -> String {
        let numbers = format!("{}_dequantized", weight.name);
        if !self.made.insert(numbers.clone()) {
            return numbers;
        }
        let codes = self.cast(&codes_of(&weight.name));
        let mut scales = scales_of(&weight.name);
        if !weight.transposed {
            let axes = if rank == 2 { last } else { two };
            let column = format!("{scales}_column");
            self.push("Unsqueeze", &[&scales, axes], &[&column], &[]);
            scales = column;
        }
        self.push("Mul", &[&codes, &scales], &[&numbers], &[]);
        numbers
    }

    /// Integers as f32.
    fn cast(&mut self, integers: &str) -> String {
        let numbers = format!("{integers}_cast");
        let to = Attribute::Int("to", i64::from(i32::from(data_type(Dtype::F32))));
        self.push("Cast", &[integers], &[&numbers], &[to]);
        numbers
    }

    /// Adds a node without a name.
    fn push(&mut self, operation: &str, input: &[&str], output: &[&str], attributes: &[Attribute<'_>]) {
        self.push_named(String::new(), operation, input, output, attributes);
    }

    fn push_named(
        &mut self,
        name: String,
        operation: &str,
        input: &[&str],
        output: &[&str],
        attributes: &[Attribute<'_>],
    ) {
        self.nodes.push(NodeProto {
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: output.iter().map(|&name| name.to_owned()).collect(),
            name: Some(name).filter(|name| !name.is_empty()),
            op_type: Some(operation.to_owned()),
            attribute: attributes.iter().map(attribute).collect(),
            ..NodeProto::default()
        });
    }
}

/// Calls what is between nodes by numbers. In a small model names are a tenth of the file, the most of them those of values, which
/// repeat the names of the nodes that make them. `outputs` are those of the graph.
pub(super) fn numbered(mut nodes: Vec<NodeProto>, outputs: &HashSet<String>) -> Vec<NodeProto> {
    let made = nodes.iter().flat_map(|node| &node.output).filter(|name| !outputs.contains(*name));
    let numbers: HashMap<String, String> =
        made.enumerate().map(|(number, name)| (name.clone(), number.to_string())).collect();
    for name in nodes.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output)) {
        if let Some(number) = numbers.get(name) {
            name.clone_from(number);
        }
    }
    nodes
}

/// A value in the place of a node: of `/…/dense/Gemm_1` what is `quant` is `/…/dense/Gemm_1_quant`.
fn made_for(node: &NodeProto, what: &str) -> String {
    format!("{}_{what}", node.name())
}
