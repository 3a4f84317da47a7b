//! The model in f64 against `model.double()` of PyTorch, at every point: what it judges others by is exact.
//!
//! The traces are written by golden/generate/record_double.py; the models are those of golden/data.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use support::{File, compare, run};

/// 2⁻⁵² is 2.2e-16; the largest numbers in these traces are near 20.
const TOLERANCE: f64 = 2e-14;

#[test]
fn every_trace_in_f64() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(here.join("tests/double")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let (mut points, mut numbers, mut failures) = (0, 0, String::new());
    for path in &paths {
        let label = path.file_name().unwrap().to_string_lossy();
        let (case, _) = label.split_once('.').unwrap();
        let (folder, trace) = (here.join("../golden/data").join(case), File::open(path));
        let found = compare(&trace, &run::<f64>(&folder, &trace).unwrap());
        let (error, at) = &found.worst;
        println!("{label:50} {:3} points  max error {error:.1e} at {at}", found.points);
        if !found.failures.is_empty() || *error > TOLERANCE || found.points == 0 {
            failures.push_str(&format!("\n{label}: max error {error:e} at {at}\n{}", found.failures));
        }
        points += found.points;
        numbers += found.numbers;
    }
    assert!(failures.is_empty(), "{failures}");
    println!("{} traces: {points} tensors, {numbers} numbers", paths.len());
    assert!(paths.len() >= 21 && points >= 455, "{} traces, {points} points", paths.len());
}

#[test]
fn f32_is_not_that_exact() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let trace = File::open(&here.join("tests/double/model-talking-head.plain.safetensors"));
    let folder = here.join("../golden/data/model-talking-head");
    let error = compare(&trace, &run::<f32>(&folder, &trace).unwrap()).worst.0;
    assert!(error > 1e-8 && error < 5e-6, "{error:e}");
}
