//! What is not a complete, honest checkpoint is refused: one line that names the file, exit code 1, nothing written,
//! within seconds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deberta_converters::format::{FilePlan, keras, open_file, safetensors, torch};
use deberta_converters::mapped::Mapped;
use deberta_converters::tensor::{Dtype, TensorInfo};
use deberta_tests::{fail, fixture, snapshot};

use crate::CONVERT;

/// A model folder that can be spoiled.
pub(crate) struct Model {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) weights: PathBuf,
}

impl Model {
    /// A copy of the weights `name` of a fixture and its configuration.
    fn of(fixture_name: &str, name: &str) -> Model {
        Model::from_folder(&fixture(fixture_name), name)
    }

    /// A copy of the weights `name` of a folder and its configuration.
    pub(crate) fn from_folder(original: &Path, name: &str) -> Model {
        let folder = tempfile::tempdir().unwrap();
        for file in ["config.json", name] {
            fs::copy(original.join(file), folder.path().join(file)).unwrap();
        }
        let weights = folder.path().join(name);
        Model { folder, weights }
    }

    /// The message with which a conversion to `to` fails, after checking that it leaves everything as it was.
    pub(crate) fn refused(&self, to: &str) -> String {
        let before = snapshot(self.folder.path());
        let start = Instant::now();
        let out = self.folder.path().join("out");
        let weights = self.weights.to_str().unwrap();
        let message = fail(CONVERT, &["convert", weights, "--to", to, "-o", &format!("{}/", out.display())]);
        assert!(start.elapsed() < Duration::from_secs(10), "{message}");
        assert_eq!(snapshot(self.folder.path()), before, "{message}");
        assert!(!out.exists(), "{message}");
        message
    }

    fn refused_everywhere(&self, expected: &[&str]) {
        for to in ["pytorch", "tf", "safetensors"] {
            let message = self.refused(to);
            for part in expected {
                assert!(message.contains(part), "to {to}: {message}\nlacks {part}");
            }
        }
    }
}

/// Tensors by name, and how to write them again in the format they came from.
pub(crate) struct Tensors(pub(crate) BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    pub(crate) fn read(path: &Path) -> Tensors {
        let (_, file) = open_file(Mapped::open(path).unwrap()).unwrap();
        let entries = file.tensors().iter().enumerate().map(|(index, info)| {
            let bytes = file.read(index).unwrap().into_owned();
            (info.name.clone(), (info.dtype, info.shape.clone(), bytes))
        });
        Tensors(entries.collect())
    }

    pub(crate) fn write(&self, path: &Path) {
        let infos: Vec<TensorInfo> = self
            .0
            .iter()
            .map(|(name, (dtype, shape, _))| TensorInfo {
                name: name.clone(),
                dtype: *dtype,
                shape: shape.clone(),
            })
            .collect();
        let plan: Box<dyn FilePlan> = match path.extension().unwrap().to_str().unwrap() {
            "bin" => Box::new(torch::plan(&infos, &[]).unwrap()),
            "h5" => {
                let mut layers: Vec<String> =
                    self.0.keys().map(|name| name.split('/').next().unwrap().to_owned()).collect();
                layers.dedup();
                Box::new(keras::plan(&layers, &infos).unwrap())
            }
            _ => Box::new(safetensors::plan(&infos, &[("format", "pt")]).unwrap()),
        };
        let mut file = vec![0; usize::try_from(plan.file_len()).unwrap()];
        let mut checksums = Vec::new();
        for (&offset, (_, _, bytes)) in plan.offsets().iter().zip(self.0.values()) {
            file[usize::try_from(offset).unwrap()..][..bytes.len()].copy_from_slice(bytes);
            checksums.push(crc32fast::hash(bytes));
        }
        let checksums = if plan.wants_crc32() { checksums.as_slice() } else { &[] };
        for span in plan.seal(checksums).unwrap() {
            file[usize::try_from(span.offset).unwrap()..][..span.bytes.len()].copy_from_slice(&span.bytes);
        }
        fs::write(path, file).unwrap();
    }

    /// The name of the tensor whose name contains `part`.
    fn name(&self, part: &str) -> String {
        self.0.keys().find(|name| name.contains(part)).unwrap_or_else(|| panic!("no {part}")).clone()
    }
}

/// The same model in every format, with how names call the classifier's bias and an attention matrix there.
fn models() -> [(Model, &'static str, &'static str); 3] {
    [
        (Model::of("transformers/seqcls", "pytorch_model.bin"), "classifier.bias", "in_proj.weight"),
        (Model::of("transformers/seqcls", "model.safetensors"), "classifier.bias", "in_proj.weight"),
        (Model::of("transformers/seqcls", "tf_model.h5"), "classifier/bias:0", "in_proj/kernel:0"),
    ]
}

#[test]
fn rewriting_a_fixture_unchanged_is_accepted() {
    // Otherwise the refusals below would prove nothing.
    for (model, ..) in models() {
        Tensors::read(&model.weights).write(&model.weights);
        let out = format!("{}/out/", model.folder.path().display());
        deberta_tests::succeed(CONVERT, &["digest", model.weights.to_str().unwrap()]);
        let to = if model.weights.ends_with("tf_model.h5") { "pytorch" } else { "tf" };
        deberta_tests::succeed(
            CONVERT,
            &["convert", model.weights.to_str().unwrap(), "--to", to, "-o", &out],
        );
    }
}

#[test]
fn a_missing_tensor() {
    for (model, bias, _) in models() {
        let mut tensors = Tensors::read(&model.weights);
        let name = tensors.name(bias);
        tensors.0.remove(&name).unwrap();
        tensors.write(&model.weights);
        model.refused_everywhere(&[model.weights.to_str().unwrap(), bias, "missing"]);
    }
}

#[test]
fn an_extra_tensor() {
    for (model, bias, _) in models() {
        let mut tensors = Tensors::read(&model.weights);
        let extra = tensors.name(bias).replace("bias", "surplus");
        let value = tensors.0[&tensors.name(bias)].clone();
        tensors.0.insert(extra, value);
        tensors.write(&model.weights);
        model.refused_everywhere(&["surplus", "unexpected"]);
    }
}

#[test]
fn a_wrong_shape() {
    for (model, bias, _) in models() {
        let mut tensors = Tensors::read(&model.weights);
        let name = tensors.name(bias);
        let (_, shape, bytes) = tensors.0.get_mut(&name).unwrap();
        (*shape, *bytes) = (vec![2], bytes[..8].to_vec());
        tensors.write(&model.weights);
        model.refused_everywhere(&[bias, "shape [2]", "[3]"]);
    }
}

#[test]
fn a_transposed_tensor() {
    for (model, _, in_proj) in models() {
        let mut tensors = Tensors::read(&model.weights);
        let name = tensors.name(in_proj);
        tensors.0.get_mut(&name).unwrap().1.reverse();
        tensors.write(&model.weights);
        model.refused_everywhere(&[in_proj, "it is transposed"]);
    }
}

#[test]
fn a_wrong_dtype() {
    for (model, bias, _) in models().into_iter().take(2) {
        let mut tensors = Tensors::read(&model.weights);
        let name = tensors.name(bias);
        tensors.0.get_mut(&name).unwrap().0 = Dtype::I32;
        tensors.write(&model.weights);
        model.refused_everywhere(&[bias, "dtype i32"]);
    }
}

#[test]
fn a_repetition_that_differs() {
    for (name, part, alias) in [
        ("pytorch_model.bin", "cls.predictions.decoder.weight", "word_embeddings.weight"),
        (
            "tf_model.h5",
            "cls/tf_deberta_for_masked_lm/deberta/embeddings/word_embeddings",
            "word_embeddings/weight:0",
        ),
    ] {
        let model = Model::of("transformers/mlm", name);
        let mut tensors = Tensors::read(&model.weights);
        let name = tensors.name(part);
        tensors.0.get_mut(&name).unwrap().2[5] ^= 1;
        tensors.write(&model.weights);
        model.refused_everywhere(&[part, "differs", alias]);
    }
}

#[test]
fn a_head_that_is_not_there() {
    let model = Model::of("transformers/mlm", "pytorch_model.bin");
    let mut tensors = Tensors::read(&model.weights);
    tensors.0.retain(|name, _| !name.starts_with("cls."));
    tensors.write(&model.weights);
    model.refused_everywhere(&["cls.predictions.bias", "random head", "--head base"]);
    let out = format!("{}/out/", model.folder.path().display());
    let weights = model.weights.to_str().unwrap();
    deberta_tests::succeed(CONVERT, &["pt2tf", weights, "--head", "base", "-o", &out]);
}

#[test]
fn a_configuration_of_something_else() {
    let model = Model::of("transformers/seqcls", "pytorch_model.bin");
    let config = model.folder.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let spoil = |key: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[key] = value;
        fs::write(&config, json.to_string()).unwrap();
    };
    spoil("hidden_act", "gelu_fancy".into());
    model.refused_everywhere(&["config.json", "hidden_act", "gelu_fancy"]);
    spoil("model_type", "bert".into());
    model.refused_everywhere(&["config.json", "bert"]);
    spoil("num_hidden_layers", 3.into());
    model.refused_everywhere(&["encoder", "layer", "missing"]);
    spoil("num_attention_heads", 5.into());
    model.refused_everywhere(&["config.json", "not a multiple"]);
    spoil("hidden_size", u64::MAX.into());
    model.refused_everywhere(&["config.json", "hidden_size"]);
    fs::write(&config, "[".repeat(1 << 20)).unwrap();
    model.refused_everywhere(&["config.json", "JSON"]);
    fs::write(&config, "<html>").unwrap();
    model.refused_everywhere(&["config.json", "web page"]);
    fs::remove_file(&config).unwrap();
    model.refused_everywhere(&["config.json", "--config"]);
}

#[test]
fn a_bert_checkpoint() {
    for (model, _, in_proj) in models() {
        let mut tensors = Tensors::read(&model.weights);
        let names: Vec<String> = tensors.0.keys().filter(|name| name.contains(in_proj)).cloned().collect();
        for name in names {
            let value = tensors.0.remove(&name).unwrap();
            tensors.0.insert(name.replace("in_proj", "query"), value);
        }
        tensors.write(&model.weights);
        model.refused_everywhere(&["in_proj", "missing", "BERT"]);
    }
}

#[test]
fn what_is_found_in_the_place_of_weights() {
    for (content, expected) in [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 557\n", "git lfs pull"),
        ("<!DOCTYPE html>\n<html><body>404</body></html>", "web page"),
        ("{\"error\":\"Repository not found\"}", "JSON"),
        ("", "empty"),
        ("hello, world", "68 65 6c 6c"),
    ] {
        for (model, ..) in models() {
            fs::write(&model.weights, content).unwrap();
            model.refused_everywhere(&[model.weights.to_str().unwrap(), expected]);
        }
    }
}

#[test]
fn truncated_files() {
    for (model, ..) in models() {
        let whole = fs::read(&model.weights).unwrap();
        for part in (0..64).map(|part| part * whole.len() / 64).chain([whole.len() - 1]) {
            fs::write(&model.weights, &whole[..part]).unwrap();
            model.refused("safetensors");
        }
    }
}

#[test]
fn flipped_bits_are_noticed_or_harmless() {
    // A flipped bit in tensor data that no checksum covers is another model, which no reader can tell. Everywhere else
    // it must be an error, or change nothing.
    for (model, ..) in models() {
        let whole = fs::read(&model.weights).unwrap();
        let weights = model.weights.to_str().unwrap();
        let is_zip = weights.ends_with(".bin");
        let good = deberta_tests::succeed(CONVERT, &["digest", weights]);
        let (mut noticed, mut unnoticed) = (0, 0);
        for index in 0..120 {
            let mut spoilt = whole.clone();
            spoilt[index * 7919 % whole.len()] ^= 1 << (index % 8);
            fs::write(&model.weights, spoilt).unwrap();
            let run = deberta_tests::run(CONVERT, &["digest", weights]);
            match run.code {
                0 if run.stdout == good => {}
                0 => unnoticed += 1,
                1 => noticed += 1,
                code => panic!("exit code {code}: {}", run.stderr),
            }
        }
        println!("{weights}: {noticed} noticed, {unnoticed} in data that has no checksum");
        assert!(noticed > 0);
        assert!(!is_zip || unnoticed == 0, "zip has checksums, yet {unnoticed} flips went unnoticed");
    }
}

#[test]
fn a_pickle_that_calls_something() {
    let model = Model::of("transformers/seqcls", "pytorch_model.bin");
    let pickle = b"\x80\x02cposix\nsystem\nq\x00X\x13\x00\x00\x00touch /tmp/pwned-yesq\x01\x85q\x02Rq\x03.";
    fs::write(&model.weights, pickle).unwrap();
    model.refused_everywhere(&["posix.system"]);
    for name in ["bad-call.bin", "bad-call-legacy.bin"] {
        fs::copy(fixture("torch").join(name), &model.weights).unwrap();
        model.refused_everywhere(&["refuses to call"]);
    }
    assert!(!Path::new("/tmp/pwned-yes").exists());
}

#[test]
fn headers_and_indexes_that_are_bombs() {
    let entries = |entry: &str, separator: &str, len: usize| {
        let entries: Vec<String> =
            (0..len / (entry.len() + 5)).map(|index| entry.replace('#', &index.to_string())).collect();
        entries.join(separator)
    };
    const LEN: usize = 4_100_000;
    let headers = [
        format!(
            "{{{}}}",
            entries("\"#\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}", ",", LEN)
        ),
        format!(
            "{{\"a\":{{\"dtype\":\"F32\",\"shape\":[{}],\"data_offsets\":[0,0]}}}}",
            entries("0", ",", LEN)
        ),
        format!("{{\"__metadata__\":{{{}}}}}", entries("\"#\":\"\"", ",", LEN)),
        format!("{{\"a\":{}", "[".repeat(LEN)),
        format!("{{\"a\":{}", " ".repeat(60_000_000)),
    ];
    let model = Model::of("transformers/mlm", "model.safetensors");
    for header in headers {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        fs::write(&model.weights, bytes).unwrap();
        model.refused("pytorch");
    }
    let index = model.folder.path().join("model.safetensors.index.json");
    let model = Model { folder: model.folder, weights: index };
    for map in [entries("\"#\":\"x\"", ",", LEN), entries("\"#\":\"#.safetensors\"", ",", LEN)] {
        fs::write(&model.weights, format!("{{\"weight_map\":{{{map}}}}}")).unwrap();
        model.refused("pytorch");
    }
}

#[test]
fn shards_outside_the_folder() {
    let model = Model::of("transformers/seqcls", "model.safetensors");
    let index = model.folder.path().join("model.safetensors.index.json");
    let outside = fixture("transformers/seqcls/model.safetensors");
    let tensors = Tensors::read(&model.weights);
    for shard in ["../model.safetensors", outside.to_str().unwrap(), "sub/model.safetensors"] {
        let map: serde_json::Map<String, serde_json::Value> =
            tensors.0.keys().map(|name| (name.clone(), shard.into())).collect();
        fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
        let spoilt = Model { folder: tempfile::tempdir().unwrap(), weights: index.clone() };
        spoilt.refused_everywhere(&["index.json", "not a file name in the model's own folder"]);
    }
}

#[test]
fn a_shard_that_is_missing_or_holds_something_else() {
    let model = tempfile::tempdir().unwrap();
    for (name, content) in snapshot(&fixture("transformers/sharded")) {
        fs::write(model.path().join(name), content).unwrap();
    }
    let weights = model.path().join("model.safetensors.index.json");
    let model = Model { folder: model, weights };
    let second = model.folder.path().join("model-00002-of-00005.safetensors");
    let third = model.folder.path().join("model-00003-of-00005.safetensors");
    fs::copy(&third, &second).unwrap();
    model.refused_everywhere(&["the index says that it is in"]);
    fs::remove_file(&second).unwrap();
    model.refused_everywhere(&["model-00002-of-00005.safetensors", "cannot open"]);
}

#[test]
fn a_format_other_than_the_command_says() {
    let model = Model::of("transformers/seqcls", "tf_model.h5");
    let message = fail(CONVERT, &["pt2st", model.weights.to_str().unwrap()]);
    assert!(
        message.contains("is TensorFlow, not PyTorch") && message.contains("deberta-convert convert"),
        "{message}"
    );
}

#[test]
fn files_that_are_no_files() {
    for path in ["/dev/zero", "/dev/null", "/nonexistent/model.bin"] {
        let message = fail(CONVERT, &["convert", path, "--to", "st"]);
        assert!(message.contains(path), "{message}");
    }
}
