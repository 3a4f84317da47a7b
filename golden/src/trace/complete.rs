//! What a golden must have, so that a point that somebody removed or renamed is noticed.
//!
//! A golden that has a point of one layer has it of all layers; one that has half of the modules has all of them; one that
//! has a loss to return has it. A golden that is meant to have less says so: its metadata has `points`, patterns with a
//! space between them.

use std::collections::BTreeSet;

use deberta_reference::probe::matches;
use deberta_reference::{DebertaConfig, Head, Inputs};

use crate::trace::class::Class;
use crate::trace::file::TraceFile;
use crate::trace::points::{Point, PointKind, outputs, points};

/// The key of the metadata that says which activations a trace has.
pub const POINTS: &str = "points";

/// The full names of what the golden lacks, in the order of execution.
pub fn missing(golden: &TraceFile, config: &DebertaConfig, class: Class, inputs: &Inputs) -> Vec<String> {
    let names: BTreeSet<&str> = golden.names().collect();
    let patterns: Option<Vec<&str>> = golden.metadata(POINTS).map(|text| text.split_whitespace().collect());
    let known = points(config, class, inputs);
    let there = |point: &Point| names.contains(format!("activations.{}", point.name).as_str());
    let modules = || known.iter().filter(|point| point.kind == PointKind::Module);
    let all_modules = 2 * modules().filter(|point| there(point)).count() >= modules().count();
    let layered: BTreeSet<&str> = known.iter().filter(|point| there(point)).filter_map(in_layer).collect();
    let activations = known.iter().filter(|point| match &patterns {
        Some(patterns) => patterns.iter().any(|pattern| matches(pattern, &point.name)),
        None => {
            (all_modules && point.kind == PointKind::Module)
                || (point.kind != PointKind::Own
                    && in_layer(point).is_some_and(|name| layered.contains(name)))
        }
    });

    let layers = config.num_hidden_layers;
    let has_any = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    let mut expected: Vec<String> = activations.map(|point| format!("activations.{}", point.name)).collect();
    if has_any("outputs.hidden_states.") {
        // Microsoft's code returns the layers alone.
        let first = usize::from(class.head == Head::MaskDecoder);
        expected.extend((first..=layers).map(|i| format!("outputs.hidden_states.{i}")));
    }
    if has_any("outputs.attentions.") {
        expected.extend((0..layers).map(|i| format!("outputs.attentions.{i}")));
    }
    expected.extend(outputs(class, inputs).into_iter().map(|name| format!("outputs.{name}")));
    expected.retain(|name| !names.contains(name.as_str()));
    expected
}

/// What all layers, or all steps of the mask decoder, call a point: the name behind the number.
fn in_layer(point: &Point) -> Option<&str> {
    ["encoder.layer.", "emd."].into_iter().find_map(|stage| {
        let (_, rest) = point.name.split_once(stage)?;
        // A layer itself has a number alone; it keeps apart from a step of that number.
        Some(rest.split_once('.').map_or(stage, |(_, name)| name))
    })
}
