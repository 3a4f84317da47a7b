//! Verdicts in words.

use super::arbitration::arbitration;
use super::numbers::{count, grouped, measure, of_tolerance, value};
use crate::judge::difference::Difference;
use crate::judge::verdict::{Outcome, PointReport, Verdict};
use crate::trace::samples::Statistic;

/// A word for a table: capitals where something differs.
pub(super) fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Match => "ok",
        Verdict::Rounded => "ok, rounded",
        Verdict::Padding => "PADDING",
        Verdict::Diverges => "DIVERGES",
        Verdict::Quantized => "quantized",
        Verdict::Cost => "ok, quantized",
        Verdict::Statistic => "STATISTIC",
        Verdict::NotFinite { .. } => "NOT FINITE",
        Verdict::Shape { .. } => "SHAPE",
        Verdict::Dtype => "DTYPE",
        Verdict::MissingInCandidate => "MISSING",
        Verdict::GoldenNotFinite { .. } => "golden NaN",
        Verdict::MissingInGolden => "not in golden",
        Verdict::Empty => "empty",
        Verdict::ZerosPass => "zeros pass",
    }
}

/// The word for an outcome.
pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Undecided => "undecided",
        Outcome::Divergence => "divergence",
    }
}

/// What a point is when it is the first of its kind.
pub(super) fn title(point: &PointReport) -> &'static str {
    match point.verdict.outcome() {
        Outcome::Divergence => "First divergence",
        _ => "Not judged",
    }
}

/// What there is to say about a point, in one line.
pub(super) fn detail(point: &PointReport) -> String {
    match arbitration(point).filter(|_| point.is_borderline()) {
        Some(arbitration) => format!("{}. Arbiter: {arbitration}", comparison(point)),
        None => comparison(point),
    }
}

fn comparison(point: &PointReport) -> String {
    let part = |part: &Option<Difference>, what: &str| match part {
        Some(part) => numbers(point, part, what),
        None => format!("no numbers of {what}"),
    };
    match &point.verdict {
        Verdict::Match | Verdict::Rounded | Verdict::Quantized | Verdict::Cost | Verdict::Diverges => {
            part(&point.real, "tokens")
        }
        Verdict::Statistic => point.statistic.as_ref().map_or_else(String::new, statistic),
        Verdict::Padding => part(&point.padded, "padding"),
        Verdict::NotFinite { count: bad, at } => {
            format!("{}: NaN or infinite, the first at {at:?}; the golden has numbers", count(*bad, "number"))
        }
        Verdict::Shape { found } => format!("shape {found:?}, the golden has {:?}", point.shape),
        Verdict::Dtype => "one has integers, the other numbers".to_owned(),
        Verdict::MissingInCandidate => "the model does not compute it, the golden has it".to_owned(),
        Verdict::GoldenNotFinite { count: bad, at } => {
            format!("the golden has {}: NaN or infinite, the first at {at:?}", count(*bad, "number"))
        }
        Verdict::MissingInGolden => "the golden must have it and does not".to_owned(),
        Verdict::Empty => format!("shape {:?} has no numbers", point.shape),
        Verdict::ZerosPass => format!(
            "the tolerance ({}) is so wide that zeros would agree, too, so that nothing was judged: make it smaller",
            tolerance(point)
        ),
    }
}

fn statistic(statistic: &Statistic) -> String {
    let Statistic { name, want, got, allowed, share } = statistic;
    let off = super::numbers::measure((f64::from(*got) - f64::from(*want)).abs());
    format!(
        "the samples agree, the {name} of all tokens does not: want {}, got {}, off by {off}, {} ({})",
        value(*want),
        value(*got),
        of_tolerance(*share),
        super::numbers::measure(*allowed)
    )
}

fn numbers(point: &PointReport, part: &Difference, what: &str) -> String {
    let Difference { beyond, count, at, want, got, .. } = part;
    let beyond = match beyond {
        0 => format!("all {} numbers of {what} within it", grouped(*count)),
        beyond => format!("{} of {} numbers of {what} beyond it", grouped(*beyond), grouped(*count)),
    };
    let off = measure((f64::from(*got) - f64::from(*want)).abs());
    format!(
        "at {at:?}: want {}, got {}, off by {off}, {} ({}); {beyond}",
        value(*want),
        value(*got),
        of_tolerance(part.share),
        tolerance(point)
    )
}

/// `5e-6 + 1e-5·|want| + 1e-5·max|want|`
pub(super) fn tolerance(point: &PointReport) -> String {
    let tolerance = point.tolerance;
    let parts = [(tolerance.atol, ""), (tolerance.rtol, "·|want|"), (tolerance.scale, "·max|want|")];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(part, _)| *part != 0.0)
        .map(|(part, of)| format!("{part:e}{of}"))
        .collect();
    if parts.is_empty() { "0".to_owned() } else { parts.join(" + ") }
}
