//! Backends: who computes.

mod onnx;
mod reference;

pub use onnx::Onnx;
pub use reference::Reference;

use clap::ValueEnum;
use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::Inputs;
use ndarray::ArrayD;

use crate::trace_file::Trace;

/// Backends by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// The reference implementation in this program
    Reference,
    /// The graph of an ONNX file, as it is, by a runtime that is part of this program
    Onnx,
    /// The graph of an ONNX file by ONNX Runtime; the program must be built with it, see docs/formats/onnx.md
    #[value(name = "onnxruntime")]
    OnnxRuntime,
}

impl BackendName {
    /// As on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            BackendName::Reference => "reference",
            BackendName::Onnx => "onnx",
            BackendName::OnnxRuntime => "onnxruntime",
        }
    }

    /// Whether it runs a graph that is in the file, and not a class with the weights of the file.
    pub fn runs_graphs(self) -> bool {
        matches!(self, BackendName::Onnx | BackendName::OnnxRuntime)
    }

    /// Checks that this program has the backend.
    ///
    /// # Errors
    /// It was built without it; says how to build it.
    pub fn require(self) -> Result<()> {
        match self {
            BackendName::OnnxRuntime if !cfg!(feature = "onnxruntime") => {
                let message = "--backend onnxruntime: this program was built without ONNX Runtime; docs/formats/onnx.md says \
                               how to build it: cargo build --release --package deberta-golden --features onnxruntime";
                Err(Error::new(Kind::Request, message))
            }
            BackendName::Reference | BackendName::Onnx | BackendName::OnnxRuntime => Ok(()),
        }
    }

    fn cannot(self, why: &str) -> Error {
        Error::new(Kind::Request, format!("--backend {}: it {why}", self.as_str()))
    }
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

    /// Runs the model and throws the outputs away: for measuring.
    ///
    /// # Errors
    /// Inputs that do not fit the model.
    fn run_only(&self, inputs: &Inputs) -> Result<()> {
        self.run(inputs, &[], Vec::new()).map(drop)
    }
}
