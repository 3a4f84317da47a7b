//! What the arbiter says, in words.

use super::numbers::{measure, of_tolerance};
use crate::judge::verdict::{Arbitration, Basis, Offset, PointReport, Worse};

/// The points that a summary names, at most.
const NAMED: usize = 3;

/// What the arbiter says about a run: the largest errors of both sides, and the points that differ or nearly do. Nothing if
/// it measured no point.
pub(super) fn summary(basis: Basis, points: &[PointReport]) -> Option<String> {
    let judged = || points.iter().filter_map(|point| Some((point, point.arbiter.as_ref()?)));
    let largest = |of: fn(&Arbitration) -> &Offset| {
        let (point, arbitration) = judged().max_by(|(_, a), (_, b)| of(a).share.total_cmp(&of(b).share))?;
        let Offset { max_abs, share, .. } = of(arbitration);
        Some(format!("by at most {max_abs:.1e}, {}, at {}", of_tolerance(*share), point.name))
    };
    let golden = largest(|arbitration| &arbitration.golden)?;
    let candidate = largest(|arbitration| &arbitration.candidate)?;
    let whose = match basis {
        Basis::Golden => "the golden's own model in f64",
        Basis::Candidate => {
            "the candidate's weights and configuration in f64; the golden has no model of its own"
        }
        Basis::Recording => "a recording in f64",
    };
    let mut message = format!("arbiter ({whose}): the golden is off {golden}; the candidate {candidate}");
    let borderline: Vec<&PointReport> =
        judged().map(|(point, _)| point).filter(|point| point.is_borderline()).collect();
    for point in borderline.iter().take(NAMED) {
        message.push_str(&format!(". {}: {}", point.name, arbitration(point).unwrap_or_default()));
    }
    if let Some(more @ 1..) = borderline.len().checked_sub(NAMED) {
        message.push_str(&format!(". {more} more points differ or nearly do"));
    }
    Some(message)
}

/// Whose error is larger, if f64 was asked: `golden off by 3.10e-6, candidate by 4.00e-7: the golden is the worse one`
pub(super) fn arbitration(point: &PointReport) -> Option<String> {
    let Arbitration { worse, golden, candidate } = point.arbiter.as_ref()?;
    let verdict = match worse {
        Worse::Golden => "the golden is the worse one",
        Worse::Candidate => "the candidate is the worse one",
        Worse::Neither => "neither is clearly the worse one",
        Worse::NotRounding => {
            "that is no rounding error: the golden is of other weights or another configuration, or wrong"
        }
    };
    let (golden, candidate) = (measure(golden.max_abs), measure(candidate.max_abs));
    Some(format!("golden off by {golden}, candidate by {candidate}: {verdict}"))
}
