//! Graphs that take memory or time without end: each is undecided, with the reason, and the rest of the report stands.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use deberta_tests::run;
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_proto::DataType;
use onnx_protobuf::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use protobuf::{EnumOrUnknown, Message as _, MessageField};
use serde_json::Value;
use tempfile::TempDir;

use crate::VERIFY;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/trained/nli");

/// A graph whose logits are added to something that its nodes make of constants.
struct Graph(GraphProto);

impl Graph {
    fn node(&mut self, operator: &str, inputs: &[&str], output: &str) -> &mut NodeProto {
        let node = NodeProto {
            op_type: operator.to_owned(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        };
        self.0.node.push(node);
        self.0.node.last_mut().unwrap()
    }

    fn integers(&mut self, name: &str, shape: &[i64], values: &[i64]) {
        let (name, dims, int64_data) = (name.to_owned(), shape.to_vec(), values.to_vec());
        let data_type = DataType::INT64 as i32;
        self.0.initializer.push(TensorProto { name, dims, int64_data, data_type, ..TensorProto::default() });
    }

    fn floats(&mut self, name: &str, shape: &[i64], values: &[f32]) {
        let (name, dims, float_data) = (name.to_owned(), shape.to_vec(), values.to_vec());
        let data_type = DataType::FLOAT as i32;
        self.0.initializer.push(TensorProto { name, dims, float_data, data_type, ..TensorProto::default() });
    }

    /// A loop whose body makes `x` of `x` by an operator.
    fn repeat(&mut self, operator: &str, times: i64) {
        self.integers("trips", &[], &[times]);
        self.floats("start", &[4], &[0.0; 4]);
        let truth = TensorProto {
            name: "truth".to_owned(),
            int32_data: vec![1],
            data_type: DataType::BOOL as i32,
            ..TensorProto::default()
        };
        self.0.initializer.push(truth);
        let mut body = Graph(GraphProto::new());
        body.node("Identity", &["go on"], "going on");
        let node = body.node(operator, &["x", "x"], "more");
        if operator == "Concat" {
            node.attribute.push(integer("axis", 0));
        }
        let named = |name: &str, of: DataType, shape: Option<&[i64]>| {
            let mut info = ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() };
            let tensor = info.type_.mut_or_insert_default().mut_tensor_type();
            tensor.elem_type = of as i32;
            for &length in shape.into_iter().flatten() {
                let mut dimension = onnx_protobuf::tensor_shape_proto::Dimension::new();
                dimension.set_dim_value(length);
                tensor.shape.mut_or_insert_default().dim.push(dimension);
            }
            if shape.is_some() {
                tensor.shape.mut_or_insert_default();
            }
            info
        };
        body.0.name = "body".to_owned();
        body.0.input.push(named("at", DataType::INT64, Some(&[])));
        body.0.input.push(named("go on", DataType::BOOL, Some(&[])));
        body.0.input.push(named("x", DataType::FLOAT, None));
        body.0.output.push(named("going on", DataType::BOOL, Some(&[])));
        body.0.output.push(named("more", DataType::FLOAT, None));
        let node = self.node("Loop", &["trips", "truth", "start"], "large");
        node.attribute.push(AttributeProto {
            name: "body".to_owned(),
            type_: EnumOrUnknown::new(AttributeType::GRAPH),
            g: MessageField::some(body.0),
            ..AttributeProto::default()
        });
    }
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        type_: EnumOrUnknown::new(AttributeType::INT),
        i: value,
        ..AttributeProto::default()
    }
}

/// The trained model with such a graph beside its weights.
fn model(change: impl FnOnce(&mut Graph)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(Path::new(MODEL).join(name), folder.path().join(name)).unwrap();
    }
    let mut proto =
        ModelProto::parse_from_bytes(&fs::read(Path::new(MODEL).join("model.onnx")).unwrap()).unwrap();
    let mut graph = Graph(proto.graph.take().unwrap());
    let outputs = graph.0.node.iter_mut().flat_map(|node| &mut node.output);
    outputs.filter(|output| *output == "logits").for_each(|output| *output = "true logits".to_owned());
    change(&mut graph);
    graph.node("ReduceMax", &["large"], "largest").attribute.push(integer("keepdims", 0));
    graph.node("Add", &["true logits", "largest"], "logits");
    proto.graph = MessageField::some(graph.0);
    fs::write(folder.path().join("model.onnx"), proto.write_to_bytes().unwrap()).unwrap();
    folder
}

/// What is said of such a model, which must be said in time.
fn verified(folder: &Path) -> Value {
    let start = Instant::now();
    let run = run(VERIFY, &["--model", folder.to_str().unwrap(), "--golden", MODEL, "--format", "json"]);
    assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

fn is_undecided(report: &Value, why: &str) {
    let file = |name: &str| {
        let mut files = report["files"].as_array().unwrap().iter();
        files.find(|file| file["file"] == name).unwrap_or_else(|| panic!("{report}"))
    };
    assert_eq!(file("model.safetensors")["outcome"], "pass");
    let runs = file("model.onnx")["runs"].as_array().unwrap();
    let (by_graph, by_weights): (Vec<_>, Vec<_>) = runs.iter().partition(|run| run["backend"] == "onnx");
    assert!(by_weights.iter().all(|run| run["outcome"] == "pass") && !by_weights.is_empty());
    assert_eq!(by_graph.len(), 7);
    for run in by_graph {
        assert_eq!(run["outcome"], "undecided");
        assert!(run["findings"].to_string().contains(why), "{run}");
    }
}

#[test]
fn a_graph_that_takes_memory_without_end_is_undecided() {
    let wide = model(|graph| {
        graph.integers("shape", &[1], &[1 << 33]);
        graph.node("ConstantOfShape", &["shape"], "large");
    });
    is_undecided(&verified(wide.path()), "more memory than the");
    let doubling = model(|graph| graph.repeat("Concat", 1000));
    is_undecided(&verified(doubling.path()), "more memory than the");
}

#[test]
fn a_graph_that_never_ends_is_undecided() {
    let endless = model(|graph| graph.repeat("Add", i64::MAX));
    is_undecided(&verified(endless.path()), "not done after");
}

#[test]
fn every_command_that_runs_graphs_outlives_them() {
    let folder = model(|graph| {
        graph.integers("times", &[1], &[1 << 33]);
        graph.floats("one", &[1], &[1.0]);
        graph.node("Tile", &["one", "times"], "large");
    });
    let path = folder.path().join("model.onnx");
    let (model, output) = (path.to_str().unwrap(), folder.path().join("trace.safetensors"));
    let inputs = format!("{MODEL}/texts.safetensors");
    let record = [
        "record",
        "--backend",
        "onnx",
        "--model",
        model,
        "--inputs",
        &inputs,
        "-o",
        output.to_str().unwrap(),
    ];
    let bench = ["bench", "--backend", "onnx", "--model", model, "--seq", "8"];
    for arguments in [&record[..], &bench] {
        let run = run(VERIFY, arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains("more memory than the"), "{arguments:?}: {}", run.stderr);
    }
    assert!(!output.exists());
}
