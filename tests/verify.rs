//! `deberta-verify` as people run it.

use std::path::Path;
use std::process::Command;

use deberta_golden::trace::folder::find;
use deberta_golden::{Data, Trace};
use deberta_tests::cases::each;
use deberta_tests::{fixture, run, run_command, shared_fixtures, shared_fixtures_of_version_2, succeed};

use crate::VERIFY;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Records the model in `weights` on the inputs of `trace`.
fn record(weights: &Path, trace: &Path) -> Trace {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("recorded.safetensors");
    succeed(VERIFY, &["record", "--model", text(weights), "--inputs", text(trace), "-o", text(&output)]);
    Trace::read(&output).unwrap()
}

/// The largest difference of the outputs and activations of `expected` from those of `found`, and how many numbers there are.
fn difference(expected: &Trace, found: &Trace) -> (f32, usize) {
    difference_by(expected, found, |_| 1.0)
}

/// The same, each difference divided by what `unit` makes of the largest number of its tensor.
fn difference_by(expected: &Trace, found: &Trace, unit: impl Fn(f32) -> f32) -> (f32, usize) {
    let mut worst = (0.0_f32, 0);
    for tensor in expected.tensors.iter().filter(|tensor| !tensor.name.starts_with("inputs.")) {
        let other = found.get(&tensor.name).unwrap_or_else(|| panic!("{} was not recorded", tensor.name));
        assert_eq!(other.shape, tensor.shape, "{}", tensor.name);
        let (Data::Floats(expected), Data::Floats(found)) = (&tensor.data, &other.data) else {
            panic!("{}: not f32", tensor.name)
        };
        let unit = unit(expected.iter().fold(0.0_f32, |largest, number| largest.max(number.abs())));
        for (expected, found) in expected.iter().zip(found) {
            let error = (expected - found).abs() / unit;
            assert!(!error.is_nan(), "{}: {expected} {found}", tensor.name);
            worst = (worst.0.max(error), worst.1 + 1);
        }
    }
    worst
}

#[test]
fn what_is_recorded_equals_what_the_frameworks_computed() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data");
    let mut folders: Vec<_> =
        ["masked-lm", "question-answering", "mask-decoder"].iter().map(|name| data.join(name)).collect();
    let version_2 = ["v2-model-conv", "v2-multiple-choice", "v2-mask-decoder-conv", "v2-replaced-tokens"];
    folders.extend(version_2.map(|name| data.join(name)));
    folders.extend(shared_fixtures());
    folders.extend(shared_fixtures_of_version_2());
    let traces = folders
        .into_iter()
        .flat_map(|folder| find(&folder).unwrap().into_iter().map(move |trace| (folder.clone(), trace)));
    each(traces, |(folder, trace)| {
        let expected = Trace::read(trace).unwrap();
        let found = record(folder, trace);
        assert_eq!(found.metadata("masked_rows"), expected.metadata("masked_rows"));
        // Of version 2, the largest logits are near 10.
        let version_2 = folder.to_string_lossy().contains("/v2-");
        let unit = |largest: f32| if version_2 { largest.max(1.0) } else { 1.0 };
        let (error, numbers) = difference_by(&expected, &found, unit);
        println!("{}: {numbers} numbers, largest difference {error:e}", trace.display());
        assert!(numbers > 0 && error <= 5e-6, "{error:e}");
    });
}

#[test]
fn every_format_of_a_model_computes_the_same_to_the_bit() {
    for case in ["mlm", "seqcls", "qa", "abs-types", "sharded", "f16", "bf16"] {
        let folder = fixture("transformers").join(case);
        let inputs = tempfile::tempdir().unwrap();
        let trace = inputs.path().join("inputs.safetensors");
        let ids = deberta_golden::Tensor {
            name: "inputs.input_ids".to_owned(),
            shape: vec![2, 9],
            data: Data::Integers((0..18).map(|id| id * 5 % 17).collect()),
        };
        Trace { metadata: vec![], tensors: vec![ids] }.write(&trace).unwrap();
        let mut recorded = Vec::new();
        for name in [
            "model.safetensors",
            "pytorch_model.bin",
            "tf_model.h5",
            "model.safetensors.index.json",
            "pytorch_model.bin.index.json",
        ] {
            let weights = folder.join(name);
            if weights.exists() {
                recorded.push((name, record(&weights, &trace)));
            }
        }
        let (_, first) = &recorded[0];
        assert!(recorded.len() > 1, "{case} has one format");
        for (name, other) in &recorded[1..] {
            assert_eq!(first.tensors, other.tensors, "{case}/{name}");
        }
        println!("{case}: {} formats, {} tensors", recorded.len(), first.tensors.len());
    }
}

#[test]
fn inputs_with_choices_are_for_multiple_choice_alone() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data");
    let trace = data.join("v2-multiple-choice/plain.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let arguments = |model: &str, class: &str| {
        let model = data.join(model);
        let arguments = [
            "record",
            "--model",
            text(&model),
            "--inputs",
            text(&trace),
            "-o",
            text(&output),
            "--class",
            class,
        ];
        run(VERIFY, &arguments)
    };
    let refused = arguments("v2-multiple-choice", "DebertaV2Model");
    assert!(refused.code == 2 && refused.stderr.contains("choices, which DebertaV2Model does not take"));
    let other = arguments("model", "DebertaV2Model");
    assert!(other.code == 2, "{}", other.stderr);
    assert!(
        other.stderr.contains("model_type is \"deberta\", this is no DebertaV2Model"),
        "{}",
        other.stderr
    );
    assert!(!output.exists());

    // A configuration of version 1 beside tensors of version 2.
    for file in ["model.safetensors", "config.json"] {
        let case = if file == "config.json" { "model" } else { "v2-model" };
        std::fs::copy(data.join(case).join(file), folder.path().join(file)).unwrap();
    }
    let (model, trace) = (folder.path(), data.join("v2-model/plain.safetensors"));
    let mixed =
        run(VERIFY, &["record", "--model", text(model), "--inputs", text(&trace), "-o", text(&output)]);
    assert!(mixed.code == 2, "{}", mixed.stderr);
    assert!(mixed.stderr.contains("the tensors are those of DeBERTa version 2 or 3"), "{}", mixed.stderr);
}

#[test]
fn bench_reports_times() {
    let model = fixture("transformers").join("base");
    let json = succeed(
        VERIFY,
        &[
            "bench",
            "--model",
            text(&model),
            "--seq",
            "7",
            "--runs",
            "3",
            "--threads",
            "1",
            "--format",
            "json",
        ],
    );
    let measured: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(measured["class"], "DebertaModel");
    assert_eq!((&measured["seq"], &measured["threads"]), (&7.into(), &1.into()));
    for key in ["load_ms", "first_ms", "median_ms", "min_ms", "max_ms", "tokens_per_second"] {
        assert!(measured[key].as_f64().unwrap() > 0.0, "{key}");
    }
}

#[test]
fn thousands_of_threads_are_not_started() {
    let model = fixture("transformers").join("base");
    let arguments = ["bench", "--model", text(&model), "--seq", "7", "--runs", "1", "--format", "json"];
    let mut command = Command::new(VERIFY);
    let run = run_command(command.args(arguments).env("RAYON_NUM_THREADS", "100000"));
    let measured: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(measured["threads"].as_u64().unwrap() <= 512, "{}", run.stdout);
    let refused = run_command(Command::new(VERIFY).args(arguments).args(["--threads", "513"]));
    assert!(refused.code == 2 && refused.stderr.contains("not in 1..=512"), "{}", refused.stderr);
}

#[test]
fn every_class_of_version_2_is_measured() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data");
    for (case, class) in [
        ("v2-model-conv", "DebertaV2Model"),
        ("v2-masked-lm", "DebertaV2ForMaskedLM"),
        ("v2-mask-decoder", "EnhancedMaskDecoder"),
        ("v2-multiple-choice", "DebertaV2ForMultipleChoice"),
        ("v2-replaced-tokens", "ReplacedTokenDetectionModel"),
        ("v2-question-answering", "TFDebertaV2ForQuestionAnswering"),
    ] {
        let model = data.join(case);
        let arguments = ["bench", "--model", text(&model), "--class", class, "--batch", "2", "--seq", "5"];
        let json = succeed(VERIFY, &[&arguments[..], &["--runs", "1", "--format", "json"]].concat());
        let measured: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(measured["class"], class);
    }
}

#[test]
fn what_cannot_be_run_exits_with_2_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let model = fixture("transformers").join("base");
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data/masked-lm/plain.safetensors");
    let fails = |args: &[&str], says: &str| {
        let run = run(VERIFY, args);
        assert_eq!(run.code, 2, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(says), "{args:?}: {}", run.stderr);
        assert!(!output.exists());
    };
    let record = ["record", "--inputs", text(&trace), "-o", text(&output), "--model"];
    fails(&[&record[..], &[text(&model)]].concat(), "missing");
    fails(
        &[&record[..], &[text(&model), "--class", "BertModel"]].concat(),
        "there is no class \"BertModel\"",
    );
    fails(&[&record[..], &[text(folder.path())]].concat(), "no weights in this folder");
    fails(
        &[
            "record",
            "--inputs",
            text(&model.join("model.safetensors")),
            "-o",
            text(&output),
            "--model",
            text(&model),
        ],
        "not a trace",
    );
    fails(&["bench", "--model", text(&model), "--class", "DebertaForQuestionAnswering"], "qa_outputs");
}

#[test]
fn bless_shows_what_changes_and_writes_only_when_told() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data");
    let (model, other) = (data.join("masked-lm"), data.join("masked-lm-untied"));
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("t.safetensors");
    let inputs = model.join("plain.safetensors");
    let record = |model: &Path| {
        let arguments =
            ["record", "--model", text(model), "--inputs", text(&inputs), "-o", text(&trace), "--force"];
        succeed(VERIFY, &arguments);
        Trace::read(&trace).unwrap()
    };
    let bless = |write: &[&str]| {
        let arguments = ["bless", "--model", text(&model), "--golden", text(folder.path())];
        run(VERIFY, &[&arguments, write].concat())
    };

    let old = record(&other);
    let shown = bless(&[]);
    assert_eq!(shown.code, 1, "{}", shown.stderr);
    assert!(shown.stdout.contains("FIRST DIVERGENCE") && shown.stderr.contains("nothing was written"));
    assert_eq!(Trace::read(&trace).unwrap(), old);

    assert_eq!(bless(&["--write"]).code, 0);
    let new = Trace::read(&trace).unwrap();
    let names = |trace: &Trace| -> Vec<String> {
        let mut names: Vec<_> = trace.tensors.iter().map(|tensor| tensor.name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&new), names(&old));
    assert_eq!(difference(&record(&model), &new).0, 0.0);
    let agreed = bless(&[]);
    assert!(agreed.code == 0 && agreed.stderr.contains("nothing to bless"), "{}", agreed.stderr);

    // What PyTorch recorded is not replaced.
    std::fs::copy(&inputs, &trace).unwrap();
    let refused = bless(&["--write"]);
    assert!(refused.code == 2 && refused.stderr.contains("recorded by pytorch"), "{}", refused.stderr);
    assert_eq!(std::fs::read(&trace).unwrap(), std::fs::read(&inputs).unwrap());
}

/// A backend that needs another build is known by name, and missing is not the same as unknown.
#[test]
fn a_backend_that_was_not_built_in_says_how_to_build_it() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data/masked-lm");
    let (model, inputs) = (text(&data), data.join("plain.safetensors"));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    for arguments in [
        vec!["--model", model],
        vec!["record", "--model", model, "--inputs", text(&inputs), "-o", text(&out)],
        vec!["bench", "--model", model],
    ] {
        let refused = run(VERIFY, &[arguments, vec!["--backend", "tch"]].concat());
        assert_eq!(refused.code, 2, "{}{}", refused.stdout, refused.stderr);
        assert!(refused.stderr.contains("--features tch"), "{}", refused.stderr);
        assert!(refused.stdout.is_empty() && !out.exists(), "{}", refused.stdout);
    }
}
