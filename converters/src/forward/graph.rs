//! A graph under construction: nodes in the order of execution, each distinct computation once.

use std::collections::{HashMap, HashSet};

use deberta_reference::probe::matches;
use deberta_reference::{DebertaConfig, Head};

use super::Options;
use super::int8::{Rewritten, Rounded, numbered, rewritten};
use super::widen::widened;
use crate::format::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use crate::format::onnx::proto::type_proto::{Tensor as TensorType, Value as TypeValue};
use crate::format::onnx::proto::{
    GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};
use crate::format::onnx::{Attribute, attribute, data_type, small_tensor};
use crate::int8::Kept;
use crate::tensor::{Dtype, TensorInfo};

/// A value of the graph, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Value(String);

/// A module of the model: where its activations and its weights are found by name.
#[derive(Clone, Debug)]
pub(super) struct Module {
    path: String,
    weights: String,
}

impl Module {
    pub(super) fn new(path: &str) -> Module {
        Module { path: path.to_owned(), weights: path.to_owned() }
    }

    /// This module with the weights of another one.
    pub(super) fn with_weights_of(&self, other: &Module) -> Module {
        Module { path: self.path.clone(), weights: other.weights.clone() }
    }

    /// A module of this one.
    pub(super) fn at(&self, name: &str) -> Module {
        Module { path: join(&self.path, name), weights: join(&self.weights, name) }
    }

    /// A parameter of this module.
    pub(super) fn parameter(&self, name: &str) -> Value {
        Value(join(&self.weights, name))
    }
}

fn join(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) => name.to_owned(),
        (path, "") => path.to_owned(),
        (path, name) => format!("{path}.{name}"),
    }
}

/// The length of an axis.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dim {
    /// b; where every question has several choices, b c
    Batch,
    /// b, where every question has several choices
    Questions,
    /// c
    Choices,
    /// n
    Sequence,
    /// 2s, the relative positions in reach
    Positions,
    /// A number that the configuration gives
    Of(usize),
}

/// The graph so far.
pub(super) struct Graph<'c> {
    pub(super) config: &'c DebertaConfig,
    /// The dtype of hidden states, and of weights as nodes take them.
    pub(super) dtype: Dtype,
    /// The dtype of weights as they are stored.
    stored: Dtype,
    /// Whether the inputs are [b, c, n], the choices of one question after another.
    has_choices: bool,
    /// The tokens [b, n] or [b c, n].
    pub(super) input_ids: Value,
    activations: Option<String>,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    /// The name of the node of every operation on these operands with these attributes.
    nodes_by_content: HashMap<(String, Vec<String>, String), String>,
    names: HashMap<String, usize>,
}

impl<'c> Graph<'c> {
    pub(super) fn new(config: &'c DebertaConfig, head: Head, stored: Dtype, options: &Options) -> Self {
        Graph {
            config,
            dtype: options.compute.unwrap_or(stored),
            stored,
            has_choices: head == Head::MultipleChoice,
            input_ids: Value("input_ids".to_owned()),
            activations: options.activations.clone(),
            nodes: Vec::new(),
            constants: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            nodes_by_content: HashMap::new(),
            names: HashMap::new(),
        }
    }

    /// An input of integers [b, n], or [b, c, n] taken as [b c, n].
    pub(super) fn input(&mut self, name: &str) -> Value {
        let input = Value(name.to_owned());
        if !self.has_choices {
            self.inputs.push(self.value_info(name, Dtype::I64, &[Dim::Batch, Dim::Sequence]));
            return input;
        }
        let dims = [Dim::Questions, Dim::Choices, Dim::Sequence];
        self.inputs.push(self.value_info(name, Dtype::I64, &dims));
        let at = Module::new("input_ids");
        let shape = self.node(&at, "Shape", &[&Value("input_ids".to_owned())], &[]);
        let (rest, last) = (self.integers(&[-1]), self.integers(&[2]));
        let n = self.node(&at, "Gather", &[&shape, &last], &[Attribute::Int("axis", 0)]);
        let shape = self.node(&at, "Concat", &[&rest, &n], &[Attribute::Int("axis", 0)]);
        self.node(&at, "Reshape", &[&input, &shape], &[])
    }

    /// Adds a node with one result, or finds the one that computes the same.
    pub(super) fn node(
        &mut self,
        at: &Module,
        operation: &str,
        operands: &[&Value],
        attributes: &[Attribute<'_>],
    ) -> Value {
        let [result] = self.node_with_results(at, operation, operands, attributes);
        result
    }

    fn node_with_results<const N: usize>(
        &mut self,
        at: &Module,
        operation: &str,
        operands: &[&Value],
        attributes: &[Attribute<'_>],
    ) -> [Value; N] {
        let input: Vec<String> = operands.iter().map(|value| value.0.clone()).collect();
        let key = (operation.to_owned(), input.clone(), format!("{attributes:?}"));
        let name = match self.nodes_by_content.get(&key) {
            Some(name) => name.clone(),
            None => self.unique(format!("/{}/{operation}", at.path.replace('.', "/"))),
        };
        let results = std::array::from_fn(|number| Value(format!("{name}_output_{number}")));
        if self.nodes_by_content.insert(key, name.clone()).is_none() {
            self.nodes.push(NodeProto {
                input,
                output: results.iter().map(|value: &Value| value.0.clone()).collect(),
                name: Some(name),
                op_type: Some(operation.to_owned()),
                attribute: attributes.iter().map(attribute).collect(),
                ..NodeProto::default()
            });
        }
        results
    }

    /// `name`, or with a number after it if it is taken.
    fn unique(&mut self, name: String) -> String {
        let count = self.names.entry(name.clone()).or_default();
        *count += 1;
        match *count {
            1 => name,
            count => format!("{name}_{}", count - 1),
        }
    }

    /// The N equal parts of a value along its last axis.
    pub(super) fn split<const N: usize>(&mut self, at: &Module, value: &Value) -> [Value; N] {
        self.node_with_results(at, "Split", &[value], &[Attribute::Int("axis", -1)])
    }

    /// Integers [k].
    pub(super) fn integers(&mut self, integers: &[i64]) -> Value {
        let text: Vec<String> = integers.iter().map(i64::to_string).collect();
        self.table(&format!("integers [{}]", text.join(", ")), integers)
    }

    /// Integers [k] under a name, where they are many.
    pub(super) fn table(&mut self, name: &str, integers: &[i64]) -> Value {
        let bytes = integers.iter().flat_map(|integer| integer.to_le_bytes()).collect();
        self.constant(name.to_owned(), Dtype::I64, vec![integers.len()], bytes)
    }

    /// An integer [].
    pub(super) fn integer(&mut self, integer: i64) -> Value {
        let bytes = integer.to_le_bytes().to_vec();
        self.constant(format!("integer {integer}"), Dtype::I64, Vec::new(), bytes)
    }

    /// A number [] of that dtype.
    pub(super) fn number(&mut self, number: f32, dtype: Dtype) -> Value {
        let bytes = match dtype {
            Dtype::F16 => half::f16::from_f32(number).to_le_bytes().to_vec(),
            Dtype::BF16 => half::bf16::from_f32(number).to_le_bytes().to_vec(),
            _ => number.to_le_bytes().to_vec(),
        };
        self.constant(format!("{dtype} {number}"), dtype, Vec::new(), bytes)
    }

    fn constant(&mut self, name: String, dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Value {
        if !self.constants.iter().any(|tensor| tensor.name() == name) {
            self.constants.push(small_tensor(&TensorInfo { name: name.clone(), dtype, shape }, bytes));
        }
        Value(name)
    }

    pub(super) fn reshape(&mut self, at: &Module, value: &Value, shape: &[i64]) -> Value {
        let shape = self.integers(shape);
        self.node(at, "Reshape", &[value, &shape], &[])
    }

    pub(super) fn transpose(&mut self, at: &Module, value: &Value, axes: &[i64]) -> Value {
        self.node(at, "Transpose", &[value], &[Attribute::Ints("perm", axes)])
    }

    /// `value` as `dtype`.
    pub(super) fn cast(&mut self, at: &Module, value: &Value, dtype: Dtype) -> Value {
        let number = i64::from(i32::from(data_type(dtype)));
        self.node(at, "Cast", &[value], &[Attribute::Int("to", number)])
    }

    /// Computes in f32, whatever the dtype of the model.
    pub(super) fn in_f32(
        &mut self,
        at: &Module,
        value: &Value,
        compute: impl FnOnce(&mut Self, &Value) -> Value,
    ) -> Value {
        let wide = self.widened(at, value);
        let wide = compute(self, &wide);
        self.narrowed(at, &wide)
    }

    /// A value of the model's dtype as f32.
    pub(super) fn widened(&mut self, at: &Module, value: &Value) -> Value {
        if self.dtype == Dtype::F32 { value.clone() } else { self.cast(at, value, Dtype::F32) }
    }

    /// A value of f32 in the model's dtype.
    pub(super) fn narrowed(&mut self, at: &Module, value: &Value) -> Value {
        if self.dtype == Dtype::F32 { value.clone() } else { self.cast(at, value, self.dtype) }
    }

    /// y = x Wᵀ + b: [k, in] to [k, out], W being stored as it is in PyTorch.
    pub(super) fn linear(&mut self, at: &Module, x: &Value) -> Value {
        self.linear_with(at, x, [&at.parameter("weight"), &at.parameter("bias")])
    }

    /// The same with these parameters. The bias is added by a node of its own, on all threads: ONNX Runtime's `Gemm` writes it to
    /// every row of y first, on one.
    pub(super) fn linear_with(&mut self, at: &Module, x: &Value, [weight, bias]: [&Value; 2]) -> Value {
        let product = self.node(at, "Gemm", &[x, weight], &[Attribute::Int("transB", 1)]);
        self.node(at, "Add", &[&product, bias], &[])
    }

    /// y = x Wᵀ, [k, in] to [k, out].
    pub(super) fn linear_without_bias(&mut self, at: &Module, x: &Value) -> Value {
        self.node(at, "Gemm", &[x, &at.parameter("weight")], &[Attribute::Int("transB", 1)])
    }

    /// y = w (x - mean) / √(variance + ε) + b, over the features; mean and variance in f32.
    pub(super) fn layer_norm(&mut self, at: &Module, x: &Value) -> Value {
        self.normalise(at, [x, &at.parameter("weight"), &at.parameter("bias")])
    }

    /// y = w (x - mean) / √(variance + ε) + b, from x, w and b.
    pub(super) fn normalise(&mut self, at: &Module, operands: [&Value; 3]) -> Value {
        let eps = self.config.layer_norm_eps as f32;
        let attributes = [Attribute::Int("axis", -1), Attribute::Float("epsilon", eps)];
        self.node(at, "LayerNormalization", &operands, &attributes)
    }

    /// Makes `value` an output. Tokens side by side [b n, …] become [b, n, …].
    pub(super) fn output(&mut self, name: &str, value: &Value, dims: &[Dim]) {
        let operands = match dims {
            [Dim::Batch, Dim::Sequence, Dim::Of(width)] => {
                let shape = self.tokens_shape(&[*width]);
                vec![value.0.clone(), shape.0]
            }
            _ => vec![value.0.clone()],
        };
        let operation = if operands.len() == 2 { "Reshape" } else { "Identity" };
        let node = self.unique(format!("/{}/{operation}", name.replace('.', "/")));
        self.nodes.push(NodeProto {
            input: operands,
            output: vec![name.to_owned()],
            name: Some(node),
            op_type: Some(operation.to_owned()),
            ..NodeProto::default()
        });
        self.outputs.push(self.value_info(name, self.dtype, dims));
    }

    /// The shape [b, c].
    pub(super) fn choices_shape(&mut self) -> Value {
        let at = Module::new("input_ids");
        let shape = self.node(&at, "Shape", &[&Value("input_ids".to_owned())], &[]);
        let first_two = self.integers(&[0, 1]);
        self.node(&at, "Gather", &[&shape, &first_two], &[Attribute::Int("axis", 0)])
    }

    /// The shape [b, n, …].
    pub(super) fn tokens_shape(&mut self, rest: &[usize]) -> Value {
        let at = Module::new("input_ids");
        let shape = self.node(&at, "Shape", &[&self.input_ids.clone()], &[]);
        if rest.is_empty() {
            return shape;
        }
        let rest = self.integers(&rest.iter().map(|&length| length as i64).collect::<Vec<_>>());
        self.node(&at, "Concat", &[&shape, &rest], &[Attribute::Int("axis", 0)])
    }

    /// An activation: an output, too, if it is asked for.
    pub(super) fn keep(&mut self, at: &Module, name: &str, value: &Value, dims: &[Dim]) {
        let name = join(&at.path, name);
        if self.wants(&name) {
            self.output(&name, value, dims);
        }
    }

    /// Whether the activation is asked for.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.activations.as_ref().is_some_and(|pattern| matches(pattern, name))
    }

    /// Whether the activation of a module is asked for.
    pub(super) fn wants_at(&self, at: &Module) -> bool {
        self.wants(&at.path)
    }

    /// The number of outputs.
    pub(super) fn outputs(&self) -> usize {
        self.outputs.len()
    }

    fn value_info(&self, name: &str, dtype: Dtype, dims: &[Dim]) -> ValueInfoProto {
        let symbol = |name: &str| dimension::Value::DimParam(name.to_owned());
        let dim = |dim: &Dim| {
            let value = match *dim {
                Dim::Batch if self.has_choices => symbol("rows"),
                Dim::Batch | Dim::Questions => symbol("batch"),
                Dim::Choices => symbol("choices"),
                Dim::Sequence => symbol("sequence"),
                Dim::Positions => symbol("positions"),
                Dim::Of(length) => dimension::Value::DimValue(length as i64),
            };
            Dimension { value: Some(value), denotation: None }
        };
        let tensor = TensorType {
            elem_type: Some(data_type(dtype).into()),
            shape: Some(TensorShapeProto { dim: dims.iter().map(dim).collect() }),
        };
        ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto { value: Some(TypeValue::TensorType(tensor)), denotation: None }),
            ..ValueInfoProto::default()
        }
    }

    /// Takes weights as integers of 8 bits, but those that are `kept`. `shapes` are those of the parameters.
    pub(super) fn round(&mut self, shapes: &HashMap<String, Vec<usize>>, kept: &Kept<'_>) -> Rounded {
        let [Value(last_axis), Value(two_axes)] = [self.integers(&[-1]), self.integers(&[1, 2])];
        let nodes = std::mem::take(&mut self.nodes);
        let inputs = self.inputs.iter().map(|input| input.name());
        let Rewritten { nodes, rounded } = rewritten(nodes, shapes, inputs, kept, [&last_axis, &two_axes]);
        self.nodes = numbered(nodes, &self.outputs.iter().map(|output| output.name().to_owned()).collect());
        rounded
    }

    /// The graph, without the nodes and constants that no output needs.
    pub(super) fn finish(mut self, name: &str) -> GraphProto {
        if self.dtype != self.stored {
            let given = self.inputs.iter().map(|input| input.name());
            let constants = self.constants.iter().map(|constant| constant.name());
            self.nodes = widened(self.nodes, given.chain(constants), self.dtype);
        }
        let mut needed: HashSet<String> =
            self.outputs.iter().map(|output| output.name().to_owned()).collect();
        let mut nodes: Vec<NodeProto> = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.into_iter().rev() {
            if node.output.iter().any(|output| needed.contains(output)) {
                needed.extend(node.input.iter().cloned());
                nodes.push(node);
            }
        }
        nodes.reverse();
        GraphProto {
            node: nodes,
            name: Some(name.to_owned()),
            initializer: self.constants.into_iter().filter(|tensor| needed.contains(tensor.name())).collect(),
            input: self.inputs,
            output: self.outputs,
            ..GraphProto::default()
        }
    }
}
