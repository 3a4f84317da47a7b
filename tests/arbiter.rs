//! `--precision f64`: whose error a difference is.

use std::path::{Path, PathBuf};

use deberta_golden::{Data, Trace};
use deberta_tests::{run, succeed};
use serde_json::Value;

use crate::{CONVERT, VERIFY};

const LOGITS: &str = "outputs.logits";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The golden `masked-lm` with its model and one of its traces.
fn golden(folder: &Path) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data/masked-lm");
    for name in ["config.json", "model.safetensors", "plain.safetensors"] {
        std::fs::copy(data.join(name), folder.join(name)).unwrap();
    }
    let case = "model: \".\"\nclass: DebertaForMaskedLM\nproducer: a test\ntolerances:\n  default: {atol: 5.0e-6}\ntraces:\n\
                - {file: plain.safetensors, framework: pytorch, class: DebertaForMaskedLM, masked_rows: uniform}\n";
    let digest = succeed(CONVERT, &["digest", text(&data)]);
    let digest = digest.split_whitespace().find(|word| word.len() == 64).unwrap();
    std::fs::write(folder.join("case.yaml"), format!("{case}digest: \"{digest}\"\n")).unwrap();
    folder.join("plain.safetensors")
}

/// Adds to a number of the logits of a trace.
fn shift(trace: &Path, by: f32) {
    let mut changed = Trace::read(trace).unwrap();
    let logits = changed.tensors.iter_mut().find(|tensor| tensor.name == LOGITS).unwrap();
    let Data::Floats(values) = &mut logits.data else { panic!("not f32") };
    values[7] += by;
    changed.metadata.retain(|(key, _)| key != "format");
    changed.write(trace).unwrap();
}

/// The exit status, and the report of the first run.
fn verify(args: &[&str]) -> (i32, Value) {
    let run = run(VERIFY, &[args, &["--format", "json"]].concat());
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {}", run.stderr));
    (run.code, report["files"][0]["runs"][0].clone())
}

fn logits(run: &Value) -> &Value {
    run["points"].as_array().unwrap().iter().find(|point| point["name"] == LOGITS).unwrap()
}

fn error(of: &Value) -> f64 {
    of["max_abs"].as_f64().unwrap()
}

#[test]
fn a_golden_that_is_slightly_wrong_is_the_worse_one() {
    let folder = tempfile::tempdir().unwrap();
    let trace = golden(folder.path());
    let model = ["--model", text(folder.path()), "--no-diagnosis"];
    let (code, run) = verify(&[&model[..], &["--precision", "f64"]].concat());
    assert_eq!((code, &run["arbiter"]), (0, &"golden".into()));
    for point in run["points"].as_array().unwrap() {
        let arbiter = &point["arbiter"];
        let (golden, candidate) = (error(&arbiter["golden"]), error(&arbiter["candidate"]));
        assert!(golden < 5e-6 && candidate < 5e-6, "{point}");
    }

    shift(&trace, 8e-6);
    let (code, run) = verify(&[&model[..], &["--precision", "f64"]].concat());
    let arbiter = &logits(&run)["arbiter"];
    // The arbiter informs: it is a divergence all the same.
    assert_eq!((code, &arbiter["worse"]), (1, &"golden".into()));
    assert!(error(&arbiter["golden"]) > 5e-6 && error(&arbiter["candidate"]) < 3e-6, "{arbiter}");
    let said = deberta_tests::run(VERIFY, &[&model[..], &["--precision", "f64"]].concat()).stdout;
    assert!(
        said.contains("Arbiter: golden off by ") && said.contains("the golden is the worse one"),
        "{said}"
    );

    // Without it, nothing is said, and the outcome is the same.
    let (code, run) = verify(&model);
    assert_eq!((code, &run["arbiter"], &logits(&run)["arbiter"]), (1, &Value::Null, &Value::Null));
}

#[test]
fn a_candidate_that_is_slightly_wrong_is_the_worse_one() {
    let folder = tempfile::tempdir().unwrap();
    golden(folder.path());
    // An eps that the golden's model does not have changes little.
    let candidate = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    let config = config.replacen('{', "{\"layer_norm_eps\": 2e-5,", 1);
    std::fs::write(candidate.path().join("config.json"), config).unwrap();
    std::fs::copy(folder.path().join("model.safetensors"), candidate.path().join("model.safetensors"))
        .unwrap();
    let args = ["--model", text(candidate.path()), "--golden", text(folder.path()), "--no-diagnosis"];
    let (code, run) = verify(&[&args[..], &["--precision", "f64"]].concat());
    let points = run["points"].as_array().unwrap();
    let differing: Vec<&Value> =
        points.iter().filter(|point| point["verdict"]["kind"] == "diverges").collect();
    assert!(code == 1 && !differing.is_empty(), "{code}");
    for point in differing {
        assert_eq!(point["arbiter"]["worse"], "candidate", "{point}");
    }
}

#[test]
fn without_the_golden_s_model_a_large_difference_is_no_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let trace = golden(folder.path());
    let alone = tempfile::tempdir().unwrap();
    let moved = alone.path().join("plain.safetensors");
    std::fs::copy(&trace, &moved).unwrap();
    let judged = |by: f32| {
        shift(&moved, by);
        let model = ["--model", text(folder.path()), "--golden", text(alone.path()), "--no-diagnosis"];
        verify(&[&model[..], &["--precision", "f64"]].concat()).1
    };
    let run = judged(1e-4);
    assert_eq!((&run["arbiter"], &logits(&run)["arbiter"]["worse"]), (&"candidate".into(), &"golden".into()));
    assert_eq!(logits(&judged(1.0))["arbiter"]["worse"], "not-rounding");
}

#[test]
fn a_recording_in_f64_judges_two_traces() {
    let folder = tempfile::tempdir().unwrap();
    let trace = golden(folder.path());
    let record = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let args = ["record", "--model", text(folder.path()), "--inputs", text(&trace), "-o", text(&path)];
        succeed(VERIFY, &[&args[..], more].concat());
        path
    };
    let candidate = record("candidate.st", &[]);
    let exact = record("exact.st", &["--precision", "f64"]);
    let doubles = Trace::read(&exact).unwrap();
    let outputs = doubles.tensors.iter().filter(|tensor| !tensor.name.starts_with("inputs."));
    assert!(outputs.clone().count() > 40 && outputs.clone().all(|x| matches!(x.data, Data::Doubles(_))));
    assert!(doubles.metadata("producer").unwrap().ends_with(" in f64"));

    shift(&candidate, 1e-2);
    let compare = ["compare", text(&trace), text(&candidate), "--common", "--arbiter"];
    let (code, run) = verify(&[&compare[..], &[text(&exact)]].concat());
    assert_eq!((code, &run["arbiter"]), (1, &"recording".into()));
    assert_eq!(logits(&run)["arbiter"]["worse"], "candidate");

    let refused = |arbiter: &Path, says: &str| {
        let run = deberta_tests::run(VERIFY, &[&compare[..], &[text(arbiter)]].concat());
        assert!(run.code == 2 && run.stderr.contains(says), "{}", run.stderr);
    };
    refused(&candidate, "no arbiter: nothing in it is f64; record --precision f64 writes such a trace");
    let mut other = doubles.clone();
    let ids = other.tensors.iter_mut().find(|tensor| tensor.name == "inputs.input_ids").unwrap();
    let Data::Integers(values) = &mut ids.data else { panic!("not integers") };
    values[0] += 1;
    other.metadata.retain(|(key, _)| key != "format");
    other.write(&exact).unwrap();
    refused(&exact, "no arbiter: inputs.input_ids is not what the golden has");

    // As a golden, f64 is compared rounded.
    let exact = record("again.st", &["--precision", "f64"]);
    let (code, run) = verify(&["compare", text(&exact), text(&trace), "--common"]);
    assert_eq!((code, logits(&run)["verdict"]["kind"].as_str()), (0, Some("match")));
}

#[test]
fn only_the_reference_computes_in_f64() {
    let folder = tempfile::tempdir().unwrap();
    let trace = golden(folder.path());
    let output = folder.path().join("out.st");
    let run = run(
        VERIFY,
        &[
            "record",
            "--model",
            text(folder.path()),
            "--inputs",
            text(&trace),
            "-o",
            text(&output),
            "--backend",
            "onnx",
            "--precision",
            "f64",
        ],
    );
    assert!(run.code == 2 && !output.exists(), "{}", run.stderr);
}
