//! What is recorded, and what becomes of recordings that have more, or less, than a class computes.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_golden::{Data, Tensor, Trace};
use deberta_tests::{Run, run};

use crate::VERIFY;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Records a case on one of its own inputs.
fn record(model: &Path, inputs: &Path, output: &Path, more: &[&str]) -> Run {
    let given = ["record", "--model", text(model), "--inputs", text(inputs), "-o", text(output), "--force"];
    run(VERIFY, &[&given, more].concat())
}

/// A folder with a trace that was changed, as a golden.
fn golden(case: &str, input: &str, change: impl FnOnce(&mut Trace)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut trace = Trace::read(&data(case).join(input)).unwrap();
    change(&mut trace);
    trace.metadata.retain(|(key, _)| key != "format");
    trace.write(&folder.path().join(input)).unwrap();
    folder
}

fn verify(case: &str, golden: &Path) -> Run {
    run(VERIFY, &["--model", text(&data(case)), "--golden", text(golden)])
}

#[test]
fn patterns_that_match_nothing_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("t.safetensors");
    let (model, inputs) = (data("masked-lm"), data("masked-lm").join("plain.safetensors"));
    let wrong = record(&model, &inputs, &output, &["--points", "encoder.layer.0"]);
    assert_eq!(wrong.code, 2, "{}{}", wrong.stdout, wrong.stderr);
    assert!(wrong.stderr.contains("\"encoder.layer.0\": no activation has such a name"), "{}", wrong.stderr);
    assert!(!output.exists());
    // Attentions come with the points that they are, and with all points.
    let attentions = |points: &str| {
        assert_eq!(record(&model, &inputs, &output, &["--points", points]).code, 0, "{points}");
        let trace = Trace::read(&output).unwrap();
        trace.tensors.iter().filter(|tensor| tensor.name.starts_with("outputs.attentions.")).count()
    };
    assert_eq!(attentions("deberta.encoder.layer.?".replace('?', "0").as_str()), 0);
    let all = attentions("*");
    assert!(all > 0 && attentions("*.layer.1.attention.self.probs") == all);
}

#[test]
fn a_golden_of_selected_points_decides_what_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (model, inputs) = (data("masked-lm"), data("masked-lm").join("plain.safetensors"));
    assert_eq!(record(&model, &inputs, &at("few.safetensors"), &["--points", "deberta.embeddings"]).code, 0);
    assert_eq!(record(&model, &inputs, &at("all.safetensors"), &[]).code, 0);
    let compare =
        |golden: &str, candidate: &str| run(VERIFY, &["compare", text(&at(golden)), text(&at(candidate))]);
    let selected = compare("few.safetensors", "all.safetensors");
    assert_eq!(selected.code, 0, "{}{}", selected.stdout, selected.stderr);
    assert!(selected.stdout.contains("0 points of the golden alone"), "{}", selected.stdout);
    // What the golden has and the candidate lacks is still missing.
    let lacking = compare("all.safetensors", "few.safetensors");
    assert_eq!(lacking.code, 1, "{}{}", lacking.stdout, lacking.stderr);
}

#[test]
fn labels_that_a_class_does_not_take_are_named_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("t.safetensors");
    let (model, inputs) = (data("masked-lm"), data("masked-lm").join("loss.safetensors"));
    let base = record(&model, &inputs, &output, &["--class", "DebertaModel"]);
    assert_eq!(base.code, 0, "{}", base.stderr);
    assert!(
        base.stderr.contains("DebertaModel does not take, and the trace does not get: labels"),
        "{}",
        base.stderr
    );
    assert!(Trace::read(&output).unwrap().get("inputs.labels").is_none());
    let head = record(&model, &inputs, &output, &[]);
    assert!(!head.stderr.contains("does not take"), "{}", head.stderr);
    assert!(Trace::read(&output).unwrap().get("inputs.labels").is_some());
}

#[test]
fn what_a_recorder_has_beside_the_points_is_left_out_and_named() {
    let extra = |name: &str| Tensor {
        name: format!("activations.deberta.{name}"),
        shape: vec![1, 2],
        data: Data::Floats(vec![1.0, 2.0]),
    };
    let golden = golden("masked-lm", "plain.safetensors", |trace| {
        let names = ["embeddings.dropout", "encoder.layer.0.intermediate.intermediate_act_fn"];
        trace.tensors.extend(names.map(extra));
    });
    let run = verify("masked-lm", golden.path());
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("2 tensors of the golden were left out"), "{}", run.stdout);
    assert!(
        run.stdout.contains("not judged: 1 trace in part") && !run.stdout.contains('∞'),
        "{}",
        run.stdout
    );
}

#[test]
fn what_a_trace_says_of_far_positions_must_be_so() {
    let with = |word: &str| {
        let word = word.to_owned();
        golden("v2-model-long", "far.safetensors", |trace| {
            trace.metadata.push(("far_positions".to_owned(), word));
        })
    };
    let verified = |word: &str| verify("v2-model-long", with(word).path());
    assert_eq!(verified("spilled").code, 0);
    for (word, message) in [
        ("clampd", "far_positions is \"clampd\", it must be"),
        ("clamped", "far_positions is \"clamped\", those of DebertaV2Model are \"spilled\""),
    ] {
        let run = verified(word);
        assert_eq!(run.code, 2, "{word}: {}", run.stdout);
        assert!(run.stdout.contains(message), "{word}: {}", run.stdout);
    }
}

#[test]
fn tensors_of_the_encoder_without_a_place_in_the_configuration_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    let trained = data("../trained/nli");
    for name in ["model.safetensors", "vocab.json", "merges.txt"] {
        fs::copy(trained.join(name), model.join(name)).unwrap();
    }
    let config = fs::read_to_string(trained.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let layers = config["num_hidden_layers"].as_u64().unwrap();
    config["num_hidden_layers"] = (layers - 1).into();
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    let output = folder.path().join("t.safetensors");
    let said = "tensors of the encoder have no place in this configuration";
    let inputs = trained.join("texts.safetensors");
    let recorded = record(&model, &inputs, &output, &[]);
    assert!(recorded.stderr.contains(&format!("warning: {}", text(&model))), "{}", recorded.stderr);
    assert!(recorded.code == 0 && recorded.stderr.contains(said), "{}", recorded.stderr);
    let examples = data("../trained/data/mnli/dev_matched.tsv");
    let task =
        run(VERIFY, &["task", "mnli", "--model", text(&model), "--data", text(&examples), "--limit", "1"]);
    assert!(task.code == 2 && task.stderr.contains(said), "{}{}", task.stdout, task.stderr);
    // The encoder of a model with a head is whole.
    let base = record(&trained, &inputs, &output, &["--class", "DebertaModel"]);
    assert!(base.code == 0 && !base.stderr.contains(said), "{}", base.stderr);
}

#[test]
fn pointers_of_git_lfs_are_called_so_whatever_they_stand_for() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 557\n";
    let files = ["plain.safetensors", "model.safetensors", "config.json", "case.yaml"];
    for pointer in files {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(data("masked-lm")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        fs::write(folder.path().join(pointer), POINTER).unwrap();
        let run = run(VERIFY, &["--model", text(folder.path())]);
        assert_eq!(run.code, 2, "{pointer}: {}", run.stdout);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("run `git lfs pull`") && said.contains(pointer), "{pointer}: {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        fs::write(folder.path().join(name), POINTER).unwrap();
    }
    let error = deberta_reference::Tokenizer::slow_from_pretrained(folder.path()).err().unwrap();
    assert!(error.to_string().contains("run `git lfs pull`"), "{error}");
}
