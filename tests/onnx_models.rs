//! Graphs of several models: a student with its teacher, two encoders.

use std::fs;
use std::path::Path;

use deberta_tests::{fail, fixture, succeed};
use onnx_protobuf::GraphProto;
use serde_json::Value;

use crate::CONVERT;
use crate::onnx::{arg, digest, exported, rewritten};

/// Puts a model beside that of a graph: the same with every weight halved. Names start with `student.` and `teacher.`.
fn twins(graph: &mut GraphProto) {
    let given: Vec<String> = graph.input.iter().map(|input| input.name.clone()).collect();
    let of = |prefix: &str, graph: &GraphProto| {
        let mut graph = graph.clone();
        let tensors = graph.initializer.iter_mut().map(|tensor| &mut tensor.name);
        let values = graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        let outputs = graph.output.iter_mut().map(|output| &mut output.name);
        for name in tensors.chain(values).chain(outputs) {
            if !name.is_empty() && !given.contains(name) {
                name.insert_str(0, &format!("{prefix}."));
            }
        }
        for node in graph.node.iter_mut().filter(|node| node.name.starts_with('/')) {
            node.name.insert_str(0, &format!("/{prefix}"));
        }
        graph
    };
    let mut teacher = of("teacher", graph);
    for tensor in teacher.initializer.iter_mut().filter(|tensor| tensor.data_type == 1) {
        for four in tensor.raw_data.chunks_exact_mut(4) {
            let halved = f32::from_le_bytes(four.try_into().unwrap()) / 2.0;
            four.copy_from_slice(&halved.to_le_bytes());
        }
    }
    *graph = of("student", graph);
    graph.node.append(&mut teacher.node);
    graph.initializer.append(&mut teacher.initializer);
    graph.output.append(&mut teacher.output);
    graph.value_info.clear();
}

/// What is before the names of both models, as the error says that asks for one.
fn prefixes(model: &Path) -> [String; 2] {
    let error = fail(CONVERT, &["digest", &arg(model)]);
    assert!(error.contains("holds 2 models, whose names start with"), "{error}");
    let quoted: Vec<&str> = error.split('"').collect();
    assert!(quoted[1].starts_with("student.") && quoted[3].starts_with("teacher."), "{error}");
    [quoted[1].to_owned(), quoted[3].to_owned()]
}

#[test]
fn of_two_models_in_a_graph_the_user_chooses() {
    let scripted = |file: &Path| file.ends_with("torchscript.onnx");
    for (file, source) in exported().into_iter().filter(|(file, _)| scripted(file)) {
        for nameless in [false, true] {
            // Of this one, the exporter has merged every bias.
            if nameless && file.parent().unwrap().ends_with("fresh") {
                continue;
            }
            let (folder, path) = rewritten(&file, |graph| {
                if nameless {
                    graph.node.iter_mut().for_each(|node| node.name.clear());
                }
                twins(graph);
            });
            let [student, teacher] = prefixes(&path);
            let of = |prefix: &str| succeed(CONVERT, &["digest", &arg(&path), "--prefix", prefix]);
            assert_eq!(of(&student).trim(), digest(&source), "{file:?}");
            assert_ne!(of(&teacher), of(&student), "{file:?}");
            let error = fail(CONVERT, &["digest", &arg(&path), "--prefix", "pupil"]);
            assert!(error.contains(&format!("start with \"{student}\" and \"{teacher}\"")), "{error}");

            let output = arg(&folder.path().join("out.safetensors"));
            let arguments = ["onnx2st", &arg(&path), "-o", &output, "--prefix", &teacher, "--format", "json"];
            let ledger: Value = serde_json::from_str(&succeed(CONVERT, &arguments)).unwrap();
            let aside = ledger["kept_aside"].as_array().unwrap();
            let what = format!("none of the model at \"{teacher}\"");
            let of_student = |extra: &&Value| {
                extra["name"].as_str().unwrap().starts_with("student.")
                    && extra["what"].as_str().unwrap().contains(&what)
            };
            assert!(aside.iter().filter(of_student).count() > 10, "{ledger}");
        }
    }
}

#[test]
fn the_one_model_of_a_graph_has_a_prefix_too() {
    let file = fixture("onnx/fresh/torchscript.onnx");
    let whole = digest(&file);
    let of = |prefix| succeed(CONVERT, &["digest", &arg(&file), "--prefix", prefix]);
    assert_eq!([of("m").trim(), of("m.").trim()], [&whole, &whole]);
    let error = fail(CONVERT, &["digest", &arg(&file), "--prefix", "n"]);
    assert!(error.contains("--prefix n: the names of models start with \"m.\""), "{error}");
    // An export of ours has none.
    let folder = tempfile::tempdir().unwrap();
    let output = arg(&folder.path().join("model.onnx"));
    succeed(CONVERT, &["onnx2pt", &arg(&file), "-o", &arg(&folder.path().join("model.bin"))]);
    fs::copy(file.with_file_name("config.json"), folder.path().join("config.json")).unwrap();
    succeed(CONVERT, &["pt2onnx", &arg(&folder.path().join("model.bin")), "-o", &output]);
    assert_eq!(succeed(CONVERT, &["digest", &output, "--prefix", ""]).trim(), whole);
}
