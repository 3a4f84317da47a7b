//! Goldens that this program records itself: `record --text`.

use std::path::Path;
use std::thread;

use deberta_tests::{run, succeed};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{CONVERT, VERIFY};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn trained(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/trained").join(name)
}

#[test]
fn a_golden_of_texts_judges_the_model_that_it_is_of() {
    let folder = tempfile::tempdir().unwrap();
    let texts = folder.path().join("texts.txt");
    std::fs::write(&texts, "The quick brown fox.\nIs it red?\tThe kite is red.\n").unwrap();
    for (name, class, whole) in [
        ("nli", "DebertaForSequenceClassification", "none"),
        ("v3-choices", "DebertaV2ForMultipleChoice", "50MB"),
        ("masked-lm", "DebertaForMaskedLM", "60kB"),
    ] {
        let (model, golden) = (trained(name), folder.path().join(name));
        let record =
            ["record", "--model", text(&model), "--texts", text(&texts), "--text", "a", "--text-pair", "b"];
        let record = [&record[..], &["--max-size", whole, "-o", text(&golden)]].concat();
        let printed = succeed(VERIFY, &record);
        assert!(printed.contains(&format!("{class}, ")), "{printed}");
        let case = std::fs::read_to_string(golden.join("case.yaml")).unwrap();
        assert!(case.contains("not of a framework") && case.contains("tokenizer_digest: "), "{case}");
        let lines = std::fs::read_to_string(golden.join("tokenizer.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), 3);
        assert!(golden.join("config.json").is_file());
        assert_eq!(golden.join("layers.safetensors").is_file(), whole == "60kB", "{name}");
        let report = succeed(VERIFY, &["--model", text(&model), "--golden", text(&golden)]);
        assert!(!report.contains("lacking"), "{report}");

        let again = run(VERIFY, &record);
        assert_eq!(again.code, 2);
        assert!(again.stderr.contains("--force replaces it"));
        succeed(VERIFY, &[&record[..], &["--force"]].concat());
    }
}

#[test]
fn texts_may_come_from_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, golden) = (folder.path().join("pipe"), folder.path().join("golden"));
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let model = trained("nli");
    let record =
        ["record", "--model", text(&model), "--texts", text(&pipe), "--no-cover", "-o", text(&golden)];
    let write = |texts: String| {
        let pipe = pipe.clone();
        // A reader that has seen enough closes it.
        thread::spawn(move || std::fs::write(pipe, texts).is_ok())
    };
    let writer = write("The kite is red.\nIs it?\tIt is.\n".to_owned());
    succeed(VERIFY, &record);
    assert!(writer.join().unwrap());
    let lines = std::fs::read_to_string(golden.join("tokenizer.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 2);

    std::fs::remove_dir_all(&golden).unwrap();
    let writer = write("y\n".repeat(10_000_000));
    let endless = run(VERIFY, &record);
    assert!(!writer.join().unwrap() && endless.code == 2 && !golden.exists());
    assert!(endless.stderr.contains("pipe: more than 64 texts"), "{}", endless.stderr);
}

#[test]
fn texts_that_cannot_be_recorded_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let golden = folder.path().join("golden");
    let refused = |args: &[&str], expected: &str| {
        let output = run(VERIFY, &[&["record", "-o", text(&golden)], args].concat());
        assert_eq!(output.code, 2, "{}", output.stderr);
        assert!(output.stderr.contains(expected), "{expected}: {}", output.stderr);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    };
    let model = trained("nli");
    let long = "word ".repeat(2000);
    refused(&["--model", text(&model), "--text", &long], "tokens, and up to");
    refused(&["--model", text(&model)], "--inputs");
    refused(
        &["--model", text(&model), "--text", "a", "--class", "TFDebertaModel"],
        "--inputs takes those of",
    );
    refused(&["--model", text(&model), "--text", "a", "--backend", "onnx"], "recorded by the reference");
    let bare = trained("../data/model");
    let bare = if bare.is_dir() { bare } else { trained("../data/masked-lm") };
    refused(&["--model", text(&bare), "--text", "a"], "no tokenizer");
}

/// Copies the files of a trained model that are named.
fn copied(name: &str, files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        std::fs::copy(trained(name).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

/// Negates a number of the file in the middle: of its weights, whatever the format.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2 / 4 * 4;
    for byte in bytes.iter_mut().skip(middle).step_by(4).take(256) {
        *byte ^= 0x40;
    }
    std::fs::write(path, bytes).unwrap();
}

const NLI: [&str; 6] =
    ["config.json", "vocab.json", "merges.txt", "model.safetensors", "pytorch_model.bin", "tf_model.h5"];

#[test]
fn a_folder_agrees_with_itself() {
    for (name, more) in [("nli", "model.onnx"), ("nli", "texts.safetensors")] {
        let folder = copied(name, &[&NLI[..], &[more]].concat());
        let report = succeed(VERIFY, &["--self", text(folder.path())]);
        assert!(
            report.contains("there is no golden: the folder was compared with its own model.safetensors"),
            "{report}"
        );
        assert!(report.contains("does not show that it is the model which was trained"), "{report}");
    }
}

#[test]
fn one_file_that_is_damaged_is_named() {
    let of_all = [&NLI[..], &["model.onnx"]].concat();
    for file in ["model.safetensors", "pytorch_model.bin", "tf_model.h5", "model.onnx"] {
        let folder = copied("nli", &of_all);
        let path = folder.path().join(file);
        if file == "pytorch_model.bin" {
            // Its archive has checksums: it is made of weights that are damaged.
            let other = copied("nli", &["config.json", "model.safetensors"]);
            damage(&other.path().join("model.safetensors"));
            std::fs::remove_file(&path).unwrap();
            succeed(CONVERT, &["convert", text(other.path()), "--to", "pytorch", "-o", text(&path)]);
        } else {
            damage(&path);
        }
        let run = run(VERIFY, &["--self", "--model", text(folder.path()), "--no-diagnosis"]);
        assert_eq!(run.code, 1, "{file}: {}{}", run.stdout, run.stderr);
        let named = run.stdout.lines().filter(|line| line.contains("tensors are not those of"));
        assert_eq!(named.count(), 1, "{file}: {}", run.stdout);
        assert!(run.stdout.contains("3 files agree on the others"), "{file}: {}", run.stdout);
        let wrong = run.stdout.lines().find(|line| line.contains("DIVERGENCE") || line.contains("diverge"));
        assert!(wrong.is_some_and(|line| line.contains(file)), "{file}: {}", run.stdout);
    }
}

#[test]
fn a_file_alone_is_compared_with_nothing() {
    let folder = copied("nli", &["config.json", "vocab.json", "merges.txt", "model.safetensors"]);
    let alone = run(VERIFY, &["--self", text(folder.path())]);
    assert_eq!(alone.code, 2, "{}{}", alone.stdout, alone.stderr);
    assert!(
        alone.stdout.contains("nothing could be compared: model.safetensors is the only file"),
        "{}",
        alone.stdout
    );
    let with_golden =
        run(VERIFY, &["--self", "--model", text(folder.path()), "--golden", text(folder.path())]);
    assert_eq!(with_golden.code, 2);
}

#[test]
fn a_graph_alone_is_compared_with_its_weights() {
    let folder = copied("nli", &["config.json", "model.onnx"]);
    let report = succeed(VERIFY, &["--self", text(folder.path())]);
    assert!(report.contains("graph by onnx"), "{report}");
}

#[test]
fn tokenizers_that_differ_are_named() {
    let files = ["config.json", "spm.model", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
    let folder = copied(
        "v3-nli",
        &[&files[..], &["pytorch_model.bin", "added_tokens.json", "special_tokens_map.json"]].concat(),
    );
    succeed(VERIFY, &["--self", text(folder.path())]);
    let path = folder.path().join("tokenizer.json");
    let tokenizer = std::fs::read_to_string(&path).unwrap();
    let changed = tokenizer.replacen("\"▁kite\"", "\"▁kiet\"", 1);
    assert!(tokenizer != changed);
    std::fs::write(&path, changed).unwrap();
    let run = run(VERIFY, &["--self", text(folder.path())]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("spm.model and tokenizer.json are not the same tokenizer"), "{}", run.stdout);
}

#[test]
fn a_policy_asks_for_it() {
    let folder = copied("nli", &NLI);
    let release = folder.path().join("release");
    std::fs::create_dir(&release).unwrap();
    for file in NLI {
        std::fs::rename(folder.path().join(file), release.join(file)).unwrap();
    }
    let policy = folder.path().join("verify.yaml");
    std::fs::write(&policy, "models: [{model: ./release, self: true}]\nnotes: fail\n").unwrap();
    let report = succeed(VERIFY, &["--policy", text(&policy), "--json"]);
    assert!(report.contains("\"no-golden\""), "{report}");
}

#[test]
fn a_report_for_a_card_has_the_facts_of_its_head() {
    let folder = tempfile::tempdir().unwrap();
    let card = folder.path().join("my-card.md");
    succeed(VERIFY, &[text(&trained("nli")), "--report", text(&card)]);
    let written = std::fs::read_to_string(card).unwrap();
    assert!(written.starts_with("## Verification\n"), "{written}");
    assert!(written.contains("| <code>model.safetensors</code> | safetensors | f32 | <code>"), "{written}");
    assert!(written.contains("  - task: {type: text-classification}\n"), "{written}");
    assert!(written.contains("name: Points that agree, value: 1}"), "{written}");
}

#[test]
fn a_first_argument_is_the_model() {
    let model = trained("nli");
    let ended = run(VERIFY, &[text(&model), "--format", "markdown"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let misspelled = run(VERIFY, &["recrod"]);
    assert_eq!(misspelled.code, 2);
    assert!(misspelled.stderr.contains("neither a subcommand, nor a file"), "{}", misspelled.stderr);
    let case = model.join("case.yaml");
    let file = run(VERIFY, &[text(&model), "--golden", text(&case)]);
    assert_eq!(file.code, 2);
    assert!(file.stderr.contains("a file: --golden names the folder of a golden, here "), "{}", file.stderr);
}
