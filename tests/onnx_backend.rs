//! The graphs of ONNX files, run as they are: those that PyTorch exported and ours agree with the goldens at every point
//! that they expose, and graphs that are wrong are told from weights that are wrong.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_converters::format::onnx::proto::attribute_proto::AttributeType;
use deberta_tests::cases::each;
use deberta_tests::{Run, fixture, fixtures, run, shared_fixtures, succeed};
use onnx_protobuf::tensor_shape_proto::dimension::Value;
use onnx_protobuf::{AttributeProto, ModelProto, TensorProto};
use protobuf::{EnumOrUnknown, Message as _, MessageField};
use tempfile::TempDir;

use crate::{CONVERT, VERIFY};

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

/// The backends that run graphs: ONNX Runtime when its library is named.
fn backends() -> Vec<&'static str> {
    if std::env::var_os("ORT_DYLIB_PATH").is_some() {
        return vec!["onnx", "onnxruntime"];
    }
    println!("skipped: onnxruntime, ORT_DYLIB_PATH names no library");
    vec!["onnx"]
}

fn edit(model: &Path, change: impl FnOnce(&mut ModelProto)) {
    let mut proto = ModelProto::parse_from_bytes(&fs::read(model).unwrap()).unwrap();
    change(&mut proto);
    fs::write(model, proto.write_to_bytes().unwrap()).unwrap();
}

#[test]
fn graphs_that_pytorch_exported_agree_with_its_goldens() {
    let exported = shared_fixtures().into_iter().filter(|folder| folder.join("model.onnx").exists());
    each(exported, |folder| {
        let report = json(folder, folder, &[]);
        assert_eq!(report["outcome"], "pass");
        let graph = runs(&report, "onnx");
        let traced = |run: &&&serde_json::Value| run["golden"] != "other lengths";
        assert_eq!(graph.iter().filter(traced).count(), 7);
        assert_eq!(graph.len(), 12);
        assert!(runs(&report, "reference").len() > graph.len());
        for backend in backends() {
            let report = json(folder, folder, &["--backend", backend]);
            assert_eq!(report["outcome"], "pass", "{backend}: {report}");
            assert_eq!(runs(&report, backend).len(), 12, "{backend}");
        }
    });
}

#[test]
fn both_exporters_graphs_are_right_at_other_lengths() {
    let exporters = |folder: PathBuf| ["torchscript.onnx", "dynamo.onnx"].map(|name| folder.join(name));
    each(fixtures("onnx").into_iter().flat_map(exporters), |exported| {
        let model = tempfile::tempdir().unwrap();
        let onnx = model.path().join("onnx");
        fs::create_dir(&onnx).unwrap();
        fs::copy(exported.with_file_name("config.json"), model.path().join("config.json")).unwrap();
        fs::copy(exported, onnx.join("model.onnx")).unwrap();
        for backend in backends() {
            // A golden of other weights: what it says is not asked for, the lengths are.
            let report = json(model.path(), &golden("masked-lm"), &["--backend", backend]);
            let mut lengths = runs(&report, backend);
            lengths.retain(|run| run["golden"] == "other lengths");
            assert_eq!(lengths.len(), 5, "{backend}: {report}");
            for run in lengths {
                assert_eq!(run["outcome"], "pass", "{backend}: {run}");
            }
        }
    });
}

#[test]
fn our_exports_agree_with_the_goldens_at_every_point() {
    let folders = fs::read_dir(golden("")).unwrap().map(|entry| entry.unwrap().path());
    let has = |folder: &Path, name: &str| folder.join(name).exists();
    let models = folders.filter(|folder| has(folder, "config.json") && has(folder, "model.safetensors"));
    let compared = each(models, |folder| {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let decoder: &[&str] = if name.contains("mask-decoder") { &["--head", "emd"] } else { &[] };
        let (_kept, model) = export(folder, &[&["--activations"], decoder].concat());
        let mut compared = 0;
        for backend in backends() {
            let run = verify(&model, folder, &["--backend", backend]);
            if name.ends_with("model-bf16") {
                // ONNX Runtime has no kernels for it on a CPU; in f32 it is computed here.
                let (code, said) = match backend {
                    "onnx" => (0, "bf16 graph, computed in f32 here"),
                    _ => (2, "not find an implementation"),
                };
                assert_eq!(run.code, code, "{}", run.stdout);
                assert!(run.stdout.contains(said), "{}", run.stdout);
                continue;
            }
            // TensorFlow rounds some buckets in another way, which the graph is not to be blamed for.
            assert_eq!(run.code, 0, "{backend}: {}{}", run.stdout, run.stderr);
            assert_eq!(
                run.stdout.contains("when it follows that code, by which another trace judges it"),
                name == "v2-model-rounding",
                "{}",
                run.stdout
            );
            assert!(!run.stdout.contains("the graph is wrong"), "{}", run.stdout);
            let report = json(&model, folder, &["--backend", backend]);
            let runs = runs(&report, backend);
            let points = runs.iter().map(|run| run["points"].as_array().unwrap().len()).sum::<usize>();
            println!("{backend} {name}: {points} points");
            compared += points;
        }
        compared
    });
    let compared: usize = compared.into_iter().sum();
    assert!(compared > 2000 * backends().len(), "{compared}");
}

#[test]
fn a_graph_differs_from_a_golden_of_other_code_alone() {
    let folder = golden("v2-model-rounding");
    let (_kept, model) = export(&folder, &[]);
    let of_tensorflow = tempfile::tempdir().unwrap();
    for name in ["config.json", "plain.tf.safetensors"] {
        fs::copy(folder.join(name), of_tensorflow.path().join(name)).unwrap();
    }
    for backend in backends() {
        let run = verify(&model, of_tensorflow.path(), &["--backend", backend]);
        assert_eq!(run.code, 1, "{backend}: {}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains("Judge the graph by a golden of its own class"), "{}", run.stdout);
        assert!(!run.stdout.contains("the graph is wrong"), "{}", run.stdout);
    }
}

#[test]
fn halves_that_are_computed_with_in_f32_are_judged() {
    let more = [&[][..], &["--external-data"]];
    let ways = ["model", "masked-lm", "v2-model-conv", "v2-multiple-choice"].into_iter().flat_map(|name| {
        ["f16", "bf16"].into_iter().flat_map(move |dtype| more.map(|more| (name, dtype, more)))
    });
    each(ways, |&(name, dtype, more)| {
        let folder = golden(name);
        let (_kept, model) = export(&folder, &[&["--dtype", dtype, "--compute", "f32"], more].concat());
        for backend in backends() {
            let run = verify(&model, &folder, &["--backend", backend]);
            assert_eq!(run.code, 0, "{backend}: {}{}", run.stdout, run.stderr);
        }
    });
    let (_kept, model) = export(&golden("model-bf16"), &["--compute", "f32"]);
    for backend in backends() {
        let run = verify(&model, &golden("model-bf16"), &["--backend", backend]);
        assert_eq!(run.code, 0, "{backend}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn external_data_is_run_too() {
    let (_kept, model) = export(&golden("masked-lm"), &["--external-data"]);
    for backend in backends() {
        let run = verify(&model, &golden("masked-lm"), &["--backend", backend]);
        assert_eq!(run.code, 0, "{backend}: {}{}", run.stdout, run.stderr);
    }
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
    let of = |backend: &'static str| vec!["--backend", backend];
    for backend in backends().into_iter().chain(["reference"]).map(of).chain([vec![]]) {
        let backend = backend.as_slice();
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
    for backend in backends() {
        let run = verify(&model, &golden("masked-lm"), &["--backend", backend]);
        assert_eq!(run.code, 1, "{backend}: {}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains("the reference computes something else"), "{backend}: {}", run.stdout);
    }
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

    let declared_for = |shape: &[i64]| {
        let (kept, declared) = export(&golden("masked-lm"), &[]);
        edit(&declared, |proto| {
            for input in &mut proto.graph.mut_or_insert_default().input {
                let input = input.type_.mut_or_insert_default().mut_tensor_type();
                for (dim, &length) in input.shape.mut_or_insert_default().dim.iter_mut().zip(shape) {
                    dim.value = Some(Value::DimValue(length));
                }
            }
        });
        (kept, declared)
    };
    let (_kept, declared) = declared_for(&shape);
    // Of a length that neither the golden nor any generated input has.
    let (_kept_three, of_another_length) = declared_for(&[3, 5]);
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
    for model in [&declared, &of_another_length, &computed] {
        let of = |backend: &'static str| vec!["--backend", backend];
        for backend in backends().into_iter().map(of).chain([vec![]]) {
            let run = verify(model, folder.path(), &backend);
            assert_eq!(run.code, 1, "{backend:?}: {}{}", run.stdout, run.stderr);
            assert!(run.stdout.contains("exported for fixed ones"), "{backend:?}: {}", run.stdout);
        }
    }
}

#[test]
fn what_the_runtime_does_not_know_is_not_judged() {
    let (_kept, model) = export(&golden("masked-lm"), &[]);
    edit(&model, |proto| {
        let nodes = &mut proto.graph.mut_or_insert_default().node;
        nodes.iter_mut().find(|node| node.op_type == "Erf").unwrap().op_type = "Imaginary".to_owned();
    });
    let of = |backend: &'static str| vec!["--backend", backend];
    for backend in backends().into_iter().map(of).chain([vec![]]) {
        let run = verify(&model, &golden("masked-lm"), &backend);
        assert_eq!(run.code, 2, "{backend:?}: {}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains("Imaginary"), "{backend:?}: {}", run.stdout);
    }
}

#[test]
fn a_graph_need_not_hold_what_the_class_of_another_trace_adds() {
    let (_kept, model) = export(&golden("mask-decoder"), &[]);
    let (run, whole) = (verify(&model, &golden("mask-decoder"), &[]), "not judged with the weights");
    assert!(run.code == 0 && !run.stdout.contains(whole), "{}", run.stdout);
    edit(&model, |proto| {
        let tensors = &mut proto.graph.mut_or_insert_default().initializer;
        tensors.retain(|tensor| tensor.name != "deberta.embeddings.position_embeddings.weight");
    });
    let run = verify(&model, &golden("mask-decoder"), &[]);
    let said = "plain.emd.safetensors: not judged with the weights: the trace is of EnhancedMaskDecoder";
    assert!(run.code == 0 && run.stdout.contains(said), "{}", run.stdout);
    assert!(run.stdout.contains("plain.safetensors by the graph"), "{}", run.stdout);
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
        for backend in backends() {
            let run = verify(&model, &golden("masked-lm"), &["--backend", backend]);
            assert!((0..=2).contains(&run.code), "{backend}, byte {place}: {}{}", run.stdout, run.stderr);
        }
    }
}

#[test]
fn graphs_are_recorded_and_measured() {
    let (kept, model) = export(&golden("masked-lm"), &["--activations", "*.probs"]);
    for backend in backends() {
        // A trace with labels, which a graph has no input for.
        let (trace, recorded) = (golden("masked-lm").join("loss.safetensors"), kept.path().join(backend));
        let record = ["record", "--model", arg(&model), "--inputs", arg(&trace), "-o", arg(&recorded)];
        let run = run(VERIFY, &[&record, &["--backend", backend] as &[&str]].concat());
        assert_eq!(run.code, 0, "{backend}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains("the trace does not get: labels"), "{backend}: {}", run.stderr);
        let written = deberta_golden::Trace::read(&recorded).unwrap();
        assert_eq!(written.metadata("framework"), Some("onnx"));
        assert!(written.get("inputs.labels").is_none() && written.get("inputs.input_ids").is_some());
        assert!(written.get("outputs.logits").is_some());
        assert!(written.get("activations.deberta.encoder.layer.1.attention.self.probs").is_some());

        // What it computed is a golden of the weights that it was made from, complete as it says.
        let folder = tempfile::tempdir().unwrap();
        fs::copy(&recorded, folder.path().join("recorded.safetensors")).unwrap();
        let weights = golden("masked-lm").join("model.safetensors");
        let run = verify(&weights, folder.path(), &[]);
        assert_eq!(run.code, 0, "{backend}: {}{}", run.stdout, run.stderr);

        let bench = ["bench", "--model", arg(&model), "--backend", backend, "--seq", "9", "--runs", "2"];
        let measured = succeed(VERIFY, &[&bench, &["--format", "json"] as &[&str]].concat());
        let measured: serde_json::Value = serde_json::from_str(&measured).unwrap();
        assert_eq!((measured["backend"].as_str(), measured["seq"].as_u64()), (Some(backend), Some(9)));
        assert_eq!(measured["class"], "DebertaForMaskedLM");
        assert!(measured["median_ms"].as_f64().unwrap() > 0.0 && measured["load_ms"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_graph_is_of_one_class_and_one_convention() {
    let (kept, model) = export(&golden("masked-lm"), &[]);
    let trace = golden("masked-lm").join("plain.safetensors");
    let output = kept.path().join("recorded.safetensors");
    let refusal = |more: &[&str]| {
        let record = ["record", "--backend", "onnx", "--model", arg(&model), "--inputs", arg(&trace)];
        let run = run(VERIFY, &[&record, &["-o", arg(&output)] as &[&str], more].concat());
        assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
        assert!(!output.exists());
        run.stderr
    };
    let class = refusal(&["--class", "DebertaModel"]);
    assert!(class.contains("the graph computes DebertaForMaskedLM, not DebertaModel"), "{class}");
    let rows = refusal(&["--masked-rows", "zero"]);
    assert!(rows.contains("the graph computes masked rows as uniform, not zero"), "{rows}");
}

#[test]
fn a_program_without_onnx_runtime_says_how_to_get_it() {
    let (_kept, model) = export(&golden("masked-lm"), &[]);
    let trace = golden("masked-lm").join("plain.safetensors");
    if std::env::var_os("ORT_DYLIB_PATH").is_some() {
        return println!("skipped: this machine has it");
    }
    let expected = "pip install onnxruntime brings ONNX Runtime's library";
    let model = ["--backend", "onnxruntime", "--model", arg(&model)];
    let folder = golden("masked-lm");
    let commands: [&[&str]; 3] =
        [&["--golden", arg(&folder)], &["record", "--inputs", arg(&trace), "-o", "x"], &["bench"]];
    for command in commands {
        let (subcommand, options) = match command {
            [first, ..] if first.starts_with('-') => command.split_at(0),
            _ => command.split_at(1),
        };
        let run = run(VERIFY, &[subcommand, &model, options].concat());
        assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
        assert!(
            run.stderr.contains(expected) || run.stdout.contains(expected),
            "{}{}",
            run.stdout,
            run.stderr
        );
    }
}
