//! The JSON report. Its schema is in `docs/report.md`.

use serde::{Serialize, Serializer};

use super::{Document, Report, Rules};
use crate::compare::Outcome;

/// The schema of the JSON report of a policy.
pub(super) const GATE_SCHEMA: &str = "deberta-verify-gate-1";

/// The report of a policy.
#[derive(Serialize)]
struct Gate<'r> {
    schema: &'static str,
    producer: &'r str,
    policy: &'r str,
    rules: Rules,
    outcome: Outcome,
    models: &'r [Report],
}

/// The report as JSON: of one model [`super::Report`], of a policy all of them in `models`.
pub(super) fn render(document: &Document<'_>) -> String {
    let text = match (document.policy, document.reports) {
        (None, [report]) => serde_json::to_string_pretty(report),
        (policy, models) => serde_json::to_string_pretty(&Gate {
            schema: GATE_SCHEMA,
            producer: document.producer(),
            policy: policy.unwrap_or(""),
            rules: document.rules,
            outcome: document.outcome(),
            models,
        }),
    };
    // Strings, numbers, lists and maps with strings as keys: there is no value that JSON cannot hold.
    text.unwrap_or_else(|error| format!("{{\"schema\": \"error\", \"message\": {:?}}}", error.to_string()))
        + "\n"
}

/// Writes a number. JSON has none that are not finite: they are the strings `Infinity`, `-Infinity` and `NaN`, which never
/// pass for a small number.
pub(crate) fn number<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match x {
        x if x.is_finite() => serializer.serialize_f64(*x),
        x if x.is_nan() => serializer.serialize_str("NaN"),
        x if *x > 0.0 => serializer.serialize_str("Infinity"),
        _ => serializer.serialize_str("-Infinity"),
    }
}
