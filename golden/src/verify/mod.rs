//! The verification of a model: every weight file that it has, against every trace of its goldens.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::{Format, sniff, torch};
use deberta_converters::loading::Parameters;
use deberta_converters::mapped::Mapped;
use deberta_converters::source::Source;
use deberta_reference::{Head, Inputs, MaskedRows};

use crate::backend::{Arithmetic, BackendName};
use crate::case::TraceEntry;
use crate::goldens::Golden;
use crate::judge::arbiter::Arbiter;
use crate::judge::compare::{Comparison, Outcome, PointReport, Verdict};
use crate::judge::tolerance::Precision;
use crate::report::{FileReport, Finding, FindingKind, PRODUCER, Report, RunReport, SCHEMA, name_of, worst};
use crate::trace::class::{Class, masked_rows_name, masked_rows_of};
use crate::trace::file::{Trace, TraceFile};
use crate::trace::inputs::inputs;
use crate::trace::padding::Tokens;
use crate::trace::points::missing;

mod arbitration;
mod diagnosis;
mod graph;
mod published;
mod run;
pub mod traces;

use arbitration::exact_model;
use run::Run;

/// What to verify, and how.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What reports call the model.
    pub name: String,
    /// A folder, a weight file or a shard index.
    pub model: PathBuf,
    /// The configuration, if it is not beside the weights.
    pub config: Option<PathBuf>,
    /// What to compare with.
    pub goldens: Vec<Golden>,
    /// Whether to give every module the golden's input.
    pub isolate: bool,
    /// Whether to look for the causes of divergences.
    pub diagnose: bool,
    /// F64: the reference computes in f64, too, and says of points that differ, or nearly, whose error is larger.
    pub precision: Arithmetic,
    /// What computes; if absent, the reference, and an ONNX file's own graph too.
    pub backend: Option<BackendName>,
}

/// Verifies a model. What goes wrong with a file or a trace is part of the report; `progress` is told what is being done.
///
/// # Errors
/// There is no weight file, or no golden.
///
/// ```
/// use deberta_golden::goldens::Golden;
/// use deberta_golden::judge::compare::Outcome;
/// use deberta_golden::verify::{Request, verify};
///
/// let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/masked-lm");
/// let goldens = vec![Golden::open(&folder)?];
/// let request = Request { name: "mine".to_owned(), model: folder, goldens, ..Request::default() };
/// let report = verify(&request, &|step| println!("{step}"))?;
/// assert_eq!(report.outcome, Outcome::Pass);
/// # Ok::<(), deberta_converters::Error>(())
/// ```
pub fn verify(request: &Request, progress: &dyn Fn(&str)) -> Result<Report> {
    request.backend.map_or(Ok(()), BackendName::require)?;
    let graph_alone = request.backend.is_some_and(BackendName::runs_graphs);
    if graph_alone && request.isolate {
        let message = "a graph cannot be given the golden's activations: --isolate needs --backend reference";
        return Err(Error::new(Kind::Request, message));
    }
    let sources = sources(&request.model, graph_alone.then_some(Format::Onnx))?;
    if request.goldens.is_empty() {
        return Err(Error::new(Kind::Request, "nothing to compare with: no golden was given"));
    }
    let mut files = Vec::with_capacity(sources.len());
    for source in sources {
        files.push(File::new(request, source, progress).verify());
    }
    let mut report = Report {
        schema: SCHEMA.to_owned(),
        producer: PRODUCER.to_owned(),
        model: request.name.clone(),
        outcome: Outcome::Pass,
        findings: same_weights(&files),
        files,
    };
    if report.compared() == 0 && report.findings.is_empty() {
        let finding =
            Finding::new(FindingKind::NothingCompared, Outcome::Undecided, "no number was compared");
        report.findings.push(finding);
    }
    let outcomes = report.files.iter().map(|file| file.outcome);
    report.outcome = worst(outcomes.chain(report.findings.iter().map(|finding| finding.outcome)));
    Ok(report)
}

/// The weights that a model has, one entry for every format, or for the one that is asked for.
fn sources(model: &Path, wanted: Option<Format>) -> Result<Vec<Source>> {
    if !model.is_dir() || wanted.is_some() {
        return Ok(vec![Source::locate(model, wanted, None)?]);
    }
    let there = |format: &Format| format.places().iter().any(|place| model.join(place).exists());
    let formats: Vec<Format> = Format::ALL.into_iter().filter(there).collect();
    match formats.is_empty() {
        // Says what it looked for.
        true => Source::locate(model, None, None).map(|source| vec![source]),
        false => formats.into_iter().map(|format| Source::locate(model, Some(format), None)).collect(),
    }
}

/// Whether all weight files of the same precision hold the same weights.
fn same_weights(files: &[FileReport]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first = files.iter().find(|file| file.digest.is_some());
    for file in files.iter().filter(|file| file.digest.is_some()) {
        let Some(first) = first.filter(|first| first.digest != file.digest) else { continue };
        let (message, outcome) = match first.precision == file.precision {
            true => (
                format!(
                    "{} and {} hold different weights; deberta-convert diff lists them",
                    first.file, file.file
                ),
                Outcome::Divergence,
            ),
            false => (
                format!(
                    "{} holds the weights as {}, {} as {}: their digests cannot be equal",
                    first.file,
                    first.precision.as_deref().unwrap_or("?"),
                    file.file,
                    file.precision.as_deref().unwrap_or("?")
                ),
                Outcome::Pass,
            ),
        };
        findings.push(Finding::new(FindingKind::FilesDiffer, outcome, message));
    }
    findings
}

/// The verification of one weight file.
struct File<'v> {
    request: &'v Request,
    source: Source,
    progress: &'v dyn Fn(&str),
    /// The weights as they were opened for a class, or for the one that the configuration or the tensors show.
    opened: RefCell<HashMap<Option<Head>, Rc<Parameters>>>,
}

impl<'v> File<'v> {
    fn new(request: &'v Request, source: Source, progress: &'v dyn Fn(&str)) -> File<'v> {
        File { request, source, progress, opened: RefCell::default() }
    }

    /// What computes with the weights.
    fn backend(&self) -> BackendName {
        self.request.backend.unwrap_or(BackendName::Reference)
    }

    fn verify(&self) -> FileReport {
        let path = &self.source.path;
        let mut report = FileReport {
            file: name_of(path),
            format: None,
            precision: None,
            digest: None,
            outcome: Outcome::Pass,
            findings: Vec::new(),
            runs: Vec::new(),
        };
        let graph = self.graph_backend();
        let alone = graph.is_some() && self.request.backend.is_some();
        if !alone && let Err(error) = self.verify_into(&mut report) {
            report.findings.push(Finding::error(&error));
        }
        if let Some(backend) = graph {
            graph::verify(self, backend, &mut report);
        }
        let outcomes = report.runs.iter().map(|run| run.outcome);
        report.outcome = worst(outcomes.chain(report.findings.iter().map(|finding| finding.outcome)));
        report
    }

    fn verify_into(&self, report: &mut FileReport) -> Result<()> {
        (self.progress)(&format!("{}: reading the weights", report.file));
        let checkpoint = self.open(None)?;
        let digest = checkpoint.digest(&checkpoint.tensor_digests(&())?).to_string();
        let precision = Precision::of(checkpoint.bound.iter().map(|bound| bound.dtype));
        report.format = Some(checkpoint.format.to_string());
        report.precision = Some(precision.to_string());
        report.digest = Some(digest.clone());
        // What is wrong with them is said for every trace.
        if let Ok(parameters) = Parameters::new(checkpoint) {
            self.keep(None, parameters);
        }

        for golden in &self.request.goldens {
            let candidate = Candidate { file: self, golden, digest: &digest, precision };
            candidate.check_digest(golden.digest(), report);
            let start = report.runs.len();
            for path in &golden.traces {
                let name = name_of(path);
                (self.progress)(&format!("{}: {name}", report.file));
                report.runs.push(candidate.run(path, name, &mut report.findings));
            }
            if self.request.diagnose {
                (self.progress)(&format!("{}: looking for causes", report.file));
                diagnosis::diagnose_runs(&candidate, report.runs.get_mut(start..).unwrap_or_default());
            }
            if let Some(run) = published::run(&candidate) {
                report.runs.push(run);
            }
        }
        Ok(())
    }

    /// What runs the computation that the file holds: what was asked for, or if nothing was, what runs its format.
    fn graph_backend(&self) -> Option<BackendName> {
        match self.request.backend {
            // A program is code, and never run unless it is asked for.
            Some(BackendName::Tch) => self.holds(torch::is_script).then_some(BackendName::Tch),
            Some(backend) => Some(backend).filter(|backend| backend.runs_graphs()),
            None => {
                let onnx = |bytes: &[u8]| sniff(bytes).is_ok_and(|format| format == Format::Onnx);
                self.holds(onnx).then_some(BackendName::Onnx)
            }
        }
    }

    /// Whether the file can be read, and its bytes are something.
    fn holds(&self, something: impl FnOnce(&[u8]) -> bool) -> bool {
        Mapped::open(&self.source.path).is_ok_and(|bytes| something(&bytes))
    }

    /// The parameters of a class, or of the one that the configuration or the tensors show. They are opened and converted
    /// once.
    fn parameters(&self, class: Option<Class>) -> Result<Rc<Parameters>> {
        let head = class.map(|class| class.head);
        let known = self.opened.borrow().get(&head).cloned();
        match known {
            Some(parameters) => Ok(parameters),
            None => Ok(self.keep(head, Parameters::new(self.open(class)?)?)),
        }
    }

    fn keep(&self, head: Option<Head>, parameters: Parameters) -> Rc<Parameters> {
        let found = Some(parameters.checkpoint().head);
        let parameters = Rc::new(parameters);
        let mut opened = self.opened.borrow_mut();
        opened.extend([head, found].map(|head| (head, Rc::clone(&parameters))));
        parameters
    }

    /// Opens the checkpoint for a class, or for the one that the configuration or the tensors show.
    fn open(&self, class: Option<Class>) -> Result<Checkpoint> {
        let config = self.request.config.as_deref();
        let (_, mut checkpoint) =
            Checkpoint::open(self.source.clone(), config, class.map(|class| class.head))?;
        checkpoint.check_copies()?;
        Ok(checkpoint)
    }
}

/// A weight file and a golden.
struct Candidate<'v> {
    file: &'v File<'v>,
    golden: &'v Golden,
    digest: &'v str,
    precision: Precision,
}

impl Candidate<'_> {
    /// Notes a weight digest that is not the golden's. One of rounded weights cannot be.
    fn check_digest(&self, expected: Option<&str>, report: &mut FileReport) {
        let Some(expected) = expected.filter(|&expected| !expected.eq_ignore_ascii_case(self.digest)) else {
            return;
        };
        let (digest, precision, golden) = (self.digest, self.precision, &self.golden.name);
        let finding = match precision {
            Precision::F32 => Finding::new(
                FindingKind::WeightsDiffer,
                Outcome::Divergence,
                format!(
                    "digest {digest}, those of golden {golden} had {expected}: the weights are not the same"
                ),
            ),
            _ => Finding::new(
                FindingKind::HalfPrecision,
                Outcome::Pass,
                format!("weights stored as {precision}: their digest cannot be that of golden {golden}"),
            ),
        };
        if !report.findings.contains(&finding) {
            report.findings.push(finding);
        }
    }

    /// Runs the model on the inputs of a trace and compares.
    fn run(&self, path: &Path, name: String, findings: &mut Vec<Finding>) -> RunReport {
        let start = Instant::now();
        let entry = entry(self.golden, path);
        let mut report = RunReport::new(&self.golden.name, Some(name), self.file.backend().as_str());
        report.isolated = self.file.request.isolate;
        if let Err(error) = self.run_into(path, entry, &mut report, findings) {
            report.findings.push(Finding::error(&error));
        }
        report.conclude();
        report.seconds = start.elapsed().as_secs_f64();
        report
    }

    fn run_into(
        &self,
        path: &Path,
        entry: Option<&TraceEntry>,
        report: &mut RunReport,
        file_findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let file = TraceFile::open(path)?;
        let given = file.inputs()?;
        let of_trace = |error: Error| error.in_file(path);
        let (class, masked_rows) = judged_as(&given, entry).map_err(of_trace)?;
        report.producer = file.metadata("producer").unwrap_or("unknown").to_owned();

        let parameters = self.file.parameters(class)?;
        let checkpoint = parameters.checkpoint();
        let class = class.unwrap_or(Class::of_head(checkpoint.head));
        let masked_rows = masked_rows.unwrap_or(class.masked_rows());
        report.class = class.to_string();
        report.masked_rows = masked_rows_name(masked_rows).to_owned();
        let config = &checkpoint.config;
        let given = inputs(&given).map_err(of_trace)?;
        let asked = Inputs { output_hidden_states: true, output_attentions: true, ..given };
        let tokens = Tokens::of(&asked, class);

        let lacking = missing(&file, config, class, &asked);
        if let [first, rest @ ..] = lacking.as_slice() {
            let others = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            let message = format!(
                "the golden lacks {first}{others}; if that is intended, say so: metadata \"points\" with the \
                 patterns of the activations that it has"
            );
            report.findings.push(Finding::new(FindingKind::GoldenIncomplete, Outcome::Undecided, message));
            report.points.extend(lacking.iter().map(|name| PointReport::missing_in_golden(name)));
        }

        let comparison =
            Comparison { tolerances: &self.golden.tolerances, precision: self.precision, tokens: &tokens };
        let run = Run { file: &file, config, class, inputs: &asked, comparison };
        let model = self.file.backend().load(&parameters, class, masked_rows)?;
        for bad in model.report().iter().flat_map(|report| &report.not_finite) {
            let message = format!(
                "{}: {} numbers are NaN or infinite, the first at {}",
                bad.name, bad.count, bad.first
            );
            let finding = Finding::new(FindingKind::WeightsNotFinite, Outcome::Divergence, message);
            if !file_findings.contains(&finding) {
                file_findings.push(finding);
            }
        }
        let isolate = self.file.request.isolate;
        let exact = match file.is_sampled() {
            true => None,
            false => exact_model(self.file, self.golden, &parameters, class, masked_rows)?,
        };
        if file.is_sampled() && self.file.request.precision == Arithmetic::F64 {
            let message = "the arbiter was not asked: the golden has samples alone";
            report.findings.push(Finding::new(FindingKind::NotJudged, Outcome::Pass, message));
        }
        let arbiter = match exact {
            Some((exact, basis)) => {
                Some(Arbiter::new(run.computed(&exact, isolate).map_err(of_trace)?, basis))
            }
            None => None,
        };
        let mut points = run.compare(&*model, isolate, arbiter.as_ref()).map_err(of_trace)?;
        drop(model);
        if tokens.padded() && points.iter().any(|point| differs(&point.verdict)) {
            report.findings.extend(self.explain_padding(&run, masked_rows, &points)?);
        }
        report.points.append(&mut points);
        report.note_arbiter(arbiter.as_ref());
        Ok(())
    }

    /// What the other convention for masked rows says about numbers that differ.
    fn explain_padding(
        &self,
        run: &Run<'_>,
        masked_rows: MaskedRows,
        points: &[PointReport],
    ) -> Result<Option<Finding>> {
        let other = match masked_rows {
            MaskedRows::Uniform => MaskedRows::Zero,
            MaskedRows::Zero => MaskedRows::Uniform,
        };
        let parameters = self.file.parameters(Some(run.class))?;
        let model = self.file.backend().load(&parameters, run.class, other)?;
        let again = run.compare(&*model, self.file.request.isolate, None)?;
        let agrees = again.iter().all(|point| point.verdict.outcome() == Outcome::Pass);
        let padding_alone = points
            .iter()
            .all(|point| point.verdict == Verdict::Padding || point.verdict.outcome() == Outcome::Pass);
        let (this, other) = (convention(masked_rows), convention(other));
        Ok(match (agrees, padding_alone) {
            (true, true) => Some(Finding::new(
                FindingKind::MaskedRows,
                Outcome::Pass,
                format!(
                    "tokens agree. Padding differs, because the golden was computed with {other}, and the model was \
                     run with {this}; run so, everything agrees. No token depends on it"
                ),
            )),
            (true, false) => Some(Finding::new(
                FindingKind::PaddingDiffers,
                Outcome::Divergence,
                format!(
                    "the golden was computed with {other}, and the model was run with {this}; run so, everything \
                     agrees. Some queries may attend to nothing and are themselves attended to, so that tokens depend on \
                     it: correct masked_rows in the golden"
                ),
            )),
            (false, true) => Some(Finding::new(
                FindingKind::PaddingDiffers,
                Outcome::Divergence,
                format!("tokens agree. Padding differs, and neither {this} nor {other} explains it"),
            )),
            (false, false) => None,
        })
    }
}

/// What `case.yaml` says about a trace.
fn entry<'g>(golden: &'g Golden, path: &Path) -> Option<&'g TraceEntry> {
    let mut entries = golden.case.as_ref()?.traces.iter();
    entries.find(|entry| path.file_name().is_some_and(|file| file == entry.file.as_str()))
}

/// The class and the masked rows that a trace, or its entry in `case.yaml`, asks for.
fn judged_as(trace: &Trace, entry: Option<&TraceEntry>) -> Result<(Option<Class>, Option<MaskedRows>)> {
    let (class, rows) = (Class::of(trace)?, masked_rows_of(trace)?);
    let Some(entry) = entry else { return Ok((class, rows)) };
    let listed = entry.class()?;
    if let Some(class) = class.filter(|&class| class != listed) {
        return Err(Error::malformed(format!("the trace is of {class}, case.yaml says {listed}")));
    }
    if let Some(rows) = rows.filter(|&rows| rows != entry.masked_rows) {
        let (rows, listed) = (masked_rows_name(rows), masked_rows_name(entry.masked_rows));
        return Err(Error::malformed(format!(
            "masked_rows is {rows} in the trace and {listed} in case.yaml"
        )));
    }
    Ok((Some(listed), Some(entry.masked_rows)))
}

fn convention(rows: MaskedRows) -> &'static str {
    match rows {
        MaskedRows::Uniform => "uniform attention in masked rows (transformers from 4.47)",
        MaskedRows::Zero => "zero attention in masked rows (transformers to 4.46, TensorFlow, Microsoft)",
    }
}

fn differs(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Padding | Verdict::Diverges | Verdict::Statistic | Verdict::NotFinite { .. })
}
