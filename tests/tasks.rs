//! `deberta-verify task` as a process, on the trained models of `golden/trained` and their sample data.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_tests::{Run, run, succeed};
use serde_json::Value;
use tempfile::TempDir;

use crate::{CONVERT, VERIFY};

pub(crate) fn trained(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/trained").join(name);
    path.to_str().unwrap().to_owned()
}

/// Runs a task on a model and data of `golden/trained`.
pub(crate) fn task(name: &str, model: &str, data: &str, more: &[&str]) -> Run {
    let (model, data) = (trained(model), trained(&format!("data/{data}")));
    run(VERIFY, &[&["task", name, "--model", &model, "--data", &data], more].concat())
}

/// The report of a task that must end with that exit code.
pub(crate) fn report(name: &str, model: &str, data: &str, code: i32, more: &[&str]) -> Value {
    let run = task(name, model, data, &[&["--format", "json"], more].concat());
    assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

/// The message of a task that could not be judged.
pub(crate) fn undecided(run: &Run) -> &str {
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
    let line = run.stderr.trim_end();
    line.strip_prefix("error: ").filter(|line| !line.contains('\n')).unwrap()
}

/// A folder with a file of those contents, and the file.
pub(crate) fn file(name: &str, contents: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, contents).unwrap();
    (folder, path)
}

#[test]
fn every_trained_model_is_good_at_its_task() {
    for (name, model, data, threshold) in [
        ("mnli", "nli", "mnli/dev_matched.tsv", "accuracy=0.8"),
        ("mnli", "nli", "mnli/dev_mismatched.tsv", "accuracy=0.8"),
        ("stsb", "similarity", "stsb/dev.tsv", "pearson=0.9"),
        ("tokens", "entities", "conll/test.txt", "f1=0.9"),
        ("race", "choices", "race", "accuracy=0.9"),
        ("race", "v3-choices", "race", "accuracy=0.9"),
        ("mnli", "v3-nli", "mnli/dev_matched.tsv", "accuracy=0.7"),
        ("squad", "questions", "squad/dev-v2.json", "f1=90"),
        ("mlm", "masked-lm", "text/known.txt", "accuracy=0.9"),
        ("tokens", "v3-entities", "conll/test.txt", "f1=0.9"),
        ("squad", "v3-questions", "squad/dev-v2.json", "f1=90"),
        ("mlm", "v3-masked-lm", "text/known.txt", "accuracy=0.9"),
        ("mlm", "v3-replaced-tokens", "text/known.txt", "accuracy=0.999"),
        ("rtd", "v3-replaced-tokens", "rtd/replaced.tsv", "f1=0.75"),
        ("rtd", "v3-replaced-tokens", "text/known.txt", "f1=0.9"),
        ("swag", "choices", "swag/val.csv", "accuracy=0.9"),
        ("swag", "v3-choices", "swag/val.csv", "accuracy=0.9"),
        ("swag", "v3-choices", "swag/val.jsonl", "accuracy=0.85"),
        ("zero-shot", "v3-nli", "zero-shot/colours.tsv", "accuracy=0.9"),
    ] {
        let template: &[&str] =
            if name == "zero-shot" { &["--hypothesis-template", "The kite is {}."] } else { &[] };
        let run = task(name, model, data, &[&["--limit", "60", "--min", threshold], template].concat());
        assert_eq!(run.code, 0, "{name}: {}{}", run.stdout, run.stderr);
        assert!(run.stdout.ends_with("pass\n"), "{}", run.stdout);
    }
}

#[test]
fn formats_and_backends_of_a_model_agree() {
    for (against, more) in [
        ("nli/pytorch_model.bin", &[][..]),
        ("nli/tf_model.h5", &[]),
        ("nli", &["--against-backend", "onnx"]),
    ] {
        let model = trained(against);
        let options = [&["--limit", "24", "--against", &model], more].concat();
        let report = report("mnli", "nli", "mnli/dev_matched.tsv", 0, &options);
        let agreement = &report["agreement"];
        assert_eq!(agreement["choices"], 24, "{against}");
        assert_eq!(agreement["flips"].as_array().unwrap().len(), 0, "{against}");
        assert_eq!(agreement["closest"].as_array().unwrap().len(), 10);
        assert!(agreement["largest_difference"].as_f64().unwrap() < 1e-4, "{agreement}");
        assert_eq!(agreement["metrics"], report["metrics"]);
    }
}

#[test]
fn graphs_of_version_3_answer_as_the_weights_do() {
    let folder = TempDir::new().unwrap();
    for (name, model, data, sequences) in [
        ("mnli", "v3-nli", "mnli/dev_matched.tsv", 9),
        ("zero-shot", "v3-nli", "zero-shot/colours.tsv", 72),
        ("tokens", "v3-entities", "conll/test.txt", 9),
        ("squad", "v3-questions", "squad/dev-v2.json", 9),
        ("race", "v3-choices", "race", 36),
        // Of three, four and five endings.
        ("swag", "v3-choices", "swag/val.jsonl", 36),
        ("mlm", "v3-masked-lm", "text/known.txt", 173),
    ] {
        let graph = folder.path().join(model);
        if !graph.exists() {
            let path = graph.to_str().unwrap();
            succeed(CONVERT, &["st2onnx", &trained(model), "-o", path, "--dtype", "f32"]);
        }
        let (graph, tokenizer) = (graph.to_str().unwrap().to_owned(), trained(model));
        let options = ["--limit", "9", "--batch-size", "12", "--tokenizer", &tokenizer, "--against", &graph];
        let report = report(name, model, data, 0, &[&options[..], &["--against-backend", "onnx"]].concat());
        assert_eq!(report["sequences"], sequences, "{name}");
        let agreement = &report["agreement"];
        assert!(agreement["largest_difference"].as_f64().unwrap() < 1e-4, "{name}: {agreement}");
    }
}

#[test]
fn the_mask_decoder_is_known_where_its_weights_are_rounded() {
    let folder = TempDir::new().unwrap();
    for (head, class) in [("emd", "EnhancedMaskDecoder"), ("mlm", "DebertaForMaskedLM")] {
        let graph = folder.path().join(head);
        let graph = graph.to_str().unwrap();
        let out = format!("{graph}/");
        succeed(
            CONVERT,
            &["st2onnx", &trained("masked-lm"), "-o", &out, "--quantize", "int8", "--head", head],
        );
        let data = trained("data/text/known.txt");
        let options = ["task", "mlm", "--model", graph, "--backend", "onnx", "--data", &data, "--limit", "2"];
        let run = run(VERIFY, &[&options[..], &["--min", "accuracy=0.9"]].concat());
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.starts_with(&format!("mlm: {class} by onnx")), "{}", run.stdout);
    }
}

#[test]
fn graphs_of_the_detection_answer_as_the_weights_do() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (model, graph, tokenizer) = (path("model/"), path("graph/"), trained("v3-replaced-tokens"));
    let config = format!("{tokenizer}/config.json");
    succeed(CONVERT, &["init", "--config", &config, "--head", "rtd", "-o", &model]);
    succeed(CONVERT, &["st2onnx", &model, "-o", &graph]);
    let data = trained("data/rtd/replaced.tsv");
    let options =
        ["task", "rtd", "--model", &model, "--tokenizer", &tokenizer, "--data", &data, "--limit", "40"];
    let run = run(VERIFY, &[&options[..], &["--against", &graph, "--against-backend", "onnx"]].concat());
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("flips                0 of 741 choices"), "{}", run.stdout);
}

#[test]
fn the_mask_decoder_of_a_discriminator_fills_masks_and_answers_have_no_space_before_them() {
    let decoded = report("mlm", "v3-replaced-tokens", "text/known.txt", 0, &["--limit", "2"]);
    assert_eq!(decoded["class"], "EnhancedMaskDecoder");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("predictions.jsonl");
    let options = ["--limit", "40", "--predictions", path.to_str().unwrap()];
    assert_eq!(task("squad", "v3-questions", "squad/dev-v1.json", &options).code, 0);
    for line in fs::read_to_string(&path).unwrap().lines() {
        let prediction: Value = serde_json::from_str(line).unwrap();
        assert_eq!(prediction["predicted"], prediction["answers"][0], "{line}");
    }
}

#[test]
fn labels_fit_one_by_one_or_against_each_other() {
    let template = ["--hypothesis-template", "The kite is {}."];
    let judge =
        |data: &str, more: &[&str]| report("zero-shot", "v3-nli", data, 0, &[&template, more].concat());
    let one = judge("zero-shot/colours.tsv", &["--limit", "10"]);
    assert_eq!((&one["examples"], &one["sequences"]), (&10.into(), &80.into()));
    let labels = "red,blue,green,yellow,white,black,brown,grey";
    let each = judge("zero-shot/colours.jsonl", &["--multi-label", "--limit", "5", "--labels", labels]);
    assert_eq!((&each["examples"], &each["sequences"]), (&5.into(), &40.into()));
    let names: Vec<&String> = each["metrics"].as_object().unwrap().keys().collect();
    assert!(
        ["f1", "f1_macro", "f1.blue"].iter().all(|name| names.iter().any(|known| known == name)),
        "{names:?}"
    );
    let run = task("zero-shot", "v3-nli", "zero-shot/colours.tsv", &["--hypothesis-template", "It is so."]);
    assert!(undecided(&run).contains("\"It is so.\": 0 places {} for the label"), "{}", run.stderr);
    let run = task("zero-shot", "v3-nli", "zero-shot/colours.tsv", &["--labels", "red,blue"]);
    assert!(
        undecided(&run).contains("colours.tsv: line 2: label \"green\", --labels names red, blue"),
        "{}",
        run.stderr
    );
}

/// A copy of the entailment model whose labels are called in another order.
fn shifted() -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in ["config.json", "model.safetensors", "vocab.json", "merges.txt"] {
        fs::copy(Path::new(&trained("nli")).join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let names = ["NEUTRAL", "ENTAILMENT", "CONTRADICTION"];
    for (id, name) in names.into_iter().enumerate() {
        config["id2label"][id.to_string()] = name.into();
        config["label2id"][name] = id.into();
    }
    fs::write(&path, config.to_string()).unwrap();
    folder
}

#[test]
fn choices_that_flip_are_listed_and_fail_unless_they_are_allowed() {
    let other = shifted();
    let path = other.path().to_str().unwrap();
    let run = task("mnli", "nli", "mnli/dev_matched.tsv", &["--limit", "30", "--against", path]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("flips                30 of 30 choices"), "{}", run.stdout);
    assert!(run.stdout.contains("    dev_matched.tsv:2: \""), "{}", run.stdout);
    assert!(run.stdout.contains("    and 10 more: --format json has all"), "{}", run.stdout);
    let options = ["--limit", "30", "--against", path, "--max", "flips=30"];
    let report = report("mnli", "nli", "mnli/dev_matched.tsv", 0, &options);
    assert_eq!(report["agreement"]["flips"].as_array().unwrap().len(), 30);
    assert_eq!(report["agreement"]["largest_difference"], 0.0);
}

#[test]
fn labels_are_never_guessed() {
    let other = shifted();
    let config = other.path().join("config.json");
    let model = other.path().to_str().unwrap();
    let data = trained("data/mnli/dev_matched.tsv");
    let judge = || {
        run(
            VERIFY,
            &["task", "mnli", "--limit", "30", "--model", model, "--data", &data, "--min", "accuracy=0.5"],
        )
    };
    assert_eq!(judge().code, 1);
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut config_of: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
        edit(&mut config_of);
        fs::write(&config, config_of.to_string()).unwrap();
        let run = judge();
        undecided(&run).to_owned()
    };
    let message = with(&|config| config["label2id"]["NEUTRAL"] = 1.into());
    assert!(
        message.contains("config.json: label2id calls label 1 \"NEUTRAL\", id2label \"ENTAILMENT\""),
        "{message}"
    );
    let message = with(&|config| {
        config["label2id"] = Value::Null;
        config["id2label"]["0"] = "LABEL_0".into();
    });
    assert!(
        message.contains("id2label does not name label 0; the order of labels is not guessed"),
        "{message}"
    );
    let message = with(&|config| config["id2label"]["0"] = "yes".into());
    assert!(
        message.ends_with("label \"neutral\", the model has yes, ENTAILMENT, CONTRADICTION"),
        "{message}"
    );
}

#[test]
fn thresholds_decide_the_exit_status() {
    let judge =
        |more: &[&str]| task("stsb", "similarity", "stsb/dev.tsv", &[&["--limit", "20"], more].concat());
    let run = judge(&["--min", "pearson=1.5"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stdout.contains("FAILED: pearson is 0.") && run.stdout.ends_with("failed\n"),
        "{}",
        run.stdout
    );
    let run = judge(&["--min", "accuracy=0.5"]);
    assert_eq!(undecided(&run), "no metric \"accuracy\" for a threshold: there are pearson, spearman");
    // One example has no correlation.
    let run = task("stsb", "similarity", "stsb/dev.tsv", &["--limit", "1", "--min", "pearson=0"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stdout.contains("UNDEFINED: pearson is undefined, at least 0 is asked"), "{}", run.stdout);
}

#[test]
fn predictions_are_written_whole_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("predictions.jsonl");
    let options = ["--limit", "5", "--predictions", path.to_str().unwrap()];
    assert_eq!(task("mnli", "nli", "mnli/dev_matched.tsv", &options).code, 0);
    let written = fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0]["example"], "dev_matched.tsv:2");
    assert_eq!(lines[0]["logits"].as_array().unwrap().len(), 3);
    let failed = task("mnli", "nli", "conll/test.txt", &options);
    undecided(&failed);
    assert_eq!(fs::read_to_string(&path).unwrap(), written);
    let failed = task("stsb", "nli", "stsb/dev.tsv", &options);
    assert!(undecided(&failed).contains("3 labels, this task needs a model with one"), "{}", failed.stderr);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn numbers_of_labels_are_named_on_the_command_line() {
    let line = "{\"premise\": \"Ada owns a red kite and lives in Selby.\", \"hypothesis\": \"The kite is red.\", \"label\": 0}\n";
    let (_folder, path) = file("a.jsonl", &format!("{line}{}", line.replace(": 0", ": -1")));
    let labels = "entailment,neutral,contradiction";
    let run = run(
        VERIFY,
        &["task", "mnli", "--model", &trained("nli"), "--data", path.to_str().unwrap(), "--labels", labels],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("1 examples, 1 sequences"), "{}", run.stdout);
    assert!(run.stdout.contains("note: 1 examples have no label"), "{}", run.stdout);
}

#[test]
fn a_policy_compares_two_models_by_their_answers() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("release")).unwrap();
    for name in [
        "case.yaml",
        "config.json",
        "vocab.json",
        "merges.txt",
        "texts.safetensors",
        "texts.tf.safetensors",
        "model.safetensors",
        "tf_model.h5",
    ] {
        fs::copy(trained(&format!("nli/{name}")), folder.path().join("release").join(name)).unwrap();
    }
    fs::copy(trained("data/mnli/dev_matched.tsv"), folder.path().join("dev.tsv")).unwrap();
    let policy = folder.path().join("verify.yaml");
    let verify = |more: &str| {
        let task = format!("{{task: mnli, data: [./dev.tsv], limit: 10, {more}}}");
        fs::write(&policy, format!("models:\n  - model: ./release\n    tasks:\n      - {task}\n")).unwrap();
        run(VERIFY, &["--policy", policy.to_str().unwrap()])
    };
    let alike = verify("against: ./release/tf_model.h5, max: {flips: 0}");
    assert_eq!(alike.code, 0, "{}{}", alike.stdout, alike.stderr);
    assert!(
        alike.stdout.contains("0 of 10 choices are not those of ./release/tf_model.h5, accuracy "),
        "{}",
        alike.stdout
    );
    let stricter = verify("against: ./release/tf_model.h5, max: {largest_difference: -1}");
    assert_eq!(stricter.code, 1, "{}", stricter.stdout);
    assert_eq!(verify("against: ./release/none.bin").code, 2);
}

#[test]
fn a_policy_asks_for_tasks() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("release")).unwrap();
    for entry in fs::read_dir(trained("entities")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join("release").join(entry.file_name())).unwrap();
    }
    fs::copy(trained("data/conll/test.txt"), folder.path().join("test.txt")).unwrap();
    let policy = folder.path().join("verify.yaml");
    let verify = |limit: &str| {
        let text = format!(
            "models:\n  - model: ./release\n    tasks:\n      - {{task: tokens, data: [./test.txt], min: {{f1: {limit}}}, limit: 20}}\n\
             notes: fail\n"
        );
        fs::write(&policy, text).unwrap();
        run(VERIFY, &["--policy", policy.to_str().unwrap()])
    };
    let run = verify("0.9");
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("task tokens, 20 examples: f1 is "), "{}", run.stdout);
    let run = verify("1.1");
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    fs::remove_file(folder.path().join("test.txt")).unwrap();
    assert_eq!(verify("0.9").code, 2);
}

#[test]
fn a_policy_asks_for_labels_that_the_model_was_not_trained_on() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("release")).unwrap();
    for entry in fs::read_dir(trained("v3-nli")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join("release").join(entry.file_name())).unwrap();
    }
    fs::copy(trained("data/zero-shot/colours.tsv"), folder.path().join("colours.tsv")).unwrap();
    let policy = folder.path().join("verify.yaml");
    let verify = |options: &str| {
        let task = format!(
            "{{task: zero-shot, data: [./colours.tsv], min: {{accuracy: 0.9}}, limit: 9, options: {options}}}"
        );
        fs::write(&policy, format!("models:\n  - model: ./release\n    tasks:\n      - {task}\n")).unwrap();
        run(VERIFY, &["--policy", policy.to_str().unwrap()])
    };
    let run = verify("{hypothesis_template: \"The kite is {}.\"}");
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("task zero-shot, 9 examples: accuracy is 1.0000"), "{}", run.stdout);
    assert_eq!(verify("{hypothesis_template: \"The {} is lost.\"}").code, 1);
    let run = verify("{decoder: emd}");
    assert!(run.stderr.contains("decoder is an option of mlm, not of zero-shot"), "{}", run.stderr);
}
