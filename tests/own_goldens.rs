//! Goldens that this program records itself: `record --text`.

use std::path::Path;

use deberta_tests::{run, succeed};

use crate::VERIFY;

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
