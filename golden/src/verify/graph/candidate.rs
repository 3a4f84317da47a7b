//! What is verified of a graph: itself, the weights that it must compute with, and its runs.

use std::rc::Rc;
use std::time::Instant;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::Format;
use deberta_converters::loading::Parameters;
use deberta_converters::source::Source;
use deberta_reference::DebertaConfig;

use crate::backend;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind, Rules, RunReport};
use crate::trace::class::Class;
use crate::verify::candidate::WeightFile;

/// A graph, and weights that it must compute with.
pub(super) struct GraphCandidate<'v> {
    pub(super) file: &'v WeightFile<'v>,
    pub(super) graph: Box<dyn backend::Graph>,
    pub(super) weights: Result<Weights>,
}

/// Weights that the reference can run.
pub(super) struct Weights {
    pub(super) parameters: Rc<Parameters>,
    pub(super) class: Class,
}

impl Weights {
    pub(super) fn config(&self) -> &DebertaConfig {
        &self.parameters.checkpoint().config
    }
}

/// A run, and why there is none.
pub(super) struct Attempt {
    pub(super) report: RunReport,
    failure: Option<Error>,
}

impl Attempt {
    pub(super) fn new(report: RunReport, done: Result<()>, start: Instant) -> Attempt {
        let failure = done.err();
        let mut attempt = Attempt { report, failure };
        attempt.report.seconds = start.elapsed().as_secs_f64();
        attempt
    }

    /// The report. Where other runs of the graph succeeded, a failure is that of the graph and not of the runtime.
    pub(super) fn conclude(mut self, runs_elsewhere: bool) -> RunReport {
        if let Some(error) = self.failure {
            let finding = match runs_elsewhere && error.kind() == Kind::Model {
                true => {
                    let message = format!(
                        "the graph runs on other lengths or batch sizes and fails on this one: it was exported for \
                         fixed ones; export it with dynamic axes ({error})"
                    );
                    Finding::new(FindingKind::GraphDiffers, Outcome::Divergence, message)
                }
                false => Finding::error(&error),
            };
            self.report.findings.push(finding);
        }
        Rules::DEFAULT.conclude(&mut self.report);
        self.report
    }
}

impl<'v> GraphCandidate<'v> {
    pub(super) fn of(file: &'v WeightFile<'v>, graph: Box<dyn backend::Graph>) -> GraphCandidate<'v> {
        let weights = weights(file, graph.class());
        GraphCandidate { file, graph, weights }
    }

    /// Of which class the graph is, if anything says it.
    pub(super) fn class(&self) -> Option<Class> {
        self.graph.class().or(self.weights.as_ref().ok().map(|weights| weights.class))
    }
}

/// The weights of the file, or else of another one in its folder.
///
/// # Errors
/// Those of the file cannot be read, and there are no others.
fn weights(file: &WeightFile<'_>, class: Option<Class>) -> Result<Weights> {
    let read = |file: &WeightFile<'_>| {
        let parameters = file.parameters(class)?;
        let class = class.unwrap_or(Class::of_checkpoint(parameters.checkpoint()));
        Ok(Weights { parameters, class })
    };
    read(file).or_else(|error| {
        let other = Source::locate(file.source.folder(), None, Some(Format::Onnx));
        other
            .and_then(|other| read(&WeightFile::new(file.request, other, file.progress, file.diagnosed)))
            .map_err(|_| error)
    })
}
