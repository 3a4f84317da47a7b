//! The verification of a model: every weight file that it has, against every trace of its goldens.
//!
//! ```text
//! candidate                what is verified: a weight file, its parameters, a golden to compare with
//! run                      the weights on the inputs of one trace
//!   asked                    what a trace asks of a model: class, masked rows, inputs
//!   replay                   the run point by point, as a whole or every module alone
//!   arbitration              the same in f64, to say whose errors are larger
//!   conventions              what masked rows explain
//!   rounding                 weights in half precision against those that the golden was computed with
//! weights                  the digest of the weights against the golden's
//! built                    what transformers would build of the file, where it is not what its numbers are of
//! configured               the configuration against that of the golden's model
//! published                the weights on the inputs of published values
//! graph                    the computation that a file holds
//! diagnosis                why a run diverges
//! coverage                 what the goldens exercise of the configuration
//! own                      without a golden: the files of a folder against each other
//! traces                   without a model: two recorded traces
//! ```

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::loading::Parameters;
use deberta_converters::progress::Progress;
use deberta_reference::Head;

use crate::backend::BackendName;
use crate::coverage::Covered;
use crate::inventory::{self, Found, Inventory};
use crate::judge::tolerance::Precision;
use crate::judge::verdict::Outcome;
use crate::report::{FileReport, Finding, FindingKind, Report, Rules, name_of};
use crate::tokens::judge;

mod arbitration;
mod asked;
mod built;
mod candidate;
mod configured;
mod conventions;
mod coverage;
mod diagnosis;
mod graph;
mod own;
mod published;
mod replay;
mod rounding;
mod run;
pub mod traces;
mod weights;

pub use candidate::VerifyRequest;
use candidate::{Candidate, WeightFile};
use diagnosis::Diagnosed;
pub use own::verify_self;
use weights::WeightDigest;

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
    let mut inventory = Inventory::of(request)?;
    if request.goldens.is_empty() {
        return Err(Error::new(Kind::Request, "nothing to compare with: no golden was given"));
    }
    let diagnosed = Diagnosed::default();
    let found = std::mem::take(&mut inventory.sources);
    let heads = configured::heads(&request.goldens);
    let (mut files, mut measured) = (Vec::with_capacity(found.len()), None);
    for found in found {
        Error::unless_stopped()?;
        let (file, features) = verify_found(request, found, &heads, measured.is_none(), progress, &diagnosed);
        files.push(file);
        measured = measured.or(features);
    }
    let mut findings = same_weights(&files);
    findings.extend(configured::findings(request, &heads));
    let (entries, of_inventory) = inventory.conclude(&files);
    let mut report = Report::new(&request.name, files, Vec::new());
    findings.extend(of_inventory);
    report.inventory = entries;
    report.findings = findings;
    if report.compared() == 0 && report.findings.iter().all(|finding| finding.outcome == Outcome::Pass) {
        let finding =
            Finding::new(FindingKind::NothingCompared, Outcome::Undecided, "no number was compared");
        report.findings.push(finding);
    }
    coverage::note(measured.unwrap_or_default(), &mut report);
    progress.step("the tokenizer");
    let judged = judge::judge(&request.model, request.config.as_deref(), &request.goldens);
    report.findings.extend(judged.findings);
    report.tokenizers = judged.tokenizers;
    Error::unless_stopped()?;
    Rules::DEFAULT.judge(&mut report);
    Ok(report)
}

/// Whether all weight files of the same precision hold the same weights.
fn same_weights(files: &[FileReport]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first = files.iter().find(|file| file.digest.is_some());
    for file in files.iter().filter(|file| file.digest.is_some()) {
        let Some(first) = first.filter(|first| first.digest != file.digest) else { continue };
        let used_alike = first.used_digest.is_some() && first.used_digest == file.used_digest;
        let (message, outcome) = match first.precision == file.precision {
            true if used_alike => (
                format!(
                    "{} and {} differ in tensors that the model does not compute with; deberta-convert diff lists them",
                    first.file, file.file
                ),
                Outcome::Pass,
            ),
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

/// Verifies what the inventory found; and, if it is to `measure` that, what the goldens exercise of its configuration.
fn verify_found(
    request: &VerifyRequest,
    found: Found,
    heads: &[Head],
    measure: bool,
    progress: &dyn Progress,
    diagnosed: &Diagnosed,
) -> (FileReport, Option<Vec<Covered>>) {
    let mut report = FileReport { file: found.name, ..FileReport::default() };
    match found.source {
        Ok(source) => {
            let file = WeightFile::new(request, source, progress, diagnosed).configured_by(found.config);
            let report = verify_file(&file, heads, report);
            (report, measure.then(|| coverage::measure(&file)).flatten())
        }
        Err(error) => {
            report.findings.push(Finding::error(&error));
            (report, None)
        }
    }
}

/// Verifies a weight file: its weights against the goldens, and the computation that it holds, if it does.
fn verify_file(file: &WeightFile<'_>, heads: &[Head], mut report: FileReport) -> FileReport {
    let graph = file.graph_backend();
    let alone = graph.is_some() && file.request.backend.is_some();
    if !alone && let Err(error) = verify_weights(file, heads, &mut report) {
        report.findings.push(Finding::error(&error));
    }
    if let Some(backend) = graph {
        graph::verify(file, backend, &mut report);
    }
    Rules::DEFAULT.conclude_file(&mut report);
    report
}

/// Runs the weights on every trace of the goldens.
fn verify_weights(file: &WeightFile<'_>, heads: &[Head], report: &mut FileReport) -> Result<()> {
    file.progress.step(&format!("{}: reading the weights", report.file));
    let opened = file.open(None);
    let by_numbers = graph::judged_by_numbers(file, &opened);
    if let Some(finding) = by_numbers {
        report.findings.push(finding);
        return Ok(());
    }
    let checkpoint = opened?;
    let digest = WeightDigest::of(&checkpoint)?;
    let precision = Precision::of(checkpoint.bound.iter().map(|bound| bound.dtype));
    report.format = Some(checkpoint.format.to_string());
    report.precision = Some(precision.to_string());
    report.digest = Some(digest.whole.clone());
    report.used_digest = Some(digest.used.clone());
    report.findings.extend(inventory::unmerged(checkpoint.unexpected()));
    report.findings.extend(built::findings(file, &checkpoint, heads));
    // If they are incomplete, every run says so when it asks for them.
    if let Ok(parameters) = Parameters::new(checkpoint) {
        file.keep(None, parameters);
    }

    for golden in &file.request.goldens {
        let candidate = Candidate::new(file, golden, digest.for_golden(golden), precision);
        let of_digest = digest.finding(&candidate).filter(|finding| !report.findings.contains(finding));
        report.findings.extend(of_digest);
        // Where it cannot be checked, the runs say what is wrong.
        report.findings.extend(candidate.check_rounding().unwrap_or_default());
        let start = report.runs.len();
        for path in &golden.traces {
            let name = name_of(path);
            if let Some(why) = candidate.is_of_another_class(path) {
                let message = format!("{name}: not judged with the weights: {why}");
                report.findings.push(Finding::new(FindingKind::NotJudged, Outcome::Pass, message));
                continue;
            }
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
