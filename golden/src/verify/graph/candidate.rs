//! What is verified of a graph: itself, the weights that it must compute with, and its runs.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Instant;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::Format;
use deberta_converters::loading::Parameters;
use deberta_converters::source::Source;
use deberta_reference::DebertaConfig;
use deberta_reference::activation::Activation;

use super::meaning::Meanings;
use crate::backend;
use crate::judge::tolerance::Precision;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind, Rules, RunReport};
use crate::trace::class::Class;
use crate::verify::arbitration::own_parameters;
use crate::verify::candidate::WeightFile;

/// A graph, and weights that it must compute with.
pub(super) struct GraphCandidate<'v> {
    pub(super) file: &'v WeightFile<'v>,
    pub(super) graph: Box<dyn backend::Graph>,
    pub(super) weights: Result<Weights>,
    /// That of the file, or of the weights.
    pub(super) config: Option<DebertaConfig>,
    /// What outputs are that are not what the golden has.
    pub(super) meanings: Meanings,
    /// By what it is judged, if that is not what its numbers are.
    pub(super) judged: Option<Judged>,
    /// The weights of the model, once they were asked for.
    pub(super) model: OnceCell<Option<Rc<Parameters>>>,
    /// Once they were asked for.
    pub(super) moved_distances: OnceCell<Vec<isize>>,
}

/// By what a graph is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) precision: Precision,
    /// The decibels that are enough where the tolerance is not kept.
    pub(super) least: f64,
}

/// Weights that the reference can run.
pub(super) struct Weights {
    pub(super) parameters: Rc<Parameters>,
    pub(super) class: Class,
    /// Whether they are those of the graph's own file.
    pub(super) own: bool,
}

impl Weights {
    pub(super) fn config(&self) -> &DebertaConfig {
        &self.parameters.checkpoint().config
    }

    /// What reports call them.
    pub(super) fn place(&self) -> String {
        self.parameters.checkpoint().source.path.display().to_string()
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
        let own = weights.as_ref().ok().filter(|weights| weights.own).map(|weights| weights.config().clone());
        let config = own.or_else(|| file.open(graph.class()).ok().map(|checkpoint| checkpoint.config));
        let config = config.or_else(|| weights.as_ref().ok().map(|weights| weights.config().clone()));
        GraphCandidate {
            file,
            graph,
            weights,
            config,
            meanings: Meanings::default(),
            judged: None,
            model: OnceCell::new(),
            moved_distances: OnceCell::new(),
        }
    }

    /// The weights of the model, from another file than the graph's.
    pub(super) fn model(&self) -> Option<Rc<Parameters>> {
        self.model.get_or_init(|| of_the_model(self.file, self.class())).clone()
    }

    /// Of which class the graph is, if anything says it.
    pub(super) fn class(&self) -> Option<Class> {
        self.graph.class().or(self.weights.as_ref().ok().map(|weights| weights.class))
    }

    /// Whether a tool has put the tanh approximation in the place of the exact function that the configuration names.
    pub(super) fn approximates_gelu(&self) -> bool {
        let is_exact = self.config.as_ref().is_some_and(|config| config.hidden_act == Activation::Gelu);
        is_exact && self.graph.kind().has_fast_gelu
    }

    /// The distances that get another row of the table than in f32, because the graph sorts them into buckets in a half: by
    /// arithmetic in that half, or by its rounded constant alone, as runtimes do that compute in f32.
    pub(super) fn moved_distances(&self) -> &[isize] {
        self.moved_distances.get_or_init(|| {
            let kind = self.graph.kind();
            let half = kind.half().filter(|_| kind.has_half_buckets);
            let (Some(config), Some(half)) = (&self.config, half) else { return Vec::new() };
            let distances = config.distances();
            let constant_alone = distances.moved(|number| half.rounded(number), |number| number);
            let mut moved = distances.moved(|number| half.rounded(number), |number| half.rounded(number));
            moved.extend(constant_alone);
            moved.sort_unstable_by_key(|distance| (distance.unsigned_abs(), *distance));
            moved.dedup();
            moved
        })
    }

    /// Whether it makes a difference beyond all tolerances that the graph sorts distances in a half.
    pub(super) fn moves_distances(&self) -> bool {
        !self.moved_distances().is_empty()
    }

    /// The precision whose tolerances hold.
    pub(super) fn precision(&self) -> Precision {
        if let Some(judged) = self.judged {
            return judged.precision;
        }
        let precision = self.graph.precision();
        let approximates = self.approximates_gelu() && precision == Precision::F32;
        if self.graph.kind().is_quantized() || approximates { Precision::Quantized } else { precision }
    }
}

/// The weights of the file, or else of another one in its folder or the model's, or else those that a golden was computed
/// with. Where goldens say which weights are theirs, another file's must be these.
///
/// # Errors
/// Those of the file cannot be read, and there are no others.
fn weights(file: &WeightFile<'_>, class: Option<Class>) -> Result<Weights> {
    let of = |parameters: Rc<Parameters>, own| {
        let class = class.unwrap_or(Class::of_checkpoint(parameters.checkpoint()));
        Weights { parameters, class, own }
    };
    let own = file.parameters(class).map(|parameters| of(parameters, true));
    own.or_else(|error| of_the_model(file, class).map(|parameters| of(parameters, false)).ok_or(error))
}

/// The weights that a graph was made from: those of another file in its folder or the model's, or else those that a golden was
/// computed with.
fn of_the_model(file: &WeightFile<'_>, class: Option<Class>) -> Option<Rc<Parameters>> {
    let stated: Vec<&str> = file.request.goldens.iter().filter_map(|golden| golden.digest()).collect();
    let is_of_the_golden = |parameters: &Parameters| {
        let checkpoint = parameters.checkpoint();
        let digest = checkpoint.tensor_digests(&()).map(|tensors| checkpoint.digest(&tensors).to_string());
        stated.is_empty()
            || digest.is_ok_and(|digest| stated.iter().any(|stated| stated.eq_ignore_ascii_case(&digest)))
    };
    let folders = [file.source.folder(), file.request.model.as_path()];
    let others = folders.into_iter().filter(|folder| folder.is_dir()).find_map(|folder| {
        let other = Source::locate(folder, None, Some(Format::Onnx)).ok()?;
        let other =
            WeightFile::new(file.request, other, file.progress, file.diagnosed).parameters(class).ok()?;
        is_of_the_golden(&other).then_some(other)
    });
    let goldens = || {
        // Of a graph whose configuration nobody knows, nobody knows that it is a golden's model.
        let known = file.open(class).is_ok();
        let mut owned = file.request.goldens.iter().filter(|_| known);
        owned.find_map(|golden| own_parameters(golden, class.map(|class| class.head))).map(Rc::new)
    };
    others.or_else(goldens)
}
