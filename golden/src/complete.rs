//! What a golden must have, so that a point that somebody removed or renamed is noticed.
//!
//! A golden records activations of a kind ([`PointKind`]) at every place or at none. One that is meant to have some of
//! them says so: its metadata has `points`, patterns with a space between them.

use std::collections::BTreeSet;

use deberta_reference::probe::matches;
use deberta_reference::{DebertaConfig, Inputs};

use crate::class::Class;
use crate::points::{PointKind, outputs, points};
use crate::trace_file::TraceFile;

/// The key of the metadata that says which activations a trace has.
pub const POINTS: &str = "points";

/// The full names of what the golden lacks, in the order of execution.
pub fn missing(golden: &TraceFile, config: &DebertaConfig, class: Class, inputs: &Inputs) -> Vec<String> {
    let names: BTreeSet<&str> = golden.names().collect();
    let patterns: Option<Vec<&str>> = golden.metadata(POINTS).map(|text| text.split_whitespace().collect());
    let known = points(config, class, inputs);
    let has = |kind| {
        known
            .iter()
            .any(|point| point.kind == kind && names.contains(format!("activations.{}", point.name).as_str()))
    };
    let kinds: Vec<PointKind> = [PointKind::Module, PointKind::Inner, PointKind::Step]
        .into_iter()
        .filter(|&kind| has(kind))
        .collect();
    let activations = known.iter().filter(|point| match &patterns {
        Some(patterns) => patterns.iter().any(|pattern| matches(pattern, &point.name)),
        None => kinds.contains(&point.kind),
    });

    let layers = config.num_hidden_layers;
    let has_any = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    let mut expected: Vec<String> = activations.map(|point| format!("activations.{}", point.name)).collect();
    if has_any("outputs.hidden_states.") {
        // Microsoft's code returns the layers alone.
        let first = usize::from(class == Class::MaskDecoder);
        expected.extend((first..=layers).map(|i| format!("outputs.hidden_states.{i}")));
    }
    if has_any("outputs.attentions.") {
        expected.extend((0..layers).map(|i| format!("outputs.attentions.{i}")));
    }
    expected.extend(outputs(class, inputs).into_iter().map(|name| format!("outputs.{name}")));
    expected.retain(|name| !names.contains(name.as_str()));
    expected
}
