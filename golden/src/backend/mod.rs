//! Backends: who computes.

mod reference;

pub use reference::Reference;

use deberta_converters::error::Result;
use deberta_reference::Inputs;

use crate::trace_file::Trace;

/// Something that runs a model.
pub trait Backend {
    /// `reference`, `onnx`, …
    fn name(&self) -> &'static str;

    /// Runs the model on `inputs` and records the outputs, and the activations whose names one of the patterns in
    /// `points` matches, in the order of execution; `*` in a pattern stands for any text.
    ///
    /// # Errors
    /// Inputs that do not fit the model.
    fn run(&self, inputs: &Inputs, points: &[&str]) -> Result<Trace>;
}
