//! A recorded run against another one.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Instant;

use deberta_converters::error::{Error, Result};
use deberta_reference::{Head, MaskedRows};

use crate::judge::arbiter::Arbiter;
use crate::judge::compare::Comparison;
use crate::judge::tolerance::{Precision, Tolerances};
use crate::judge::verdict::{Outcome, PointReport, Verdict};
use crate::report::{FileReport, Finding, FindingKind, Report, Rules, RunReport, name_of};
use crate::trace::class::{Class, masked_rows_of};
use crate::trace::file::{Trace, TraceFile};
use crate::trace::inputs::inputs;
use crate::trace::padding::Padding;
use crate::trace::points::{is_of_inner_module, is_selected, rank};
use crate::trace::tensor::Data;

/// How to compare two traces.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How far numbers may be off.
    pub tolerances: Tolerances,
    /// Whether points that only one of the traces has are left out.
    pub common: bool,
    /// A recording in f64 of the same inputs, to say whose error is larger.
    pub arbiter: Option<PathBuf>,
}

/// Compares the trace `candidate` with the trace `golden`, at every point of both.
///
/// # Errors
/// A file that is not a trace; inputs that no class has; an arbiter of other inputs, or that is not in f64.
pub fn compare(golden: &Path, candidate: &Path, settings: &Settings) -> Result<Report> {
    let start = Instant::now();
    let (want, got) = (TraceFile::open(golden)?, TraceFile::open(candidate)?);
    let (given, others) = (want.inputs()?, got.inputs()?);
    let in_golden = |error: Error| error.in_file(golden);
    let class = Class::of(&given).map_err(in_golden)?;
    let rows = masked_rows_of(&given).map_err(in_golden)?;
    let other_rows = masked_rows_of(&others).map_err(|error| error.in_file(candidate))?;
    let arguments = inputs(&given).map_err(in_golden)?;
    let padding = Padding::of(&arguments, class.map_or(Head::Base, |class| class.head));

    let framework = got.metadata("framework").unwrap_or("unknown");
    let folder = golden.parent().map(name_of).unwrap_or_default();
    let mut run = RunReport::new(&folder, Some(name_of(golden)), framework);
    run.producer = want.metadata("producer").unwrap_or("unknown").to_owned();
    run.class = class.map_or_else(|| "unknown".to_owned(), |class| class.to_string());
    run.masked_rows = rows.map_or("unknown", MaskedRows::word).to_owned();
    run.findings.extend(different_inputs(&given, &others));
    let left_out = left_out(&want, &got, settings.common);
    if !left_out.is_empty() {
        let of = |trace: &TraceFile| trace.names().filter(|name| left_out.contains(name)).count();
        let why = if settings.common { "as asked" } else { "because nobody asks for them" };
        let message = format!(
            "left out {why}: {} points of the golden alone, {} of the candidate alone",
            of(&want),
            of(&got)
        );
        run.findings.push(Finding::new(FindingKind::NotJudged, Outcome::Pass, message));
    }
    let comparison =
        Comparison { tolerances: &settings.tolerances, precision: Precision::F32, padding: &padding };
    let arbiter = settings.arbiter.as_deref().map(|path| Arbiter::read(path, &given)).transpose()?;
    run.points = points(&want, &got, comparison, &left_out, arbiter.as_ref())?;
    run.note_arbiter(arbiter.as_ref().map(|arbiter| arbiter.basis));
    if run.points.iter().any(|point| point.verdict == Verdict::Padding) {
        run.findings.push(match (rows, other_rows) {
            (Some(rows), Some(other)) if rows != other => Finding::new(
                FindingKind::MaskedRows,
                Outcome::Pass,
                format!(
                    "tokens agree. Padding differs, because the traces follow different conventions for masked rows: \
                     {} in the golden, {} in the candidate. No token depends on it",
                    rows,
                    other
                ),
            ),
            _ => Finding::new(
                FindingKind::PaddingDiffers,
                Outcome::Divergence,
                "tokens agree. Padding differs, and the traces do not say that they follow different conventions for \
                 masked rows (metadata masked_rows)",
            ),
        });
    }
    Rules::DEFAULT.conclude(&mut run);
    run.seconds = start.elapsed().as_secs_f64();
    let file = FileReport { format: Some("trace".to_owned()), runs: vec![run], ..FileReport::new(candidate) };
    let mut report = Report::new(candidate.display().to_string(), vec![file], Vec::new());
    Rules::DEFAULT.judge(&mut report);
    Ok(report)
}

/// The points that one trace has and the other need not have: all, if what is `common` is asked for; else those that no class
/// computes apart, as what a dropout returns, and those of the candidate which a golden of selected points leaves out.
fn left_out<'t>(want: &'t TraceFile, got: &'t TraceFile, common: bool) -> HashSet<&'t str> {
    let names = |trace: &'t TraceFile| -> HashSet<&'t str> {
        trace.names().filter(|name| !name.starts_with("inputs.")).collect()
    };
    let (golden, candidate) = (names(want), names(got));
    let one_sided = golden.symmetric_difference(&candidate).copied();
    one_sided
        .filter(|&name| {
            common || is_of_inner_module(name) || (!golden.contains(name) && !is_selected(want, name))
        })
        .collect()
}

/// Every point of the golden, and those that the candidate alone has, in the order of execution, without some.
fn points(
    want: &TraceFile,
    got: &TraceFile,
    comparison: Comparison<'_>,
    left_out: &HashSet<&str>,
    arbiter: Option<&Arbiter>,
) -> Result<Vec<PointReport>> {
    let mut names: Vec<&str> = want.names().chain(got.names()).collect();
    names.retain(|name| !name.starts_with("inputs.") && !left_out.contains(name));
    names.sort_by_key(|name| (rank(name), *name));
    names.dedup();
    let mut points = Vec::with_capacity(names.len());
    for name in names {
        match (want.recorded(name)?, got.tensor(name)?) {
            (Some(want), Some(got)) => points.push(comparison.judged(&want, Some(&got), arbiter)),
            (Some(want), None) => points.push(comparison.judged(&want, None, None)),
            (None, _) => points.push(PointReport::missing_in_golden(name)),
        }
    }
    Ok(points)
}

/// What differs first between the inputs of two traces.
fn different_inputs(golden: &Trace, candidate: &Trace) -> Option<Finding> {
    let found = |message: String| Some(Finding::new(FindingKind::InputsDiffer, Outcome::Undecided, message));
    for want in &golden.tensors {
        let Some(got) = candidate.get(&want.name) else {
            return found(format!("the candidate has no {}", want.name));
        };
        if want.shape != got.shape {
            return found(format!("{}: shape {:?}, the golden's is {:?}", want.name, got.shape, want.shape));
        }
        let different = match (&want.data, &got.data) {
            (Data::Integers(want), Data::Integers(got)) => first_difference(want, got),
            (want_data, got_data) => match (want_data.floats(), got_data.floats()) {
                (Some(want), Some(got)) => first_difference(&want, &got),
                _ => return found(format!("{}: one trace has integers, the other numbers", want.name)),
            },
        };
        if let Some((at, values)) = different {
            let place = crate::judge::difference::coordinates(at, &want.shape);
            return found(format!("{} at {place:?}: {values}; the two runs had different inputs", want.name));
        }
    }
    let extra = candidate.tensors.iter().find(|tensor| golden.get(&tensor.name).is_none())?;
    found(format!("the golden has no {}", extra.name))
}

/// Where two lists differ first, and the numbers there.
fn first_difference<T: PartialEq + Display>(want: &[T], got: &[T]) -> Option<(usize, String)> {
    let (at, (want, got)) = want.iter().zip(got).enumerate().find(|(_, (want, got))| want != got)?;
    Some((at, format!("{got} instead of {want}")))
}
