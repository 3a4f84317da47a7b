//! What is said of a model whose activations are beyond the range of f16.

use std::fs;
use std::path::Path;

use deberta_tests::{change_tensor, run, succeed};
use serde_json::Value;

use crate::VERIFY;

/// The small model of a case, with the weights of queries of its second layer `factor` times as large.
fn scaled(case: &str, weight: &str, factor: f32) -> tempfile::TempDir {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(case);
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(data.join(name), folder.path().join(name)).unwrap();
    }
    let file = folder.path().join("model.safetensors");
    change_tensor(&file, weight, |_, values| values.iter_mut().for_each(|value| *value *= factor));
    fs::create_dir(folder.path().join("golden")).unwrap();
    folder
}

fn json(model: &str, golden: &str) -> Value {
    serde_json::from_str(&succeed(VERIFY, &["--model", model, "--golden", golden, "--json"])).unwrap()
}

#[test]
fn activations_beyond_f16_are_a_finding_and_no_failure() {
    for (case, weight, stays) in [
        ("v2-model", "encoder.layer.1.attention.self.query_proj.weight", false),
        ("model", "encoder.layer.1.attention.self.in_proj.weight", false),
        ("v2-model", "encoder.layer.1.attention.self.query_proj.weight", true),
    ] {
        let folder = scaled(case, weight, if stays { 1.0 } else { 1e7 });
        let (model, golden) = (folder.path().to_str().unwrap(), folder.path().join("golden"));
        let inputs =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../golden/data/{case}/plain.safetensors"));
        let trace = golden.join("plain.safetensors");
        let args =
            ["record", "--model", model, "--inputs", inputs.to_str().unwrap(), "-o", trace.to_str().unwrap()];
        let recorded = run(VERIFY, &args);
        assert_eq!(recorded.code, 0, "{}", recorded.stderr);
        assert_eq!(
            recorded.stderr.contains("above 65,504, the largest number of f16"),
            !stays,
            "{}",
            recorded.stderr
        );

        let golden = golden.to_str().unwrap();
        let report = json(model, golden);
        assert_eq!(report["outcome"], "pass");
        let findings = report["files"][0]["runs"][0]["findings"].as_array().unwrap();
        let found: Vec<&Value> = findings.iter().filter(|finding| finding["kind"] == "f16-range").collect();
        if stays {
            assert!(found.is_empty(), "{found:?}");
            continue;
        }
        assert_eq!((found.len(), &found[0]["outcome"]), (1, &"pass".into()), "{findings:?}");
        let message = found[0]["message"].as_str().unwrap();
        assert!(message.starts_with("attention scores reach "), "{message}");
        assert!(message.contains(" in layer 1 (encoder.layer.1.attention.self."), "{message}");
        assert!(message.contains("this model overflows in fp16"), "{message}");
        for format in ["text", "html", "markdown"] {
            let shown = succeed(VERIFY, &["--model", model, "--golden", golden, "--format", format]);
            assert!(shown.contains("this model overflows in fp16"), "{format}: {shown}");
        }
    }
}

#[test]
fn scores_are_looked_at_where_the_golden_has_none() {
    // PyTorch records what modules return, and the scores are inside of one.
    let folder = scaled("v2-model", "encoder.layer.2.attention.self.query_proj.weight", 1e7);
    let (model, golden) = (folder.path().to_str().unwrap(), folder.path().join("golden"));
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data/v2-model/padded.safetensors");
    fs::copy(data, golden.join("padded.safetensors")).unwrap();
    let output = run(VERIFY, &["--model", model, "--golden", golden.to_str().unwrap(), "--no-diagnosis"]);
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(output.stdout.contains("note: attention scores reach "), "{}", output.stdout);
    assert!(output.stdout.contains(" in layer 2 (encoder.layer.2.attention.self."), "{}", output.stdout);
}
