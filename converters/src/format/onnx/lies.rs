//! One test per way in which an ONNX file can lie. Those about lengths and nesting are in `wire.rs`.

use std::fs;
use std::path::Path;

use prost::Message as _;

use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::{GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto};
use super::{OnnxFile, open, sniff};
use crate::error::{Kind, Result};
use crate::format::TensorFile;
use crate::mapped::Mapped;
use crate::tensor::Dtype;

fn open_bytes(bytes: Vec<u8>) -> Result<OnnxFile> {
    open(Mapped::from_bytes(bytes, Path::new("model.onnx")))
}

fn model(graph: GraphProto) -> Vec<u8> {
    ModelProto { ir_version: Some(8), graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
}

/// A tensor `w` of f32 with that shape and those bytes.
fn tensor(dims: &[i64], bytes: usize) -> TensorProto {
    TensorProto {
        name: Some("w".into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float.into()),
        raw_data: Some(vec![1; bytes].into()),
        ..TensorProto::default()
    }
}

fn holding(tensors: Vec<TensorProto>) -> Vec<u8> {
    model(GraphProto { initializer: tensors, ..GraphProto::default() })
}

fn refusal(bytes: Vec<u8>) -> String {
    match open_bytes(bytes) {
        Ok(_) => "opened".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn node(operation: &str, input: &[&str], output: &[&str]) -> NodeProto {
    NodeProto {
        name: Some(format!("a {operation}")),
        op_type: Some(operation.into()),
        input: input.iter().map(|&name| name.into()).collect(),
        output: output.iter().map(|&name| name.into()).collect(),
        ..NodeProto::default()
    }
}

/// A file with a tensor `w` [2] in the file `data` beside it, which is at `path`.
fn external_file(folder: &Path) -> std::path::PathBuf {
    let entry = StringStringEntryProto { key: Some("location".into()), value: Some("data".into()) };
    let mut tensor = tensor(&[2], 0);
    tensor.raw_data = None;
    tensor.data_location = Some(DataLocation::External.into());
    tensor.external_data = vec![entry];
    let path = folder.join("model.onnx");
    fs::write(&path, holding(vec![tensor])).unwrap();
    path
}

#[test]
fn external_data_is_no_link_out_of_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let (snapshot, blobs) =
        (root.path().join("models--a--b/snapshots/c/onnx"), root.path().join("models--a--b/blobs"));
    for folder in [&snapshot, &blobs] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("numbers"), [0; 8]).unwrap();
    }
    fs::write(root.path().join("numbers"), [0; 8]).unwrap();
    let path = external_file(&snapshot);
    let open_link = |target: &str| {
        let link = snapshot.join("data");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link).unwrap();
        open(Mapped::open(&path).unwrap())
    };
    assert!(open_link("numbers").is_ok() && open_link("../../../blobs/numbers").is_ok());
    let Err(error) = open_link("../../../../numbers") else { panic!("opened") };
    assert_eq!(error.kind(), Kind::Refused, "{error}");
}

#[test]
fn the_honest_file_opens() {
    let bytes = holding(vec![tensor(&[2, 3], 24)]);
    assert!(sniff(&bytes));
    let file = open_bytes(bytes).unwrap();
    assert_eq!((file.tensors()[0].name.as_str(), &file.tensors()[0].shape[..]), ("w", &[2, 3][..]));
    assert_eq!(file.read(0).unwrap().as_ref(), [1; 24]);
    assert!(file.read(1).is_err());
}

#[test]
fn numbers_in_fields_of_their_own_are_read() {
    let numbers = |data_type: DataType| TensorProto {
        raw_data: None,
        data_type: Some(data_type.into()),
        ..tensor(&[2], 0)
    };
    let bytes =
        |tensor: TensorProto| open_bytes(holding(vec![tensor])).unwrap().read(0).unwrap().into_owned();
    let floats = TensorProto { float_data: vec![1.0, -2.5], ..numbers(DataType::Float) };
    assert_eq!(bytes(floats), [1.0_f32, -2.5].map(f32::to_le_bytes).concat());
    let doubles = TensorProto { double_data: vec![1.0, -2.5], ..numbers(DataType::Double) };
    assert_eq!(bytes(doubles), [1.0_f64, -2.5].map(f64::to_le_bytes).concat());
    let halves = TensorProto { int32_data: vec![0x3c00, 0xc100], ..numbers(DataType::Float16) };
    assert_eq!(bytes(halves), [0x00, 0x3c, 0x00, 0xc1]);
    let integers = TensorProto { int64_data: vec![1, -1], ..numbers(DataType::Int64) };
    assert_eq!(bytes(integers), [1_i64, -1].map(i64::to_le_bytes).concat());
    let small = TensorProto { int32_data: vec![-1, 127], ..numbers(DataType::Int8) };
    assert_eq!(bytes(small), [0xff, 0x7f]);
    let wide = TensorProto { int32_data: vec![0, 0x1_0000], ..numbers(DataType::Bfloat16) };
    assert_eq!(
        refusal(holding(vec![wide])),
        "model.onnx: tensor \"w\": the number 65536 is none of dtype bf16"
    );
}

#[test]
fn data_that_does_not_fit_the_shape() {
    assert_eq!(
        refusal(holding(vec![tensor(&[2, 3], 23)])),
        "model.onnx: tensor \"w\": shape [2, 3] as f32 needs 24 bytes, the file has 23"
    );
    assert!(refusal(holding(vec![tensor(&[2, -3], 24)])).contains("shape [2, -3] has a negative dimension"));
    assert!(refusal(holding(vec![tensor(&[i64::MAX, 8], 24)])).contains("overflows the address space"));
}

#[test]
fn elements_that_are_there_twice() {
    let twice = TensorProto { float_data: vec![1.0; 6], ..tensor(&[2, 3], 24) };
    assert_eq!(
        refusal(holding(vec![twice])),
        "model.onnx: tensor \"w\": has its elements twice, as raw_data and as float_data"
    );
    let wrong = TensorProto {
        raw_data: None,
        float_data: vec![1.0; 6],
        double_data: vec![1.0; 6],
        ..tensor(&[2, 3], 0)
    };
    assert!(refusal(holding(vec![wrong])).contains("as float_data and as double_data"));
    let outside = TensorProto { data_location: Some(DataLocation::External.into()), ..tensor(&[2, 3], 24) };
    assert!(refusal(holding(vec![outside])).contains("as external data and as raw_data"));
    // Some writers leave an empty field beside the other.
    let empty =
        TensorProto { raw_data: Some(Vec::new().into()), float_data: vec![1.0; 6], ..tensor(&[2, 3], 0) };
    assert!(open_bytes(holding(vec![empty])).is_ok());
}

#[test]
fn more_dimensions_than_any_tensor_has() {
    let message = refusal(holding(vec![tensor(&[1; 100_000], 4)]));
    assert_eq!(message, "model.onnx: tensor \"w\": has 100000 dimensions, more than 16");
}

#[test]
fn dtypes_that_no_checkpoint_has() {
    let of = |number| TensorProto { data_type: Some(number), ..tensor(&[2, 3], 24) };
    assert!(refusal(holding(vec![of(8)])).contains("dtype STRING is not one that checkpoints have"));
    assert!(refusal(holding(vec![of(99)])).contains("dtype number 99 is none of ONNX's"));
}

#[test]
fn two_tensors_of_one_name() {
    let twice = vec![tensor(&[6], 24), tensor(&[6], 24)];
    assert_eq!(refusal(holding(twice)), "model.onnx: tensor \"w\": two tensors of this name");
}

#[test]
fn nodes_in_a_circle_or_of_nothing() {
    let circle = vec![node("Neg", &["b"], &["a"]), node("Abs", &["a"], &["b"])];
    let message = refusal(model(GraphProto { node: circle, ..GraphProto::default() }));
    assert_eq!(
        message,
        "model.onnx: node \"a Neg\" (Neg) takes \"b\", which is made of what it makes itself: a cycle"
    );
    let behind = vec![node("Neg", &["a"], &["b"]), node("Abs", &["c"], &["a"])];
    let message = refusal(model(GraphProto { node: behind, ..GraphProto::default() }));
    assert_eq!(message, "model.onnx: node \"a Abs\" (Abs) takes \"c\", which nothing makes");
    let twice = vec![node("Range", &[], &["a"]), node("Range", &[], &["a"])];
    let message = refusal(model(GraphProto { node: twice, ..GraphProto::default() }));
    assert!(message.contains("makes \"a\", which exists already"), "{message}");
    let output = vec![ValueInfoProto { name: Some("y".into()), ..ValueInfoProto::default() }];
    let message = refusal(model(GraphProto { output, ..GraphProto::default() }));
    assert!(message.contains("nothing makes the output \"y\""), "{message}");
}

#[test]
fn two_inputs_or_outputs_of_one_name() {
    let value = |name: &str| ValueInfoProto { name: Some(name.into()), ..ValueInfoProto::default() };
    let twice = vec![value("x"), value("x")];
    let message = refusal(model(GraphProto { input: twice.clone(), ..GraphProto::default() }));
    assert!(message.contains("two inputs \"x\""), "{message}");
    let graph = GraphProto { input: vec![value("x")], output: twice, ..GraphProto::default() };
    let message = refusal(model(graph));
    assert!(message.contains("two outputs \"x\""), "{message}");
}

#[test]
fn what_is_no_model() {
    assert!(refusal(Vec::new()).contains("without a graph"));
    assert!(refusal(vec![7 << 3, 1]).contains("not an ONNX model"));
    for other in [&b"PK\x03\x04"[..], b"\x08", b"\x08\x00\x12", b"{\"a\": 1}", b"\x80\x02}", b"\x08\x08\xff"]
    {
        assert!(!sniff(other), "{other:?}");
    }
}

/// A tensor whose data is in a file.
fn external(entries: &[(&str, &str)]) -> Vec<u8> {
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value.into()),
    };
    holding(vec![TensorProto {
        raw_data: None,
        data_location: Some(DataLocation::External.into()),
        external_data: entries.iter().map(entry).collect(),
        ..tensor(&[2, 3], 0)
    }])
}

/// Opens a model in a folder with a file `w.data` of 32 bytes, beside a file of the same name.
fn open_in_folder(entries: &[(&str, &str)]) -> Result<(Dtype, Vec<u8>)> {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("w.data"), [9; 32]).unwrap();
    let folder = root.path().join("model");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("w.data"), (0..32).collect::<Vec<u8>>()).unwrap();
    fs::write(folder.join("model.onnx"), external(entries)).unwrap();
    let file = open(Mapped::open(&folder.join("model.onnx"))?)?;
    Ok((file.tensors()[0].dtype, file.read(0)?.into_owned()))
}

#[test]
fn external_data_is_read_from_the_folder() {
    let whole = open_in_folder(&[("location", "w.data"), ("offset", "8"), ("length", "24")]).unwrap();
    assert_eq!(whole, (Dtype::F32, (8..32).collect()));
    let first = open_in_folder(&[("location", "./w.data")]).unwrap();
    assert_eq!(first.1, (0..24).collect::<Vec<u8>>());
}

#[test]
fn external_data_outside_the_folder_is_refused() {
    for location in ["../w.data", "/etc/passwd", "a/../../w.data", "..", "", "a\\b", "w.data\0"] {
        let error = open_in_folder(&[("location", location)]).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{location}: {error}");
    }
}

#[test]
fn external_data_of_the_wrong_length() {
    let message = |entries: &[(&str, &str)]| open_in_folder(entries).unwrap_err().to_string();
    let of = |key, value| message(&[("location", "w.data"), (key, value)]);
    assert!(
        of("offset", "9")
            .ends_with("tensor \"w\": external data: 24 bytes at 9 of \"w.data\", which has 32 (truncated?)")
    );
    assert!(of("offset", "18446744073709551615").contains("24 bytes at 18446744073709551615"));
    assert!(of("offset", "-8").contains("offset \"-8\" is not a number of bytes"));
    assert!(of("length", "32").contains("length 32, the shape needs 24 bytes"));
    assert!(message(&[("offset", "0")]).contains("without a location"));
    let twice = message(&[("location", "w.data"), ("offset", "0"), ("offset", "8")]);
    assert!(twice.contains("two entries \"offset\""), "{twice}");
    assert!(message(&[("location", "absent")]).contains("cannot open"));
}
