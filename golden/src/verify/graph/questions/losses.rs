//! Which nodes of a quantized graph lose most: each is run alone with rounded numbers, and those that stand out together in f32.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Result};
use deberta_converters::fidelity::Dequantized;
use deberta_converters::loading::Parameters;
use deberta_converters::lowering::SwitchedNode;
use deberta_reference::{Inputs, Stage};

use super::activations::Set;
use super::noise::Noise;
use super::variants::Variant;
use crate::backend::Graph;
use crate::judge::tolerance::Precision;
use crate::report::{LayerLoss, Losses, NodeLoss, name_of};
use crate::trace::file::Trace;
use crate::trace::padding::Padding;
use crate::verify::graph::candidate::{GraphCandidate, Judged};

/// More nodes than these are measured a layer at a time first.
const FEW: usize = 40;
/// What stands out makes this many times the noise of all below it together.
const OUTSTANDING: f64 = 4.0;
/// How long nodes are measured one at a time.
const TIME: Duration = Duration::from_secs(600);

impl GraphCandidate<'_> {
    /// The nodes that lose most on a set of inputs, and as many of the next ones as it takes to leave `limit` decibels.
    pub(super) fn losses(
        &self,
        graph: &Dequantized,
        parameters: &std::rc::Rc<Parameters>,
        set: &Set,
        limit: f64,
    ) -> Result<Option<Losses>> {
        let model = parameters.checkpoint();
        let (variant, switched) = Variant::switched(graph, model)?;
        let nodes = switched.nodes;
        if nodes.is_empty() || set.inputs.is_empty() {
            return Ok(None);
        }
        let judged = Judged { precision: Precision::Quantized, least: 0.0 };
        let mut candidate = self.lowered(variant.open()?, parameters, judged)?;
        let Some(exact) = candidate.graph.with_switches(&vec![true; nodes.len()]) else { return Ok(None) };
        candidate.graph = exact;
        candidate.recognise();
        let mut wanted = Vec::new();
        for inputs in &set.inputs {
            let padding = Padding::of(inputs, model.head);
            wanted.push((inputs, candidate.graph.run(inputs, &[], Vec::new())?, padding));
        }
        let search = Search { nodes: &nodes, graph: &*candidate.graph, wanted, start: Instant::now() };
        let file = name_of(&self.file.source.path);
        let told = |said: String| self.file.progress.step(&format!("{file}: {said}"));
        let mut losses = search.run(limit, &told)?;
        losses.measured_on = set.name.to_owned();
        for loss in &mut losses.nodes {
            let node = nodes.iter().find(|node| node.name == loss.node);
            loss.parameters = node.map_or(Vec::new(), |node| parameters_of(node, graph, model));
        }
        Ok(Some(losses))
    }
}

/// The parameters that a node computes with.
fn parameters_of(node: &SwitchedNode, graph: &Dequantized, model: &Checkpoint) -> Vec<String> {
    let held = graph.held().into_iter().filter(|held| {
        graph.stored(&held.stored_name).is_some_and(|stored| node.tensors.contains(&stored.name))
    });
    let mut names: Vec<String> = held.map(|held| held.param.name).collect();
    names.retain(|name| model.parameter(name).is_some());
    names.dedup();
    names
}

/// A graph whose nodes can be switched, and what it computes where none rounds.
struct Search<'s> {
    nodes: &'s [SwitchedNode],
    graph: &'s dyn Graph,
    wanted: Vec<(&'s Inputs, Trace, Padding)>,
    start: Instant,
}

/// Nodes, and the noise that they make when they alone round.
type Noisy = (Vec<usize>, f64);

impl Search<'_> {
    fn run(&self, limit: f64, told: &dyn Fn(String)) -> Result<Losses> {
        let count = self.nodes.len();
        let all = self.noise(|_| false)?;
        let layers = self.layers(told)?;
        let of_layer = |(place, (nodes, noise)): &(Stage, Noisy)| LayerLoss {
            layer: place.to_string(),
            nodes: nodes.len(),
            alone_db: decibels(*noise),
        };
        let of_layers = layers.iter().map(of_layer).collect();
        let (mut ahead, mut single) = self.ahead(layers.into_iter().map(|(_, noisy)| noisy).collect());
        let mut measured = 0;
        ahead.sort_by(|one, other| other.1.total_cmp(&one.1));
        for node in ahead.into_iter().flat_map(|(nodes, _)| nodes) {
            if self.start.elapsed() > TIME {
                break;
            }
            Error::unless_stopped()?;
            measured += 1;
            told(format!("rounding a node at a time, {measured} of {count}"));
            single.push((vec![node], self.noise(|other| other != node)?));
        }
        let mut found: Vec<Noisy> =
            outstanding(&mut single).into_iter().filter(|of| of.0.len() == 1).collect();
        found.sort_by(|one, other| other.1.total_cmp(&one.1));
        let mut others: Vec<Noisy> =
            single.into_iter().filter(|of| of.0.len() == 1 && !found.contains(of)).collect();
        others.sort_by(|one, other| other.1.total_cmp(&one.1));
        let is_in = |found: &[Noisy], node| found.iter().any(|(nodes, _)| nodes.contains(&node));
        let mut restored = if found.is_empty() { all } else { self.noise(|node| is_in(&found, node))? };
        let mut others = others.into_iter();
        while decibels(restored) < limit && found.len() * 2 < count {
            let Some(next) = others.next() else { break };
            found.push(next);
            told(format!("{} nodes in f32", found.len()));
            restored = self.noise(|node| is_in(&found, node))?;
        }
        if decibels(restored) < limit && found.len() * 2 >= count {
            // The loss is everywhere.
            (found, restored) = (Vec::new(), all);
        }
        let mut losses = Losses {
            layers: of_layers,
            of: count,
            measured,
            rounded_db: decibels(all),
            restored_db: decibels(restored),
            ..Losses::default()
        };
        for (nodes, noise) in found {
            let Some((at, node)) = nodes.first().and_then(|&at| Some((at, self.nodes.get(at)?))) else {
                continue;
            };
            losses.nodes_to_exclude.push(node.before.clone());
            losses.nodes.push(NodeLoss {
                node: node.name.clone(),
                parameters: Vec::new(),
                alone_db: decibels(noise),
                restored_db: decibels(self.noise(|other| other == at)?),
            });
        }
        Ok(losses)
    }

    /// The noise that the nodes of each layer make when they alone round. What stands between two layers belongs to the
    /// first.
    fn layers(&self, told: &dyn Fn(String)) -> Result<Vec<(Stage, Noisy)>> {
        let (mut layers, mut last) = (BTreeMap::<Stage, Vec<usize>>::new(), Stage::Embeddings);
        for (at, node) in self.nodes.iter().enumerate() {
            last = match layer_of(node) {
                Some(layer) => Stage::Layer(layer),
                None if node.tensors.is_empty() || last == Stage::Embeddings => last,
                None => Stage::Head,
            };
            layers.entry(last).or_default().push(at);
        }
        let count = layers.len();
        let noise = |(at, (place, nodes)): (usize, (Stage, Vec<usize>))| {
            told(format!("rounding a layer at a time, {} of {count}", at + 1));
            let noise = self.noise(|node| !nodes.contains(&node))?;
            Ok((place, (nodes, noise)))
        };
        layers.into_iter().enumerate().map(noise).collect()
    }

    /// The nodes to measure one at a time, and others with the noise that they make together: of many nodes those of the layers
    /// that stand out are measured.
    fn ahead(&self, mut layers: Vec<Noisy>) -> (Vec<Noisy>, Vec<Noisy>) {
        let ahead = if self.nodes.len() > FEW { outstanding(&mut layers) } else { Vec::new() };
        if ahead.is_empty() { (layers, Vec::new()) } else { (ahead, layers) }
    }

    /// The noise of the outputs, as a share of the signal, where the nodes that `exact` names do not round.
    fn noise(&self, exact: impl Fn(usize) -> bool) -> Result<f64> {
        let switches: Vec<bool> = (0..self.nodes.len()).map(exact).collect();
        let graph = self.graph.with_switches(&switches);
        let graph = graph.as_deref().unwrap_or(self.graph);
        let mut noise = Noise::default();
        for (inputs, want, padding) in &self.wanted {
            noise.add(want, &graph.run(inputs, &[], Vec::new())?, padding);
        }
        Ok(noise.share())
    }
}

fn decibels(share: f64) -> f64 {
    -10.0 * share.log10()
}

/// The number of the layer that a node is of, if its name or that of a tensor says it.
fn layer_of(node: &SwitchedNode) -> Option<usize> {
    let names = std::iter::once(&node.before).chain(&node.tensors);
    names
        .filter_map(|name| {
            let rest = &name.get(name.find("layer.")? + "layer.".len()..)?;
            let digits = rest.find(|of: char| !of.is_ascii_digit()).unwrap_or(rest.len());
            rest.get(..digits)?.parse().ok()
        })
        .next()
}

/// Takes those out that stand out from the others: each makes several times the noise of all that make less. Half of them are
/// taken for ordinary.
fn outstanding(noisy: &mut Vec<Noisy>) -> Vec<Noisy> {
    noisy.sort_by(|one, other| one.1.total_cmp(&other.1));
    let half = noisy.len().div_ceil(2);
    let mut below: f64 = noisy.iter().take(half).map(|of| of.1).sum();
    for at in half..noisy.len() {
        let noise = noisy.get(at).map_or(0.0, |of| of.1);
        if noise > OUTSTANDING * below {
            return noisy.split_off(at);
        }
        below += noise;
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(noises: &[f64]) -> Vec<usize> {
        let mut noisy = noises.iter().enumerate().map(|(at, &noise)| (vec![at], noise)).collect();
        let mut found: Vec<usize> = outstanding(&mut noisy).into_iter().flat_map(|of| of.0).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn what_stands_out_is_found_although_something_louder_hides_it() {
        assert_eq!(of(&[1e-5, 1.0, 2e-5, 1e-5, 0.01, 3e-5, 1e-5]), [1, 4]);
        // Three that are as loud as each other.
        assert_eq!(of(&[1.0, 1e-5, 1.0, 1e-5, 1.0, 1e-5, 2e-5, 1e-5]), [0, 2, 4]);
        assert_eq!(of(&[1e-5, 2e-5, 3e-5, 4e-5, 2e-5, 1e-4]), [0_usize; 0]);
        assert_eq!(of(&[]), [0_usize; 0]);
    }

    #[test]
    fn the_layer_is_in_a_name() {
        let node = |before: &str, tensor: &str| SwitchedNode {
            before: before.to_owned(),
            tensors: vec![tensor.to_owned()],
            ..SwitchedNode::default()
        };
        assert_eq!(layer_of(&node("/deberta/encoder/layer.11/output/dense/MatMul", "")), Some(11));
        assert_eq!(layer_of(&node("node_linear", "encoder.layer.2.output.dense.weight_quantized")), Some(2));
        assert_eq!(layer_of(&node("node_linear", "onnx::MatMul_1")), None);
    }
}
