//! Graphs as other tools write them: what is right is not blamed, and what is wrong does not pass.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_tests::{Run, run, succeed};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::type_proto::{Tensor, Value};
use onnx_protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto,
};
use protobuf::{EnumOrUnknown, Message as _, MessageField};
use tempfile::TempDir;

use crate::{CONVERT, VERIFY};

pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(name)
}

/// A model of a golden, exported, with another graph and without the metadata that say what ours is.
pub(crate) fn foreign(name: &str, more: &[&str], change: impl FnOnce(&mut GraphProto)) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    let weights = golden(name).join("model.safetensors");
    succeed(CONVERT, &[&["st2onnx", arg(&weights), "-o", arg(&model)], more].concat());
    let mut proto = ModelProto::parse_from_bytes(&fs::read(&model).unwrap()).unwrap();
    proto.metadata_props.retain(|entry| entry.key == "config.json");
    change(proto.graph.mut_or_insert_default());
    if proto.graph.node.iter().any(|node| node.op_type == "DequantizeLinear") {
        // The first version with everything that it takes.
        proto.opset_import[0].version = 21;
    }
    fs::write(&model, proto.write_to_bytes().unwrap()).unwrap();
    (folder, model)
}

pub(crate) fn verify(model: &Path, name: &str, more: &[&str]) -> Run {
    run(VERIFY, &[&["--model", arg(model), "--golden", arg(&golden(name))], more].concat())
}

fn passes(name: &str, more: &[&str], said: &str, change: impl FnOnce(&mut GraphProto)) {
    let (_kept, model) = foreign(name, more, change);
    let run = verify(&model, name, &[]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains(said), "{}", run.stdout);
}

pub(crate) fn rename(graph: &mut GraphProto, name: &str, other: &str) {
    let values = graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
    values.filter(|value| *value == name).for_each(|value| other.clone_into(value));
    let declared = graph.input.iter_mut().chain(&mut graph.output);
    declared.filter(|value| value.name == name).for_each(|value| other.clone_into(&mut value.name));
}

pub(crate) fn node(operator: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: output.to_owned(),
        op_type: operator.to_owned(),
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::new()
    }
}

pub(crate) fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        type_: EnumOrUnknown::from_i32(AttributeType::INT as i32),
        i: value,
        ..AttributeProto::new()
    }
}

pub(crate) fn numbers(name: &str, dims: &[i64], data_type: i32, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type,
        raw_data: bytes,
        ..TensorProto::new()
    }
}

pub(crate) fn add_softmax(graph: &mut GraphProto, of: &str, name: &str) {
    rename(graph, of, "scores");
    let softmax = NodeProto { attribute: vec![integer("axis", -1)], ..node("Softmax", &["scores"], name) };
    graph.node.push(softmax);
    graph.output.iter_mut().for_each(|output| name.clone_into(&mut output.name));
}

#[test]
fn outputs_are_known_by_what_they_compute() {
    let said = "its output \"output\" is outputs.logits, as its numbers show";
    passes("masked-lm", &[], said, |graph| rename(graph, "logits", "output"));
    let said = "its output \"probs\" is the softmax of outputs.logits";
    passes("sequence-classification", &[], said, |graph| add_softmax(graph, "logits", "probs"));
    // The two are alike, and in the other order.
    passes("question-answering", &[], "its output \"1\" is outputs.start_logits", |graph| {
        rename(graph, "start_logits", "1");
        rename(graph, "end_logits", "0");
        graph.output.reverse();
    });
}

#[test]
fn outputs_that_compute_nothing_of_the_golden_are_undecided() {
    let (_kept, model) = foreign("sequence-classification", &[], |graph| {
        add_softmax(graph, "logits", "probs");
        graph.node.iter_mut().find(|node| node.op_type == "Erf").unwrap().op_type = "Tanh".to_owned();
    });
    let run = verify(&model, "sequence-classification", &[]);
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("expected outputs.logits"), "{}", run.stdout);
    assert!(run.stdout.contains("seen probs"), "{}", run.stdout);
    // Names that tell what they are and do not compute it are no puzzle.
    let (_kept, model) = foreign("question-answering", &[], |graph| {
        rename(graph, "start_logits", "other");
        rename(graph, "end_logits", "start_logits");
        rename(graph, "other", "end_logits");
    });
    let run = verify(&model, "question-answering", &[]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("the graph is wrong, not the weights"), "{}", run.stdout);
}

#[test]
fn inputs_are_known_by_what_the_graph_does_with_them() {
    passes("masked-lm", &[], "its input \"a\" is attention_mask, as the graph uses it", |graph| {
        graph.input.rotate_left(1);
        for (name, other) in [("input_ids", "b"), ("attention_mask", "a"), ("token_type_ids", "c")] {
            rename(graph, name, other);
        }
    });
}

#[test]
fn masked_rows_are_read_from_the_graph() {
    let zero = ["--masked-rows", "zero"];
    let said = "zero attention in masked rows (transformers to 4.46, TensorFlow, Microsoft); with it the reference computes";
    passes("model", &zero, said, |_| {});
    let (_kept, model) = foreign("model", &zero, |graph| {
        let mask = graph.initializer.iter_mut().find(|tensor| tensor.raw_data[..] == f32::MIN.to_le_bytes());
        mask.unwrap().raw_data = 0.0_f32.to_le_bytes().to_vec();
    });
    let run = verify(&model, "model", &[]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
}

#[test]
fn types_that_contradict_each_other_are_a_divergence() {
    let dense = |graph: &mut GraphProto| {
        let is_dense = |node: &NodeProto| node.op_type == "Add" && node.name.contains("dense");
        let at = graph.node.iter().position(is_dense).unwrap();
        (at, graph.node[at].input[0].clone())
    };
    let narrow = |graph: &mut GraphProto| {
        let (at, operand) = dense(graph);
        graph.node[at].input[0] = "narrow".to_owned();
        let cast = NodeProto { attribute: vec![integer("to", 10)], ..node("Cast", &[&operand], "narrow") };
        graph.node.insert(at, cast);
    };
    let declared = |graph: &mut GraphProto| {
        let (_, operand) = dense(graph);
        let tensor = Tensor { elem_type: 10, ..Tensor::new() };
        let of = TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::new() };
        let info = ValueInfoProto { name: operand, type_: MessageField::some(of), ..ValueInfoProto::new() };
        graph.value_info.push(info);
    };
    for (change, types) in
        [(&narrow as &dyn Fn(&mut GraphProto), "takes f16"), (&declared, "which the file declares as f16")]
    {
        let (_kept, model) = foreign("masked-lm", &[], change);
        for more in [&[][..], &["--backend", "onnx"]] {
            let run = verify(&model, "masked-lm", more);
            assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
            assert!(run.stdout.contains("no runtime that checks types loads this graph"), "{}", run.stdout);
            assert!(run.stdout.contains(types) && run.stdout.contains("f32"), "{}", run.stdout);
        }
    }
}

#[test]
fn what_rten_computes_otherwise_is_undecided() {
    let (_kept, model) = foreign("masked-lm", &[], |graph| {
        graph.initializer.push(numbers("a", &[1, 2], 6, vec![1, 0, 0, 0, 1, 0, 0, 0]));
        graph.node.push(node("ArgMax", &["a"], "largest"));
    });
    let run = verify(&model, "masked-lm", &[]);
    if std::env::var_os("ORT_DYLIB_PATH").is_some() {
        assert!(run.stdout.contains("computed by ONNX Runtime ("), "{}{}", run.stdout, run.stderr);
        return;
    }
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("takes the last of equal numbers"), "{}", run.stdout);
    assert!(run.stdout.contains("--backend onnxruntime"), "{}", run.stdout);
    assert!(!run.stdout.contains("divergence:"), "{}", run.stdout);
}

#[test]
fn a_graph_without_all_weights_is_judged_by_its_numbers() {
    // The table of relative positions, projected beforehand by one layer: no weight digest, and no blame.
    let folded = |graph: &mut GraphProto| {
        let at = graph.node.iter().position(|node| node.op_type == "LayerNormalization").unwrap();
        let scale = graph.node[at].input[1].clone();
        let weight = graph.initializer.iter_mut().find(|tensor| tensor.name == scale).unwrap();
        weight.name = "folded".to_owned();
        graph.node[at].input[1] = "folded".to_owned();
        graph.node[at].name = "unnamed".to_owned();
    };
    let said = "the graph is judged by its numbers alone, without a weight digest";
    passes("masked-lm", &[], said, folded);
    let (_kept, model) = foreign("masked-lm", &[], |graph| {
        folded(graph);
        let weight = graph.initializer.iter_mut().find(|tensor| tensor.name == "folded").unwrap();
        weight.raw_data = vec![0; weight.raw_data.len()];
    });
    let run = verify(&model, "masked-lm", &[]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(!run.stdout.contains("the weights are not the same"), "{}", run.stdout);
}

#[test]
fn a_policy_names_the_backend() {
    let (kept, _) = foreign("masked-lm", &[], |_| {});
    let policy = kept.path().join("verify.yaml");
    fs::create_dir(kept.path().join("golden")).unwrap();
    for file in ["plain.safetensors", "loss.safetensors"] {
        fs::copy(golden("masked-lm").join(file), kept.path().join("golden").join(file)).unwrap();
    }
    for (backend, code) in [("onnx", 0), ("reference", 0), ("rten", 2)] {
        let text = format!("models: [{{model: ./model.onnx, goldens: [./golden], backend: {backend}}}]\n");
        fs::write(&policy, text).unwrap();
        let run = run(VERIFY, &["--policy", arg(&policy), "--format", "json"]);
        assert_eq!(run.code, code, "{backend}: {}{}", run.stdout, run.stderr);
        if code == 0 {
            assert!(run.stdout.contains(&format!("\"backend\": \"{backend}\"")), "{}", run.stdout);
        } else {
            assert!(run.stderr.contains("unknown variant `rten`"), "{}", run.stderr);
        }
    }
}

#[test]
fn f16_graphs_are_judged_within_the_range_of_f16() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(golden("masked-lm").join(name), folder.path().join(name)).unwrap();
    }
    // GELU is nearly linear for such numbers, so that the model stays one: only f16 cannot hold them.
    for (name, factor) in [
        ("intermediate.dense.weight", 2e4),
        ("intermediate.dense.bias", 2e4),
        ("output.dense.weight", 1.0 / 2e4),
    ] {
        let name = format!("deberta.encoder.layer.1.{name}");
        let file = folder.path().join("model.safetensors");
        deberta_tests::change_tensor(&file, &name, |_, values| {
            values.iter_mut().for_each(|value| *value *= factor);
        });
    }
    let (weights, graph) = (folder.path().join("model.safetensors"), folder.path().join("model.onnx"));
    let recorded = folder.path().join("golden");
    fs::create_dir(&recorded).unwrap();
    let inputs = golden("masked-lm").join("plain.safetensors");
    let trace = recorded.join("plain.safetensors");
    succeed(VERIFY, &["record", "--model", arg(&weights), "--inputs", arg(&inputs), "-o", arg(&trace)]);
    for (more, code) in [(&["--dtype", "f16"][..], 1), (&["--dtype", "f16", "--compute", "f32"], 0)] {
        succeed(CONVERT, &[&["st2onnx", arg(&weights), "-o", arg(&graph), "--force"], more].concat());
        let run = run(VERIFY, &["--model", arg(&graph), "--golden", arg(&recorded), "--backend", "onnx"]);
        assert_eq!(run.code, code, "{more:?}: {}{}", run.stdout, run.stderr);
        assert_eq!(run.stdout.contains("in f16 it overflows there"), code == 1, "{}", run.stdout);
    }
}

#[test]
fn an_equal_tensor_without_a_name_repeats_a_parameter() {
    let duplicated = |change: fn(&mut Vec<u8>)| {
        move |graph: &mut GraphProto| {
            let query = "layer.0.attention.self.query_proj.weight";
            let takes = |node: &&mut NodeProto| node.input.iter().any(|name| name.ends_with(query));
            let last = graph.node.iter_mut().filter(takes).last().unwrap();
            let operand = last.input.iter_mut().find(|name| name.ends_with(query)).unwrap();
            let mut copy = graph.initializer.iter().find(|tensor| tensor.name == *operand).unwrap().clone();
            "dup".clone_into(operand);
            "dup".clone_into(&mut copy.name);
            let mut bytes = copy.raw_data.to_vec();
            change(&mut bytes);
            copy.raw_data = bytes;
            graph.initializer.push(copy);
        }
    };
    let source = golden("v2-model").join("model.safetensors");
    let (_kept, model) = foreign("v2-model", &[], duplicated(|_| {}));
    assert_eq!(succeed(CONVERT, &["digest", arg(&model)]), succeed(CONVERT, &["digest", arg(&source)]));
    assert_eq!(verify(&model, "v2-model", &[]).code, 0);
    let (_kept, model) = foreign("v2-model", &[], duplicated(|bytes| bytes[3] ^= 0x80));
    let run = run(CONVERT, &["digest", arg(&model)]);
    assert!(run.code != 0 && run.stderr.contains("\"dup\": unexpected"), "{}", run.stderr);
    assert_eq!(verify(&model, "v2-model", &[]).code, 1);
}
