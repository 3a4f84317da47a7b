//! Every recorded activation and output of the project's goldens, to 5e-6.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

/// Cases with published values of checkpoints that are not here.
const WITHOUT_WEIGHTS: [&str; 2] = ["microsoft--deberta-base", "microsoft--deberta-base-mnli"];

#[test]
fn every_trace_of_every_case() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/data"));
    let count = support::verify_all(folder, &WITHOUT_WEIGHTS, 5e-6);
    assert!(count.folders >= 46 && count.traces >= 120, "{} cases, {} traces", count.folders, count.traces);
}
