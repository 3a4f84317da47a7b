//! Configurations of a release that are not those of its golden's model: what transformers would build, and what is said.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_tests::run;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use serde_json::{Value, json};

use crate::VERIFY;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(name)
}

/// A folder with the model of a golden, whose configuration `change` has changed.
fn release(name: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden(name).join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let mut config: Value =
        serde_json::from_slice(&fs::read(golden(name).join("config.json")).unwrap()).unwrap();
    change(&mut config);
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

/// The exit status, and the findings of the report: kind, outcome and message.
fn verified(model: &Path, golden: &Path) -> (i32, Vec<[String; 3]>) {
    let args = ["--model", model.to_str().unwrap(), "--golden", golden.to_str().unwrap(), "--json"];
    let run = run(VERIFY, &args);
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stderr));
    let files = report["files"].as_array().unwrap().iter();
    let findings = files.flat_map(|file| file["findings"].as_array().unwrap());
    let findings = findings.chain(report["findings"].as_array().unwrap());
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let three = |finding: &Value| ["kind", "outcome", "message"].map(|key| text(finding, key));
    (run.code, findings.map(three).collect())
}

fn said(findings: &[[String; 3]], kind: &str) -> Vec<[String; 2]> {
    let of_kind = findings.iter().filter(|[known, ..]| known == kind);
    of_kind.map(|[_, outcome, message]| [outcome.clone(), message.clone()]).collect()
}

#[test]
fn the_line_that_reads_other_parameters_of_the_same_weights_is_named() {
    let cases: [(&str, &str, Value, &str); 3] = [
        (
            "masked-lm-untied",
            "tie_word_embeddings",
            json!(true),
            r#""tie_word_embeddings": true, where it has "tie_word_embeddings": false"#,
        ),
        (
            "sequence-classification",
            "architectures",
            json!(["DebertaForTokenClassification"]),
            r#""architectures": ["DebertaForTokenClassification"], where it has "architectures": ["DebertaForSequenceClassification"]"#,
        ),
        (
            "v2-masked-lm",
            "num_hidden_layers",
            json!(1),
            r#""num_hidden_layers": 1, where it has "num_hidden_layers": 2"#,
        ),
    ];
    for (name, key, value, line) in cases {
        let folder = release(name, |config| config[key] = value);
        let (code, findings) = verified(folder.path(), &golden(name));
        assert_eq!(code, 1, "{name}: {findings:?}");
        let named = said(&findings, "config-differs");
        let of_digest = named.iter().find(|[_, message]| message.contains("the weights are those of golden"));
        assert!(
            of_digest.is_some_and(|[outcome, message]| outcome == "divergence" && message.contains(line)),
            "{name}: {findings:?}"
        );
        assert!(said(&findings, "weights-differ").is_empty(), "{name}: {findings:?}");
    }
}

#[test]
fn architectures_that_leave_out_the_head_of_the_golden_fail() {
    let name = "sequence-classification";
    for with_config in [true, false] {
        let folder = release(name, |config| config["architectures"] = json!(["DebertaModel"]));
        // A golden of samples has a trace of the base model beside those of its class.
        let other = tempfile::tempdir().unwrap();
        fs::copy(golden(name).join("plain.safetensors"), other.path().join("plain.safetensors")).unwrap();
        fs::copy(golden("model").join("plain.safetensors"), other.path().join("layers.safetensors")).unwrap();
        if with_config {
            fs::copy(golden(name).join("config.json"), other.path().join("config.json")).unwrap();
        }
        let (_, findings) = verified(folder.path(), other.path());
        let unfit = said(&findings, "config-unfit");
        assert!(
            matches!(unfit.as_slice(), [[outcome, message]] if outcome == "divergence"
                && message.contains("architectures names DebertaModel, the golden is of DebertaForSequenceClassification")),
            "{findings:?}"
        );
        let folder = release(name, |config| drop(config.as_object_mut().unwrap().remove("architectures")));
        assert!(said(&verified(folder.path(), other.path()).1, "config-unfit").is_empty());
    }
}

#[test]
fn default_labels_in_another_order_are_others() {
    let name = "sequence-classification";
    let count = |config: &Value| {
        let labels = config.get("id2label").and_then(Value::as_object).map(serde_json::Map::len);
        labels.or(config["num_labels"].as_u64().map(|count| count as usize)).unwrap_or(2)
    };
    for (turned, code) in [(false, 0), (true, 1)] {
        let folder = release(name, |config| {
            let count = count(config);
            let of = |id: usize| if turned { count - 1 - id } else { id };
            let label = |id: usize| (id.to_string(), json!(format!("LABEL_{}", of(id))));
            config["id2label"] = Value::Object((0..count).map(label).collect());
        });
        let (ended, findings) = verified(folder.path(), &golden(name));
        assert_eq!(ended, code, "{findings:?}");
        let labels = said(&findings, "labels-differ");
        assert_eq!(labels.len(), usize::from(turned));
        assert!(labels.iter().all(|[_, message]| message.contains("in another order")), "{labels:?}");
    }
    // Names of one's own for labels that have none in the golden are no fault.
    let folder = release(name, |config| {
        let label = |id: usize| (id.to_string(), json!(format!("name {id}")));
        config["id2label"] = Value::Object((0..count(config)).map(label).collect());
    });
    assert_eq!(verified(folder.path(), &golden(name)).0, 0);
}

#[test]
fn a_tensor_that_the_model_does_not_compute_with_is_a_note() {
    const POSITIONS: &str = "deberta.embeddings.position_embeddings.weight";
    let name = "sequence-classification";
    let folder = release(name, |_| ());
    let path = folder.path().join("model.safetensors");
    let with = |head: f32, path: &Path| {
        let bytes = fs::read(golden(name).join("model.safetensors")).unwrap();
        let positions: Vec<u8> = [head; 20 * 24].iter().flat_map(|number| number.to_le_bytes()).collect();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = read.tensors();
        let positions = TensorView::new(Dtype::F32, vec![20, 24], &positions).unwrap();
        tensors.push((POSITIONS.to_owned(), positions));
        serialize_to_file(tensors, None, path).unwrap();
    };
    with(0.5, &path);
    let (code, findings) = verified(folder.path(), &golden(name));
    assert_eq!(code, 0, "{findings:?}");
    assert!(said(&findings, "weights-differ").is_empty(), "{findings:?}");
    let notes = said(&findings, "note");
    assert!(
        notes.iter().any(|[outcome, message]| outcome == "pass" && message.starts_with(POSITIONS)),
        "{findings:?}"
    );
    // Nor do files differ that have it and have it not.
    fs::copy(golden(name).join("model.safetensors"), folder.path().join("other.safetensors")).unwrap();
    let (code, findings) = verified(folder.path(), &golden(name));
    assert_eq!(code, 0, "{findings:?}");
    let differing = said(&findings, "files-differ");
    assert!(
        matches!(differing.as_slice(), [[outcome, message]] if outcome == "pass" && message.contains("does not compute with")),
        "{findings:?}"
    );
}

/// transformers' classes leave out what the mask decoder adds, and save the rest.
#[test]
fn a_tensor_that_is_left_out_and_not_computed_with_is_a_note() {
    const POSITIONS: &str = "deberta.embeddings.position_embeddings.weight";
    let folder = release("mask-decoder", |_| {});
    let bytes = fs::read(golden("mask-decoder").join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter();
    let rest = tensors.filter(|(name, _)| name != POSITIONS);
    serialize_to_file(rest, None, &folder.path().join("model.safetensors")).unwrap();
    // The traces of the mask decoder cannot be judged without.
    let (code, findings) = verified(folder.path(), &golden("mask-decoder"));
    assert_eq!(code, 2, "{findings:?}");
    assert!(said(&findings, "weights-differ").is_empty(), "{findings:?}");
    let notes = said(&findings, "note");
    assert!(notes.iter().any(|[_, message]| message.starts_with(POSITIONS)), "{findings:?}");
}

#[test]
fn a_policy_without_notes_passes_a_release_with_a_graph() {
    let folder = tempfile::tempdir().unwrap();
    let trained = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/trained/nli");
    for (to, files) in [
        ("release", &["config.json", "model.safetensors", "model.onnx"][..]),
        (
            "golden",
            &["config.json", "case.yaml", "model.safetensors", "texts.safetensors", "texts.tf.safetensors"],
        ),
    ] {
        fs::create_dir(folder.path().join(to)).unwrap();
        for file in files {
            fs::copy(trained.join(file), folder.path().join(to).join(file)).unwrap();
        }
    }
    let policy = folder.path().join("verify.yaml");
    fs::write(&policy, "models: [{model: ./release, goldens: [./golden]}]\nnotes: fail\n").unwrap();
    let run = run(VERIFY, &["--policy", policy.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("points are no outputs of the graph"), "{}", run.stdout);
}
