//! Every recorded activation and output of the fixtures, to 5e-6.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use deberta_reference::{BucketRounding, DebertaConfig, FarPositions};
use support::Allowed;

#[test]
fn every_trace_of_the_fixtures() {
    let Some(folder) = shared("fixtures") else { return };
    let count = support::verify_all::<f32>(&folder, &[], Allowed::Absolute(5e-6));
    assert!(count.traces > 0, "no traces");
}

#[test]
fn every_trace_of_the_fixtures_of_version_2() {
    let Some(folder) = shared("fixtures-v2") else { return };
    let count = support::verify_all::<f32>(&folder, &[], Allowed::Share(5e-6));
    assert!(count.traces > 0, "no traces");
    support::verify_all::<f64>(&folder, &[], Allowed::Share(5e-6));
}

fn shared(name: &str) -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")).join(name);
    if !folder.is_dir() {
        println!("SKIPPED: {} is absent", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn buckets_are_those_of_every_framework() {
    let Some(folder) = shared("fixtures-v2") else { return };
    let text = std::fs::read_to_string(folder.join("v2-buckets.json")).unwrap();
    let table: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = table["cases"].as_array().unwrap();
    assert!(cases.len() >= 14);
    for case in cases {
        let (buckets, max) = (&case["position_buckets"], &case["max_relative_positions"]);
        let keys = format!(
            r#"{{"model_type": "deberta-v2", "position_buckets": {buckets}, "max_relative_positions": {max}}}"#
        );
        let distances = DebertaConfig::from_json(&keys).unwrap().distances();
        let span = buckets.as_i64().unwrap();
        let row = |bucket: i64| usize::try_from((bucket + span).clamp(0, 2 * span - 1)).unwrap();
        let others = |key: &str, d: usize| case[key].get(d.to_string()).and_then(serde_json::Value::as_i64);
        let twins = distances.with_rounding(BucketRounding::TensorFlow);
        let clamped =
            distances.with_far_positions(FarPositions::Clamp).with_rounding(BucketRounding::Microsoft);
        let limit = usize::try_from(max.as_i64().unwrap() - 1).unwrap();
        let pytorch: Vec<i64> =
            case["pytorch"].as_array().unwrap().iter().map(|bucket| bucket.as_i64().unwrap()).collect();
        for (d, &bucket) in pytorch.iter().enumerate() {
            let tensorflow = others("tensorflow_differs", d).unwrap_or(bucket);
            let microsoft = match &case["microsoft_2023_differs"] {
                // "clamped: every distance >= 512 is as 511"
                serde_json::Value::String(_) => pytorch[d.min(limit)],
                _ => others("microsoft_2023_differs", d).unwrap_or(bucket),
            };
            for (code, distances, bucket) in [
                ("PyTorch", distances, bucket),
                ("TensorFlow", twins, tensorflow),
                ("Microsoft", clamped, microsoft),
            ] {
                let at = isize::try_from(d).unwrap();
                assert_eq!(distances.row(at), row(bucket), "{code} {buckets} {max} {d}");
                assert_eq!(distances.row(-at), row(-bucket), "{code} {buckets} {max} -{d}");
            }
        }
    }
}
