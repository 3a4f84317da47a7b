//! The two conventions for masked rows, which explain padding that differs.

use deberta_reference::MaskedRows;

use crate::judge::verdict::{Outcome, PointReport, Verdict};
use crate::report::{Finding, FindingKind};

/// A convention in words.
pub(super) fn convention(rows: MaskedRows) -> &'static str {
    match rows {
        MaskedRows::Uniform => "uniform attention in masked rows (transformers from 4.47)",
        MaskedRows::Zero => "zero attention in masked rows (transformers to 4.46, TensorFlow, Microsoft)",
    }
}

/// Whether numbers of tokens, or of padding, are not the golden's.
pub(super) fn differs(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Padding | Verdict::Diverges | Verdict::Statistic | Verdict::NotFinite { .. })
}

/// The convention that is not this one.
pub(super) fn other(rows: MaskedRows) -> MaskedRows {
    match rows {
        MaskedRows::Uniform => MaskedRows::Zero,
        MaskedRows::Zero => MaskedRows::Uniform,
    }
}

/// What follows for the points of a run with `rows`, some of which differ, from a run with the other convention. Nothing if
/// tokens differ in both.
pub(super) fn explain(rows: MaskedRows, points: &[PointReport], again: &[PointReport]) -> Option<Finding> {
    let passes = |point: &PointReport| point.verdict.outcome() == Outcome::Pass;
    let padding_alone = points.iter().all(|point| point.verdict == Verdict::Padding || passes(point));
    let (this, other) = (convention(rows), convention(other(rows)));
    let (kind, outcome, message) = match (again.iter().all(passes), padding_alone) {
        (true, true) => (
            FindingKind::MaskedRows,
            Outcome::Pass,
            format!(
                "tokens agree. Padding differs, because the golden was computed with {other}, and the model was run \
                 with {this}; run so, everything agrees. No token depends on it"
            ),
        ),
        (true, false) => (
            FindingKind::PaddingDiffers,
            Outcome::Divergence,
            format!(
                "the golden was computed with {other}, and the model was run with {this}; run so, everything agrees. \
                 Some queries may attend to nothing and are themselves attended to, so that tokens depend on it: \
                 correct masked_rows in the golden"
            ),
        ),
        (false, true) => (
            FindingKind::PaddingDiffers,
            Outcome::Divergence,
            format!("tokens agree. Padding differs, and neither {this} nor {other} explains it"),
        ),
        (false, false) => return None,
    };
    Some(Finding::new(kind, outcome, message))
}
