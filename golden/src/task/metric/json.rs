//! Metrics in JSON.

use serde::{Serialize, Serializer};

use crate::judge::unbounded;

/// Metrics as a map in their order.
pub(in crate::task) fn metrics<S: Serializer>(
    metrics: &[(String, Option<f64>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(metrics.iter().map(|(name, value)| (name, value.map(Number))))
}

/// A margin: infinite if there was nothing else to choose.
pub(in crate::task) fn margin<S: Serializer>(margin: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    unbounded::serialize(&f64::from(*margin), serializer)
}

#[derive(Serialize)]
struct Number(#[serde(serialize_with = "unbounded::serialize")] f64);
