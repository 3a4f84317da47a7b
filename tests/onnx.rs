//! ONNX both ways: what PyTorch exports is imported, what we export is imported again and read by another decoder, and
//! damaged files are refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use deberta_converters::format::{TensorFile, onnx};
use deberta_converters::mapped::Mapped;
use deberta_converters::naming::onnx::recover;
use deberta_tests::cases::each;
use deberta_tests::{fail, fixture, fixtures, shared_fixtures, shared_fixtures_of_version_2, succeed};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use protobuf::{EnumOrUnknown, Message};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::CONVERT;

/// What PyTorch's two exporters wrote.
const EXPORTERS: [&str; 2] = ["torchscript.onnx", "dynamo.onnx"];

pub(crate) fn arg(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

pub(crate) fn digest(input: &Path) -> String {
    succeed(CONVERT, &["digest", &arg(input)]).trim().to_owned()
}

/// The folders of golden cases, which hold every class and every flag.
fn golden() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data");
    let mut folders: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("model.safetensors").exists())
        .filter(|folder| fs::read(folder.join("model.safetensors")).is_ok_and(|bytes| holds_weights(&bytes)))
        .collect();
    folders.sort();
    assert!(folders.len() > 10, "golden cases with weights");
    folders
}

/// Traces have the name of their input, which may be `model`.
fn holds_weights(bytes: &[u8]) -> bool {
    !String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).contains("inputs.")
}

/// Every file of PyTorch's exporters, and the weights that it was made from.
pub(crate) fn exported() -> Vec<(PathBuf, PathBuf)> {
    let folders = [fixtures("onnx"), fixtures("onnx-v2")].concat();
    let files = folders.iter().flat_map(|folder| EXPORTERS.map(|exporter| folder.join(exporter)));
    files.filter(|file| file.exists()).map(|file| (file.clone(), weights_of(&file))).collect()
}

/// The weights that a file of PyTorch's exporters was made from.
fn weights_of(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap();
    let case = folder.file_name().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data");
    let places = [folder.to_owned(), fixture("transformers").join(case), golden.join(case)];
    places.iter().map(|place| place.join("model.safetensors")).find(|file| file.exists()).unwrap()
}

/// A copy of `file` beside its configuration, with another graph.
pub(crate) fn rewritten(file: &Path, rewrite: impl FnOnce(&mut GraphProto)) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(file.with_file_name("config.json"), folder.path().join("config.json")).unwrap();
    let mut model = decode(file);
    rewrite(model.graph.mut_or_insert_default());
    let path = folder.path().join("model.onnx");
    fs::write(&path, model.write_to_bytes().unwrap()).unwrap();
    (folder, path)
}

/// Exports `input` to a folder and returns the model.
fn export(input: &Path, out: &Path, more: &[&str]) -> PathBuf {
    let mut args = vec!["st2onnx".to_owned(), arg(input), "-o".to_owned(), format!("{}/", out.display())];
    args.extend(more.iter().map(|&more| more.to_owned()));
    succeed(CONVERT, &args);
    out.join("model.onnx")
}

fn decode(path: &Path) -> ModelProto {
    ModelProto::parse_from_bytes(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn files_that_pytorch_exported_hold_the_models_they_were_made_from() {
    let mut files = exported();
    let shared = [shared_fixtures(), shared_fixtures_of_version_2()].concat();
    for folder in shared.iter().filter(|folder| folder.join("model.onnx").exists()) {
        files.push((folder.join("model.onnx"), folder.join("model.safetensors")));
    }
    let imported = each(files, |(exported, source)| assert_eq!(digest(exported), digest(source)));
    assert!(imported.len() >= 10, "{} files", imported.len());
}

#[test]
fn exports_of_every_class_and_flag_import_to_the_same_digest() {
    let folders = [golden(), fixtures("transformers"), fixtures("microsoft")].concat();
    let sources = folders.iter().map(|folder| folder.join("model.safetensors"));
    each(sources.filter(|source| source.exists()), |source| {
        let out = tempfile::tempdir().unwrap();
        let model = export(source, out.path(), &[]);
        // The model tells its own configuration.
        fs::remove_file(out.path().join("config.json")).unwrap();
        assert_eq!(digest(&model), digest(source));
        let back = tempfile::tempdir().unwrap();
        succeed(CONVERT, &["onnx2pt", &arg(&model), "-o", &format!("{}/", back.path().display())]);
        assert_eq!(digest(&back.path().join("pytorch_model.bin")), digest(source));
    });
}

#[test]
fn every_format_is_exported_and_imported() {
    let files = [("pt", "pytorch_model.bin"), ("tf", "tf_model.h5"), ("st", "model.safetensors")];
    let source = fixture("transformers/seqcls");
    let expected = digest(&source.join("model.safetensors"));
    for (format, name) in files {
        let out = tempfile::tempdir().unwrap();
        let folder = format!("{}/", out.path().display());
        succeed(CONVERT, &[&format!("{format}2onnx"), &arg(&source.join(name)), "-o", &folder]);
        assert_eq!(digest(&out.path().join("model.onnx")), expected, "{format}2onnx");
        succeed(CONVERT, &[&format!("onnx2{format}"), &arg(&out.path().join("model.onnx")), "-o", &folder]);
        assert_eq!(digest(&out.path().join(name)), expected, "onnx2{format}");
    }
}

#[test]
fn options_change_what_is_computed_and_no_weight() {
    let seqcls = fixture("transformers/seqcls/model.safetensors");
    let emd = fixture("microsoft/emd/model.safetensors");
    for (source, more) in [
        (&seqcls, &["--masked-rows", "zero"][..]),
        (&seqcls, &["--external-data"]),
        (&seqcls, &["--activations"]),
        (&seqcls, &["--activations", "*.probs", "--external-data"]),
        (&emd, &["--head", "emd"]),
        (&emd, &["--head", "emd", "--activations", "emd.*"]),
    ] {
        let out = tempfile::tempdir().unwrap();
        assert_eq!(digest(&export(source, out.path(), more)), digest(source), "{more:?}");
    }
    for dtype in ["f16", "bf16"] {
        let (out, plain) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let model = export(&seqcls, out.path(), &["--dtype", dtype]);
        let rounded = format!("{}/", plain.path().display());
        succeed(CONVERT, &["st2pt", &arg(&seqcls), "-o", &rounded, "--dtype", dtype]);
        assert_eq!(digest(&model), digest(&plain.path().join("pytorch_model.bin")), "{dtype}");
    }
}

#[test]
fn another_decoder_reads_what_is_written() {
    let sources = fixtures("transformers").into_iter().map(|folder| folder.join("model.safetensors"));
    each(sources.filter(|source| source.exists()), |source| {
        let out = tempfile::tempdir().unwrap();
        let model = decode(&export(source, out.path(), &[]));
        let graph = model.graph.get_or_default();
        let metadata: BTreeMap<&str, &str> =
            model.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
        assert_eq!(metadata["deberta.weight_digest"], digest(source));
        assert_eq!(metadata["deberta.masked_rows"], "uniform");
        assert!(metadata["deberta.class"].starts_with("Deberta"));
        assert!(metadata["config.json"].contains("hidden_size"));
        assert_eq!((model.producer_name.as_str(), model.opset_import[0].version), ("deberta-convert", 17));

        let bytes = fs::read(source).unwrap();
        let expected = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let initializers: BTreeMap<&str, &TensorProto> =
            graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let mut compared = 0;
        for (name, view) in expected.tensors() {
            // Old spellings and names of TensorFlow become canonical ones.
            let Some(tensor) = initializers.get(name.as_str()) else { continue };
            assert_eq!(tensor.dims.iter().map(|&dim| dim as usize).collect::<Vec<_>>(), view.shape());
            assert!(tensor.raw_data == view.data(), "{name}");
            compared += 1;
        }
        let of_tensorflow = source.parent().unwrap().ends_with("tf-safetensors");
        assert!(compared > 20 || of_tensorflow, "{compared}");
        for input in &graph.input {
            let dims = &input.type_.get_or_default().tensor_type().shape.get_or_default().dim;
            assert_eq!(dims.iter().map(|dim| dim.dim_param()).collect::<Vec<_>>(), ["batch", "sequence"]);
        }
    });
}

#[test]
fn inputs_and_outputs_are_named_as_optimum_names_them() {
    let names = |folder: &str| {
        let out = tempfile::tempdir().unwrap();
        let source = fixture("transformers").join(folder).join("model.safetensors");
        let model = decode(&export(&source, out.path(), &[]));
        let graph = model.graph.get_or_default();
        let names = |list: &[onnx_protobuf::ValueInfoProto]| {
            list.iter().map(|value| value.name.clone()).collect::<Vec<_>>()
        };
        (names(&graph.input), names(&graph.output))
    };
    let two = ["input_ids", "attention_mask"].map(str::to_owned).to_vec();
    let outputs = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names("base"), (two.clone(), outputs(&["last_hidden_state"])));
    assert_eq!(names("mlm"), (two.clone(), outputs(&["logits"])));
    assert_eq!(names("qa"), (two.clone(), outputs(&["start_logits", "end_logits"])));
    let types = [two, vec!["token_type_ids".to_owned()]].concat();
    assert_eq!(names("abs-types"), (types, outputs(&["logits"])));
}

#[test]
fn activations_that_are_asked_for_are_outputs_under_their_names() {
    let out = tempfile::tempdir().unwrap();
    let source = fixture("transformers/base/model.safetensors");
    let model = decode(&export(&source, out.path(), &["--activations", "*.attention.self.pro*"]));
    let outputs: Vec<String> =
        model.graph.get_or_default().output.iter().map(|output| output.name.clone()).collect();
    assert_eq!(
        outputs,
        ["encoder.layer.0.attention.self.probs", "encoder.layer.1.attention.self.probs", "last_hidden_state"]
    );
}

#[test]
fn external_data_is_a_file_beside_the_model() {
    let out = tempfile::tempdir().unwrap();
    let source = fixture("transformers/tokcls/model.safetensors");
    let model = export(&source, out.path(), &["--external-data"]);
    let mut names: Vec<String> = fs::read_dir(out.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.onnx", "model.onnx.data"]);
    let data = out.path().join("model.onnx.data");
    let bytes = fs::read(&data).unwrap();
    fs::write(&data, &bytes[..bytes.len() - 1]).unwrap();
    let message = fail(CONVERT, &["digest", &arg(&model)]);
    assert!(message.contains("external data") && message.contains("truncated"), "{message}");
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let refused = |folder: &str, more: &[&str]| {
        let source = arg(&fixture(folder).join("model.safetensors"));
        let out = format!("{}/", out.path().display());
        let message = fail(CONVERT, &[&["convert", &source, "-o", &out], more].concat());
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "{message}");
        message
    };
    assert!(refused("transformers/mlm", &["--to", "onnx", "--head", "emd"]).contains("lm_predictions"));
    assert!(refused("transformers/mlm", &["--to", "pt", "--activations"]).contains("weights alone"));
    assert!(
        refused("transformers/mlm", &["--to", "onnx", "--activations", "no.such"])
            .contains("docs/activations.md")
    );
    assert!(refused("transformers/mlm", &["--to", "onnx", "--dtype", "f64"]).contains("--dtype f32"));
    assert!(
        refused("transformers/mlm", &["--to", "onnx", "--max-shard-size", "1MB"]).contains("--external-data")
    );
}

#[test]
fn what_an_export_has_lost_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture("onnx/mlm");
    fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
    let mut model = decode(&source.join("torchscript.onnx"));
    let graph = model.graph.mut_or_insert_default();
    let lost = graph
        .node
        .iter_mut()
        .find(|node| node.name.ends_with("layer.1/attention/self/in_proj/MatMul"))
        .unwrap();
    lost.name = "no path".to_owned();
    lost.input[1] = "input_ids".to_owned();
    let path = folder.path().join("model.onnx");
    fs::write(&path, model.write_to_bytes().unwrap()).unwrap();
    let message = fail(CONVERT, &["digest", &arg(&path)]);
    assert!(
        message.contains("tensor \"deberta.encoder.layer.1.attention.self.in_proj.weight\": missing"),
        "{message}"
    );
}

#[test]
fn numbers_that_a_graph_changes_before_it_uses_them_are_no_parameters() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data/v2-model-conv/model.safetensors");
    let ints = |name: &str, ints: &[i64]| AttributeProto {
        name: name.to_owned(),
        ints: ints.to_vec(),
        type_: EnumOrUnknown::new(AttributeType::INTS),
        ..AttributeProto::default()
    };
    let to = |number: i64| AttributeProto {
        name: "to".to_owned(),
        i: number,
        type_: EnumOrUnknown::new(AttributeType::INT),
        ..AttributeProto::default()
    };
    let query = "encoder.layer.0.attention.self.query_proj.weight";
    let cases = [
        ("encoder.conv.conv.weight", "Transpose", vec![ints("perm", &[1, 0, 2])]),
        (query, "Neg", vec![]),
        (query, "Cast", vec![to(10)]),
        (query, "Cast", vec![to(7)]),
        ("encoder.layer.1.output.LayerNorm.bias", "Neg", vec![]),
    ];
    for (name, operation, attribute) in cases {
        let out = tempfile::tempdir().unwrap();
        let path = export(&source, out.path(), &[]);
        let mut model = decode(&path);
        let graph = model.graph.mut_or_insert_default();
        for input in graph.node.iter_mut().flat_map(|node| &mut node.input).filter(|input| *input == name) {
            *input = "changed".to_owned();
        }
        let change = NodeProto {
            input: vec![name.to_owned()],
            output: vec!["changed".to_owned()],
            name: "change".to_owned(),
            op_type: operation.to_owned(),
            attribute,
            ..NodeProto::default()
        };
        graph.node.insert(0, change);
        fs::write(&path, model.write_to_bytes().unwrap()).unwrap();
        let message = fail(CONVERT, &["digest", &arg(&path)]);
        let expected = format!(
            "tensor \"{name}\": the graph computes with other numbers, which change ({operation}) makes of it"
        );
        assert!(message.contains(&expected), "{message}");
    }
}

#[test]
fn weights_that_were_changed_after_the_export_are_noted() {
    let out = tempfile::tempdir().unwrap();
    let path = export(&fixture("transformers/qa/model.safetensors"), out.path(), &[]);
    let convert = |to: &str| {
        let target = out.path().join(to);
        succeed(CONVERT, &["onnx2st", &arg(&path), "-o", &arg(&target)])
    };
    assert!(!convert("before.safetensors").contains("changed afterwards"));
    let mut model = decode(&path);
    let tensors = &mut model.graph.mut_or_insert_default().initializer;
    let bias = tensors.iter_mut().find(|tensor| tensor.name == "qa_outputs.bias").unwrap();
    bias.raw_data[3] ^= 1;
    fs::write(&path, model.write_to_bytes().unwrap()).unwrap();
    assert!(convert("after.safetensors").contains("changed afterwards"));
}

#[test]
fn nodes_without_names_are_told_by_their_place() {
    let files = exported().into_iter().filter(|(file, _)| !file.parent().unwrap().ends_with("fresh"));
    each(files, |(file, source)| {
        let (_folder, path) = rewritten(file, |graph| {
            for node in &mut graph.node {
                node.name.clear();
                // What this decoder does not know is the metadata with the module paths.
                node.special_fields.mut_unknown_fields().clear();
            }
        });
        assert_eq!(digest(&path), digest(source));
    });
}

#[test]
fn tensors_without_names_are_told_by_the_nodes() {
    each(exported(), |(file, source)| {
        let (_folder, path) = rewritten(file, |graph| {
            let initializers = graph.initializer.iter().map(|tensor| tensor.name.clone());
            let merged = graph.node.iter().filter(|node| node.op_type == "Identity");
            let names: Vec<String> = initializers.chain(merged.map(|node| node.output[0].clone())).collect();
            for (number, name) in names.iter().enumerate() {
                rename(graph, name, &format!("tensor_{number}"));
            }
        });
        assert_eq!(digest(&path), digest(source));
    });
}

/// Gives a value another name everywhere.
fn rename(graph: &mut GraphProto, old: &str, new: &str) {
    let tensors = graph.initializer.iter_mut().map(|tensor| &mut tensor.name);
    let values = graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
    for name in tensors.chain(values).filter(|name| *name == old) {
        *name = new.to_owned();
    }
}

#[test]
fn halves_behind_a_cast_are_read_as_they_are_stored() {
    each(exported(), |(file, source)| {
        let out = tempfile::tempdir().unwrap();
        let half = out.path().join("model.safetensors");
        fs::copy(file.with_file_name("config.json"), out.path().join("config.json")).unwrap();
        let bytes = fs::read(source).unwrap();
        let weights = SafeTensors::deserialize(&bytes).unwrap();
        let halves: Vec<_> =
            weights.iter().map(|(name, view)| (name, view.shape().to_vec(), to_bf16(view.data()))).collect();
        let views = halves
            .iter()
            .map(|(name, shape, data)| (*name, TensorView::new(Dtype::BF16, shape.clone(), data).unwrap()));
        safetensors::serialize_to_file(views, None, &half).unwrap();
        for canonical in [true, false] {
            let (_folder, path) = rewritten(file, |graph| store_halves(graph, canonical));
            assert_eq!(digest(&path), digest(&half), "{canonical}");
        }
    });
}

/// The numbers of an f32 tensor in bf16: the nearest, of two the even one.
fn to_bf16(bytes: &[u8]) -> Vec<u8> {
    let bits = bytes.as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes));
    bits.flat_map(|bits| (((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16).to_le_bytes()).collect()
}

/// Stores every tensor in bf16, under its name or another, and casts it to f32, under another name or its own.
fn store_halves(graph: &mut GraphProto, canonical: bool) {
    let is_weight = |tensor: &TensorProto| tensor.data_type == 1 && !tensor.dims.is_empty();
    let mut names: Vec<String> = graph
        .initializer
        .iter()
        .filter(|tensor| is_weight(tensor))
        .map(|tensor| tensor.name.clone())
        .collect();
    if canonical {
        names.iter().for_each(|name| rename(graph, name, &format!("{name}_f32")));
        names.iter_mut().for_each(|name| name.push_str("_f32"));
    }
    for name in names {
        let tensor = graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap();
        let stored = name.strip_suffix("_f32").map_or(format!("{name}_half"), str::to_owned);
        tensor.name = stored.clone();
        tensor.data_type = 16;
        tensor.raw_data = to_bf16(&tensor.raw_data);
        let mut to = AttributeProto { name: "to".to_owned(), i: 1, ..Default::default() };
        to.type_ = onnx_protobuf::attribute_proto::AttributeType::INT.into();
        let cast = NodeProto {
            op_type: "Cast".to_owned(),
            input: vec![stored],
            output: vec![name],
            attribute: vec![to],
            ..Default::default()
        };
        graph.node.insert(0, cast);
    }
}

#[test]
fn projections_that_are_stored_twice_must_be_equal() {
    let file = fixture("onnx-v2/v2-multiple-choice/torchscript.onnx");
    let separate = |graph: &mut GraphProto| {
        let (merged, nodes) = std::mem::take(&mut graph.node).into_iter().partition(|node: &NodeProto| {
            node.op_type == "Identity" && graph.initializer.iter().any(|tensor| tensor.name == node.input[0])
        });
        graph.node = nodes;
        let merged: Vec<NodeProto> = merged;
        assert!(merged.len() >= 4, "{}", merged.len());
        for node in merged {
            let mut copy =
                graph.initializer.iter().find(|tensor| tensor.name == node.input[0]).unwrap().clone();
            copy.name = node.output[0].clone();
            graph.initializer.push(copy);
        }
    };
    let (_folder, path) = rewritten(&file, separate);
    assert_eq!(digest(&path), digest(&weights_of(&file)));
    let (_folder, path) = rewritten(&file, |graph| {
        separate(graph);
        let second =
            graph.node.iter().find(|node| node.name.ends_with("layer.1/attention/self/query_proj_1/MatMul"));
        let name = second.unwrap().input[1].clone();
        let copy = graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap();
        copy.raw_data[5] ^= 1;
    });
    let message = fail(CONVERT, &["digest", &arg(&path)]);
    assert!(message.contains("which it must repeat") && message.matches("MatMul_").count() == 2, "{message}");
}

#[test]
fn what_was_folded_into_constants_is_named() {
    let file = fixture("onnx-v2/v2-model-no-buckets/folded.onnx");
    let message = fail(CONVERT, &["digest", &arg(&file)]);
    let expected =
        "tensor \"encoder.rel_embeddings.weight\": missing: the graph holds only what was computed from it";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_normalised_table_is_not_the_table() {
    let file = fixture("onnx-v2/v2-multiple-choice/torchscript.onnx");
    let (_folder, path) = rewritten(&file, |graph| {
        // As if the LayerNorm had been computed: what it makes is a tensor of the same shape.
        let place =
            graph.node.iter().position(|node| node.name.ends_with("encoder/LayerNorm/LayerNormalization"));
        let norm = graph.node.remove(place.unwrap());
        let table = graph.initializer.iter_mut().find(|tensor| tensor.name == norm.input[0]).unwrap();
        table.name = norm.output[0].clone();
    });
    let message = fail(CONVERT, &["digest", &arg(&path)]);
    assert!(message.contains("encoder.rel_embeddings.weight\": missing"), "{message}");
}

/// Reads everything that a damaged file claims to hold. Errors are fine, panics are not.
fn exercise(bytes: Vec<u8>) -> bool {
    let nowhere = |location: &Path| Mapped::open(&Path::new("/nonexistent").join(location));
    let Ok(file) = onnx::open_with(Mapped::from_bytes(bytes, Path::new("damaged")), &nowhere) else {
        return false;
    };
    for (index, info) in file.tensors().iter().enumerate() {
        assert_eq!(file.read(index).unwrap().len(), info.byte_len().unwrap());
    }
    assert!(recover(&file, true).is_some());
    true
}

#[test]
fn damaged_files_never_panic() {
    let bytes = fs::read(fixture("onnx/fresh/torchscript.onnx")).unwrap();
    assert!(exercise(bytes.clone()));
    for len in (0..bytes.len()).step_by(61) {
        assert!(!exercise(bytes[..len].to_vec()), "truncated to {len} of {} bytes", bytes.len());
    }
    let mut opened = 0;
    for place in (0..bytes.len()).step_by(37) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        opened += usize::from(exercise(damaged));
    }
    assert!(opened > 0, "weights can be damaged unseen");
}
