//! What the selftest puts faults into.

use deberta_reference::{Inputs, MaskedRows};

use super::SampledGolden;
use crate::fault::Model;
use crate::judge::tolerance::{Precision, Tolerances};
use crate::trace::class::Class;
use crate::trace::file::Trace;

/// A good model, and what it must compute.
pub struct Subject {
    /// What reports call it.
    pub name: String,
    /// The model, whose class and masked rows are those of the first golden.
    pub model: Model,
    /// What it must compute.
    pub goldens: Vec<Recorded>,
    /// What it must compute, of which there are samples; the shortest first.
    pub sampled: Vec<SampledGolden>,
    /// How far numbers may be off.
    pub tolerances: Tolerances,
    /// The precision that the weights are stored with.
    pub precision: Precision,
    /// Whether every fault must be visible.
    pub sensitive: bool,
}

/// A golden of a subject.
pub struct Recorded {
    /// What reports call it.
    pub name: String,
    /// The activations and outputs.
    pub trace: Trace,
    /// The inputs; hidden states and attentions are asked for.
    pub inputs: Inputs,
    /// The class that is run.
    pub class: Class,
    /// What becomes of attention rows whose every key is masked.
    pub masked_rows: MaskedRows,
}
