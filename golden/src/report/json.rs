//! The JSON report. Its schema is in `docs/report.md`.

use std::borrow::Cow;
use std::path::Path;

use deberta_converters::error::{Error, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Document, Report, Rules, SCHEMA, Shard};
use crate::judge::compare::Outcome;

/// The schema of the JSON report of a policy.
const GATE_SCHEMA: &str = "deberta-verify-gate-1";

/// The report of a policy.
#[derive(Serialize, Deserialize)]
pub(super) struct Gate<'r> {
    schema: Cow<'r, str>,
    pub(super) producer: Cow<'r, str>,
    pub(super) policy: Cow<'r, str>,
    pub(super) rules: Rules,
    outcome: Outcome,
    pub(super) shard: Option<Shard>,
    pub(super) models: Cow<'r, [Report]>,
}

impl Gate<'_> {
    /// Reads the report of a policy.
    ///
    /// # Errors
    /// No such file; text that is no such report, with line and column.
    pub(super) fn read(path: &Path) -> Result<Gate<'static>> {
        let text = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
        let gate: Gate<'static> = serde_json::from_slice(&text).map_err(|error| {
            Error::malformed(format!("not the JSON report of a policy: {error}"))
                .caused_by(error)
                .in_file(path)
        })?;
        match &*gate.schema {
            GATE_SCHEMA => Ok(gate),
            other => {
                Err(Error::malformed(format!("schema {other:?}, expected {GATE_SCHEMA:?}")).in_file(path))
            }
        }
    }
}

/// The report as JSON: of one model [`super::Report`], of a policy all of them in `models`.
pub(super) fn render(document: &Document<'_>) -> String {
    let text = match (document.policy, document.reports) {
        (None, [report]) => serde_json::to_string_pretty(report),
        (policy, models) => serde_json::to_string_pretty(&Gate {
            schema: Cow::Borrowed(GATE_SCHEMA),
            producer: Cow::Borrowed(document.producer()),
            policy: Cow::Borrowed(policy.unwrap_or("")),
            rules: document.rules,
            outcome: document.outcome(),
            shard: document.shard,
            models: Cow::Borrowed(models),
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

/// Reads what [`number`] writes.
pub(crate) fn read_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Finite(f64),
        Word(String),
    }
    match Number::deserialize(deserializer)? {
        Number::Finite(x) => Ok(x),
        Number::Word(word) => match word.as_str() {
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            "NaN" => Ok(f64::NAN),
            other => Err(D::Error::custom(format!("{other:?} is no number"))),
        },
    }
}

/// Reads the schema of a report, of which there is one.
pub(super) fn schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let schema = String::deserialize(deserializer)?;
    match schema.as_str() {
        SCHEMA => Ok(schema),
        other => Err(D::Error::custom(format!("schema {other:?}, expected {SCHEMA:?}"))),
    }
}
