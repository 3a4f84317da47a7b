//! The graphs of ONNX files, run as they are: those that PyTorch exported and ours agree with the goldens at every point
//! that they expose, and graphs that are wrong are told from weights that are wrong.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_converters::format::onnx::proto::attribute_proto::AttributeType;
use deberta_tests::{Run, fixture, fixtures, run, shared_fixtures, succeed};
use onnx_protobuf::tensor_shape_proto::dimension::Value;
use onnx_protobuf::{AttributeProto, ModelProto, TensorProto};
use protobuf::{EnumOrUnknown, Message as _, MessageField};
use tempfile::TempDir;

const CONVERT: &str = env!("CARGO_BIN_EXE_deberta-convert-under-test");
const VERIFY: &str = env!("CARGO_BIN_EXE_deberta-verify-under-test");

fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(name)
}

/// Exports the model of a golden.
fn export(golden: &Path, more: &[&str]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    let weights = golden.join("model.safetensors");
    succeed(CONVERT, &[&["st2onnx", arg(&weights), "-o", arg(&model)], more].concat());
    (folder, model)
}

fn verify(model: &Path, golden: &Path, more: &[&str]) -> Run {
    run(VERIFY, &[&["--model", arg(model), "--golden", arg(golden)], more].concat())
}

fn json(model: &Path, golden: &Path, more: &[&str]) -> serde_json::Value {
    let run = verify(model, golden, &[&["--format", "json"], more].concat());
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", run.stdout, run.stderr))
}

/// The runs of a report by a backend.
fn runs<'r>(report: &'r serde_json::Value, backend: &str) -> Vec<&'r serde_json::Value> {
    let files = report["files"].as_array().unwrap().iter();
    let runs = files.flat_map(|file| file["runs"].as_array().unwrap());
    runs.filter(|run| run["backend"] == backend).collect()
}

fn edit(model: &Path, change: impl FnOnce(&mut ModelProto)) {
    let mut proto = ModelProto::parse_from_bytes(&fs::read(model).unwrap()).unwrap();
    change(&mut proto);
    fs::write(model, proto.write_to_bytes().unwrap()).unwrap();
}

#[test]
fn graphs_that_pytorch_exported_agree_with_its_goldens() {
    for folder in shared_fixtures().iter().filter(|folder| folder.join("model.onnx").exists()) {
        let report = json(folder, folder, &[]);
        assert_eq!(report["outcome"], "pass", "{}", folder.display());
        let graph = runs(&report, "onnx");
        let traced = |run: &&&serde_json::Value| run["golden"] != "other lengths";
        assert_eq!(graph.iter().filter(traced).count(), 7, "{}", folder.display());
        assert_eq!(graph.len(), 12, "{}", folder.display());
        assert!(runs(&report, "reference").len() > graph.len());
    }
}

#[test]
fn both_exporters_graphs_are_right_at_other_lengths() {
    for folder in fixtures("onnx") {
        for exporter in ["torchscript.onnx", "dynamo.onnx"] {
            let model = tempfile::tempdir().unwrap();
            let onnx = model.path().join("onnx");
            fs::create_dir(&onnx).unwrap();
            fs::copy(folder.join("config.json"), model.path().join("config.json")).unwrap();
            fs::copy(folder.join(exporter), onnx.join("model.onnx")).unwrap();
            // A golden of other weights: what it says is not asked for, the lengths are.
            let report = json(model.path(), &golden("masked-lm"), &["--backend", "onnx"]);
            let lengths: Vec<_> =
                runs(&report, "onnx").into_iter().filter(|run| run["golden"] == "other lengths").collect();
            assert_eq!(lengths.len(), 5, "{} {exporter}: {report}", folder.display());
            for run in lengths {
                assert_eq!(run["outcome"], "pass", "{} {exporter}: {run}", folder.display());
            }
        }
    }
}

#[test]
fn our_exports_agree_with_the_goldens_at_every_point() {
    let mut compared = 0;
    for entry in fs::read_dir(golden("")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("config.json").exists() || !folder.join("model.safetensors").exists() {
            continue;
        }
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let decoder: &[&str] = if name.starts_with("mask-decoder") { &["--head", "emd"] } else { &[] };
        let (_kept, model) = export(&folder, &[&["--activations"], decoder].concat());
        let run = verify(&model, &folder, &["--backend", "onnx"]);
        if name == "model-bf16" {
            assert_eq!(run.code, 2, "{name}: {}", run.stdout);
            assert!(run.stdout.contains("BFLOAT16"), "{}", run.stdout);
            continue;
        }
        assert_eq!(run.code, 0, "{name}: {}{}", run.stdout, run.stderr);
        let report = json(&model, &folder, &["--backend", "onnx"]);
        let points =
            runs(&report, "onnx").iter().map(|run| run["points"].as_array().unwrap().len()).sum::<usize>();
        println!("{name}: {points} points");
        compared += points;
    }
    assert!(compared > 2000, "{compared}");
}

#[test]
fn external_data_is_run_too() {
    let (_kept, model) = export(&golden("masked-lm"), &["--external-data"]);
    let run = verify(&model, &golden("masked-lm"), &["--backend", "onnx"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
}

#[test]
fn a_changed_weight_is_a_divergence() {
    let (_kept, model) = export(&golden("masked-lm"), &[]);
    edit(&model, |proto| {
        let tensors = &mut proto.graph.mut_or_insert_default().initializer;
        let weight =
            tensors.iter_mut().find(|tensor| tensor.name.ends_with("layer.1.output.dense.weight")).unwrap();
        let changed = f32::from_le_bytes(weight.raw_data[..4].try_into().unwrap()) + 0.5;
        weight.raw_data[..4].copy_from_slice(&changed.to_le_bytes());
    });
    for backend in [&["--backend", "onnx"] as &[&str], &["--backend", "reference"], &[]] {
        let run = verify(&model, &golden("masked-lm"), backend);
        assert_eq!(run.code, 1, "{backend:?}: {}{}", run.stdout, run.stderr);
        assert!(!run.stdout.contains("the graph is wrong"), "{}", run.stdout);
    }
}

#[test]
fn a_wrong_graph_is_told_from_wrong_weights() {
    let (_kept, model) = export(&golden("masked-lm"), &[]);
    edit(&model, |proto| {
        let nodes = &mut proto.graph.mut_or_insert_default().node;
        nodes.iter_mut().find(|node| node.op_type == "Erf").unwrap().op_type = "Tanh".to_owned();
    });
    assert_eq!(verify(&model, &golden("masked-lm"), &["--backend", "reference"]).code, 0);
    let run = verify(&model, &golden("masked-lm"), &[]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("the weights of this file pass"), "{}", run.stdout);
}

#[test]
fn a_graph_of_one_length_is_a_divergence() {
    // Of the length of the only trace: nothing in the golden shows the fault.
    let folder = tempfile::tempdir().unwrap();
    let source = golden("masked-lm").join("plain.safetensors");
    fs::copy(&source, folder.path().join("plain.safetensors")).unwrap();
    let trace = deberta_golden::Trace::read(&source).unwrap();
    let ids = trace.get("inputs.input_ids").unwrap();
    let shape: Vec<i64> = ids.shape.iter().map(|&length| length as i64).collect();

    let (_kept, declared) = export(&golden("masked-lm"), &[]);
    edit(&declared, |proto| {
        for input in &mut proto.graph.mut_or_insert_default().input {
            let dims =
                &mut input.type_.mut_or_insert_default().mut_tensor_type().shape.mut_or_insert_default().dim;
            for (dim, &length) in dims.iter_mut().zip(&shape) {
                dim.value = Some(Value::DimValue(length));
            }
        }
    });
    let (_kept_too, computed) = export(&golden("masked-lm"), &[]);
    edit(&computed, |proto| {
        let nodes = &mut proto.graph.mut_or_insert_default().node;
        let node = nodes.iter_mut().find(|node| node.op_type == "Shape").unwrap();
        let tensor =
            TensorProto { dims: vec![2], data_type: 7, int64_data: shape.clone(), ..TensorProto::new() };
        node.op_type = "Constant".to_owned();
        node.input.clear();
        node.attribute = vec![AttributeProto {
            name: "value".to_owned(),
            type_: EnumOrUnknown::from_i32(AttributeType::Tensor as i32),
            t: MessageField::some(tensor),
            ..AttributeProto::new()
        }];
    });
    for model in [&declared, &computed] {
        let run = verify(model, folder.path(), &[]);
        assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains("exported for fixed ones"), "{}", run.stdout);
    }
}

#[test]
fn what_the_runtime_does_not_know_is_not_judged() {
    let (_kept, model) = export(&golden("masked-lm"), &[]);
    edit(&model, |proto| {
        let nodes = &mut proto.graph.mut_or_insert_default().node;
        nodes.iter_mut().find(|node| node.op_type == "Erf").unwrap().op_type = "Imaginary".to_owned();
    });
    let run = verify(&model, &golden("masked-lm"), &[]);
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("Imaginary"), "{}", run.stdout);
}

#[test]
fn inputs_that_the_graph_does_not_have_are_named() {
    let (_kept, model) = export(&golden("model-pair-masks"), &[]);
    let run = verify(&model, &golden("model-pair-masks"), &["--backend", "onnx"]);
    assert!(run.stdout.contains("not judged with the graph: attention_mask"), "{}", run.stdout);
    let (_kept, model) = export(&golden("masked-lm"), &[]);
    let run = verify(&model, &golden("masked-lm"), &["--backend", "onnx", "--isolate"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("--isolate needs --backend reference"), "{}", run.stderr);
}

#[test]
fn a_graph_is_run_without_its_weights_being_known() {
    let (_kept, model) = export(&golden("masked-lm"), &[]);
    edit(&model, |proto| {
        proto.metadata_props.retain(|entry| entry.key != "config.json");
    });
    fs::remove_file(model.with_file_name("config.json")).ok();
    let run = verify(&model, &golden("masked-lm"), &["--backend", "onnx"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("not on other lengths"), "{}", run.stdout);
}

#[test]
fn damaged_graphs_never_panic() {
    let source = fixture("onnx/fresh");
    let bytes = fs::read(source.join("torchscript.onnx")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    for place in (0..bytes.len()).step_by(bytes.len() / 60) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        fs::write(&model, damaged).unwrap();
        let run = verify(&model, &golden("masked-lm"), &["--backend", "onnx"]);
        assert!((0..=2).contains(&run.code), "byte {place}: {}{}", run.stdout, run.stderr);
    }
}
