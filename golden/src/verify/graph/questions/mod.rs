//! Three questions about a graph whose weights or activations are rounded, in the place of one wide tolerance: are its weights
//! the model's, rounded; does it compute the model; and what does rounding activations cost.
//!
//! ```text
//! weights      every tensor against the model's
//! variants     the same graph in standard operators: with the model's weights, and with its own
//!   tables       products of weights that a tool computed
//! activations  the graph as it is against the same one without rounded activations
//! cost         the graph as it is against the goldens
//! losses       the nodes that lose most
//!   noise        ratios of signal to noise
//! ```

use deberta_converters::error::Result;
use deberta_converters::fidelity::{Dequantized, Fidelity};
use deberta_converters::format::onnx::{GraphKind, Half, Numbers};
use deberta_converters::loading::Parameters;
use deberta_converters::lowering::Codes;

use super::candidate::{Attempt, GraphCandidate, Judged};
use super::{is_by_numbers, lengths};
use crate::judge::tolerance::{Limits, Precision};
use crate::judge::verdict::{Outcome, Verdict};
use crate::report::{
    Answer, FileReport, Finding, FindingKind, LOWERED, QuantizationReport, Rules, RunReport,
};
use activations::{Rounding, Set};
use tables::Tables;
use variants::Variant;

mod activations;
mod cost;
mod losses;
mod noise;
mod tables;
mod variants;
mod weights;

/// What a graph with products of rounded tensors that no parameter is must reach: what computes something else is below.
const WITH_UNKNOWN: f64 = 33.0;
/// What a graph must reach that computes in a half, with the weights of the model: its constants are rounded, those of bf16 to
/// three bits less. Good graphs have 87 dB and more where there are many outputs, and 69 where there is a single number.
const IN_F16: f64 = 60.0;
const IN_BF16: f64 = 50.0;

/// Whether the questions are asked of a graph.
pub(super) fn are_asked_of(kind: GraphKind) -> bool {
    !matches!(kind.numbers, Numbers::F32)
}

impl GraphCandidate<'_> {
    /// Asks the questions, and adds the answers to the report. What the graph as it is computes was judged before.
    pub(super) fn ask(&self, report: &mut FileReport) {
        let kind = self.graph.kind();
        let limits = self.limits();
        let Some(parameters) = self.model() else {
            let mut points = report.runs.iter().flat_map(|run| &run.points);
            let is_open = points.any(|point| point.verdict == Verdict::Quantized);
            if kind.is_quantized() || self.approximates_gelu() || is_open {
                self.cannot_answer(report);
            }
            return;
        };
        self.file.progress.step(&format!("{}: its weights and the model's", report.file));
        let checkpoint = parameters.checkpoint();
        let opened =
            Dequantized::open(&self.file.source.path, &checkpoint.config, checkpoint.head, checkpoint);
        let compared = opened.and_then(|graph| graph.compare(checkpoint).map(|fidelity| (graph, fidelity)));
        let answers = compared.and_then(|(graph, mut fidelity)| {
            weights::limit(&mut fidelity, limits.steps());
            let mut weights = weights::answer(&fidelity, checkpoint, kind);
            let tables = Tables::of(&graph, &parameters, &fidelity)?;
            let own = self.judged_by(&graph, &tables);
            let (of_graph, runs) = self.computes(&graph, &parameters, &fidelity, &tables, own, report)?;
            report.runs.extend(runs);
            let sets = self.sets(&parameters)?;
            self.judge_roundings(&graph, &parameters, &fidelity, &tables, &sets, &mut weights)?;
            let rounding = if kind.rounds_activations() || self.departs_by_design() {
                self.rounds(&graph, &parameters, kind, &limits, &sets)?
            } else {
                let answer = Answer::new(Outcome::Pass, "no activations are rounded");
                Rounding { answer, worst: None }
            };
            let mut answers = QuantizationReport {
                weights,
                tensors: Some(fidelity),
                graph: of_graph,
                activations: rounding.answer,
                cost: self.cost(report),
                losses: None,
            };
            if self.are_losses_due(&answers) {
                let least = limits.least(kind);
                let set = rounding.worst.and_then(|worst| sets.get(worst));
                let set = set.or(sets.iter().find(|set| !set.inputs.is_empty()));
                answers.losses =
                    set.map(|set: &Set| self.losses(&graph, &parameters, set, least)).transpose()?.flatten();
            }
            Ok(answers)
        });
        match answers {
            Ok(answers) => self.conclude(report, answers),
            Err(error) => report.findings.push(Finding::error(&error)),
        }
    }

    /// That there is nothing to compare a quantized graph with.
    fn cannot_answer(&self, report: &mut FileReport) {
        let why = "there are no weights of the model to compare with: put its model.safetensors beside the graph, or name a golden \
                   that has its model";
        let undecided = || Answer::new(Outcome::Undecided, why);
        let answers = QuantizationReport {
            weights: undecided(),
            tensors: None,
            graph: undecided(),
            activations: undecided(),
            cost: self.cost(report),
            losses: None,
        };
        self.conclude(report, answers);
    }

    /// Whether the nodes that lose most are to be found: something is beyond its limit, or somebody asked, and it is rounding
    /// that loses.
    fn are_losses_due(&self, answers: &QuantizationReport) -> bool {
        let is_sound = answers.weights.outcome == Outcome::Pass && answers.graph.outcome == Outcome::Pass;
        let is_beyond = answers.activations.outcome == Outcome::Divergence
            || answers.cost.as_ref().is_some_and(|cost| self.limits().refuses(cost).is_some());
        let request = self.file.request;
        is_sound && (request.find_losses || (is_beyond && request.diagnose))
    }

    /// The least decibels that the lowered graph must reach, where tolerances of f32 do not hold for it; and the precision.
    fn judged_by(&self, graph: &Dequantized, tables: &Tables) -> Judged {
        let half = self.graph.kind().half();
        // What is stored in a half is as near as what is computed in one.
        let is_half =
            |name: &String| graph.stored(name).is_some_and(|stored| matches!(stored.codes, Codes::Halves(_)));
        match half {
            _ if !tables.unknown.iter().all(is_half) => {
                Judged { precision: Precision::Quantized, least: WITH_UNKNOWN }
            }
            Some(Half::F16) => Judged { precision: Precision::Quantized, least: IN_F16 },
            Some(Half::Bf16) => Judged { precision: Precision::Quantized, least: IN_BF16 },
            None => Judged { precision: Precision::F32, least: 0.0 },
        }
    }

    /// Whether the graph computes the model, in standard operators and with the model's weights; and the runs.
    fn computes(
        &self,
        graph: &Dequantized,
        parameters: &std::rc::Rc<Parameters>,
        fidelity: &Fidelity,
        tables: &Tables,
        judged: Judged,
        report: &mut FileReport,
    ) -> Result<(Answer, Vec<RunReport>)> {
        let variant = Variant::with_weights_of(graph, parameters.checkpoint(), fidelity, tables)?;
        let mut candidate = self.lowered(variant.open()?, parameters, judged)?;
        let (_, recognised) = candidate.recognise();
        if !recognised {
            let why = "no output of the graph in standard operators computes what the golden has";
            return Ok((Answer::new(Outcome::Divergence, why), Vec::new()));
        }
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut said = FileReport { file: report.file.clone(), ..FileReport::default() };
        for golden in &self.file.request.goldens {
            for path in &golden.traces {
                attempts.extend(candidate.trace(golden, path, &mut said));
            }
        }
        if let Ok(weights) = &candidate.weights {
            attempts.extend(lengths::run(&candidate, weights, &mut said.findings));
        }
        let ran = attempts.iter().any(|attempt| attempt.report.compared() > 0);
        let mut runs: Vec<RunReport> = attempts.into_iter().map(|attempt| attempt.conclude(ran)).collect();
        for run in &mut runs {
            run.backend = LOWERED.to_owned();
            allow(run);
        }
        let least = runs.iter().flat_map(|run| &run.points).filter_map(|point| point.real.as_ref());
        let least = least.map(|real| real.sqnr_db).fold(f64::INFINITY, f64::min);
        let limit = (judged.precision != Precision::F32).then_some(judged.least);
        let mut outcome = runs.iter().map(|run| run.outcome).max().unwrap_or(Outcome::Undecided);
        if limit.is_some_and(|limit| least < limit) {
            outcome = Outcome::Divergence;
        }
        let mut unknown = match tables.unknown.as_slice() {
            [] => String::new(),
            [first, ..] => format!(
                "; {} rounded tensors are no parameters and stay rounded, as \"{first}\"",
                tables.unknown.len()
            ),
        };
        if !tables.exact.is_empty() {
            let count = tables.exact.len();
            unknown.push_str(&format!(
                "; {count} tensors are products of rounded weights, and are the model's here"
            ));
        }
        let said = match (outcome, limit) {
            (Outcome::Pass, None) => format!("it computes the model, within the tolerances of f32{unknown}"),
            (Outcome::Pass, Some(limit)) => format!("it computes the model, within {limit} dB{unknown}"),
            (Outcome::Divergence, _) if only_lengths(&runs) => format!(
                "it computes the model where it runs, and not at every length and batch size: export it with dynamic axes{unknown}"
            ),
            (Outcome::Divergence, _) => format!(
                "it computes something else than the model, with the model's own weights: the graph is wrong, not the weights{unknown}"
            ),
            (Outcome::Undecided, _) => "it could not be run, or compared with nothing".to_owned(),
        };
        let sqnr_db = Some(least).filter(|_| ran);
        Ok((Answer { outcome, said, sqnr_db, limit_db: limit }, runs))
    }

    fn conclude(&self, report: &mut FileReport, answers: QuantizationReport) {
        let finding = |question: &str, answer: &Answer| {
            let measured = match (answer.sqnr_db, answer.limit_db) {
                (Some(db), Some(limit)) => format!(" ({db:.1} dB, at least {limit} are due)"),
                (Some(db), None) if db.is_finite() => format!(" ({db:.1} dB)"),
                _ => String::new(),
            };
            Finding::new(
                FindingKind::Quantization,
                answer.outcome,
                format!("{question}: {}{measured}", answer.said),
            )
        };
        if answers.weights.outcome == Outcome::Pass {
            report.findings.retain(|finding| !is_by_numbers(finding));
        }
        report.findings.push(finding("weights", &answers.weights));
        for broken in answers.tensors.iter().flat_map(Fidelity::broken).take(weights::NAMED) {
            report.findings.push(Finding::new(FindingKind::Quantization, Outcome::Divergence, broken.said()));
        }
        report.findings.push(finding("graph", &answers.graph));
        report.findings.push(finding("activations", &answers.activations));
        if let Some(cost) = &answers.cost {
            let beyond = self.limits().refuses(cost);
            let outcome = if beyond.is_some() { Outcome::Divergence } else { Outcome::Pass };
            let beyond = beyond.map_or(String::new(), |beyond| format!("; {beyond}"));
            let said = format!("the whole cost: {}{beyond}", cost.said());
            report.findings.push(Finding::new(FindingKind::Quantization, outcome, said));
        }
        if let Some(losses) = &answers.losses {
            report.findings.push(Finding::new(FindingKind::Quantization, Outcome::Pass, losses.said()));
        }
        // What the graph as it is differs by is what was asked about.
        if answers.outcome() == Outcome::Pass {
            for run in report.runs.iter_mut().filter(|run| run.backend != LOWERED) {
                allow(run);
            }
        }
        report.quantization = Some(answers);
    }

    /// What the goldens say of quantized graphs.
    fn limits(&self) -> Limits {
        let mut goldens = self.file.request.goldens.iter();
        goldens.find_map(|golden| golden.tolerances.quantization()).unwrap_or_default()
    }
}

/// Whether all that is wrong is that the graph does not run on some inputs.
fn only_lengths(runs: &[RunReport]) -> bool {
    let mut wrong = runs.iter().filter(|run| run.outcome == Outcome::Divergence).peekable();
    wrong.peek().is_some() && wrong.all(|run| run.points.is_empty())
}

/// Makes of points that differ as rounding makes them some that pass, and judges the run anew.
fn allow(run: &mut RunReport) {
    let mut changed = false;
    for point in run.points.iter_mut().filter(|point| point.verdict == Verdict::Quantized) {
        point.verdict = Verdict::Cost;
        changed = true;
    }
    if changed {
        Rules::DEFAULT.judge_run(run);
    }
}
