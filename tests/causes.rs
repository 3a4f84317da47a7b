//! Causes that a diagnosis may call confirmed, and those that it may not, although undoing them makes numbers agree.

use std::fs;
use std::path::Path;

use deberta_golden::{Data, Trace};
use deberta_tests::{run, succeed};
use serde_json::{Value, json};

use crate::faults::{Model, Said, base};
use crate::{CONVERT, VERIFY};

impl Said {
    /// The kinds of the diagnoses that are confirmed, or of those that are not.
    pub(crate) fn kinds(&self, confirmed: bool) -> Vec<&str> {
        let wanted = |diagnosis: &&Value| diagnosis["confirmed"] == confirmed;
        self.diagnoses.iter().filter(wanted).map(|diagnosis| diagnosis["kind"].as_str().unwrap()).collect()
    }

    /// Exit 1, a diagnosis of the kind, and no confirmed one of another.
    #[track_caller]
    pub(crate) fn names(&self, what: &str, kind: &str) {
        assert_eq!(self.code, 1, "{what}: {self:?}");
        let all = self.diagnoses.iter().any(|diagnosis| diagnosis["kind"] == kind);
        assert!(all, "{what}: no {kind}: {:#?}", self.diagnoses);
        assert!(self.kinds(true).iter().all(|known| *known == kind), "{what}: {:#?}", self.diagnoses);
    }

    /// As [`Said::names`], and the diagnosis is confirmed.
    #[track_caller]
    pub(crate) fn confirms(&self, what: &str, kind: &str) {
        self.names(what, kind);
        assert!(self.kinds(true).contains(&kind), "{what}: not confirmed: {:#?}", self.diagnoses);
    }
}

/// Rewrites the golden of a model.
pub(crate) fn cut(model: &mut Model, folder: &Path, keep: impl Fn(&str) -> bool) {
    let mut trace = Trace::read(&model.golden).unwrap();
    trace.tensors.retain(|tensor| tensor.name.starts_with("inputs.") || keep(&tensor.name));
    trace.metadata.retain(|(key, _)| key != "points");
    trace.metadata.push(("points".to_owned(), "none".to_owned()));
    model.golden = folder.join("plain.safetensors");
    trace.write(&model.golden).unwrap();
}

/// A golden of the first tokens of one sequence.
pub(crate) fn first_tokens(model: &mut Model, folder: &Path, tokens: usize, points: &str) {
    let mut trace = Trace::read(&model.golden).unwrap();
    trace.tensors.retain(|tensor| tensor.name == "inputs.input_ids");
    for tensor in &mut trace.tensors {
        let Data::Integers(ids) = &mut tensor.data else { panic!("ids are integers") };
        ids.truncate(tokens);
        tensor.shape = vec![1, tokens];
    }
    model.golden = folder.join("inputs.safetensors");
    trace.write(&model.golden).unwrap();
    model.record(folder, points);
}

/// The layers of a model in another order, or more or fewer of them.
fn layers(model: &mut Model, order: &[usize]) {
    let path = format!("{}encoder.layer.", base(model));
    let old: Vec<_> = model.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    model.tensors.retain(|name, _| !name.starts_with(&path));
    for (new, from) in order.iter().enumerate() {
        for (name, tensor) in &old {
            if let Some(rest) = name.strip_prefix(&format!("{path}{from}.")) {
                model.tensors.insert(format!("{path}{new}.{rest}"), tensor.clone());
            }
        }
    }
    model.config["num_hidden_layers"] = json!(order.len());
}

#[test]
fn a_configuration_without_relative_attention_is_not_one_of_other_terms() {
    for case in ["masked-lm", "v2-masked-lm", "v2-model-separate", "model-both-positions"] {
        let mut model = Model::of(case);
        model.config["relative_attention"] = json!(false);
        model.verify().names(case, "relative-attention");
    }
}

#[test]
fn terms_of_a_model_without_relative_attention_are_not_queries_of_another_scale() {
    for case in ["masked-lm-absolute", "model-absolute"] {
        for points in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let mut model = Model::of(case);
            if !model.golden.is_file() {
                model.golden.set_file_name("loss.safetensors");
            }
            cut(&mut model, folder.path(), |name| points || name.starts_with("outputs.hidden_states"));
            model.config["pos_att_type"] = json!(["c2p"]);
            let said = model.verify();
            println!("{case}: {:?}", said.diagnoses);
            said.names(case, "pos-att-type");
        }
    }
}

#[test]
fn layers_more_or_less_are_not_layers_exchanged() {
    for case in ["masked-lm", "v2-masked-lm"] {
        for order in [&[0, 0, 1][..], &[0, 1, 1], &[1, 0, 1], &[0, 1, 0]] {
            let mut model = Model::of(case);
            layers(&mut model, order);
            model.verify().confirms(&format!("{case}: {order:?}"), "inserted-layer");
        }
        for order in [&[0], &[1]] {
            let mut model = Model::of(case);
            layers(&mut model, order);
            model.verify().confirms(&format!("{case}: {order:?}"), "dropped-layer");
        }
    }
}

#[test]
fn heads_of_queries_and_keys_alone_are_not_values_of_other_heads() {
    let mut model = Model::of("v2-masked-lm");
    let path = format!("{}encoder.layer.1.attention.self", base(&model));
    for name in ["query_proj", "key_proj"] {
        for word in ["weight", "bias"] {
            model.rows(&format!("{path}.{name}.{word}"), |row| (row + 8) % 24);
        }
    }
    let said = model.verify();
    said.confirms("queries and keys", "permuted-heads");
    assert!(!format!("{:?}", said.diagnoses).contains("value_proj"), "{:#?}", said.diagnoses);
}

#[test]
fn three_heads_in_turn_are_named_in_the_columns_that_take_them() {
    let mut model = Model::of("masked-lm");
    let name = "deberta.encoder.layer.0.attention.output.dense.weight";
    let old = model.values(name).clone();
    *model.values(name) = (0..24 * 24).map(|at| old[at / 24 * 24 + (at % 24 + 8) % 24]).collect();
    model.verify().confirms(name, "permuted-heads");
}

#[test]
fn scaled_keys_are_not_the_golden_s_formula() {
    for points in ["*", "*attention.self"] {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::of("v2-model-separate");
        model.record(folder.path(), points);
        let path = format!("{}encoder.layer.1.attention.self.key_proj", base(&model));
        for word in ["weight", "bias"] {
            model.values(&format!("{path}.{word}")).iter_mut().for_each(|value| *value *= 3.0_f32.sqrt());
        }
        let said = model.verify();
        assert!(
            said.kinds(true).iter().all(|kind| ["scaled-parameter", "missing-scale"].contains(kind)),
            "{points}: {:#?}",
            said.diagnoses
        );
        assert!(!said.kinds(true).is_empty() || points != "*", "{:#?}", said.diagnoses);
        assert!(
            said.diagnoses.iter().all(|diagnosis| diagnosis["confirmed"] == false
                || diagnosis["cause"].as_str().unwrap().contains("key")),
            "{points}: {:#?}",
            said.diagnoses
        );
    }
}

#[test]
fn a_number_of_a_kernel_is_named_by_its_coordinates() {
    let mut model = Model::of("v2-model-conv");
    let shape = model.shape("encoder.conv.conv.weight");
    model.values("encoder.conv.conv.weight")[(5 * shape[1] + 7) * shape[2] + 2] += 0.3;
    let said = model.verify();
    said.confirms("a number of a kernel", "changed-weight");
    assert!(said.diagnoses[0]["cause"].as_str().unwrap().contains("[5, 7, 2]"), "{:#?}", said.diagnoses);
}

#[test]
fn a_table_that_is_shifted_upside_down_or_negated_is_named() {
    for case in ["masked-lm", "v2-masked-lm", "v2-model-separate"] {
        let good = Model::of(case);
        let name = format!("{}encoder.rel_embeddings.weight", base(&good));
        let rows = good.shape(&name)[0];
        for by in [1, rows - 1, rows / 2] {
            let mut model = Model::of(case);
            model.rows(&name, |row| (row + by) % rows);
            model.verify().names(&format!("{case}: by {by}"), "permuted-rows");
        }
        let mut model = Model::of(case);
        model.values(&name).iter_mut().for_each(|value| *value = -*value);
        model.verify().names(&format!("{case}: negated"), "negated-parameter");
    }
}

#[test]
fn vectors_of_other_modules_are_not_changed_biases() {
    for (one, other) in [
        ("encoder.layer.0.attention.output.dense.bias", "encoder.layer.1.output.dense.bias"),
        ("encoder.layer.0.output.LayerNorm.bias", "encoder.layer.1.attention.output.dense.bias"),
    ] {
        let mut model = Model::of("masked-lm");
        model.swap(&format!("deberta.{one}"), &format!("deberta.{other}"));
        model.verify().confirms(one, "misplaced-parameter");
    }
    let mut model = Model::of("masked-lm");
    let name = "deberta.encoder.layer.1.output.dense.bias";
    model.values(name).iter_mut().for_each(|value| *value = -*value);
    model.verify().confirms(name, "negated-parameter");
}

#[test]
fn a_kernel_that_is_reshaped_is_named() {
    for name in ["intermediate.dense", "output.dense"] {
        let mut model = Model::of("masked-lm");
        let name = format!("deberta.encoder.layer.1.{name}.weight");
        let (out, input) = (model.shape(&name)[0], model.shape(&name)[1]);
        let old = model.values(&name).clone();
        // The numbers of [in, out], as if they were [out, in].
        *model.values(&name) = (0..out * input).map(|at| old[at % out * input + at / out]).collect();
        model.verify().confirms(&name, "reshaped-kernel");
    }
}

#[test]
fn labels_in_another_order_are_named() {
    let mut model = Model::of("token-classification");
    let labels = model.shape("classifier.weight")[0];
    for word in ["weight", "bias"] {
        model.rows(&format!("classifier.{word}"), |row| (row + 1) % labels);
    }
    model.verify().confirms("labels", "permuted-labels");
    let mut model = Model::of("question-answering");
    for word in ["weight", "bias"] {
        model.rows(&format!("qa_outputs.{word}"), |row| 1 - row);
    }
    model.verify().confirms("start and end", "permuted-labels");
}

#[test]
fn scores_divided_by_another_root_are_named() {
    let mut model = Model::of("v2-masked-lm");
    let factor = (3.0_f32 / 2.0).sqrt();
    for layer in 0..2 {
        for word in ["weight", "bias"] {
            let name = format!("deberta.encoder.layer.{layer}.attention.self.query_proj.{word}");
            model.values(&name).iter_mut().for_each(|value| *value *= factor);
        }
    }
    model.verify().confirms("√3 for √2", "missing-scale");
}

#[test]
fn weights_of_eight_bits_are_named() {
    let mut model = Model::of("masked-lm");
    for (shape, values) in model.tensors.values_mut().filter(|(shape, _)| shape.len() == 2) {
        for row in values.chunks_mut(shape[1]) {
            let step = row.iter().fold(0.0_f32, |most, value| most.max(value.abs())) / 127.0;
            row.iter_mut().for_each(|value| *value = (*value / step).round() * step);
        }
    }
    model.verify().names("int8", "int8-weights");
}

#[test]
fn words_moved_by_a_token_that_was_inserted_are_named() {
    for at in [10, 30] {
        let mut model = Model::of("masked-lm");
        let name = "deberta.embeddings.word_embeddings.weight";
        model.rows(name, |row| if row > at { row - 1 } else { row });
        model.verify().names("words", "wrong-token-ids");
    }
}

#[test]
fn a_line_whose_tensors_are_gone_is_named() {
    for (case, key, value, gone, kind) in [
        ("v2-model-conv", "conv_kernel_size", json!(0), "encoder.conv", "convolution"),
        ("v2-masked-lm", "norm_rel_ebd", json!("none"), "encoder.LayerNorm", "norm-rel-ebd"),
        ("v2-model-separate", "share_att_key", json!(true), "attention.self.pos_", "share-att-key"),
    ] {
        let mut model = Model::of(case);
        model.config[key] = value;
        model.tensors.retain(|name, _| !name.contains(gone));
        model.verify().names(key, kind);
    }
}

/// A golden of hidden states shows no module of a layer: what comes of the parameters is all that there is to see.
#[test]
fn causes_in_a_golden_of_hidden_states_are_named() {
    let layer = "deberta.encoder.layer.1.";
    type Fault = fn(&mut Vec<f32>);
    let faults: [(&str, Fault, &str); 8] = [
        ("intermediate.dense.weight", |values| values[100] += 0.3, "changed-weight"),
        ("attention.self.value_proj.bias", |values| values[3] -= 0.2, "changed-weight"),
        (
            "output.dense.bias",
            |values| values.iter_mut().for_each(|value| *value *= -1.0),
            "negated-parameter",
        ),
        (
            "output.dense.weight",
            |values| values.iter_mut().for_each(|value| *value *= 1.3),
            "scaled-parameter",
        ),
        ("attention.output.dense.bias", |values| noise(values), "changed-bias"),
        ("attention.output.LayerNorm.weight", |values| noise(values), "changed-layer-norm"),
        ("output.dense.weight", |values| noise(&mut values[68..102]), "changed-row"),
        ("attention.self.query_proj.bias", |values| values.reverse(), "changed-bias"),
    ];
    for (name, fault, kind) in faults {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::of("v2-masked-lm");
        cut(&mut model, folder.path(), |name| name.starts_with("outputs.hidden_states"));
        let name = format!("{layer}{name}");
        fault(model.values(&name));
        model.verify().names(&name, kind);
    }
}

fn noise(values: &mut [f32]) {
    values.iter_mut().enumerate().for_each(|(at, value)| *value += 0.1 * (at as f32 * 1.7).sin());
}

#[test]
fn words_in_another_order_are_named_where_a_golden_shows_them_normalised() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::of("v2-masked-lm");
    cut(&mut model, folder.path(), |name| name.starts_with("outputs.hidden_states"));
    model.rows("deberta.embeddings.word_embeddings.weight", |row| (row + 7) % 89);
    model.verify().names("words", "wrong-token-ids");
}

#[test]
fn files_of_the_same_weights_are_diagnosed_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::of("masked-lm");
    model.transpose("deberta.encoder.layer.0.attention.output.dense.weight");
    model.write(folder.path());
    let [safetensors, torch] = ["model.safetensors", "pytorch_model.bin"]
        .map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    succeed(CONVERT, &["st2pt", &safetensors, "-o", &torch]);
    let golden = tempfile::tempdir().unwrap();
    fs::copy(&model.golden, golden.path().join("plain.safetensors")).unwrap();
    let [folder, golden] = [folder.path(), golden.path()].map(|path| path.to_str().unwrap());
    let verified = run(VERIFY, &["--model", folder, "--golden", golden, "--json"]);
    let report: Value = serde_json::from_str(&verified.stdout).unwrap();
    let of = |file: usize| report["files"][file]["runs"][0]["diagnoses"][0].clone();
    assert_eq!((&of(0)["kind"], &of(1)["kind"]), (&json!("transposed-kernel"), &json!("transposed-kernel")));
    let first = report["files"][0]["file"].as_str().unwrap();
    let evidence = of(1)["evidence"].as_str().unwrap().to_owned();
    assert!(evidence.contains(first) && evidence.contains("see there"), "{evidence}");
}

#[test]
fn random_faults_are_seen_where_they_are_and_none_is_wrongly_confirmed() {
    for (case, seed) in [("masked-lm", "3"), ("v2-masked-lm", "3"), ("v2-model-conv", "4")] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(case);
        let folder = folder.to_str().unwrap();
        let arguments = ["selftest", "--model", folder, "--golden", folder, "--random", "30", "--seed", seed];
        println!("{}", succeed(VERIFY, &arguments));
    }
}
