//! Checkpoints as people have them: names of other programs, several models in a file, adapters, other containers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use deberta_tests::{fail, fixture, run, succeed};
use serde_json::{Value, json};

use crate::{CONVERT, VERIFY};

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A tensor of a safetensors file: its name, dtype, shape and bytes.
type Tensor = (String, String, Vec<usize>, Vec<u8>);

fn tensors(file: &Path) -> Vec<Tensor> {
    let bytes = fs::read(file).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, Value> = serde_json::from_slice(&bytes[8..start]).unwrap();
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let entries = header.into_iter().filter(|(name, _)| name != "__metadata__");
    entries
        .map(|(name, info)| {
            let range = start + number(&info["data_offsets"][0])..start + number(&info["data_offsets"][1]);
            let shape = info["shape"].as_array().unwrap().iter().map(number).collect();
            (name, info["dtype"].as_str().unwrap().to_owned(), shape, bytes[range].to_vec())
        })
        .collect()
}

fn write(file: &Path, tensors: &[Tensor], metadata: Value) {
    let mut header = serde_json::Map::from_iter([("__metadata__".to_owned(), metadata)]);
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
        data.extend(bytes);
    }
    let header = serde_json::to_vec(&header).unwrap();
    fs::write(file, [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()).unwrap();
}

fn f32s(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    (name.to_owned(), "F32".to_owned(), shape.to_vec(), bytes)
}

/// A folder with the configuration of a fixture of transformers, and its weights as `change` makes them.
fn folder(of: &str, change: impl FnOnce(Vec<Tensor>) -> Vec<Tensor>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = fixture(&format!("transformers/{of}"));
    fs::copy(from.join("config.json"), folder.path().join("config.json")).unwrap();
    let changed = change(tensors(&from.join("model.safetensors")));
    write(&folder.path().join("model.safetensors"), &changed, json!({ "format": "pt" }));
    folder
}

fn renamed(tensors: &[Tensor], rename: impl Fn(&str) -> String) -> Vec<Tensor> {
    tensors.iter().cloned().map(|(name, dtype, shape, bytes)| (rename(&name), dtype, shape, bytes)).collect()
}

fn digest(model: &Path, arguments: &[&str]) -> String {
    let model = path(model);
    succeed(CONVERT, &[&["digest", &model], arguments].concat()).trim().to_owned()
}

fn convert(model: &Path, arguments: &[&str]) -> (tempfile::TempDir, Value) {
    let output = tempfile::tempdir().unwrap();
    let to = path(output.path());
    let model = path(model);
    let all =
        [&["convert", &model, "--to", "safetensors", "-o", &to, "--format", "json"], arguments].concat();
    let ledger = serde_json::from_str(&succeed(CONVERT, &all)).unwrap();
    (output, ledger)
}

fn kept_aside(ledger: &Value) -> Vec<&str> {
    ledger["kept_aside"].as_array().unwrap().iter().map(|extra| extra["name"].as_str().unwrap()).collect()
}

#[test]
fn prefixes_follow_from_the_names_that_are_known() {
    let expected = digest(&fixture("transformers/seqcls"), &[]);
    for prefix in
        ["model.", "module.module.", "_orig_mod.", "_forward_module.model._orig_mod.", "net.0.", "encoder."]
    {
        let folder = folder("seqcls", |tensors| {
            let mut changed = renamed(&tensors, |name| format!("{prefix}{name}"));
            changed.push(f32s("criterion.weight", &[3], &[1.0; 3]));
            changed
        });
        assert_eq!(digest(folder.path(), &[]), expected, "{prefix}");
        let (_, ledger) = convert(folder.path(), &[]);
        assert_eq!(kept_aside(&ledger), ["criterion.weight"], "{prefix}");
        assert!(ledger["notes"][0].as_str().unwrap().contains(prefix), "{ledger}");
    }
    // Inside of names, where FSDP, checkpointing and torch.compile put theirs.
    let inside = folder("seqcls", |tensors| {
        renamed(&tensors, |name| {
            let name = name.replace(
                "encoder.layer.1.",
                "encoder.layer.1._fsdp_wrapped_module._checkpoint_wrapped_module.",
            );
            name.replace("classifier.", "classifier._orig_mod.")
                .replace("deberta.encoder.", "deberta.encoder.inner.")
        })
    });
    assert_eq!(digest(inside.path(), &[]), expected);
    // What may compute is no wrapper.
    let computing = folder("seqcls", |tensors| {
        renamed(&tensors, |name| name.replace("classifier.", "classifier.linear."))
    });
    let error = fail(CONVERT, &["digest", &path(computing.path())]);
    assert!(error.contains("missing"), "{error}");
}

#[test]
fn of_two_models_in_a_file_the_user_chooses() {
    let other = tensors(&fixture("transformers/tokcls/model.safetensors"));
    let folder = folder("tokcls", |tensors| {
        let mut both = renamed(&tensors, |name| format!("student.{name}"));
        let halved = renamed(&other, |name| format!("teacher.{name}"));
        both.extend(halved.into_iter().map(|(name, dtype, shape, bytes)| {
            let halves = bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()) / 2.0);
            (name, dtype, shape, halves.flat_map(f32::to_le_bytes).collect())
        }));
        both
    });
    let error = fail(CONVERT, &["convert", &path(folder.path()), "--to", "pytorch"]);
    assert!(
        error.contains("2 models, whose names start with \"student.\" and \"teacher.\": --prefix"),
        "{error}"
    );
    let student = digest(folder.path(), &["--prefix", "student"]);
    assert_eq!(student, digest(&fixture("transformers/tokcls"), &[]));
    assert_ne!(digest(folder.path(), &["--prefix", "teacher."]), student);
    let error = fail(CONVERT, &["digest", &path(folder.path()), "--prefix", "pupil"]);
    assert!(
        error.contains("--prefix pupil: the names of models start with \"student.\" and \"teacher.\""),
        "{error}"
    );
    let (_, ledger) = convert(folder.path(), &["--prefix", "teacher"]);
    assert_eq!(kept_aside(&ledger).len(), other.len());
}

#[test]
fn checkpoints_of_a_training_are_read() {
    let file = fixture("reading/training/training.ckpt");
    let error = fail(CONVERT, &["digest", &path(&file)]);
    assert!(error.contains("\"model.module.\" and \"ema.shadow.module.\""), "{error}");
    let (_, ledger) = convert(&file, &["--prefix", "model.module"]);
    let aside = kept_aside(&ledger);
    for name in ["epoch", "model.criterion.weight", "ema.decay", "optimizer.state", "loss"] {
        assert!(aside.contains(&name), "{name}: {aside:?}");
    }
    assert_ne!(
        digest(&file, &["--prefix", "ema.shadow.module"]),
        digest(&file, &["--prefix", "model.module"])
    );
}

#[test]
fn a_model_that_is_a_layer_of_another_one_is_read() {
    let folder = fixture("reading/tf-shards");
    let expected = digest(&folder.join("whole.h5"), &[]);
    assert_eq!(digest(&folder.join("in-a-model.h5"), &[]), expected);
    let (_, ledger) = convert(&folder.join("in-a-model.h5"), &[]);
    assert_eq!(kept_aside(&ledger).len(), 2, "the other layer: {ledger}");
}

#[test]
fn shards_of_tensorflows_classes_are_read() {
    let folder = fixture("reading/tf-shards");
    assert_eq!(digest(&folder, &[]), digest(&folder.join("whole.h5"), &[]));
    let copy = tempfile::tempdir().unwrap();
    for name in
        ["config.json", "tf_model.h5.index.json", "tf_model-00001-of-00003.h5", "tf_model-00003-of-00003.h5"]
    {
        fs::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    let error = fail(CONVERT, &["digest", &path(copy.path())]);
    assert!(
        error.contains("tf_model-00002-of-00003.h5: cannot open")
            && error.contains("2 of 3 shards are there"),
        "{error}"
    );
    let error = fail(CONVERT, &["digest", &path(&copy.path().join("tf_model-00003-of-00003.h5"))]);
    assert!(error.contains("one of several shards") && error.contains("tf_model.h5.index.json"), "{error}");
    // An index of another name, and none.
    let index = copy.path().join("tf_model.h5.index.json");
    fs::rename(&index, copy.path().join("tf_model.h5.index.fp16.json")).unwrap();
    let error = fail(CONVERT, &["digest", &path(&copy.path().join("tf_model-00003-of-00003.h5"))]);
    assert!(error.contains("tf_model.h5.index.fp16.json;"), "{error}");
    fs::remove_file(copy.path().join("tf_model.h5.index.fp16.json")).unwrap();
    let error = fail(CONVERT, &["digest", &path(&copy.path().join("tf_model-00003-of-00003.h5"))]);
    assert!(error.contains("their index, tf_model.h5.index.json, is not beside it"), "{error}");
    let error = fail(CONVERT, &["digest", &path(copy.path())]);
    assert!(error.contains("tf_model-00001-of-00003.h5 (one of several shards"), "{error}");
}

#[test]
fn tensors_that_save_model_stored_once_have_both_names() {
    let from = fixture("transformers/mlm");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(from.join("config.json"), folder.path().join("config.json")).unwrap();
    let (words, decoder) = ("deberta.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight");
    let stored = renamed(&tensors(&from.join("model.safetensors")), |name| name.replace(words, decoder));
    let file = folder.path().join("model.safetensors");
    write(&file, &stored, json!({ words: decoder }));
    assert_eq!(digest(folder.path(), &[]), digest(&from, &[]));
    write(&file, &stored, json!({ "format": "pt" }));
    let error = fail(CONVERT, &["digest", &path(folder.path())]);
    assert!(error.contains("word_embeddings.weight\": missing"), "{error}");
}

#[test]
fn tensors_that_save_torch_model_stored_once_have_both_names_in_the_index() {
    let (words, decoder) = ("deberta.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight");
    let whole = folder("mlm", |tensors| renamed(&tensors, |name| name.replace(words, decoder)));
    let mut one = tensors(&whole.path().join("model.safetensors"));
    let other = one.split_off(one.len() / 2);
    fs::remove_file(whole.path().join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (shard, tensors) in [("a.safetensors", one), ("b.safetensors", other)] {
        write(&whole.path().join(shard), &tensors, json!({ "format": "pt" }));
        map.extend(tensors.into_iter().map(|(name, ..)| (name, json!(shard))));
    }
    let index = whole.path().join("model.safetensors.index.json");
    let metadata =
        json!({ "total_size": 1, words: decoder, "cls.predictions.decoder.bias": "cls.predictions.bias" });
    fs::write(&index, json!({ "metadata": metadata, "weight_map": map }).to_string()).unwrap();
    assert_eq!(digest(whole.path(), &[]), digest(&fixture("transformers/mlm"), &[]));
    // Without that, there are no word embeddings.
    fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
    let error = fail(CONVERT, &["digest", &path(whole.path())]);
    assert!(error.contains(words) && error.contains("missing"), "{error}");
}

#[test]
fn the_head_is_left_out_on_request_and_listed() {
    let from = fixture("transformers/seqcls");
    for name in ["pytorch_model.bin", "model.safetensors", "tf_model.h5"] {
        let file = from.join(name);
        let (output, ledger) = convert(&file, &["--drop-head"]);
        assert_eq!(ledger["class"], "DebertaModel");
        assert_eq!(kept_aside(&ledger).len(), 4, "{name}: {ledger}");
        let config: Value =
            serde_json::from_str(&fs::read_to_string(output.path().join("config.json")).unwrap()).unwrap();
        assert_eq!(config["architectures"], json!(["DebertaModel"]));
        assert!(
            tensors(&output.path().join("model.safetensors"))
                .iter()
                .all(|(name, ..)| !name.starts_with("classifier"))
        );
    }
    let error = fail(CONVERT, &["digest", &path(&from), "--head", "base"]);
    assert!(error.contains("--drop-head takes the base model"), "{error}");
}

#[test]
fn a_folder_is_read_as_transformers_reads_it() {
    let from = fixture("transformers/seqcls");
    // A folder is no file of that name.
    let beside = tempfile::tempdir().unwrap();
    fs::create_dir(beside.path().join("model.safetensors")).unwrap();
    for name in ["config.json", "pytorch_model.bin"] {
        fs::copy(from.join(name), beside.path().join(name)).unwrap();
    }
    assert_eq!(digest(beside.path(), &[]), digest(&from, &[]));
    let folder = folder("seqcls", |tensors| tensors);
    // A stale file of another format is not taken.
    fs::copy(fixture("transformers/tokcls/pytorch_model.bin"), folder.path().join("pytorch_model.bin"))
        .unwrap();
    let (_, ledger) = convert(folder.path(), &["--dtype", "half"]);
    assert!(ledger["input"]["path"].as_str().unwrap().ends_with("model.safetensors"), "{ledger}");
    assert_eq!(ledger["input"]["digest"], digest(&from, &[]));
    // A name without an extension is a folder.
    let output = folder.path().join("new");
    succeed(CONVERT, &["convert", &path(folder.path()), "--to", "st", "-o", &path(&output)]);
    assert!(output.join("model.safetensors").is_file() && output.join("config.json").is_file());
}

#[test]
fn several_formats_are_written_from_one_reading_with_the_tokenizer() {
    let folder = folder("seqcls", |tensors| tensors);
    fs::write(folder.path().join("vocab.json"), "{}").unwrap();
    fs::write(folder.path().join("merges.txt"), "#version: 0.2\n").unwrap();
    fs::write(folder.path().join("optimizer.pt"), "x").unwrap();
    let output = folder.path().join("out");
    let (model, to) = (path(folder.path()), path(&output));
    let text = succeed(CONVERT, &["convert", &model, "--to", "pt,h5,onnx", "-o", &to, "--format", "json"]);
    let ledgers: Vec<Value> = serde_json::from_str(&text).unwrap();
    let digests: Vec<&Value> = ledgers.iter().map(|ledger| &ledger["output"]["digest"]).collect();
    assert!(digests.len() == 3 && digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    let mut names: Vec<String> = deberta_tests::snapshot(&output).into_keys().collect();
    names.sort();
    let expected =
        ["config.json", "merges.txt", "model.onnx", "pytorch_model.bin", "tf_model.h5", "vocab.json"];
    assert_eq!(names, expected);
    let listed = ledgers[0]["also_written"].to_string();
    assert!(listed.contains("vocab.json") && listed.contains("merges.txt"), "{listed}");

    // One that cannot be written leaves none.
    let none = folder.path().join("none");
    let error =
        fail(CONVERT, &["convert", &model, "--to", "pt,onnx", "-o", &path(&none), "--max-shard-size", "1KB"]);
    assert!(error.contains("--max-shard-size") && !none.exists(), "{error}");
    let error =
        fail(CONVERT, &["convert", &model, "--to", "pt,st", "-o", &path(&folder.path().join("one.bin"))]);
    assert!(error.contains("one file for several formats"), "{error}");
}

#[test]
fn containers_are_named_with_what_leads_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pytorch_model.bin");
    for (bytes, expected) in [
        (
            &b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>"[..],
            "a message of a storage server",
        ),
        (b"<?xml version=\"1.0\"?><net name=\"m\">", "OpenVINO"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"GGUF\x03\0\0\0", "llama.cpp"),
        (b"\x1f\x8b\x08\0", "gunzip FILE"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"{\"error\": \"gated\"}", "JSON text"),
    ] {
        fs::write(&file, bytes).unwrap();
        let error = fail(CONVERT, &["inspect", &path(&file)]);
        assert!(error.contains(expected), "{error}");
    }
    fs::remove_file(&file).unwrap();
    for name in ["model.index", "checkpoint", "model.data-00000-of-00001"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    let error = fail(CONVERT, &["inspect", &path(folder.path())]);
    assert!(
        error.contains("; there is checkpoint (TensorFlow's checkpoints)")
            && error.contains("m.load_weights"),
        "{error}"
    );
    // The start of a SavedModel could be that of an ONNX model with a long name of its producer.
    let saved_model = folder.path().join("saved_model.pb");
    fs::write(&saved_model, b"\x08\x01\x12\xf3\xdb\xde\x01\x0a\xa5\x2a\x12").unwrap();
    let error = fail(CONVERT, &["inspect", &path(&saved_model)]);
    assert!(error.contains("TensorFlow (SavedModel") && error.contains("tf.saved_model.load"), "{error}");
    fs::remove_file(&saved_model).unwrap();
    // What there is instead of weights is said before that there is no golden.
    let error = run(VERIFY, &[&path(folder.path())]).stderr;
    assert!(error.contains("no weights in this folder") && error.contains("m.load_weights"), "{error}");
    fs::create_dir(folder.path().join("0_Transformer")).unwrap();
    let weights = fixture("transformers/seqcls/pytorch_model.bin");
    fs::copy(&weights, folder.path().join("0_Transformer/pytorch_model.bin")).unwrap();
    fs::copy(&weights, folder.path().join("pytorch.model.bin")).unwrap();
    let error = fail(CONVERT, &["inspect", &path(folder.path())]);
    assert!(
        error.contains(
            "pytorch.model.bin (PyTorch: name it), 0_Transformer/pytorch_model.bin (PyTorch: name it)"
        ),
        "{error}"
    );
    // What starts as a zip archive, a pickle or a graph is told by its name, once its reader refuses it.
    for (name, bytes, expected) in [
        ("weights.npz", &b"PK\x03\x04"[..], "; NumPy: `python"),
        ("model.pkl", b"\x80\x04}", "; a pickle of Python: `deberta-convert audit"),
        (
            "zero_pp_rank_0_mp_rank_00_optim_states.pt",
            b"\x80\x02}q\x00.",
            "; DeepSpeed: `python zero_to_fp32.py",
        ),
        ("model.pth.tar", b"PK\x03\x04", "a zip archive without its end record"),
    ] {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        let error = fail(CONVERT, &["inspect", &path(&file)]);
        assert!(error.contains(expected) && !error.contains("unpack it first"), "{error}");
    }
    let module = fixture("torch/bad-module.bin");
    let error = fail(CONVERT, &["inspect", &path(&module)]);
    assert!(error.contains("This is a whole module") && error.contains("state_dict()"), "{error}");
}

#[test]
fn tensors_that_deepspeed_left_empty_are_known_as_such() {
    let folder = folder("seqcls", |tensors| {
        let empty = |(name, dtype, shape, bytes): Tensor| match shape.len() {
            2 => (name, dtype, vec![0], Vec::new()),
            _ => (name, dtype, shape, bytes),
        };
        tensors.into_iter().map(empty).collect()
    });
    let error = fail(CONVERT, &["digest", &path(folder.path())]);
    assert!(error.contains("as DeepSpeed leaves them under ZeRO stage 3"), "{error}");
}

#[test]
fn a_shard_is_known_by_its_index() {
    let from = fixture("transformers/sharded");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(from.join("config.json"), folder.path().join("config.json")).unwrap();
    let mut index = fs::read_to_string(from.join("model.safetensors.index.json")).unwrap();
    let shards: BTreeSet<String> = serde_json::from_str::<Value>(&index).unwrap()["weight_map"]
        .as_object()
        .unwrap()
        .values()
        .map(|shard| shard.as_str().unwrap().to_owned())
        .collect();
    for (number, shard) in shards.iter().enumerate() {
        index = index.replace(shard, &format!("part{number}.safetensors"));
        fs::copy(from.join(shard), folder.path().join(format!("part{number}.safetensors"))).unwrap();
    }
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    assert_eq!(digest(folder.path(), &[]), digest(&from, &[]));
    let error = fail(CONVERT, &["digest", &path(&folder.path().join("part1.safetensors"))]);
    assert!(error.contains("one of several shards") && error.contains("or the folder"), "{error}");
    // One that is all of the model is none of several.
    fs::remove_file(folder.path().join("model.safetensors.index.json")).unwrap();
    let whole = fixture("transformers/seqcls/model.safetensors");
    fs::copy(whole, folder.path().join("model-00001-of-00001.safetensors")).unwrap();
    let error = fail(CONVERT, &["digest", &path(folder.path())]);
    assert!(error.contains("model-00001-of-00001.safetensors (safetensors: name it)"), "{error}");
}

#[test]
fn every_pickle_of_a_folder_is_audited() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("nested")).unwrap();
    fs::copy(fixture("torch/zip-f32.bin"), folder.path().join("pytorch_model.bin")).unwrap();
    fs::copy(fixture("torch/legacy-f32.bin"), folder.path().join("nested/optimizer.pt")).unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let text = succeed(CONVERT, &["audit", &path(folder.path())]);
    assert!(text.contains("2 of 2 files hold nothing but"), "{text}");
    fs::copy(fixture("torch/bad-call.bin"), folder.path().join("nested/training_args.bin")).unwrap();
    let run = run(CONVERT, &["audit", &path(folder.path()), "--format", "json"]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, &report["clean"]), (1, &json!(false)));
    let clean: Vec<bool> =
        report["files"].as_array().unwrap().iter().map(|file| file["clean"].as_bool().unwrap()).collect();
    assert_eq!(clean, [true, true, false]);
}

#[test]
fn sizes_are_known_by_name_beside_a_folder_of_that_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("v3-xsmall")).unwrap();
    let mut command = std::process::Command::new(CONVERT);
    command.current_dir(folder.path()).args([
        "init",
        "--config",
        "v3-xsmall",
        "--to",
        "tf",
        "-o",
        "v3-xsmall",
    ]);
    let run = deberta_tests::run_command(command.args(["--head", "rtd"]));
    assert!(run.stderr.contains("no mask_predictions head"), "{}", run.stderr);
}

/// What an adapter of peft is in a folder.
fn adapter(settings: Value, tensors: &[Tensor]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut all = json!({ "peft_type": "LORA", "task_type": "SEQ_CLS", "r": 2, "lora_alpha": 3 });
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    fs::write(folder.path().join("adapter_config.json"), all.to_string()).unwrap();
    write(&folder.path().join("adapter_model.safetensors"), tensors, json!({ "format": "pt" }));
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn adapters_are_merged_into_every_format() {
    let from = fixture("transformers/seqcls");
    let before = tensors(&from.join("model.safetensors"));
    let of = |tensors: &[Tensor], name: &str| {
        let (.., bytes) = tensors.iter().find(|(known, ..)| known == name).unwrap();
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect::<Vec<f32>>()
    };
    let module = "deberta.encoder.layer.1.attention.self.in_proj";
    let (rows, columns) = (96, 32);
    let numbers =
        |count: usize| (0..count).map(|at| ((at * 37 % 19) as f32 - 9.0) / 16.0).collect::<Vec<f32>>();
    let (a, b) = (numbers(2 * columns), numbers(rows * 2));
    let own = vec![0.25; 3];
    let changes = [
        f32s(&format!("base_model.model.{module}.lora_A.weight"), &[2, columns], &a),
        f32s(&format!("base_model.model.{module}.lora_B.weight"), &[rows, 2], &b),
        f32s("base_model.model.classifier.bias", &[3], &own),
    ];
    let (_kept, folder) = adapter(json!({ "alpha_pattern": { "layer.1.*in_proj": 5 } }), &changes);
    let mut digests = Vec::new();
    for name in ["pytorch_model.bin", "model.safetensors", "tf_model.h5"] {
        let (output, ledger) = convert(&from.join(name), &["--merge-adapter", &path(&folder)]);
        let after = tensors(&output.path().join("model.safetensors"));
        let weight = format!("{module}.weight");
        let merged = of(&before, &weight).into_iter().enumerate().map(|(at, value)| {
            let sum: f64 = (0..2)
                .map(|rank| {
                    f64::from(b[at / columns * 2 + rank]) * f64::from(a[rank * columns + at % columns])
                })
                .sum();
            (f64::from(value) + sum * 2.5) as f32
        });
        assert_eq!(of(&after, &weight), merged.collect::<Vec<f32>>(), "{name}");
        assert_eq!(of(&after, "classifier.bias"), own);
        assert_eq!(of(&after, "classifier.weight"), of(&before, "classifier.weight"));
        assert!(
            ledger["notes"].to_string().contains("LoRA merged into 1 parameters, 1 taken from the adapter")
        );
        digests.push(ledger["output"]["digest"].clone());
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));

    for (settings, expected) in [
        (json!({ "use_dora": true }), "DoRA"),
        (json!({ "peft_type": "IA3" }), "method IA3"),
        (json!({ "lora_bias": true }), "lora_bias"),
    ] {
        let (_kept, folder) = adapter(settings, &changes);
        let error =
            fail(CONVERT, &["convert", &path(&from), "--to", "onnx", "--merge-adapter", &path(&folder)]);
        assert!(error.contains(expected), "{error}");
    }
    let wrong = [
        f32s(&format!("base_model.model.{module}.lora_A.weight"), &[2, 31], &numbers(62)),
        changes[1].clone(),
    ];
    let (_kept, folder) = adapter(json!({}), &wrong);
    let error = fail(CONVERT, &["convert", &path(&from), "--to", "onnx", "--merge-adapter", &path(&folder)]);
    assert!(
        error.contains("shape [96, 32], which the adapter's matrices [2, 31] and [96, 2] do not make"),
        "{error}"
    );
}

#[test]
fn an_adapter_beside_the_weights_is_merged_or_refused() {
    let folder = folder("seqcls", |tensors| tensors);
    let (_kept, adapter) = adapter(json!({}), &[f32s("base_model.model.classifier.bias", &[3], &[0.5; 3])]);
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(adapter.join(name), folder.path().join(name)).unwrap();
    }
    let model = path(folder.path());
    let error = fail(CONVERT, &["convert", &model, "--to", "pytorch"]);
    assert!(
        error.contains("adapter_config.json: beside the weights") && error.contains("--merge-adapter"),
        "{error}"
    );
    let (_, ledger) = convert(folder.path(), &["--merge-adapter", &model]);
    assert_ne!(ledger["output"]["digest"], digest(&fixture("transformers/seqcls"), &[]));
}

#[test]
fn numbers_that_json_has_not_are_shown_as_python_writes_them() {
    let folder = folder("seqcls", |tensors| tensors);
    let config = folder.path().join("config.json");
    let mut values: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    values["hidden_dropout_prob"] = json!("a");
    let text = values.to_string().replace("\"a\"", "NaN");
    fs::write(&config, text).unwrap();
    let error = fail(CONVERT, &["digest", &path(folder.path())]);
    assert!(error.trim_end().ends_with("hidden_dropout_prob: expected a number, found NaN"), "{error}");
}
