//! What was verified and what came of it, for people and for programs.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::judge::arbiter::Basis;
use crate::judge::compare::{Outcome, PointReport};

pub mod annotations;
mod document;
mod escape;
mod format;
mod growth;
mod html;
mod json;
mod junit;
mod markdown;
mod numbers;
mod rules;
mod shard;
mod text;
mod verdict;

pub use document::{Document, Totals};
pub use format::Format;
pub(crate) use json::{number, read_number};
pub(crate) use numbers::of_tolerance;
pub use rules::{PaddingRule, Rule, Rules};
pub use shard::{Merged, Shard, merge};
pub use text::Style;
pub(crate) use verdict::arbitration;

/// This program and its version.
pub const PRODUCER: &str = concat!("deberta-verify ", env!("CARGO_PKG_VERSION"));

/// The schema of the JSON report.
pub const SCHEMA: &str = "deberta-verify-report-1";

/// The result of a verification.
#[derive(Clone, Debug, Serialize, Deserialize)]
///
/// A report as `deberta-verify --report FILE.json` writes it, read back:
///
/// ```
/// use deberta_golden::goldens::Golden;
/// use deberta_golden::report::{Document, Format, Report, Style};
/// use deberta_golden::verify::{Request, verify};
///
/// # let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/masked-lm");
/// # let goldens = vec![Golden::open(&folder)?];
/// # let request = Request { name: "mine".to_owned(), model: folder, goldens, ..Request::default() };
/// let json = Format::Json.render(&Document::of(&verify(&request, &|_| {})?), Style::default());
/// let report: Report = serde_json::from_str(&json)?;
/// for run in report.files.iter().flat_map(|file| &file.runs) {
///     println!("{}: {:?}, {} numbers", run.golden, run.outcome, run.compared());
///     assert_eq!(run.first_divergence, None);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Report {
    /// [`SCHEMA`].
    #[serde(deserialize_with = "json::schema")]
    pub schema: String,
    /// This program and its version.
    pub producer: String,
    /// The model as it was named.
    pub model: String,
    /// How it ends.
    pub outcome: Outcome,
    /// One entry for every weight file.
    pub files: Vec<FileReport>,
    /// What concerns no single file.
    pub findings: Vec<Finding>,
}

/// The result for a weight file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileReport {
    /// The file, or the index of its shards.
    pub file: String,
    /// `PyTorch`, `TensorFlow`, `safetensors`, `ONNX`; nothing if it could not be opened.
    pub format: Option<String>,
    /// The precision that the weights are stored with: `f32`, `f16`, `bf16`.
    pub precision: Option<String>,
    /// The weight digest.
    pub digest: Option<String>,
    /// How it ends.
    pub outcome: Outcome,
    /// What concerns the file as a whole.
    pub findings: Vec<Finding>,
    /// One entry for every trace.
    pub runs: Vec<RunReport>,
}

/// The result for a weight file and a trace, or the published values of a case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunReport {
    /// The golden.
    pub golden: String,
    /// The trace file; nothing for published values.
    pub trace: Option<String>,
    /// Who computed the golden.
    pub producer: String,
    /// The class that was run.
    pub class: String,
    /// What became of attention rows whose every key is masked: `uniform`, `zero`.
    pub masked_rows: String,
    /// What ran the candidate.
    pub backend: String,
    /// Whether every module was given the golden's input.
    pub isolated: bool,
    /// Whose model was run in f64 to tell whose errors are larger; nothing if none was.
    pub arbiter: Option<Basis>,
    /// How it ends.
    pub outcome: Outcome,
    /// The first point that does not agree, in the order of execution.
    pub first_divergence: Option<String>,
    /// What concerns the run as a whole.
    pub findings: Vec<Finding>,
    /// What the likely causes are, the likeliest first.
    pub diagnoses: Vec<Diagnosis>,
    /// Every point of the golden, in the order of execution.
    pub points: Vec<PointReport>,
    /// How long it took to run the model and to compare.
    pub seconds: f64,
}

/// Something that a reader should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A word for programs: `weights-differ`, `golden-incomplete`, ….
    pub kind: FindingKind,
    /// What follows from it.
    pub outcome: Outcome,
    /// What there is to say.
    pub message: String,
}

/// Words for findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// A file could not be read, or a model not run.
    Error,
    /// The weights are not those of the golden.
    WeightsDiffer,
    /// Two weight files of a model hold different weights.
    FilesDiffer,
    /// Weights are NaN or infinite.
    WeightsNotFinite,
    /// The golden lacks points.
    GoldenIncomplete,
    /// There was nothing to compare.
    NothingCompared,
    /// Two traces are of different inputs.
    InputsDiffer,
    /// Padded rows follow the other convention.
    MaskedRows,
    /// Padded rows differ, and no convention explains it.
    PaddingDiffers,
    /// An ONNX file's graph does not compute what its weights are of.
    GraphDiffers,
    /// The weights were rounded to a lower precision.
    HalfPrecision,
    /// What f64 says about the errors of the golden and of the candidate.
    Arbiter,
    /// A file was left out.
    NotJudged,
    /// How good the model is at a task of the policy.
    Task,
    /// A format that the policy asks for is not there.
    FormatMissing,
    /// For information.
    Note,
}

/// A likely cause of a divergence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// A word for programs: `transposed-kernel`, `swapped-heads`, ….
    pub kind: String,
    /// What is wrong, where.
    pub cause: String,
    /// What speaks for it.
    pub evidence: String,
    /// What to do.
    pub repair: String,
    /// Whether the numbers agree once it is repaired.
    pub confirmed: bool,
}

impl Finding {
    /// A finding.
    pub fn new(kind: FindingKind, outcome: Outcome, message: impl Into<String>) -> Finding {
        Finding { kind, outcome, message: message.into() }
    }

    /// Something that went wrong.
    pub fn error(error: &deberta_converters::error::Error) -> Finding {
        Finding::new(FindingKind::Error, Outcome::Undecided, error.to_string())
    }
}

impl Report {
    /// The report of a model that could not be verified at all.
    pub fn failed(model: impl Into<String>, error: &deberta_converters::error::Error) -> Report {
        Report {
            schema: SCHEMA.to_owned(),
            producer: PRODUCER.to_owned(),
            model: model.into(),
            outcome: Outcome::Undecided,
            files: Vec::new(),
            findings: vec![Finding::error(error)],
        }
    }

    /// How many numbers were compared.
    pub fn compared(&self) -> usize {
        self.files.iter().flat_map(|file| &file.runs).map(RunReport::compared).sum()
    }
}

impl RunReport {
    /// A run on a trace, or on published values, of which nothing is known yet.
    pub(crate) fn new(golden: &str, trace: Option<String>, backend: &str) -> RunReport {
        RunReport {
            golden: golden.to_owned(),
            trace,
            producer: String::new(),
            class: String::new(),
            masked_rows: String::new(),
            backend: backend.to_owned(),
            isolated: false,
            arbiter: None,
            outcome: Outcome::Pass,
            first_divergence: None,
            findings: Vec::new(),
            diagnoses: Vec::new(),
            points: Vec::new(),
            seconds: 0.0,
        }
    }

    /// How many numbers were compared.
    pub fn compared(&self) -> usize {
        self.points.iter().map(PointReport::compared).sum()
    }
}

/// The worst of some outcomes.
pub(crate) fn worst(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    outcomes.max().unwrap_or(Outcome::Pass)
}

/// What reports call a file or folder: the last part of its path.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
