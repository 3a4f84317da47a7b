//! Metrics in JSON.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::judge::unbounded;

/// Metrics as a map in their order.
pub(in crate::task) fn metrics<S: Serializer>(
    metrics: &[(String, Option<f64>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(metrics.len()))?;
    for (name, value) in metrics {
        match value {
            Some(value) => map.serialize_entry(name, &Number(*value))?,
            None => map.serialize_entry(name, &())?,
        }
    }
    map.end()
}

/// A margin: infinite if there was nothing else to choose.
pub(in crate::task) fn margin<S: Serializer>(margin: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    unbounded::serialize(&f64::from(*margin), serializer)
}

struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        unbounded::serialize(&self.0, serializer)
    }
}
