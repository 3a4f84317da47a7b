//! The results that every format of a report shows: of a model, of its weight files, of their runs.

use std::path::{Path, PathBuf};

use deberta_converters::error::Error;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::arbitration;
use super::quantization::QuantizationReport;
use super::tokenizers::TokenizerReport;
use crate::coverage::Covered;
use crate::inventory::Entry;
use crate::judge::verdict::{Basis, Outcome, PointReport};

/// This program and its version.
pub const PRODUCER: &str = concat!("deberta-verify ", env!("CARGO_PKG_VERSION"));

/// The schema of the JSON report.
pub const SCHEMA: &str = "deberta-verify-report-1";

/// The result of a verification.
///
/// A report as `deberta-verify --report FILE.json` writes it, read back:
///
/// ```
/// use deberta_golden::goldens::Golden;
/// use deberta_golden::report::{Document, Report, ReportFormat, Style};
/// use deberta_golden::verify::{VerifyRequest, verify};
///
/// # let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/masked-lm");
/// # let goldens = vec![Golden::open(&folder)?];
/// # let request = VerifyRequest { name: "mine".to_owned(), model: folder, goldens, ..VerifyRequest::default() };
/// let json = ReportFormat::Json.render(&Document::of(&verify(&request, &())?), Style::default());
/// let report: Report = serde_json::from_str(&json)?;
/// for run in report.files.iter().flat_map(|file| &file.runs) {
///     println!("{}: {:?}, {} numbers", run.golden, run.outcome, run.compared());
///     assert_eq!(run.first_divergence, None);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    #[serde(deserialize_with = "schema")]
    pub schema: String,
    /// This program and its version.
    pub producer: String,
    /// The model as it was named.
    pub model: String,
    /// Where it is, as seen from the folder of the process; for a model of the hub a path that is not there.
    #[serde(skip)]
    pub place: PathBuf,
    /// How it ends.
    pub outcome: Outcome,
    /// What the goldens exercise of the configuration; nothing where no configuration could be read.
    #[serde(default)]
    pub coverage: Vec<Covered>,
    /// Every file of the release, and what became of it; empty in a report of a version that did not look.
    #[serde(default)]
    pub inventory: Vec<Entry>,
    /// One entry for every weight file that was judged, or was to be.
    pub files: Vec<FileReport>,
    /// What concerns no single file.
    pub findings: Vec<Finding>,
    /// One entry for the slow files of its tokenizer, and one for the fast file, if they are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokenizers: Vec<TokenizerReport>,
}

/// The result for a weight file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FileReport {
    /// The file, or the index of its shards.
    pub file: String,
    /// `PyTorch`, `TensorFlow`, `safetensors`, `ONNX`; nothing if it could not be opened.
    pub format: Option<String>,
    /// The precision that the weights are stored with: `f32`, `f16`, `bf16`.
    pub precision: Option<String>,
    /// What a graph computes with: `f32`, `f16`, `int8 (dynamic)`, …; nothing if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<String>,
    /// What is known of a graph whose weights or activations are rounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<QuantizationReport>,
    /// The weight digest.
    pub digest: Option<String>,
    /// The digest of the parameters that the class computes with; reports do not have it.
    #[serde(skip)]
    pub used_digest: Option<String>,
    /// How it ends.
    pub outcome: Outcome,
    /// What concerns the file as a whole.
    pub findings: Vec<Finding>,
    /// One entry for every trace.
    pub runs: Vec<RunReport>,
}

/// The result for a weight file and a trace, or the published values of a case.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// There was no golden: the files of the model were compared with each other.
    NoGolden,
    /// Two traces are of different inputs.
    InputsDiffer,
    /// Padded rows follow the other convention.
    MaskedRows,
    /// Padded rows differ, and no convention explains it.
    PaddingDiffers,
    /// A graph follows other code than the golden, where the two give other rows to some distances.
    Conventions,
    /// An ONNX file's graph does not compute what its weights are of.
    GraphDiffers,
    /// No runtime that checks types loads a graph, or it draws numbers at random.
    GraphInvalid,
    /// What a graph's inputs and outputs were recognised as.
    Recognised,
    /// What a graph computes with, and what computed it.
    Computation,
    /// What is known of a graph whose weights or activations are rounded.
    Quantization,
    /// The weights were rounded to a lower precision.
    HalfPrecision,
    /// What f64 says about the errors of the golden and of the candidate.
    Arbiter,
    /// Activations are beyond the range of f16.
    F16Range,
    /// Something was left out.
    NotJudged,
    /// A tokenizer makes other tokens of a text than the golden has, or than the other files of the tokenizer.
    TokenizerDiffers,
    /// Nothing tested the tokenizer.
    TokenizerNotJudged,
    /// The slow and the fast tokenizer of transformers make different tokens of a text, whatever the files.
    TokenizerClasses,
    /// What a configuration says of the tokenizer is not so.
    TokenizerConfig,
    /// Features of the configuration that the goldens do not exercise.
    Coverage,
    /// Files of the release were not judged.
    FileNotJudged,
    /// The configuration is not of these weights: transformers would build something else.
    ConfigUnfit,
    /// The configuration has other settings than that of the golden's model.
    ConfigDiffers,
    /// The labels are not those of the golden's model, or in another order.
    LabelsDiffer,
    /// There is an adapter that is not merged into the weights.
    Adapter,
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
    pub fn error(error: &Error) -> Finding {
        Finding::new(FindingKind::Error, Outcome::Undecided, error.to_string())
    }
}

impl Report {
    /// The report of a model that is named by its path, not judged yet.
    pub fn new(model: impl Into<String>, files: Vec<FileReport>, findings: Vec<Finding>) -> Report {
        let model = model.into();
        Report {
            schema: SCHEMA.to_owned(),
            producer: PRODUCER.to_owned(),
            place: PathBuf::from(&model),
            model,
            outcome: Outcome::Undecided,
            coverage: Vec::new(),
            inventory: Vec::new(),
            files,
            findings,
            tokenizers: Vec::new(),
        }
    }

    /// The report of a model that could not be verified at all.
    pub fn failed(model: impl Into<String>, error: &Error) -> Report {
        Report::new(model, Vec::new(), vec![Finding::error(error)])
    }

    /// How many numbers were compared.
    pub fn compared(&self) -> usize {
        self.files.iter().flat_map(|file| &file.runs).map(RunReport::compared).sum()
    }
}

impl FileReport {
    /// A weight file of which nothing is known yet.
    pub(crate) fn new(path: &Path) -> FileReport {
        FileReport { file: name_of(path), ..FileReport::default() }
    }
}

impl RunReport {
    /// A run on a trace, or on published values, of which nothing is known yet.
    pub(crate) fn new(golden: &str, trace: Option<String>, backend: &str) -> RunReport {
        let (golden, backend) = (golden.to_owned(), backend.to_owned());
        RunReport { golden, trace, backend, ..RunReport::default() }
    }

    /// How many numbers were compared.
    pub fn compared(&self) -> usize {
        self.points.iter().map(PointReport::compared).sum()
    }

    /// Notes what the arbiter, if one was asked, says about the run: the largest errors of both sides, and the points
    /// that differ or nearly do. `basis` is whose model it ran.
    pub(crate) fn note_arbiter(&mut self, basis: Option<Basis>) {
        let Some(basis) = basis else { return };
        self.arbiter = Some(basis);
        let said = arbitration::summary(basis, &self.points);
        self.findings.extend(said.map(|said| Finding::new(FindingKind::Arbiter, Outcome::Pass, said)));
    }
}

/// What reports call a file or folder: the last part of its path.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Reads the schema of a report, of which there is one.
fn schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let schema = String::deserialize(deserializer)?;
    match schema.as_str() {
        SCHEMA => Ok(schema),
        other => Err(de::Error::custom(format!("schema {other:?}, expected {SCHEMA:?}"))),
    }
}
