//! The run of a model on the inputs of a golden trace.

use std::path::Path;
use std::time::Instant;

use deberta_converters::error::{Error, Result};
use deberta_converters::loading::Parameters;

use super::arbitration::exact_model;
use super::asked::{Asked, Stated};
use super::candidate::Candidate;
use super::conventions::{differs, explain, other};
use super::replay::Replay;
use crate::backend::{Arithmetic, Backend};
use crate::judge::arbiter::Arbiter;
use crate::judge::compare::Comparison;
use crate::judge::verdict::{Outcome, PointReport};
use crate::report::{Finding, FindingKind, Rules, RunReport, beyond_f16};
use crate::trace::file::TraceFile;
use crate::trace::points::missing;

impl Candidate<'_> {
    /// Why the file need not have what the class of a trace computes with: it is the graph of another class, and holds no more
    /// than that takes. A graph of masked language modelling has no positions, which the enhanced mask decoder adds.
    pub(super) fn is_of_another_class(&self, path: &Path) -> Option<String> {
        self.file.graph_backend()?;
        let own = self.file.parameters(None).ok()?.checkpoint().head;
        let trace = TraceFile::open(path).and_then(|file| file.inputs()).ok()?;
        let class = Stated::of(&trace, self.golden, path).ok()?.class.filter(|class| class.head != own)?;
        let lacking = self.file.parameters(Some(class)).err()?;
        Some(format!("the trace is of {class}, and the file is the graph of another class ({lacking})"))
    }

    /// Runs the model on the inputs of the trace at `path` and compares. What is wrong with the weights goes to the findings
    /// of the file.
    pub(super) fn run(&self, path: &Path, name: String, of_file: &mut Vec<Finding>) -> RunReport {
        let start = Instant::now();
        let mut report = RunReport::new(&self.golden.name, Some(name), self.file.backend().as_str());
        report.isolated = self.file.request.isolate;
        if let Err(error) = self.run_into(path, &mut report, of_file) {
            report.findings.push(Finding::error(&error));
        }
        Rules::DEFAULT.conclude(&mut report);
        report.seconds = start.elapsed().as_secs_f64();
        report
    }

    fn run_into(&self, path: &Path, report: &mut RunReport, of_file: &mut Vec<Finding>) -> Result<()> {
        let in_trace = |error: Error| error.in_file(path);
        let file = TraceFile::open(path)?;
        let recorded = file.inputs()?;
        let stated = Stated::of(&recorded, self.golden, path).map_err(in_trace)?;
        report.producer = file.metadata("producer").unwrap_or("unknown").to_owned();
        let parameters = self.file.parameters(stated.class)?;
        let (class, rows) = stated.or_of(parameters.checkpoint())?;
        report.class = class.to_string();
        report.masked_rows = rows.to_string();
        let config = &parameters.checkpoint().config;
        let asked = Asked::of(class, rows, config, &recorded).map_err(in_trace)?;

        note_left_out(&file.points().1, report);
        note_lacking(&missing(&file, config, class, &asked.inputs), report);
        let tolerances = &*self.tolerances;
        let comparison = Comparison { tolerances, precision: self.precision, padding: &asked.padding };
        let replay = Replay { file: &file, config, asked: &asked, comparison };
        let model = self.file.backend().load(&parameters, class, rows)?;
        note_not_finite(&*model, of_file);
        let arbiter = self.arbiter(&replay, &parameters, report, in_trace)?;
        let isolate = self.file.request.isolate;
        let (points, magnitudes) = replay.compare(&*model, isolate, arbiter.as_ref()).map_err(in_trace)?;
        drop(model);
        let beyond = beyond_f16(&magnitudes);
        report.findings.extend(beyond.map(|said| Finding::new(FindingKind::F16Range, Outcome::Pass, said)));
        report.findings.extend(self.explain_padding(&replay, &points)?);
        report.points.extend(points);
        report.note_arbiter(arbiter.map(|arbiter| arbiter.basis));
        Ok(())
    }

    /// What f64 computes at the points, if it was asked for. Of samples it cannot be asked.
    fn arbiter(
        &self,
        replay: &Replay<'_>,
        parameters: &Parameters,
        report: &mut RunReport,
        in_trace: impl FnOnce(Error) -> Error,
    ) -> Result<Option<Arbiter>> {
        if replay.file.is_sampled() {
            if self.file.request.precision == Arithmetic::F64 {
                let message = "the arbiter was not asked: the golden has samples alone";
                report.findings.push(Finding::new(FindingKind::NotJudged, Outcome::Pass, message));
            }
            return Ok(None);
        }
        let Asked { class, rows, .. } = *replay.asked;
        let Some((exact, basis)) = exact_model(self.file, self.golden, parameters, class, rows)? else {
            return Ok(None);
        };
        let computed = replay.computed(&exact, self.file.request.isolate).map_err(in_trace)?;
        Ok(Some(Arbiter::new(computed, basis)))
    }

    /// What the other convention for masked rows says about numbers that differ, if there is padding.
    fn explain_padding(&self, replay: &Replay<'_>, points: &[PointReport]) -> Result<Option<Finding>> {
        let Asked { class, rows, padding, .. } = replay.asked;
        if !padding.padded() || !points.iter().any(|point| differs(&point.verdict)) {
            return Ok(None);
        }
        let parameters = self.file.parameters(Some(*class))?;
        let model = self.file.backend().load(&parameters, *class, other(*rows))?;
        let (again, _) = replay.compare(&*model, self.file.request.isolate, None)?;
        Ok(explain(*rows, points, &again))
    }
}

/// Notes what the golden must have and does not.
fn note_lacking(lacking: &[String], report: &mut RunReport) {
    let [first, rest @ ..] = lacking else { return };
    let others = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    let message = format!(
        "the golden lacks {first}{others}; if that is intended, say so: metadata \"points\" with the patterns of the \
         activations that it has"
    );
    report.findings.push(Finding::new(FindingKind::GoldenIncomplete, Outcome::Undecided, message));
    report.points.extend(lacking.iter().map(|name| PointReport::missing_in_golden(name)));
}

/// Notes tensors of the golden that no class computes by themselves.
fn note_left_out(left_out: &[&str], report: &mut RunReport) {
    let [first, ..] = left_out else { return };
    let message = format!(
        "{} tensors of the golden were left out, {first} among them: what a dropout or an inner activation returns is no \
         point of its own",
        left_out.len()
    );
    report.findings.push(Finding::new(FindingKind::NotJudged, Outcome::Pass, message));
}

/// Notes, once for a file, the weights that are NaN or infinite.
fn note_not_finite(model: &dyn Backend, of_file: &mut Vec<Finding>) {
    for message in model.not_finite() {
        let finding = Finding::new(FindingKind::WeightsNotFinite, Outcome::Divergence, message);
        if !of_file.contains(&finding) {
            of_file.push(finding);
        }
    }
}
