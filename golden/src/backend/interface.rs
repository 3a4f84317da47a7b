//! What every backend is called and does.

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::onnx::GraphKind;
use deberta_reference::probe::magnitude;
use deberta_reference::{Head, Inputs, LoadReport, MaskedRows};
use ndarray::ArrayD;
use serde::Deserialize;

use super::onnx::Overflow;
use crate::judge::tolerance::Precision;
use crate::trace::class::Class;
use crate::trace::file::Trace;
use crate::trace::tensor::Tensor;

/// Backends by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum BackendName {
    /// The reference implementation in this program
    Reference,
    /// libtorch; the program must be built with it, see docs/libtorch.md
    Tch,
    /// The graph of an ONNX file, as it is, by a runtime that is part of this program
    Onnx,
    /// The graph of an ONNX file by ONNX Runtime, whose library comes with pip's onnxruntime: docs/formats/onnx.md
    #[cfg_attr(feature = "cli", value(name = "onnxruntime"))]
    OnnxRuntime,
}

impl BackendName {
    /// As on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            BackendName::Reference => "reference",
            BackendName::Tch => "tch",
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
                let message = "--backend onnxruntime: this program was built without ONNX Runtime; docs/formats/onnx.md \
                               says how to build it: cargo build --release --package deberta-golden --features onnxruntime";
                Err(Error::new(Kind::Request, message))
            }
            BackendName::Tch if !cfg!(feature = "tch") => {
                let message = "--backend tch: this program was built without libtorch; docs/libtorch.md says how to \
                               build it: cargo build --release --package deberta-golden --features tch";
                Err(Error::new(Kind::Request, message))
            }
            _ => Ok(()),
        }
    }

    /// The error for what the backend does not do.
    pub(super) fn cannot(self, why: &str) -> Error {
        Error::new(Kind::Request, format!("--backend {}: it {why}", self.as_str()))
    }
}

/// The largest magnitudes of activations, by name, in the order of execution.
pub type Magnitudes = Vec<(String, f32)>;

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

    /// Runs the model like [`Backend::run`], and says how large the numbers of its activations get: of those that it records,
    /// unless it sees more of them.
    ///
    /// # Errors
    /// As [`Backend::run`].
    fn run_and_measure(&self, inputs: &Inputs, points: &[&str]) -> Result<(Trace, Magnitudes)> {
        let trace = self.run(inputs, points, Vec::new())?;
        let activations = trace.tensors.iter().filter_map(|tensor| {
            let floats = tensor.data.floats()?;
            Some((tensor.name.strip_prefix("activations.")?.to_owned(), magnitude(&floats)))
        });
        let magnitudes = activations.collect();
        Ok((trace, magnitudes))
    }

    /// Runs the model and throws the outputs away: for measuring.
    ///
    /// # Errors
    /// Inputs that do not fit the model.
    fn run_only(&self, inputs: &Inputs) -> Result<()> {
        self.run(inputs, &[], Vec::new()).map(drop)
    }

    /// What loading found: parameters with NaN or infinity, among others. Nothing if there was no checkpoint.
    fn report(&self) -> Option<&LoadReport> {
        None
    }

    /// A line for every parameter that has numbers which are NaN or infinite.
    fn not_finite(&self) -> Vec<String> {
        let bad = self.report().into_iter().flat_map(|report| &report.not_finite).map(|bad| {
            format!("{}: {} numbers are NaN or infinite, the first at {}", bad.name, bad.count, bad.first)
        });
        bad.collect()
    }
}

/// A backend whose computation is in a file, weights and all.
pub trait Graph: Backend {
    /// The format of the file: `ONNX`, ….
    fn format(&self) -> &'static str;

    /// What it exposes, by the names in a trace, in the order of execution.
    fn exposed(&self) -> Vec<&str>;

    /// The outputs whose names are those of no activation.
    fn unknown(&self) -> &[String];

    /// The class that the file names.
    fn class(&self) -> Option<Class>;

    /// What becomes of attention rows whose every key is masked: what the file says, else as in PyTorch.
    fn masked_rows(&self) -> MaskedRows;

    /// The precision that the weights are stored with.
    fn precision(&self) -> Precision;

    /// Checks that it has all inputs that are given.
    ///
    /// # Errors
    /// One that it does not have, or not so, by name.
    fn takes(&self, inputs: &Inputs) -> Result<()>;

    /// How long the axes of the tokens are, as far as the file fixes that: nothing for an axis of any length.
    fn fixed_lengths(&self) -> &[Option<usize>] {
        &[]
    }

    /// What it computes with.
    fn kind(&self) -> GraphKind {
        GraphKind::default()
    }

    /// Whether the file says what becomes of masked rows, and it is not only told by how the graph is built.
    fn states_rows(&self) -> bool {
        true
    }

    /// The graph given its inputs in the other ways that there are: where neither their names nor their use tell which is
    /// which.
    fn ways(&self) -> Vec<Box<dyn Graph>> {
        Vec::new()
    }

    /// The inputs that are not called what they are, and what they are.
    fn renamed_inputs(&self) -> Vec<(&str, &'static str)> {
        Vec::new()
    }

    /// What it computes of [`Graph::unknown`], under these names.
    ///
    /// # Errors
    /// As [`Backend::run`].
    fn run_unknown(&self, _inputs: &Inputs) -> Result<Vec<Tensor>> {
        Ok(Vec::new())
    }

    /// The graph with names of a trace for some of its unknown outputs: pairs of both names. Nothing if it has none.
    fn with_outputs(&self, _names: &[(String, String)]) -> Option<Box<dyn Graph>> {
        None
    }

    /// A graph whose nodes compute with rounded numbers or not, as it is told for each of them
    /// ([`deberta_converters::lowering::SWITCHES`]). Nothing for graphs that cannot be told.
    fn with_switches(&self, _exact: &[bool]) -> Option<Box<dyn Graph>> {
        None
    }

    /// What becomes of a graph in f16 that is computed in f32 here, if numbers beyond the range of f16 become infinite;
    /// nothing if there are none.
    ///
    /// # Errors
    /// As [`Backend::run`].
    fn overflow(&self, _inputs: &Inputs) -> Result<Option<Overflow>> {
        Ok(None)
    }
}

/// Refuses inputs [b, c, n] for a class that does not choose.
pub(super) fn check_choices(class: Class, inputs: &Inputs) -> Result<()> {
    match inputs.choices {
        Some(choices) if class.head != Head::MultipleChoice => {
            let message = format!("the tokens have {choices} choices, which {class} does not take");
            Err(Error::new(Kind::Request, message))
        }
        _ => Ok(()),
    }
}

/// What a trace says of how it was computed.
pub(super) fn metadata(
    framework: &str,
    producer: String,
    class: Option<Class>,
    masked_rows: MaskedRows,
) -> Vec<(String, String)> {
    let (framework, masked_rows) = (framework.to_owned(), masked_rows.to_string());
    let known = [("framework", framework), ("producer", producer), ("masked_rows", masked_rows)];
    let class = class.map(|class| ("class", class.to_string()));
    known.into_iter().chain(class).map(|(key, value)| (key.to_owned(), value)).collect()
}
