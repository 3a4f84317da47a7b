//! Where a quantized graph loses, and which of its nodes lose most.

use serde::{Deserialize, Serialize};

use super::numbers::decibels;
use super::table::{Column, Row, Table};
use crate::judge::unbounded;

/// How many nodes are named in a line.
const NAMED_NODES: usize = 8;

/// Which nodes of a graph lose most by computing with rounded numbers, weights and activations, and what leaving them in f32
/// would restore. Ratios are those of the outputs to the same graph with the model's weights and without rounding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// The names of the nodes to leave in f32, as they are called in the graph before it is quantized: those of
    /// `nodes_to_exclude` of ONNX Runtime's quantizers.
    pub nodes_to_exclude: Vec<String>,
    /// The same nodes, the one that loses most first.
    pub nodes: Vec<NodeLoss>,
    /// What is left when the nodes of one layer alone compute with rounded numbers.
    pub layers: Vec<LayerLoss>,
    /// How many nodes compute with rounded numbers.
    pub of: usize,
    /// How many of them were measured one at a time.
    pub measured: usize,
    /// What all of them leave, in decibels.
    #[serde(with = "unbounded")]
    pub rounded_db: f64,
    /// What is left when the named nodes are in f32.
    #[serde(with = "unbounded")]
    pub restored_db: f64,
    /// What was run: `the goldens`, `other lengths`.
    pub measured_on: String,
}

/// A node that loses much.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeLoss {
    /// What it is called in the file.
    pub node: String,
    /// The parameters of the model that it computes with.
    pub parameters: Vec<String>,
    /// What is left when it alone computes with rounded numbers.
    #[serde(with = "unbounded")]
    pub alone_db: f64,
    /// What is left when it alone is in f32.
    #[serde(with = "unbounded")]
    pub restored_db: f64,
}

/// What the nodes of a layer lose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerLoss {
    /// `embeddings`, `layer 3`, `head`.
    pub layer: String,
    /// How many nodes of it compute with rounded numbers.
    pub nodes: usize,
    /// What is left when they alone do, in decibels.
    #[serde(with = "unbounded")]
    pub alone_db: f64,
}

impl Losses {
    /// Where the loss arises, and the nodes that lose most.
    pub(super) fn tables(&self, file: &str) -> Vec<Table> {
        let most = self.layers.iter().map(LayerLoss::share).fold(0.0, f64::max);
        let of_layer = |layer: &LayerLoss| {
            // A full bar is the layer that loses most, and every tenth less is ten times less noise.
            let height = (10.0 + (layer.share() / most).log10()).clamp(0.0, 10.0);
            let bar = "█".repeat(if most > 0.0 { height.round() as usize } else { 0 });
            let cells = vec![layer.layer.clone(), layer.nodes.to_string(), decibels(layer.alone_db), bar];
            Row { cells, outcome: None }
        };
        let of_node = |(node, name): (&NodeLoss, &String)| Row {
            cells: vec![
                name.clone(),
                decibels(node.alone_db),
                decibels(node.restored_db),
                node.parameters.join(", "),
            ],
            outcome: None,
        };
        let layers = Table {
            title: format!(
                "where {file} loses: dB left if a layer alone is rounded, of {} if all are",
                decibels(self.rounded_db)
            ),
            columns: vec![
                Column::text("layer"),
                Column::number("nodes"),
                Column::number("dB"),
                Column::text("noise"),
            ],
            rows: self.layers.iter().map(of_layer).collect(),
        };
        let nodes = Table {
            title: format!("nodes of {file} to leave in f32: {} dB without them", decibels(self.restored_db)),
            columns: vec![
                Column::text("node"),
                Column::number("dB, it alone rounded"),
                Column::number("dB, it alone in f32"),
                Column::text("parameters"),
            ],
            rows: self.nodes.iter().zip(&self.nodes_to_exclude).map(of_node).collect(),
        };
        [layers, nodes].into_iter().filter(|table| !table.rows.is_empty()).collect()
    }

    /// In words.
    pub(crate) fn said(&self) -> String {
        let Losses { nodes_to_exclude, of, measured, rounded_db, restored_db, measured_on, .. } = self;
        let (count, most) = (nodes_to_exclude.len(), NAMED_NODES);
        let bounded =
            if measured < of { format!(", of which {measured} were measured alone") } else { String::new() };
        if count == 0 {
            return format!(
                "no few of its {of} nodes that round{bounded} lose more than the others: all of them leave {rounded_db:.1} dB on {measured_on}"
            );
        }
        let names =
            nodes_to_exclude.iter().take(most).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let more = if count > most {
            format!(", … ({} more in the JSON report)", count - most)
        } else {
            String::new()
        };
        format!(
            "{count} of {of} nodes that round{bounded} lose most: in f32 (nodes_to_exclude=[{names}{more}]) they would restore \
             {restored_db:.1} dB from {rounded_db:.1} on {measured_on}"
        )
    }
}

impl LayerLoss {
    /// The noise, as a share of the signal.
    pub(super) fn share(&self) -> f64 {
        10.0_f64.powf(-self.alone_db / 10.0)
    }
}
