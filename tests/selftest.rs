//! `deberta-verify selftest` as people run it.

use std::path::Path;

use deberta_tests::{run, succeed};

use crate::VERIFY;

fn data(case: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(case);
    folder.to_str().unwrap().to_owned()
}

#[test]
fn every_fault_of_the_models_in_memory_is_seen_where_it_is_and_named() {
    let json = succeed(VERIFY, &["selftest", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["survived"], &report["not_visible"]), (&0.into(), &0.into()));
    let faults: Vec<&serde_json::Value> = report["subjects"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|subject| subject["faults"].as_array().unwrap())
        .collect();
    assert!(faults.len() > 450, "{}", faults.len());
    for fault in &faults {
        assert_eq!(fault["fate"], "killed", "{fault}");
        assert_eq!(fault["in_place"], true, "{fault}");
        assert_eq!(fault["diagnosed"], true, "{fault}");
        assert_eq!(fault["wrongly_confirmed"], false, "{fault}");
    }
    // Of version 2: lines of its configuration, its kernel, and formulas that other code has wrong.
    for kind in [
        "position-buckets",
        "norm-rel-ebd",
        "share-att-key",
        "convolution",
        "conv-act",
        "reversed-kernel",
        "tie-word-embeddings",
        "floor-buckets",
        "integer-ratio",
        "missing-span",
        "mirrored-positions",
        "far-positions",
        "positions-without-bias",
        "convolution-input",
        "unmasked-convolution",
    ] {
        assert!(faults.iter().any(|fault| fault["kind"] == kind), "{kind}");
    }
    println!("{} faults killed", faults.len());
}

#[test]
fn a_model_of_ones_own_is_tested_with_its_golden() {
    let (model, golden) = (data("masked-lm"), data("masked-lm"));
    let text = succeed(VERIFY, &["selftest", "--model", &model, "--golden", &golden]);
    assert!(text.contains("(100.0 %)") && text.contains("transposed-kernel"), "{text}");
    // Faults that these numbers cannot show are listed with the reason, and not counted.
    for line in text.lines().filter(|line| line.trim_start().starts_with("not visible")) {
        println!("{line}");
    }
}

#[test]
fn models_of_version_2_are_tested_with_what_pytorch_computed() {
    for case in ["v2-masked-lm", "v2-model-separate", "v2-model-conv", "v2-model-long", "v2-multiple-choice"]
    {
        let arguments = ["selftest", "--model", &data(case), "--golden", &data(case), "--format", "json"];
        let report: serde_json::Value = serde_json::from_str(&succeed(VERIFY, &arguments)).unwrap();
        let count = |key: &str| report[key].as_u64().unwrap();
        let killed = count("killed");
        assert!(killed > 80, "{case}: {killed}");
        assert_eq!((count("survived"), count("wrongly_confirmed")), (0, 0), "{case}");
        // A number of an embedding that only the hidden state shows has no name.
        assert!(100 * count("in_place") >= 98 * killed, "{case}: {} of {killed}", count("in_place"));
        assert!(100 * count("diagnosed") >= 97 * killed, "{case}: {} of {killed}", count("diagnosed"));
        println!("{case}: {} of {killed} named", count("diagnosed"));
    }
}

#[test]
fn a_model_that_differs_to_begin_with_is_not_tested() {
    let other =
        run(VERIFY, &["selftest", "--model", &data("masked-lm"), "--golden", &data("masked-lm-untied")]);
    assert_eq!(other.code, 2, "{}{}", other.stdout, other.stderr);
}
