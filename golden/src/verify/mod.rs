//! The verification of a model: every weight file that it has, against every trace of its goldens.
//!
//! ```text
//! candidate                what is verified: a weight file, its parameters, a golden to compare with
//! run                      the weights on the inputs of one trace
//!   asked                    what a trace asks of a model: class, masked rows, inputs
//!   replay                   the run point by point, as a whole or every module alone
//!   arbitration              the same in f64, to say whose errors are larger
//!   conventions              what masked rows explain
//! rounding                 weights in half precision against those that the golden was computed with
//! published                the weights on the inputs of published values
//! graph                    the computation that a file holds
//! diagnosis                why a run diverges
//! coverage                 what the goldens exercise of the configuration
//! traces                   without a model: two recorded traces
//! ```

use std::path::Path;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::Format;
use deberta_converters::loading::Parameters;
use deberta_converters::progress::Progress;
use deberta_converters::source::Source;

use crate::backend::BackendName;
use crate::judge::tolerance::Precision;
use crate::judge::verdict::Outcome;
use crate::report::{FileReport, Finding, FindingKind, Report, Rules, name_of};

mod arbitration;
mod asked;
mod candidate;
mod conventions;
mod coverage;
mod diagnosis;
mod graph;
mod published;
mod replay;
mod rounding;
mod run;
pub mod traces;

pub use candidate::VerifyRequest;
use candidate::{Candidate, WeightFile};

/// Verifies a model. What goes wrong with a file or a trace is part of the report; `progress` is told what is being done.
///
/// ```
/// use deberta_golden::goldens::Golden;
/// use deberta_golden::judge::verdict::Outcome;
/// use deberta_golden::verify::{VerifyRequest, verify};
///
/// let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/masked-lm");
/// let goldens = vec![Golden::open(&folder)?];
/// let request = VerifyRequest { name: "mine".to_owned(), model: folder, goldens, ..VerifyRequest::default() };
/// let report = verify(&request, &())?;
/// assert_eq!(report.outcome, Outcome::Pass);
/// # Ok::<(), deberta_converters::Error>(())
/// ```
///
/// # Errors
/// There is no weight file, or no golden.
pub fn verify(request: &VerifyRequest, progress: &dyn Progress) -> Result<Report> {
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
    let (mut files, mut measured) = (Vec::with_capacity(sources.len()), None);
    for source in sources {
        let file = WeightFile::new(request, source, progress);
        files.push(verify_file(&file));
        // The configuration is the same for all files, but for those that cannot be opened.
        measured = measured.or_else(|| coverage::measure(&file));
    }
    let findings = same_weights(&files);
    let mut report = Report::new(&request.name, files, findings);
    if report.compared() == 0 && report.findings.is_empty() {
        let finding =
            Finding::new(FindingKind::NothingCompared, Outcome::Undecided, "no number was compared");
        report.findings.push(finding);
    }
    coverage::note(measured.unwrap_or_default(), &mut report);
    Rules::DEFAULT.judge(&mut report);
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
        // Its error lists the file names that were looked for.
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

/// Verifies a weight file: its weights against the goldens, and the computation that it holds, if it does.
fn verify_file(file: &WeightFile<'_>) -> FileReport {
    let mut report = FileReport::new(&file.source.path);
    let graph = file.graph_backend();
    let alone = graph.is_some() && file.request.backend.is_some();
    if !alone && let Err(error) = verify_weights(file, &mut report) {
        report.findings.push(Finding::error(&error));
    }
    if let Some(backend) = graph {
        graph::verify(file, backend, &mut report);
    }
    Rules::DEFAULT.conclude_file(&mut report);
    report
}

/// Runs the weights on every trace of the goldens.
fn verify_weights(file: &WeightFile<'_>, report: &mut FileReport) -> Result<()> {
    file.progress.step(&format!("{}: reading the weights", report.file));
    let checkpoint = file.open(None)?;
    let digest = checkpoint.digest(&checkpoint.tensor_digests(&())?).to_string();
    let precision = Precision::of(checkpoint.bound.iter().map(|bound| bound.dtype));
    report.format = Some(checkpoint.format.to_string());
    report.precision = Some(precision.to_string());
    report.digest = Some(digest.clone());
    // If they are incomplete, every run says so when it asks for them.
    if let Ok(parameters) = Parameters::new(checkpoint) {
        file.keep(None, parameters);
    }

    for golden in &file.request.goldens {
        let candidate = Candidate::new(file, golden, &digest, precision);
        candidate.check_digest(golden.digest(), report);
        // Where it cannot be checked, the runs say what is wrong.
        report.findings.extend(candidate.check_rounding().unwrap_or_default());
        let start = report.runs.len();
        for path in &golden.traces {
            let name = name_of(path);
            file.progress.step(&format!("{}: {name}", report.file));
            report.runs.push(candidate.run(path, name, &mut report.findings));
        }
        if file.request.diagnose {
            file.progress.step(&format!("{}: looking for causes", report.file));
            diagnosis::diagnose_runs(&candidate, report.runs.get_mut(start..).unwrap_or_default());
        }
        if let Some(run) = published::run(&candidate, &mut report.findings) {
            report.runs.push(run);
        }
    }
    Ok(())
}
