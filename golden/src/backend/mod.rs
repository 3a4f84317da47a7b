//! Backends: who computes.

mod onnx;
mod reference;

pub use onnx::Onnx;
pub use reference::{Arithmetic, Reference};

use clap::ValueEnum;
use deberta_converters::error::Result;
use deberta_reference::Inputs;
use ndarray::ArrayD;

use crate::trace_file::Trace;

/// Backends by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// The reference implementation in this program
    Reference,
    /// The graph of an ONNX file, as it is
    Onnx,
}

/// Something that runs a model.
pub trait Backend {
    /// `reference`, `onnx`, …
    fn name(&self) -> &'static str;

    /// Runs the model on `inputs` and records the outputs, and the activations whose names one of the patterns in
    /// `points` matches, in the order of execution; `*` in a pattern stands for any text. After the activations named in
    /// `replaced` were computed and recorded, the values given there take their place.
    ///
    /// # Errors
    /// Inputs that do not fit the model; replacements of another shape, or by a backend that cannot replace.
    fn run(&self, inputs: &Inputs, points: &[&str], replaced: Vec<(String, ArrayD<f32>)>) -> Result<Trace>;
}
