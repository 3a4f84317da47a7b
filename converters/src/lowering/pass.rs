//! The pass over the nodes of a graph.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::ranks::ranks;
use super::reals::Scale;
use super::switches::{self, Switched};
use super::{Activations, Options, Stored};
use crate::format::TensorFile as _;
use crate::format::onnx::OnnxFile;
use crate::format::onnx::proto::tensor_proto::DataType;
use crate::format::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// A graph on its way into standard operators.
pub(super) struct Lowering<'f> {
    pub(super) file: &'f OnnxFile,
    pub(super) options: Options,
    /// Whether the model has more `Relu` than the file.
    pub(super) lacks_relu: bool,
    /// The tensors of the file by their names.
    pub(super) places: HashMap<&'f str, usize>,
    /// The nodes as they were.
    before: Vec<NodeProto>,
    producers: HashMap<String, usize>,
    pub(super) consumers: HashMap<String, Vec<usize>>,
    pub(super) ranks: HashMap<String, usize>,
    /// Values that must keep their names: outputs of the graph, and what branches take from outside.
    pinned: HashSet<String>,
    /// Values that are others now.
    renamed: HashMap<String, String>,
    names: HashSet<String>,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<TensorProto>,
    pub(super) stored: HashMap<String, Stored>,
    /// The numbers that integers stand for, by their names and scales.
    pub(super) reals: HashMap<(String, Scale, Vec<usize>), String>,
    /// What operators on integers make: the numbers, and the scale that the integers have.
    pub(super) made: HashMap<String, (String, Scale)>,
    /// The nodes of the file that rounding is for, where nodes can be switched.
    pub(super) users: Vec<usize>,
    pub(super) switches: Switched,
    /// Which switch a node of the file has.
    pub(super) switch_of: HashMap<usize, usize>,
    /// Truth values, by the nodes that they are of.
    pub(super) switch_values: HashMap<Vec<usize>, String>,
}

impl<'f> Lowering<'f> {
    /// A graph before anything is done.
    pub(super) fn new(file: &'f OnnxFile, options: Options, graph: &mut GraphProto) -> Lowering<'f> {
        let ranks = ranks(graph);
        let before = std::mem::take(&mut graph.node);
        let places =
            file.tensors().iter().enumerate().map(|(index, info)| (info.name.as_str(), index)).collect();
        let mut producers = HashMap::new();
        let mut consumers: HashMap<String, Vec<usize>> = HashMap::new();
        let mut pinned: HashSet<String> =
            graph.output.iter().map(|output| output.name().to_owned()).collect();
        let mut names: HashSet<String> =
            graph.initializer.iter().map(|tensor| tensor.name().to_owned()).collect();
        names.extend(graph.input.iter().map(|input| input.name().to_owned()));
        for (index, node) in before.iter().enumerate() {
            producers.extend(node.output.iter().map(|name| (name.clone(), index)));
            node.input.iter().for_each(|name| consumers.entry(name.clone()).or_default().push(index));
            names.extend(node.output.iter().cloned());
            pinned.extend(captured(node));
        }
        // Names of a branch are none of the graph either.
        names.extend(pinned.iter().cloned());
        let relus = before.iter().filter(|node| node.op_type() == "Relu").count();
        Lowering {
            file,
            lacks_relu: relus < options.relus,
            options,
            places,
            before,
            producers,
            consumers,
            ranks,
            pinned,
            renamed: HashMap::new(),
            names,
            nodes: Vec::new(),
            constants: Vec::new(),
            stored: HashMap::new(),
            reals: HashMap::new(),
            made: HashMap::new(),
            users: Vec::new(),
            switches: Switched::default(),
            switch_of: HashMap::new(),
            switch_values: HashMap::new(),
        }
    }

    /// Lowers every node, and puts what came of it into the graph.
    pub(super) fn run(mut self, graph: &mut GraphProto, stored: &mut HashMap<String, Stored>) -> Switched {
        if self.is_switched() {
            switches::declare(graph);
        }
        for index in 0..self.before.len() {
            let Some(node) = self.before.get(index).cloned() else { break };
            self.round_for(vec![index]);
            if self.lower(&node).is_none() {
                self.push(node);
            }
        }
        if self.options.activations == Activations::Exact {
            self.gather_factors();
        }
        graph.node = self.nodes;
        graph.initializer.extend(self.constants);
        stored.extend(self.stored);
        without_the_dead(graph);
        let kept: HashSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
        stored.retain(|name, _| kept.contains(name.as_str()));
        self.switches
    }

    /// Lowers a node. Nothing if it stays as it is.
    fn lower(&mut self, node: &NodeProto) -> Option<()> {
        match node.op_type() {
            "QuantizeLinear" => None,
            "DequantizeLinear" => self.dequantize_linear(node),
            "Mul" => self.scaled_product(node).or_else(|| self.scaled_cast(node)),
            "MatMulIntegerToFloat" => self.mat_mul_integer_to_float(node),
            "DynamicQuantizeMatMul" => self.dynamic_quantize_mat_mul(node),
            "QLinearMatMul" => self.q_linear_mat_mul(node),
            "QGemm" => self.q_gemm(node),
            "QLinearConv" => self.q_linear_conv(node),
            "QLinearAdd" | "QLinearMul" => self.q_linear_binary(node),
            "QLinearSigmoid" | "QLinearLeakyRelu" | "QLinearSoftmax" | "QLinearReduceMean" => {
                self.q_linear_unary(node)
            }
            "QLinearConcat" => self.q_linear_concat(node),
            "QLinearWhere" => self.q_linear_where(node),
            "MatMulNBits" => self.mat_mul_n_bits(node),
            "MatMulBnb4" => self.mat_mul_bnb4(node),
            "GatherBlockQuantized" => self.gather_block_quantized(node),
            "FusedMatMul" => self.fused_mat_mul(node),
            "FusedGemm" => self.fused_gemm(node),
            "Dropout" => self.dropout(node),
            "BiasGelu" => self.bias_gelu(node),
            "Gelu" if node.domain() == "com.microsoft" => self.gelu(node),
            "FastGelu" => self.fast_gelu(node),
            "QuickGelu" => self.quick_gelu(node),
            "Mish" => self.mish(node),
            "SkipLayerNormalization" => self.skip_layer_normalization(node),
            "EmbedLayerNormalization" => self.embed_layer_normalization(node),
            _ => None,
        }
    }

    /// The node that makes a value, as it was.
    pub(super) fn producer(&self, value: &str) -> Option<&NodeProto> {
        self.before_at(self.producer_at(value)?)
    }

    /// Where the node is that makes a value, among those of the file.
    pub(super) fn producer_at(&self, value: &str) -> Option<usize> {
        self.producers.get(value).copied()
    }

    /// A node as it was.
    pub(super) fn before_at(&self, at: usize) -> Option<&NodeProto> {
        self.before.get(at)
    }

    /// What a value is called now.
    pub(super) fn current(&self, value: &str) -> String {
        self.renamed.get(value).map_or(value, String::as_str).to_owned()
    }

    /// A name that nothing has, starting with `wanted`.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut count = 1;
        while !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{wanted} {count}");
        }
        name
    }

    /// Adds a node, which takes what its inputs are called now.
    pub(super) fn push(&mut self, node: NodeProto) {
        let input = node.input.iter().map(|name| self.current(name)).collect();
        self.nodes.push(NodeProto { input, ..node });
    }

    /// Adds a node of ONNX's own operators in the place of another one, and returns what it makes.
    pub(super) fn emit(
        &mut self,
        of: &NodeProto,
        operator: &str,
        input: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let of_what = of.output.first().map_or("", String::as_str);
        let output = self.fresh(&format!("{of_what} {operator}"));
        self.emit_as(of, operator, input, attributes, &output);
        output
    }

    /// As [`Lowering::emit`], with the name of what it makes.
    pub(super) fn emit_as(
        &mut self,
        of: &NodeProto,
        operator: &str,
        input: &[&str],
        attributes: Vec<AttributeProto>,
        output: &str,
    ) {
        let count = self.nodes.len();
        self.push(NodeProto {
            // The path of the module stands before the last slash of the name.
            name: Some(format!("{} {operator} {count}", of.name())),
            op_type: Some(operator.to_owned()),
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute: attributes,
            metadata_props: of.metadata_props.clone(),
            ..NodeProto::default()
        });
    }

    /// Puts a value in the place of another one.
    pub(super) fn replace(&mut self, of: &NodeProto, output: &str, by: &str) {
        if self.pinned.contains(output) {
            self.emit_as(of, "Identity", &[by], Vec::new(), output);
        } else {
            let by = self.current(by);
            self.renamed.insert(output.to_owned(), by);
        }
    }

    /// Adds an initializer, and returns its name.
    pub(super) fn add(&mut self, wanted: &str, shape: &[usize], numbers: Vec<f32>) -> String {
        let name = self.fresh(wanted);
        self.constants.push(TensorProto {
            name: Some(name.clone()),
            dims: shape.iter().map(|&length| length as i64).collect(),
            data_type: Some(DataType::Float.into()),
            raw_data: Some(Bytes::from(little_endian(numbers))),
            ..TensorProto::default()
        });
        name
    }

    /// Adds the initializer of one number.
    pub(super) fn scalar(&mut self, value: f32) -> String {
        self.add(&format!("{value}"), &[], vec![value])
    }

    /// Adds an initializer of integers.
    pub(super) fn integers(&mut self, wanted: &str, shape: &[usize], numbers: &[i64]) -> String {
        let name = self.fresh(wanted);
        self.constants.push(TensorProto {
            name: Some(name.clone()),
            dims: shape.iter().map(|&length| length as i64).collect(),
            data_type: Some(DataType::Int64.into()),
            int64_data: numbers.to_vec(),
            ..TensorProto::default()
        });
        name
    }
}

/// The bytes of numbers, without a copy where memory is little-endian and the allocator allows it.
pub(crate) fn little_endian(numbers: Vec<f32>) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The values that the branches of a node take from outside, and those that they make themselves.
fn captured(node: &NodeProto) -> Vec<String> {
    let graphs = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    let mut names = Vec::new();
    for graph in graphs {
        for node in &graph.node {
            names.extend(node.input.iter().cloned());
            names.extend(captured(node));
        }
        names.extend(graph.output.iter().map(|output| output.name().to_owned()));
    }
    names
}

/// Takes out what no output of the graph depends on: nodes, and initializers that are no inputs.
fn without_the_dead(graph: &mut GraphProto) {
    // Tools put a branch in front of what it takes from outside: the order of the nodes tells nothing.
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        producers.extend(node.output.iter().map(|name| (name.as_str(), index)));
    }
    let mut needed: HashSet<String> = HashSet::new();
    let mut live = vec![false; graph.node.len()];
    let mut ahead: Vec<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
    while let Some(name) = ahead.pop() {
        let producer = producers.get(name.as_str()).copied();
        if !needed.insert(name) {
            continue;
        }
        let Some((index, node)) = producer.and_then(|index| Some((index, graph.node.get(index)?))) else {
            continue;
        };
        if let Some(live) = live.get_mut(index).filter(|live| !**live) {
            *live = true;
            ahead.extend(node.input.iter().cloned().chain(captured(node)));
        }
    }
    let mut live = live.into_iter();
    graph.node.retain(|_| live.next() == Some(true));
    graph.initializer.retain(|tensor| needed.contains(tensor.name()));
    let made: HashSet<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    let initializers: HashSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
    // An initializer that is an input as well goes with it.
    graph.value_info.retain(|value| made.contains(value.name()) || initializers.contains(value.name()));
}
