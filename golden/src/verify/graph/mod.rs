//! The graph of an ONNX file, run as it is: against every trace whose inputs it has, and at other lengths and batch sizes
//! against the reference with the weights of the same file.
//!
//! ```text
//! candidate      the graph, the weights that it must compute with, its runs
//! recognition    which output is which, where names do not tell
//!   meaning        outputs that are probabilities
//! trace          the run on a trace of a golden
//!   conventions    other code than the golden's that explains a difference
//! questions      what is asked of a graph whose weights or activations are rounded
//! lengths        other lengths and batch sizes
//! ```

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::Format;
use deberta_converters::format::onnx::GraphKind;
use deberta_converters::matching::ProblemKind;

use super::candidate::WeightFile;
use crate::backend::{self, BackendName, Graph, contradiction_in};
use crate::judge::verdict::Outcome;
use crate::report::{FileReport, Finding, FindingKind, RunReport};
use candidate::GraphCandidate;

mod candidate;
mod conventions;
mod lengths;
mod meaning;
mod questions;
mod recognition;
mod trace;

/// Runs the graph of a file and adds what came of it to the report.
pub(super) fn verify(file: &WeightFile<'_>, backend: BackendName, report: &mut FileReport) {
    file.progress.step(&format!("{}: reading the graph", report.file));
    if backend.runs_graphs()
        && let Ok(Some(why)) = contradiction_in(&file.source.path)
    {
        report.findings.retain(|finding| !is_by_numbers(finding));
        // Before what the weights seem to be, which such a graph misleads about.
        report.findings.insert(0, Finding::new(FindingKind::GraphInvalid, Outcome::Divergence, why));
        return;
    }
    match backend.open(&file.source.path, file.config_path()) {
        Ok(graph) => GraphCandidate::of(file, graph).verify(backend, report),
        Err(error) if error.kind() == Kind::Unsupported => match elsewhere(file, backend, &error) {
            Some((graph, said)) => {
                report.findings.push(said);
                GraphCandidate::of(file, graph).verify(BackendName::OnnxRuntime, report);
            }
            None => {
                let message = error.to_string();
                report.findings.push(Finding::new(FindingKind::NotJudged, Outcome::Undecided, message));
            }
        },
        // Where the weights cannot be read either, it is said already.
        Err(error) => {
            let finding = Finding::error(&error);
            if !report.findings.contains(&finding) {
                report.findings.push(finding);
            }
        }
    }
}

/// The graph in ONNX Runtime, if nobody asked for another backend, `rten` does not take it, and the user has the library; and
/// what to say about that.
#[cfg(feature = "onnxruntime")]
fn elsewhere(file: &WeightFile<'_>, backend: BackendName, why: &Error) -> Option<(Box<dyn Graph>, Finding)> {
    if file.request.backend.is_some() || backend != BackendName::Onnx {
        return None;
    }
    let library = crate::backend::library()?;
    let graph = BackendName::OnnxRuntime.open(&file.source.path, file.config_path()).ok()?;
    let message = format!(
        "computed by ONNX Runtime ({}), because the runtime that is part of this program does not: {why}",
        library.display()
    );
    Some((graph, Finding::new(FindingKind::Computation, Outcome::Pass, message)))
}

#[cfg(not(feature = "onnxruntime"))]
fn elsewhere(_: &WeightFile<'_>, _: BackendName, _: &Error) -> Option<(Box<dyn Graph>, Finding)> {
    None
}

/// That the weights of a graph cannot be judged, because it does not hold all of them as they are: tools fold parameters
/// together and round them to integers. Its numbers decide then. Nothing if it holds them, or holds others than the
/// configuration describes.
pub(super) fn judged_by_numbers(file: &WeightFile<'_>, opened: &Result<Checkpoint>) -> Option<Finding> {
    let why = match opened {
        Ok(checkpoint) => {
            // Factors that tools take out of rounded weights stand where a parameter is looked for.
            let is_rounded = checkpoint.graph_kind().is_some_and(GraphKind::is_quantized);
            let unrecovered = |what: &ProblemKind| match what {
                ProblemKind::Missing
                | ProblemKind::Unexpected
                | ProblemKind::Dtype(_)
                | ProblemKind::Layout(_)
                | ProblemKind::Altered(_) => true,
                ProblemKind::DiffersFrom { .. } => is_rounded,
                _ => false,
            };
            let is_of_a_graph = checkpoint.format == Format::Onnx;
            let why = checkpoint.require_parameters().err().filter(|_| is_of_a_graph)?;
            checkpoint.problems.iter().all(|problem| unrecovered(&problem.what)).then_some(why)?
        }
        Err(error) => {
            let is_there = file.request.config.is_some() || file.source.folder().join("config.json").exists();
            let without = error.kind() == Kind::Config && !is_there && file.graph_backend().is_some();
            return without.then(|| by_numbers(&error.to_string()));
        }
    };
    Some(by_numbers(&why.to_string()))
}

fn by_numbers(why: &str) -> Finding {
    Finding::new(FindingKind::NotJudged, Outcome::Pass, format!("{BY_NUMBERS}: {why}"))
}

const BY_NUMBERS: &str = "the graph is judged by its numbers alone, without a weight digest";

/// Whether a finding says that the weights of a graph were not judged.
fn is_by_numbers(finding: &Finding) -> bool {
    finding.kind == FindingKind::NotJudged && finding.message.starts_with(BY_NUMBERS)
}

impl GraphCandidate<'_> {
    fn verify(mut self, backend: BackendName, report: &mut FileReport) {
        let kind = self.graph.kind();
        report.format.get_or_insert_with(|| self.graph.format().to_owned());
        report.graph = Some(kind.to_string());
        if kind.is_quantized() {
            report.precision = Some(kind.numbers.to_string());
        }
        report.precision.get_or_insert_with(|| self.graph.precision().to_string());
        let said = backend::said(kind, backend);
        report.findings.extend(said.map(|said| Finding::new(FindingKind::Computation, Outcome::Pass, said)));
        if self.file.request.isolate {
            let message = "a graph cannot be given the golden's activations: it was run as a whole";
            report.findings.push(Finding::new(FindingKind::NotJudged, Outcome::Pass, message));
        }
        let (said, recognised) = self.recognise();
        report.findings.extend(said);
        if recognised {
            self.run(report);
            if questions::are_asked_of(kind) || self.approximates_gelu() {
                self.ask(report);
            }
        }
    }

    /// Runs the graph on every trace of the goldens, and on other lengths.
    fn run(&self, report: &mut FileReport) {
        let mut attempts = Vec::new();
        for golden in &self.file.request.goldens {
            for path in &golden.traces {
                attempts.extend(self.trace(golden, path, report));
            }
        }
        match &self.weights {
            Ok(weights) => attempts.extend(lengths::run(self, weights, &mut report.findings)),
            Err(error) => {
                let message = format!(
                    "the graph was run on the goldens alone, not on other lengths: there are no weights to compare with \
                     ({error})"
                );
                report.findings.push(Finding::new(FindingKind::NotJudged, Outcome::Pass, message));
            }
        }
        if attempts.is_empty() {
            let message = "the graph was not run: no trace has inputs for it";
            report.findings.push(Finding::new(FindingKind::NothingCompared, Outcome::Undecided, message));
        }
        let ran = attempts.iter().any(|attempt| attempt.report.compared() > 0);
        for attempt in attempts {
            let mut run = attempt.conclude(ran);
            let explained = |finding: &Finding| {
                matches!(finding.kind, FindingKind::Conventions | FindingKind::F16Range)
                    && finding.outcome == Outcome::Divergence
            };
            let unexplained = !run.findings.iter().any(explained);
            if run.outcome == Outcome::Divergence && unexplained && reference_passes(&report.runs, &run) {
                let message = "the weights of this file pass when the reference runs them: the graph is wrong, not the \
                               weights";
                run.findings.push(Finding::new(FindingKind::GraphDiffers, Outcome::Divergence, message));
            }
            report.runs.push(run);
        }
    }
}

/// Whether the reference agrees with the golden that a run does not agree with.
fn reference_passes(runs: &[RunReport], of: &RunReport) -> bool {
    let same =
        |run: &&RunReport| run.backend == "reference" && (&run.golden, &run.trace) == (&of.golden, &of.trace);
    runs.iter().find(same).is_some_and(|run| run.outcome == Outcome::Pass)
}
