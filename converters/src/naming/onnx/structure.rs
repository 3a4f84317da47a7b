//! Parameters of nodes without module paths, as optimisers leave them: told by their place in the model.
//!
//! A linear layer with a bias is told by the name of the bias. For the others there is only one place that they can have
//! before the next parameter whose name is known: every path from the attention of a layer leads to the dense layer of
//! its output. What does not fit is left alone.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::path::{TABLE_OF_LAYERS, parameter};
use super::walk::{Recovered, Use, Walk, layout};
use crate::format::onnx::proto::NodeProto;
use crate::tensor::TensorInfo;

/// What all searches together may visit: a model of 48 layers takes a tenth of it.
const MOST_VISITS: usize = 10_000_000;

/// Finds names for the tensors that have none yet.
pub(super) fn complete(walk: &Walk<'_>, tensors: &[TensorInfo], recovered: &mut [Vec<Recovered>]) {
    let mut modules: HashMap<&str, String> = HashMap::new();
    for (info, names) in tensors.iter().zip(recovered.iter()) {
        // A tensor that was merged with others is no landmark.
        if let [one] = names.as_slice()
            && let Some((module, "weight" | "bias")) = one.name.rsplit_once('.')
        {
            modules.extend(walk.follow(info).values.into_iter().map(|value| (value, module.to_owned())));
        }
    }
    let mut places = Places { walk, modules, visits: 0 };
    for (info, names) in tensors.iter().zip(recovered) {
        if names.is_empty() && info.dtype.is_float() && info.shape.iter().any(|&dimension| dimension > 1) {
            let uses = walk.follow(info).uses.into_iter();
            let found: HashSet<Recovered> = uses
                .filter_map(|operand| {
                    let uses = std::slice::from_ref(&operand);
                    Some(Recovered::new(places.name(&operand, info)?, layout(&operand), info, uses))
                })
                .collect();
            names.extend(found);
            names.sort();
        }
    }
}

struct Places<'w, 'g> {
    walk: &'w Walk<'g>,
    /// The module of every tensor whose name is known, by the values that have its elements.
    modules: HashMap<&'g str, String>,
    visits: usize,
}

impl<'g> Places<'_, 'g> {
    fn name(&mut self, operand: &Use<'g>, info: &TensorInfo) -> Option<String> {
        let node = operand.node;
        match (node.op_type(), operand.operand, info.shape.len()) {
            ("MatMul" | "FusedMatMul" | "Gemm", 1, 2) => match self.module_of_bias(node) {
                // The decoder's bias belongs to the head.
                Some(module) if module == "cls.predictions" => Some(format!("{module}.decoder.weight")),
                Some(module) => Some(format!("{module}.weight")),
                None => self.linear_without_bias(node),
            },
            ("Add", this, 3 | 4) => {
                let bias = self.walk.bias_of_projection(node, this, info)?;
                Some(format!("{}.{bias}", self.attention(node)?))
            }
            ("Slice", 0, 2) => {
                let next = self.next_module(node)?;
                next.starts_with("encoder.layer.").then(|| TABLE_OF_LAYERS.to_owned())
            }
            // A model has one convolution.
            ("Conv", this, rank) => parameter("encoder.conv.conv", node, this, rank),
            ("MatMul" | "FusedMatMul" | "Gemm", 0, rank) => {
                parameter(&self.module_of_bias(node)?, node, 0, rank)
            }
            ("LayerNormalization", 0, rank) => {
                parameter(self.modules.get(node.input.get(1)?.as_str())?, node, 0, rank)
            }
            ("ReduceMean" | "Sub", 0, rank) => parameter(&self.next_module(node)?, node, 0, rank),
            _ => None,
        }
    }

    /// The module whose bias is added to the product.
    fn module_of_bias(&self, node: &NodeProto) -> Option<String> {
        if let Some(bias) = node.input.get(2) {
            return self.modules.get(bias.as_str()).cloned();
        }
        let [sum] = self.consumers(node)[..] else { return None };
        let biases = match sum.op_type() {
            "Add" => sum.input.get(..),
            // ONNX Runtime adds the bias inside of the operation that follows.
            "BiasGelu" | "FastGelu" => sum.input.get(1..2),
            "SkipLayerNormalization" => sum.input.get(4..5),
            _ => None,
        };
        biases.into_iter().flatten().find_map(|name| self.modules.get(name.as_str())).cloned()
    }

    /// What a product without a bias is, by where it comes from and where it goes.
    fn linear_without_bias(&mut self, node: &'g NodeProto) -> Option<String> {
        if self.next_module(node)? == "embeddings.LayerNorm" {
            return Some("embeddings.embed_proj.weight".to_owned());
        }
        let attention = self.attention(node)?;
        let name = if self.is_from_a_table(node) {
            "pos_proj"
        } else if self.is_split_in_three(node) {
            "in_proj"
        } else if self.mixes_heads(node) {
            match self.consumers(node)[..] {
                [turned] if turned.op_type() == "Transpose" && self.is_weighing(turned) => {
                    "head_weights_proj"
                }
                [turned] if turned.op_type() == "Transpose" => "head_logits_proj",
                _ => return None,
            }
        } else {
            return None;
        };
        Some(format!("{attention}.{name}.weight"))
    }

    /// The attention of a layer, to whose output everything leads that is in it.
    fn attention(&mut self, node: &'g NodeProto) -> Option<String> {
        let next = self.next_module(node)?;
        let layer = next.strip_suffix(".attention.output.dense")?;
        layer.starts_with("encoder.layer.").then(|| format!("{layer}.attention.self"))
    }

    /// The first module behind a node whose name is known. Nodes are in the order of execution.
    fn next_module(&mut self, node: &'g NodeProto) -> Option<String> {
        let (mut ahead, mut seen) = (BinaryHeap::new(), HashSet::new());
        let mut results = Some(node);
        loop {
            for result in results.into_iter().flat_map(|node| &node.output) {
                let consumers = self.walk.consumers.get(result.as_str()).into_iter().flatten();
                ahead.extend(
                    consumers.filter(|(index, _)| seen.insert(*index)).map(|&(index, _)| Reverse(index)),
                );
            }
            let Reverse(index) = ahead.pop()?;
            self.visits += 1;
            let node = self.walk.graph.node.get(index).filter(|_| self.visits < MOST_VISITS)?;
            if let Some(module) = node.input.iter().find_map(|name| self.modules.get(name.as_str())) {
                return Some(module.clone());
            }
            // Lengths lead elsewhere: the positions in reach are computed from those of the queries.
            results = Some(node).filter(|node| node.op_type() != "Shape");
        }
    }

    /// The nodes that take the first result.
    fn consumers(&self, node: &NodeProto) -> Vec<&'g NodeProto> {
        let consumers = node.output.first().and_then(|result| self.walk.consumers.get(result.as_str()));
        let nodes = consumers.into_iter().flatten().filter_map(|&(index, _)| self.walk.graph.node.get(index));
        nodes.collect()
    }

    fn producer(&self, value: &str) -> Option<&'g NodeProto> {
        self.walk.producers.get(value).and_then(|&(index, _)| self.walk.graph.node.get(index))
    }

    /// Whether the left operand is part of a tensor of the file, and not of the input.
    fn is_from_a_table(&self, node: &NodeProto) -> bool {
        let mut value = node.input.first();
        while let Some(name) = value {
            let Some(producer) = self.producer(name) else { return !self.is_input(name) };
            value = match producer.op_type() {
                "Slice" | "Unsqueeze" | "Squeeze" | "Reshape" | "Identity" | "Cast" => producer.input.first(),
                _ => return false,
            };
        }
        false
    }

    fn is_input(&self, name: &str) -> bool {
        self.walk.graph.input.iter().any(|input| input.name() == name)
    }

    /// Whether the product is taken apart into queries, keys and values.
    fn is_split_in_three(&self, node: &NodeProto) -> bool {
        let mut consumers = self.consumers(node);
        loop {
            let slices = consumers.iter().filter(|node| node.op_type() == "Slice").count();
            let splits = |node: &&NodeProto| node.op_type() == "Split" && node.output.len() == 3;
            if slices == 3 || consumers.iter().any(splits) {
                return true;
            }
            let rearranged = |node: &&&NodeProto| matches!(node.op_type(), "Reshape" | "Transpose" | "Cast");
            let Some(next) = consumers.iter().find(rearranged) else { return false };
            consumers = self.consumers(next);
        }
    }

    /// Whether the left operand has its heads last: [b, n, n, h].
    fn mixes_heads(&self, node: &NodeProto) -> bool {
        let turned = node.input.first().and_then(|name| self.producer(name));
        turned.is_some_and(|turned| {
            let perm = turned.attribute.iter().find(|attribute| attribute.name() == "perm");
            turned.op_type() == "Transpose" && perm.is_some_and(|perm| perm.ints == [0, 2, 3, 1])
        })
    }

    /// Whether a value [b, h, n, n] weighs values, and is not on its way to the softmax.
    fn is_weighing(&self, node: &NodeProto) -> bool {
        matches!(self.consumers(node)[..], [product] if product.op_type() == "MatMul")
    }
}
