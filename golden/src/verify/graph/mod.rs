//! The graph of an ONNX file, run as it is: against every trace whose inputs it has, and at other lengths and batch sizes
//! against the reference with the weights of the same file.

use std::path::Path;
use std::time::Instant;

use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Conventions, Head, Inputs, MaskedRows};

use super::arbitration::exact_model;
use super::asked::Stated;
use super::candidate::WeightFile;
use super::conventions::{convention, differs};
use crate::backend::{Backend as _, BackendName, Reference};
use crate::goldens::Golden;
use crate::judge::arbiter::Arbiter;
use crate::judge::compare::Comparison;
use crate::judge::verdict::{Outcome, PointReport, Verdict};
use crate::report::{FileReport, Finding, FindingKind, RunReport, name_of};
use crate::trace::class::Class;
use crate::trace::file::{Trace, TraceFile};
use crate::trace::inputs::inputs;
use crate::trace::padding::Padding;
use crate::trace::points::rank;

mod candidate;
mod lengths;

use candidate::{Attempt, GraphCandidate, Weights};

/// Runs the graph of a file and adds what came of it to the report.
pub(super) fn verify(file: &WeightFile<'_>, backend: BackendName, report: &mut FileReport) {
    file.progress.step(&format!("{}: reading the graph", report.file));
    match backend.open(&file.source.path, file.config_path()) {
        Ok(graph) => GraphCandidate::of(file, graph).verify(report),
        Err(error) => report.findings.push(Finding::error(&error)),
    }
}

impl GraphCandidate<'_> {
    fn verify(&self, report: &mut FileReport) {
        report.format.get_or_insert_with(|| self.graph.format().to_owned());
        report.precision.get_or_insert_with(|| self.graph.precision().to_string());
        if self.file.request.isolate {
            let message = "a graph cannot be given the golden's activations: it was run as a whole";
            report.findings.push(Finding::new(FindingKind::NotJudged, Outcome::Pass, message));
        }
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
            let explained = run.findings.iter().any(|finding| finding.kind == FindingKind::Conventions);
            if run.outcome == Outcome::Divergence && !explained && reference_passes(&report.runs, &run) {
                let message = "the weights of this file pass when the reference runs them: the graph is wrong, not the \
                               weights";
                run.findings.push(Finding::new(FindingKind::GraphDiffers, Outcome::Divergence, message));
            }
            report.runs.push(run);
        }
    }

    /// The run on a trace of a golden; nothing, and a finding, if the graph is not what it is of.
    fn trace(&self, golden: &Golden, path: &Path, report: &mut FileReport) -> Option<Attempt> {
        let start = Instant::now();
        let name = name_of(path);
        self.file.progress.step(&format!("{}: {name} by the graph", report.file));
        let mut run = RunReport::new(&golden.name, Some(name.clone()), self.graph.name());
        let done = match self.given(golden, path) {
            Ok(given) => {
                if let Some(why) = self.refuses(&given) {
                    let message = format!("{name}: not judged with the graph: {why}");
                    let finding = Finding::new(FindingKind::NotJudged, Outcome::Pass, message);
                    report.findings.push(finding);
                    return None;
                }
                self.compare(golden, &given, &mut run).map_err(|error| error.in_file(path))
            }
            Err(error) => Err(error.in_file(path)),
        };
        Some(Attempt::new(run, done, start))
    }

    /// What the trace gives a model. Labels make a loss, which no graph has, and change nothing else.
    fn given(&self, golden: &Golden, path: &Path) -> Result<Given> {
        let file = TraceFile::open(path)?;
        let trace = file.inputs()?;
        let Stated { class, rows } = Stated::of(&trace, golden, path)?;
        let class = class.or(self.class()).ok_or_else(|| {
            Error::new(Kind::Request, "neither the trace nor the graph says which class it is of")
        })?;
        let labelled = inputs(&trace)?;
        let squeezed = labelled.labels.is_some();
        let mut inputs = Inputs { labels: None, start_positions: None, end_positions: None, ..labelled };
        // A model without token types ignores them.
        if self.weights.as_ref().is_ok_and(|weights| weights.config().type_vocab_size == 0) {
            inputs.token_type_ids = None;
        }
        Ok(Given { squeezed, file, class, rows: rows.unwrap_or(class.masked_rows()), inputs })
    }

    /// Why the graph does not compute what the trace has.
    fn refuses(&self, given: &Given) -> Option<String> {
        if let Some(class) = self.class().filter(|&class| class.head != given.class.head) {
            return Some(format!("the trace is of {}, the graph is of {class}", given.class));
        }
        if given.class.head == Head::MaskDecoder && self.graph.class().is_none() {
            return Some(format!(
                "the trace is of {}, and the graph does not say that it is one",
                given.class
            ));
        }
        let refused = self.graph.takes(&given.inputs).err().filter(|error| error.kind() == Kind::Request);
        refused.map(|error| error.to_string())
    }

    fn compare(&self, golden: &Golden, given: &Given, run: &mut RunReport) -> Result<()> {
        let Given { file, class, rows, inputs, squeezed } = given;
        run.producer = file.metadata("producer").unwrap_or("unknown").to_owned();
        run.class = class.to_string();
        run.masked_rows = rows.to_string();
        self.check_ids(inputs)?;
        let mut names: Vec<&str> = file.names().filter(|name| !name.starts_with("inputs.")).collect();
        let all = names.len();
        names.retain(|&name| self.graph.exposed().contains(&name));
        names.sort_by_key(|&name| (rank(name), name));
        if names.len() < all {
            let message =
                format!("{} of the golden's {all} points are no outputs of the graph", all - names.len());
            run.findings.push(Finding::new(FindingKind::NotJudged, Outcome::Pass, message));
        }
        if !names.iter().any(|name| name.starts_with("outputs.")) {
            let (known, unknown) = (self.graph.exposed().join(", "), self.graph.unknown().join(", "));
            let message = format!(
                "the graph and the golden have no output in common; the graph has {known} and unknown ones: {unknown}"
            );
            run.findings.push(Finding::new(FindingKind::NothingCompared, Outcome::Undecided, message));
        }
        let padding = Padding::of(inputs, class.head);
        let comparison = Comparison {
            tolerances: &golden.tolerances,
            precision: self.graph.precision(),
            padding: &padding,
        };
        let points: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix("activations.")).collect();
        let mut computed = self.graph.run(inputs, &points, Vec::new())?;
        let exact = match &self.weights {
            Ok(weights) if !file.is_sampled() => {
                exact_model(self.file, golden, &weights.parameters, *class, *rows)?
            }
            _ => None,
        };
        let arbiter = match exact {
            Some((exact, basis)) => Some(Arbiter::new(exact.run(inputs, &points, Vec::new())?, basis)),
            None => None,
        };
        for name in &names {
            if let Some(want) = file.recorded(name)? {
                let logits =
                    computed.tensors.iter_mut().find(|got| *squeezed && got.name == "outputs.logits");
                if let Some(got) = logits.filter(|got| got.name == *name)
                    && let Some((1, shape)) = got.shape.split_last()
                    && shape == want.shape()
                {
                    got.shape = want.shape().to_vec();
                }
                run.points.push(comparison.judged(&want, computed.get(name), arbiter.as_ref()));
            }
        }
        run.note_arbiter(arbiter.as_ref().map(|arbiter| arbiter.basis));
        let outputs = self.graph.exposed().into_iter().filter(|name| name.starts_with("outputs."));
        let lacking = outputs.filter(|output| !names.contains(output)).map(PointReport::missing_in_golden);
        run.points.extend(lacking);
        let padding = run.points.iter().any(|point| point.verdict == Verdict::Padding);
        let tokens_agree =
            run.points.iter().all(|point| !differs(&point.verdict) || point.verdict == Verdict::Padding);
        if padding && tokens_agree {
            let finding = self.explain_padding(&comparison, given, &computed, &points)?;
            run.findings.push(finding);
        }
        if !tokens_agree {
            run.findings.extend(self.explain_positions(&comparison, given, &computed, &points)?);
        }
        Ok(())
    }

    /// Ids beyond the vocabulary are no fault of the graph.
    fn check_ids(&self, inputs: &Inputs) -> Result<()> {
        let (Ok(weights), Some(ids)) = (&self.weights, &inputs.input_ids) else { return Ok(()) };
        let size = weights.config().vocab_size;
        match ids.iter().find(|&&id| usize::try_from(id).map_or(true, |id| id >= size)) {
            Some(id) => {
                let message = format!("input_ids: {id}, the vocabulary has {size} tokens");
                Err(Error::new(Kind::Request, message))
            }
            None => Ok(()),
        }
    }

    /// That the graph and the golden follow code that sorts distances into different rows, if that is all that is between them.
    fn explain_positions(
        &self,
        comparison: &Comparison<'_>,
        given: &Given,
        computed: &Trace,
        points: &[&str],
    ) -> Result<Option<Finding>> {
        let (Ok(weights), Some(own)) = (&self.weights, self.class()) else { return Ok(None) };
        let positions = |class: Class| {
            let Conventions { far_positions, bucket_rounding, .. } = class.conventions();
            (far_positions, bucket_rounding)
        };
        if positions(own) == positions(given.class)
            || !self.computes_as(own, weights, comparison, given, computed, points)?
        {
            return Ok(None);
        }
        let message = format!(
            "the golden is of {}, and the graph of {own}, whose code gives other rows of the table to some distances: \
             the reference computes what the graph does when it follows that code. Judge the graph by a golden of its own class",
            given.class
        );
        Ok(Some(Finding::new(FindingKind::Conventions, Outcome::Divergence, message)))
    }

    /// Whether the reference, as the code of `class` does and with the masked rows of the graph, computes what the graph did.
    fn computes_as(
        &self,
        class: Class,
        weights: &Weights,
        comparison: &Comparison<'_>,
        given: &Given,
        computed: &Trace,
        points: &[&str],
    ) -> Result<bool> {
        let model = Reference::load(&weights.parameters, class, self.graph.masked_rows())?;
        let inputs = Inputs { output_hidden_states: true, output_attentions: true, ..given.inputs.clone() };
        let expected = model.run(&inputs, points, Vec::new())?;
        Ok(computed.tensors.iter().all(|got| {
            let want = expected.get(&got.name);
            want.is_some_and(|want| comparison.tensors(want, Some(got)).verdict.outcome() == Outcome::Pass)
        }))
    }

    /// What the convention that the graph was made with says about padding that differs where tokens agree.
    fn explain_padding(
        &self,
        comparison: &Comparison<'_>,
        given: &Given,
        computed: &Trace,
        points: &[&str],
    ) -> Result<Finding> {
        let (want, have) = (convention(given.rows), convention(self.graph.masked_rows()));
        let unexplained = |why: String| {
            let message = format!("tokens agree. Padding differs, and {why}");
            Finding::new(FindingKind::PaddingDiffers, Outcome::Divergence, message)
        };
        if given.rows == self.graph.masked_rows() {
            return Ok(unexplained(format!("the golden and the graph both are of {want}")));
        }
        let why = format!(
            "tokens agree. Padding differs, because the golden was computed with {want}, and the graph computes {have}"
        );
        let Ok(weights) = &self.weights else {
            let message = format!("{why}. There are no weights to compare its padding with");
            return Ok(Finding::new(FindingKind::MaskedRows, Outcome::Pass, message));
        };
        Ok(match self.computes_as(given.class, weights, comparison, given, computed, points)? {
            true => Finding::new(
                FindingKind::MaskedRows,
                Outcome::Pass,
                format!("{why}; with it the reference computes the same. No token depends on it"),
            ),
            false => unexplained(format!("neither {want} nor {have} explains it")),
        })
    }
}

/// What a trace gives a model.
struct Given {
    file: TraceFile,
    class: Class,
    rows: MaskedRows,
    inputs: Inputs,
    /// Whether a regression's logits may lack their last axis: transformers drops one of length 1 if there are labels.
    squeezed: bool,
}

/// Whether the reference agrees with the golden that a run does not agree with.
fn reference_passes(runs: &[RunReport], of: &RunReport) -> bool {
    let same =
        |run: &&RunReport| run.backend == "reference" && (&run.golden, &run.trace) == (&of.golden, &of.trace);
    runs.iter().find(same).is_some_and(|run| run.outcome == Outcome::Pass)
}
