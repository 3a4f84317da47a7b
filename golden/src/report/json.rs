//! The JSON report. Its schema is in `docs/report.md`.

use std::borrow::Cow;
use std::path::Path;

use deberta_converters::error::{Error, Result};
use deberta_converters::opening;
use serde::{Deserialize, Serialize};

use super::{Document, PolicyShard, Report, Rules};
use crate::judge::verdict::Outcome;

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
    pub(super) shard: Option<PolicyShard>,
    pub(super) models: Cow<'r, [Report]>,
}

/// The largest report, in bytes.
const LARGEST: u64 = 64 << 20;

impl Gate<'_> {
    /// Reads the report of a policy.
    ///
    /// # Errors
    /// No such file; text that is no such report, with line and column.
    pub(super) fn read(path: &Path) -> Result<Gate<'static>> {
        let text = opening::read(path, LARGEST)?;
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
