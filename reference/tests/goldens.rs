//! Every recorded activation and output of the project's goldens, to 5e-6, in f32 and in f64.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use support::Allowed;

/// Cases with published values of checkpoints that are not here.
const WITHOUT_WEIGHTS: [&str; 5] = [
    "microsoft--deberta-base",
    "microsoft--deberta-base-mnli",
    "microsoft--deberta-v2-xlarge",
    "microsoft--deberta-v3-base",
    "microsoft--deberta-v3-xsmall",
];

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/data");

#[test]
fn every_trace_of_every_case() {
    let count = support::verify_all::<f32>(Path::new(DATA), &WITHOUT_WEIGHTS, Allowed::Absolute(5e-6));
    assert!(count.folders >= 46 && count.traces >= 120, "{} cases, {} traces", count.folders, count.traces);
}

#[test]
fn every_trace_of_every_case_in_f64() {
    let count = support::verify_all::<f64>(Path::new(DATA), &WITHOUT_WEIGHTS, Allowed::Absolute(5e-6));
    assert!(count.folders >= 46 && count.traces >= 120, "{} cases, {} traces", count.folders, count.traces);
}
