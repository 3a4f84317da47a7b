//! The run of a graph on a trace of a golden.

use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;

use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Head, Inputs, MaskedRows};

use super::candidate::{Attempt, GraphCandidate};
use super::meaning::Meaning;
use crate::backend::{Backend as _, Overflow};
use crate::goldens::Golden;
use crate::judge::arbiter::Arbiter;
use crate::judge::compare::Comparison;
use crate::judge::tolerance::{Precision, Tolerances};
use crate::judge::verdict::{Outcome, PointReport, Verdict};
use crate::report::{FileReport, Finding, FindingKind, RunReport, name_of};
use crate::trace::class::Class;
use crate::trace::file::{Recorded, Trace, TraceFile};
use crate::trace::inputs::inputs;
use crate::trace::padding::Padding;
use crate::trace::points::rank;
use crate::verify::arbitration::exact_model;
use crate::verify::asked::Stated;
use crate::verify::conventions::differs;

/// No quantization that leaves a model makes more noise than signal: what is below is another model's output, or none's.
const LEAST_DECIBELS: f64 = 3.0;

/// What a trace gives a model.
pub(super) struct Given {
    pub(super) file: TraceFile,
    pub(super) class: Class,
    pub(super) rows: MaskedRows,
    pub(super) inputs: Inputs,
    /// Whether a regression's logits may lack their last axis: transformers drops one of length 1 if there are labels.
    squeezed: bool,
}

impl GraphCandidate<'_> {
    /// The run on a trace of a golden; nothing, and a finding, if the graph is not what it is of.
    pub(super) fn trace(&self, golden: &Golden, path: &Path, report: &mut FileReport) -> Option<Attempt> {
        let start = Instant::now();
        let name = name_of(path);
        self.file.progress.step(&format!("{}: {name} by the graph", report.file));
        let mut run = RunReport::new(&golden.name, Some(name.clone()), self.graph.name());
        let done = self.given(golden, path).and_then(|given| match self.refuses(&given) {
            Some(why) => Ok(Some(why)),
            None => self.compare(golden, &given, &mut run),
        });
        if let Ok(Some(why)) = &done {
            let message = format!("{name}: not judged with the graph: {why}");
            report.findings.push(Finding::new(FindingKind::NotJudged, Outcome::Pass, message));
            return None;
        }
        Some(Attempt::new(run, done.map(drop).map_err(|error| error.in_file(path)), start))
    }

    /// What the trace gives a model. Labels make a loss, which no graph has, and change nothing else.
    pub(super) fn given(&self, golden: &Golden, path: &Path) -> Result<Given> {
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
        if self.config.as_ref().is_some_and(|config| config.type_vocab_size == 0) {
            inputs.token_type_ids = None;
        }
        Ok(Given { squeezed, file, class, rows: rows.unwrap_or(class.masked_rows()), inputs })
    }

    /// Why the graph does not compute what the trace has.
    pub(super) fn refuses(&self, given: &Given) -> Option<String> {
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

    /// Why the trace does not judge the graph, if it turns out that it does not.
    fn compare(&self, golden: &Golden, given: &Given, run: &mut RunReport) -> Result<Option<String>> {
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
        // A graph in standard operators is judged for what it computes, not as a format that a case has tried.
        let tolerances = match self.judged {
            Some(_) => Cow::Owned(golden.tolerances.usual_at_least()),
            None => Cow::Borrowed(&golden.tolerances),
        };
        let comparison =
            Comparison { tolerances: &tolerances, precision: self.precision(), padding: &padding };
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
                let meaning = self.meanings.of(name);
                let (want, got) = match (want, meaning) {
                    (Recorded::Whole(want), meaning) if meaning != Meaning::Same => {
                        let got = computed.get(name).map(|got| meaning.of_graph(got));
                        (Recorded::Whole(meaning.of_golden(&want)), got)
                    }
                    (want, _) => (want, computed.get(name).cloned()),
                };
                let arbiter = arbiter.as_ref().filter(|_| meaning == Meaning::Same);
                let point = comparison.judged(&want, got.as_ref(), arbiter);
                run.points.push(self.allowed(point, &tolerances));
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
        if tokens_agree {
            run.findings.extend(self.judge_range(&comparison, given, &computed)?);
        } else if let Some(said) = self.explain_positions(&comparison, given, &computed, &points)? {
            if self.is_judged_elsewhere(golden) {
                return Ok(Some(format!("{said}, by which another trace judges it")));
            }
            let message = format!("{said}. Judge the graph by a golden of its own class");
            run.findings.push(Finding::new(FindingKind::Conventions, Outcome::Divergence, message));
        }
        Ok(None)
    }

    /// A point of a quantized graph whose numbers differ as much as quantization may explain, if nothing says by how much they
    /// may: neither right nor wrong.
    pub(super) fn allowed(&self, point: PointReport, tolerances: &Tolerances) -> PointReport {
        // Padding is judged where the weights of the model are in the place of the rounded ones.
        let least = point.real.as_ref().or(point.padded.as_ref()).map_or(f64::INFINITY, |part| part.sqnr_db);
        let differs = matches!(point.verdict, Verdict::Diverges | Verdict::Padding | Verdict::Statistic);
        let unsaid = self.judged.is_some() || !tolerances.say(Precision::Quantized);
        // Where there are weights of the model, three questions tell a coarse quantization from none.
        let enough = match self.judged {
            Some(judged) => judged.least,
            None if differs && unsaid && self.model().is_some() => f64::NEG_INFINITY,
            None => LEAST_DECIBELS,
        };
        let may_differ = self.precision() == Precision::Quantized || self.moves_distances();
        if differs && may_differ && unsaid && least >= enough {
            return PointReport { verdict: Verdict::Quantized, ..point };
        }
        point
    }

    /// What becomes of a graph in f16, which was computed in f32, within the range of f16.
    fn judge_range(
        &self,
        comparison: &Comparison<'_>,
        given: &Given,
        computed: &Trace,
    ) -> Result<Option<Finding>> {
        let Some(Overflow { node, magnitude, outputs }) = self.graph.overflow(&given.inputs)? else {
            return Ok(None);
        };
        let where_to = format!(
            "a graph in f16, computed in f32 here: activations reach {} in {node}, above 65504, the largest number of f16",
            in_figures(magnitude)
        );
        let broken = outputs.iter().find(|got| {
            let want = computed.get(&got.name);
            want.is_some_and(|want| {
                comparison.tensors(want, Some(got)).verdict.outcome() == Outcome::Divergence
            })
        });
        Ok(Some(match broken {
            Some(output) => {
                let message = format!(
                    "{where_to}: in f16 it overflows there, and {} is not what f32 makes of it. Keep this node in f32",
                    output.name
                );
                Finding::new(FindingKind::F16Range, Outcome::Divergence, message)
            }
            None => {
                let message = format!("{where_to}; the outputs are the same with infinity in its place");
                Finding::new(FindingKind::F16Range, Outcome::Pass, message)
            }
        }))
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
}

/// `680,000` as `6.8e5`.
fn in_figures(magnitude: f32) -> String {
    if magnitude < 1e6 { format!("{magnitude:.0}") } else { format!("{magnitude:.2e}") }
}
