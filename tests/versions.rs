//! Conversions of what versions 2 and 3 alone have, and of files that are not of the version that their configuration says.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_tests::{fail, fixture, run, succeed};
use serde_json::{Value, json};

use crate::CONVERT;
use crate::refusals::{Model, Tensors};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(name)
}

fn model(name: &str) -> Model {
    Model::from_folder(&golden(name), "model.safetensors")
}

impl Model {
    fn path(&self) -> &str {
        self.weights.to_str().unwrap()
    }

    /// Converts to a folder of its own, which is returned.
    fn convert(&self, to: &str, more: &[&str]) -> (String, PathBuf) {
        let out = self.folder.path().join(to);
        let folder = format!("{}/", out.display());
        let arguments = [&["convert", self.path(), "--to", to, "-o", &folder, "--force"], more].concat();
        (succeed(CONVERT, &arguments), out)
    }

    fn class(&self) -> String {
        let report = succeed(CONVERT, &["inspect", self.path(), "--format", "json"]);
        let report: Value = serde_json::from_str(&report).unwrap();
        report["class"].as_str().unwrap().to_owned()
    }

    /// Writes the configuration with other values; null takes a key out.
    fn set(&self, keys: &Value) {
        let path = self.folder.path().join("config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for (key, value) in keys.as_object().unwrap() {
            config[key] = value.clone();
        }
        config.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        fs::write(path, config.to_string()).unwrap();
    }
}

#[test]
fn a_discriminator_keeps_both_of_its_heads() {
    let model = model("v2-replaced-tokens");
    let tensors = Tensors::read(&model.weights);
    assert!(tensors.0.keys().any(|name| name.starts_with("lm_predictions.")));
    let (_, pytorch) = model.convert("pytorch", &[]);
    let written = Tensors::read(&pytorch.join("pytorch_model.bin"));
    assert_eq!(written.0, tensors.0);
    // Nothing in the configuration is about the head that is not computed.
    let [before, after] = [&model.folder.path().to_owned(), &pytorch]
        .map(|folder| fs::read_to_string(folder.join("config.json")).unwrap());
    assert_eq!(before, after);
    assert!(model.refused("tf").contains("mask_predictions"));
    let error = fail(CONVERT, &["digest", model.path(), "--head", "base"]);
    assert!(error.contains("unexpected"), "{error}");
    // Without the head that is not computed it is complete, too.
    let mut tensors = tensors;
    tensors.0.retain(|name, _| !name.starts_with("lm_predictions."));
    tensors.write(&model.weights);
    assert_eq!(model.class(), "ReplacedTokenDetectionModel");
    model.convert("pytorch", &[]);
}

#[test]
fn microsofts_spelling_of_the_classifier_is_read() {
    let model = model("v2-replaced-tokens");
    let digest = succeed(CONVERT, &["digest", model.path()]);
    let tensors = Tensors::read(&model.weights).0;
    let renamed = tensors.into_iter().map(|(name, tensor)| (name.replace("classifier", "classifer"), tensor));
    Tensors(renamed.collect()).write(&model.weights);
    assert_eq!(succeed(CONVERT, &["digest", model.path()]), digest);
}

#[test]
fn differences_from_the_generator_are_no_parameters() {
    const WORDS: &str = "deberta.embeddings.word_embeddings.weight";
    for prefix in ["deberta.", "bert.", ""] {
        let model = model("v2-replaced-tokens");
        let digest = succeed(CONVERT, &["digest", model.path()]);
        let mut tensors = Tensors::read(&model.weights);
        for table in ["word", "position"] {
            let name = format!("deberta.embeddings.{table}_embeddings.weight");
            let tensor = tensors.0[&name].clone();
            tensors.0.insert(name.replace(".weight", "._weight"), tensor);
        }
        let under = |tensors: &Tensors| {
            let renamed = tensors.0.iter().map(|(name, tensor)| {
                let rest = name.strip_prefix("deberta.").map(|rest| format!("{prefix}{rest}"));
                (rest.unwrap_or_else(|| name.clone()), tensor.clone())
            });
            Tensors(renamed.collect())
        };
        under(&tensors).write(&model.weights);
        assert_eq!(succeed(CONVERT, &["digest", model.path()]), digest);
        let (ledger, _) = model.convert("pytorch", &[]);
        assert!(ledger.contains("kept aside  2") && ledger.contains("word_embeddings._weight"), "{ledger}");

        // The difference alone is no model.
        tensors.0.remove(WORDS).unwrap();
        under(&tensors).write(&model.weights);
        let error = fail(CONVERT, &["digest", model.path()]);
        assert!(
            error.contains("word_embeddings._weight\": is only what") && error.contains("generator"),
            "{error}"
        );
    }
}

#[test]
fn tensors_of_another_version_than_the_configurations_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for (of, other, own, foreign) in [
        (golden("v2-model-conv"), fixture("transformers/base"), "version 2 or 3", "version 1"),
        (fixture("transformers/base"), golden("v2-model-conv"), "version 1", "version 2 or 3"),
    ] {
        let weights = of.join("model.safetensors");
        let mut files = vec![weights.clone()];
        for to in ["pytorch", "tf"] {
            let out = format!("{}/{own}/{to}/", folder.path().display());
            succeed(CONVERT, &["convert", weights.to_str().unwrap(), "--to", to, "-o", &out]);
            let file = if to == "tf" { "tf_model.h5" } else { "pytorch_model.bin" };
            files.push(Path::new(&out).join(file));
        }
        let config = other.join("config.json");
        if own == "version 1" {
            files.push(fixture("onnx/mlm/torchscript.onnx"));
        }
        for file in files {
            let [file, config] = [&file, &config].map(|path| path.to_str().unwrap());
            let error = fail(CONVERT, &["digest", file, "--config", config]);
            let told =
                format!("the tensors are those of DeBERTa {own}, the configuration is one of {foreign}");
            assert!(error.contains(&told) && error.lines().count() == 1, "{error}");
        }
    }
}

#[test]
fn a_table_of_buckets_without_their_number_says_both_shapes() {
    let model = model("v2-model");
    model.set(&json!({"position_buckets": null}));
    let error = fail(CONVERT, &["digest", model.path()]);
    assert!(
        error.contains("encoder.rel_embeddings.weight\": shape [") && error.contains("implies ["),
        "{error}"
    );
}

#[test]
fn multiple_choice_is_told_by_its_configuration_alone() {
    let model = model("v2-multiple-choice");
    assert_eq!(model.class(), "DebertaV2ForMultipleChoice");
    let digest = succeed(CONVERT, &["digest", model.path()]);
    model.set(&json!({"architectures": null, "num_labels": 1}));
    assert_eq!(model.class(), "DebertaV2ForSequenceClassification");
    assert_eq!(succeed(CONVERT, &["digest", model.path(), "--head", "mc"]), digest);
    let (ledger, _) = model.convert("tf", &["--head", "DebertaV2ForMultipleChoice"]);
    assert!(ledger.contains("DebertaV2ForMultipleChoice"), "{ledger}");
    let of_version_1 = fixture("transformers/seqcls/model.safetensors");
    let error = fail(CONVERT, &["digest", of_version_1.to_str().unwrap(), "--head", "mc"]);
    assert!(error.contains("\"deberta\" has no class with the head mc"), "{error}");
}

#[test]
fn settings_of_version_2_count_as_another_model() {
    let (one, other) = (model("v2-model-conv"), model("v2-model-conv"));
    assert_eq!(run(CONVERT, &["diff", one.path(), other.path()]).code, 0);
    other.set(&json!({"conv_act": "relu", "share_att_key": null, "position_buckets": 12}));
    let report = run(CONVERT, &["diff", one.path(), other.path(), "--format", "json"]);
    assert_eq!(report.code, 1);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    let keys = report["configuration"].as_array().unwrap();
    let keys: Vec<&str> = keys.iter().map(|setting| setting["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["share_att_key", "position_buckets", "conv_act"]);
}

#[test]
fn the_masked_lm_head_of_version_2_moves_as_version_1s_does() {
    let model = model("v2-mask-decoder");
    assert!(model.refused("tf").contains("--mlm-head remap"));
    let (_, folder) = model.convert("tf", &["--mlm-head", "remap"]);
    let config: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["legacy"], true);
    let back = format!("{}/back/", model.folder.path().display());
    let h5 = folder.join("tf_model.h5");
    let arguments = ["convert", h5.to_str().unwrap(), "--to", "st", "-o", &back, "--mlm-head", "remap"];
    succeed(CONVERT, &arguments);
    let back = Tensors::read(&Path::new(&back).join("model.safetensors"));
    assert_eq!(back.0, Tensors::read(&model.weights).0);
}
