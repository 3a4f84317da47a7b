//! `--quantize int8`: every class and flag gives a graph that is the model, rounded; what stays in f32 is what was named.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use deberta_tests::cases::each;
use deberta_tests::{change_tensor, fail, run, succeed};
use onnx_protobuf::{ModelProto, TensorProto};
use protobuf::Message as _;
use safetensors::SafeTensors;

use crate::{CONVERT, VERIFY};

const DENSE: &str = "deberta.encoder.layer.0.output.dense.weight";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(name)
}

fn arg(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The graph that a model gives with these arguments, and the ledger.
fn export(model: &Path, out: &Path, more: &[&str]) -> (PathBuf, String) {
    let out = out.join("out");
    let mut args = ["convert", "--to", "onnx", &arg(model), "-o", &format!("{}/", out.display())]
        .map(str::to_owned)
        .to_vec();
    args.extend(["--force", "--quantize", "int8"].iter().chain(more).map(|&word| word.to_owned()));
    let ledger = succeed(CONVERT, &args);
    (out.join("model.onnx"), ledger)
}

fn initializers(path: &Path) -> BTreeMap<String, TensorProto> {
    let model = ModelProto::parse_from_bytes(&fs::read(path).unwrap()).unwrap();
    model.graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.clone())).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[test]
fn every_class_and_flag_is_the_model_rounded() {
    let folders = ["data", "trained"].into_iter().flat_map(|group| fs::read_dir(golden(group)).unwrap());
    let models =
        folders.map(|entry| entry.unwrap().path()).filter(|folder| folder.join("config.json").exists());
    let rounded = each(models.filter(|folder| folder.join("model.safetensors").exists()), |folder| {
        let out = tempfile::tempdir().unwrap();
        let (graph, ledger) = export(folder, out.path(), &[]);
        assert!(ledger.contains("weights rounded: ") && ledger.contains("at most 0.500 steps"), "{ledger}");
        let source = folder.join("model.safetensors");
        let said = run(CONVERT, &["diff", &arg(&source), &arg(&graph)]);
        assert!(
            said.code == 0 && said.stdout.contains("the same weights, rounded"),
            "{}{}",
            said.stdout,
            said.stderr
        );
        let refused = run(CONVERT, &["onnx2st", &arg(&graph), "-o", &arg(&out.path().join("back/"))]);
        let said = "looks like a quantized model, whose weights cannot be recovered";
        assert!(refused.code == 1 && refused.stderr.contains(said), "{}", refused.stderr);
        assert!(!out.path().join("back").exists());
    });
    assert!(rounded.len() > 50, "{} models", rounded.len());
}

#[test]
fn models_are_a_third_as_large_also_where_names_are_a_tenth_of_them() {
    let folders = fs::read_dir(golden("trained")).unwrap().map(|entry| entry.unwrap().path());
    let models = each(folders.filter(|folder| folder.join("model.safetensors").exists()), |folder| {
        let out = tempfile::tempdir().unwrap();
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        let rounded = size(&export(folder, out.path(), &[]).0);
        let exact = out.path().join("exact.onnx");
        succeed(CONVERT, &["st2onnx", &arg(folder), "-o", &arg(&exact), "--dtype", "f32"]);
        assert!(3 * rounded <= size(&exact), "{rounded} of {} bytes", size(&exact));
    });
    assert!(models.len() > 10, "{} models", models.len());
}

#[test]
fn three_questions_are_answered() {
    // Interleaved and separate projections, tied decoders, a kernel, a mask decoder, weights in f16.
    let models = [
        "trained/nli",
        // The case is stricter than f32 is about numbers of this size.
        "trained/choices",
        "trained/v3-questions",
        "trained/v3-masked-lm",
        "trained/v3-replaced-tokens",
        "data/talking-head",
        "data/v2-convolution",
    ];
    each(models.into_iter().map(golden).filter(|folder| folder.exists()), |folder| {
        let out = tempfile::tempdir().unwrap();
        let (graph, _) = export(folder, out.path(), &[]);
        let run = run(VERIFY, &["--model", &arg(graph.parent().unwrap()), "--golden", &arg(folder)]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        for said in
            ["int8 (dynamic)", "rounded, at most 0.50", "graph: it computes the model", "at least 20 are due"]
        {
            assert!(run.stdout.contains(said), "{said}: {}", run.stdout);
        }
    });
}

#[test]
fn rows_are_rounded_to_their_largest_number() {
    let out = tempfile::tempdir().unwrap();
    for (more, most) in [(&[][..], 127), (&["--reduce-range"][..], 63)] {
        let (graph, ledger) = export(&golden("trained/nli"), out.path(), more);
        assert_eq!(ledger.contains("of 7 bits"), most == 63, "{ledger}");
        let tensors = initializers(&graph);
        let bytes = fs::read(golden("trained/nli/model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let weight = file.tensor(DENSE).unwrap();
        let [rows, columns] = weight.shape() else { panic!() };
        let numbers = floats(weight.data());
        let (codes, scales) = (&tensors[&format!("{DENSE}_quantized")], &tensors[&format!("{DENSE}_scale")]);
        // A product takes [in, out].
        assert_eq!((codes.dims.clone(), codes.data_type), (vec![*columns as i64, *rows as i64], 3));
        let scales = floats(&scales.raw_data);
        for (row, numbers) in numbers.chunks(*columns).enumerate() {
            let largest = numbers.iter().fold(0.0_f32, |most, number| most.max(number.abs()));
            assert_eq!(scales[row], largest / most as f32);
            for (column, number) in numbers.iter().enumerate() {
                let code = (number / scales[row]).round_ties_even() as i8;
                assert!(i32::from(code).abs() <= most);
                assert_eq!(codes.raw_data[column * rows + row], code as u8);
            }
        }
        // One for each word, and the labels of the classifier as they were.
        assert_eq!(tensors["deberta.embeddings.word_embeddings.weight_scale"].dims, [640]);
        assert_eq!(floats(&tensors["classifier.weight"].raw_data).len(), 3 * 64);
    }
}

#[test]
fn what_is_named_stays_in_f32() {
    let out = tempfile::tempdir().unwrap();
    let list = out.path().join("excluded.txt");
    fs::write(
        &list,
        "# found by a search\n/deberta/encoder/layer.1/attention/self/in_proj/MatMul\npooler.dense\n",
    )
    .unwrap();
    let named = format!("encoder.layer.0.output.dense,*embeddings*,{}", list.display());
    let (graph, ledger) = export(&golden("trained/nli"), out.path(), &["--keep-f32", &named]);
    let tensors = initializers(&graph);
    let kept = [
        DENSE,
        "deberta.embeddings.word_embeddings.weight",
        "deberta.encoder.layer.1.attention.self.in_proj.weight",
        "deberta.encoder.rel_embeddings.weight",
        "pooler.dense.weight",
    ];
    for name in kept {
        assert!(
            tensors.contains_key(name) && ledger.contains(&format!("in f32      {name}")),
            "{name}: {ledger}"
        );
    }
    let codes = tensors.keys().filter(|name| name.ends_with("_quantized")).count();
    assert_eq!((ledger.matches("in f32      ").count(), codes), (5, 10));
    // The node of a product with the table of relative positions stands for the weight that it shares.
    let node = "/deberta/encoder/layer/0/attention/self/pos_key_proj/Gemm";
    let (graph, _) = export(&golden("trained/v3-nli"), out.path(), &["--keep-f32", node]);
    assert!(initializers(&graph).contains_key("deberta.encoder.layer.0.attention.self.key_proj.weight"));
}

#[test]
fn data_beside_the_model_are_the_same() {
    let out = tempfile::tempdir().unwrap();
    let (graph, _) = export(&golden("trained/v3-nli"), out.path(), &["--external-data"]);
    let source = golden("trained/v3-nli/model.safetensors");
    let said = succeed(CONVERT, &["diff", &arg(&source), &arg(&graph)]);
    assert!(said.contains("the same weights, rounded"), "{said}");
}

#[test]
fn what_cannot_be_rounded_is_refused_and_leaves_nothing() {
    let refusals: [(&[&str], &str); 7] = [
        (
            &["--to", "onnx", "--dtype", "f16"],
            "--quantize int8 with --dtype f16: what is not rounded to int8 is stored and computed in f32",
        ),
        (&["--to", "onnx", "--dtype", "f64"], "--quantize int8 with --dtype f64"),
        (
            &["--to", "onnx", "--compute", "f16"],
            "--quantize int8 computes everything else in f32, not in f16",
        ),
        (
            &["--to", "onnx", "--keep-f32", "pooler.dense,classifer"],
            "nothing in the model is called \"classifer\"",
        ),
        (&["--to", "onnx", "--keep-f32", "*"], "every weight that it would round is kept in f32"),
        (&["--to", "pt"], "--quantize says what an ONNX model computes, PyTorch holds weights alone"),
        (&["--to", "onnx", "--max-shard-size", "1MB"], "--max-shard-size"),
    ];
    let model = arg(&golden("trained/nli/model.safetensors"));
    for (more, said) in refusals {
        let out = tempfile::tempdir().unwrap();
        let to = arg(&out.path().join("model.out"));
        let args = [&["convert", &model, "-o", &to, "--quantize", "int8"], more].concat();
        let error = fail(CONVERT, &args);
        assert!(error.contains(said), "{said}: {error}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "{more:?}");
    }
    for alone in ["--reduce-range", "--keep-f32=pooler"] {
        let error = run(CONVERT, &["st2onnx", &model, alone]);
        assert!(error.code == 2 && error.stderr.contains("--quantize <HOW>"), "{}", error.stderr);
    }
}

#[test]
fn a_number_that_is_none_is_named() {
    let out = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(golden("trained/nli").join(name), out.path().join(name)).unwrap();
    }
    let weights = out.path().join("model.safetensors");
    change_tensor(&weights, DENSE, |shape, numbers| numbers[2 * shape[1] + 5] = f32::INFINITY);
    let error = fail(CONVERT, &["st2onnx", &arg(&weights), "--quantize", "int8"]);
    assert!(error.contains(DENSE) && error.contains("inf in row 2 cannot be rounded to int8"), "{error}");
    assert!(!out.path().join("model.onnx").exists());
}
