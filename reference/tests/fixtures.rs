//! Every recorded activation and output of the fixtures, to 5e-6.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

#[test]
fn every_trace_of_the_fixtures() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures"));
    if !folder.is_dir() {
        println!("SKIPPED: {} is absent", folder.display());
        return;
    }
    let count = support::verify_all::<f32>(folder, &[], 5e-6);
    assert!(count.traces > 0, "no traces");
}
