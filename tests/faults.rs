//! Faults that people make, in models and configurations on the disk: exit 1, the first divergence is where the fault is,
//! and the diagnosis names it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use deberta_golden::{Data, Trace};
use deberta_tests::run;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};

use crate::{CONVERT, VERIFY};

/// A model of a case, to be changed and written elsewhere.
pub(crate) struct Model {
    /// The trace of PyTorch that it is compared with, at the default tolerances.
    pub(crate) golden: PathBuf,
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

/// What the program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    first: Vec<String>,
    pub(crate) diagnoses: Vec<Value>,
}

impl Model {
    pub(crate) fn of(case: &str) -> Model {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(case);
        // The pooler sees one token of each sequence, and one number says little.
        let several = case == "sequence-classification" || case == "v2-model-conv";
        let golden = folder.join(if several { "padded.safetensors" } else { "plain.safetensors" });
        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |view: &TensorView<'_>| {
            assert_eq!(view.dtype(), Dtype::F32);
            view.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        };
        let tensors = tensors
            .iter()
            .map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), floats(&view))))
            .collect();
        let config = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        Model { golden, config, tensors }
    }

    pub(crate) fn values(&mut self, name: &str) -> &mut Vec<f32> {
        &mut self.tensors.get_mut(name).unwrap_or_else(|| panic!("no {name}")).1
    }

    pub(crate) fn shape(&self, name: &str) -> Vec<usize> {
        self.tensors[name].0.clone()
    }

    pub(crate) fn swap(&mut self, a: &str, b: &str) {
        let (first, second) = (self.tensors[a].clone(), self.tensors[b].clone());
        self.tensors.insert(a.to_owned(), second);
        self.tensors.insert(b.to_owned(), first);
    }

    pub(crate) fn transpose(&mut self, name: &str) {
        let shape = self.shape(name);
        let old = self.values(name).clone();
        let n = shape[0];
        *self.values(name) = (0..n * n).map(|at| old[at % n * n + at / n]).collect();
    }

    /// Rows of a parameter in another order.
    pub(crate) fn rows(&mut self, name: &str, order: impl Fn(usize) -> usize) {
        let shape = self.shape(name);
        let width: usize = shape[1..].iter().product();
        let old = self.values(name).clone();
        let row = |row: usize| old[order(row) * width..(order(row) + 1) * width].to_vec();
        *self.values(name) = (0..shape[0]).flat_map(row).collect();
    }

    pub(crate) fn write(&self, folder: &Path) {
        let bytes = |values: &Vec<f32>| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensors: BTreeMap<&String, (Vec<usize>, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| (name, (shape.clone(), bytes(values))))
            .collect();
        let views = tensors.iter().map(|(name, (shape, bytes))| {
            (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        });
        fs::write(folder.join("model.safetensors"), serialize(views, None).unwrap()).unwrap();
        fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
    }

    pub(crate) fn verify(&self) -> Said {
        self.verify_against(None)
    }

    /// The weight digest of the model as it is now.
    fn digest(&self) -> String {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        deberta_tests::succeed(CONVERT, &["digest", folder.path().to_str().unwrap()]).trim().to_owned()
    }

    /// As [`Model::verify`], against a golden that states a digest.
    fn verify_against(&self, digest: Option<&str>) -> Said {
        let (folder, golden) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        self.write(folder.path());
        if let Some(digest) = digest {
            let case = format!(
                "model: .\nclass: DebertaForMaskedLM\nproducer: PyTorch\ndigest: {digest}\n\
                 tolerances: {{default: {{atol: 5.0e-6}}}}\ntraces:\n  - {{file: plain.safetensors, framework: pytorch, \
                 class: DebertaForMaskedLM, masked_rows: uniform}}\n"
            );
            fs::write(golden.path().join("case.yaml"), case).unwrap();
        }
        fs::copy(&self.golden, golden.path().join("plain.safetensors")).unwrap();
        let (model, golden) = (folder.path().to_str().unwrap(), golden.path().to_str().unwrap());
        let run = run(VERIFY, &["--model", model, "--golden", golden, "--json"]);
        let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"));
        let runs: Vec<&Value> = report["files"][0]["runs"].as_array().unwrap().iter().collect();
        Said {
            code: run.code,
            first: runs
                .iter()
                .filter_map(|run| run["first_divergence"].as_str())
                .map(|name| name.trim_start_matches("activations.").to_owned())
                .collect(),
            diagnoses: runs.iter().flat_map(|run| run["diagnoses"].as_array().unwrap().clone()).collect(),
        }
    }

    /// Makes a golden of the model as it is now, of some activations and all outputs, in a folder.
    pub(crate) fn record(&mut self, golden: &Path, points: &str) {
        let source = tempfile::tempdir().unwrap();
        self.write(source.path());
        let recorded = golden.join("plain.safetensors");
        let [model, inputs, output] =
            [source.path(), &self.golden, &recorded].map(|path| path.to_str().unwrap());
        let arguments = ["record", "--model", model, "--inputs", inputs, "--points", points, "-o", output];
        deberta_tests::succeed(VERIFY, &arguments);
        self.golden = recorded;
        assert_eq!(self.verify().code, 0);
    }

    /// The first token of the trace.
    fn token(&self) -> usize {
        let trace = Trace::read(&self.golden).unwrap();
        match &trace.get("inputs.input_ids").unwrap().data {
            Data::Integers(ids) => usize::try_from(ids[0]).unwrap(),
            _ => panic!("ids are integers"),
        }
    }
}

impl Said {
    /// Exit 1, a run whose first divergence is at one of the places, and, if a kind is given, a diagnosis of that kind
    /// that was confirmed.
    #[track_caller]
    pub(crate) fn expect(&self, what: &str, places: &[String], kind: Option<&str>) {
        assert_eq!(self.code, 1, "{what}: {self:?}");
        assert!(self.first.iter().any(|first| places.contains(first)), "{what}: not at {places:?}: {self:?}");
        if let Some(kind) = kind {
            let named = |diagnosis: &&Value| diagnosis["kind"] == kind && diagnosis["confirmed"] == true;
            let found = self.diagnoses.iter().find(named);
            let found = found.unwrap_or_else(|| panic!("{what}: no {kind} confirmed: {:#?}", self.diagnoses));
            println!("{what}: {}", found["cause"].as_str().unwrap());
        }
    }
}

const CASES: [&str; 4] =
    ["masked-lm", "sequence-classification", "model-both-positions", "question-answering"];

/// Where a parameter is first felt.
fn places(parameter: &str) -> Vec<String> {
    let module = parameter.rsplit_once('.').unwrap().0.to_owned();
    match parameter.rsplit('.').next().unwrap() {
        "q_bias" | "v_bias" => vec![module],
        _ if parameter == "cls.predictions.bias" => vec!["cls.predictions.decoder".to_owned()],
        _ if parameter.ends_with("rel_embeddings.weight") => {
            let base = parameter.trim_end_matches("encoder.rel_embeddings.weight");
            ["pos_proj", "pos_q_proj"]
                .map(|name| format!("{base}encoder.layer.0.attention.self.{name}"))
                .to_vec()
        }
        _ => vec![module],
    }
}

#[test]
fn one_weight_that_is_off_by_a_hundredth_is_seen_where_it_is() {
    for case in CASES {
        let good = Model::of(case);
        for name in good.tensors.keys() {
            let mut model = Model::of(case);
            let shape = model.shape(name);
            let width = *shape.last().unwrap();
            let at = match name.as_str() {
                name if name.ends_with("word_embeddings.weight") => model.token() * width + 3,
                name if name.ends_with("rel_embeddings.weight") => shape[0] / 2 * width + 3,
                name if name.ends_with("_embeddings.weight") => 2,
                _ if shape.len() == 2 => shape[0] / 2 * width + width / 2,
                _ => shape[0] / 2,
            };
            model.values(name)[at] += 1e-2;
            let said = model.verify();
            said.expect(&format!("{case}: {name}"), &places(name), None);
        }
        println!("{case}: {} parameters", good.tensors.len());
    }
}

#[test]
fn a_transposed_kernel_is_named() {
    for case in CASES {
        let good = Model::of(case);
        let square = |name: &&String| matches!(good.shape(name)[..], [rows, columns] if rows == columns);
        let kernels: Vec<&String> = good.tensors.keys().filter(square).collect();
        assert!(kernels.len() >= 6, "{case}: {kernels:?}");
        for name in kernels {
            let mut model = Model::of(case);
            model.transpose(name);
            model.verify().expect(name, &places(name), Some("transposed-kernel"));
        }
    }
}

#[test]
fn every_square_kernel_transposed_is_one_cause() {
    let mut model = Model::of("masked-lm");
    let square =
        |name: &&String| matches!(Model::of("masked-lm").shape(name)[..], [rows, columns] if rows == columns);
    let names: Vec<String> = model.tensors.keys().filter(square).cloned().collect();
    names.iter().for_each(|name| model.transpose(name));
    let said = model.verify();
    let place = "deberta.encoder.layer.0.attention.self.pos_proj".to_owned();
    said.expect("all kernels", &[place], Some("transposed-kernel"));
}

#[test]
fn a_dropped_bias_is_named() {
    for case in CASES {
        let good = Model::of(case);
        for name in good.tensors.keys().filter(|name| name.ends_with("bias")) {
            let mut model = Model::of(case);
            model.values(name).fill(0.0);
            let kind = match name.rsplit('.').next().unwrap() {
                "q_bias" => "dropped-q-bias",
                "v_bias" => "dropped-v-bias",
                _ => "dropped-bias",
            };
            model.verify().expect(name, &places(name), Some(kind));
        }
    }
}

#[test]
fn heads_that_changed_places_are_named() {
    let layer = "deberta.encoder.layer.1.attention";
    let in_proj = format!("{layer}.self.in_proj.weight");
    let d = 8; // 24 / 3
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let mut model = Model::of("masked-lm");
        let swap = |row: usize| match row / (3 * d) {
            head if head == a => row + (b - a) * 3 * d,
            head if head == b => row - (b - a) * 3 * d,
            _ => row,
        };
        model.rows(&in_proj, swap);
        model.verify().expect("heads", &places(&in_proj), Some("permuted-heads"));
        // And with everything that belongs to a head.
        let swap = |row: usize| match row / d {
            head if head == a => row + (b - a) * d,
            head if head == b => row - (b - a) * d,
            _ => row,
        };
        for name in ["q_bias", "v_bias", "pos_proj.weight", "pos_q_proj.weight", "pos_q_proj.bias"] {
            model.rows(&format!("{layer}.self.{name}"), swap);
        }
        model.verify().expect("heads with their biases", &places(&in_proj), Some("permuted-heads"));
    }
}

#[test]
fn a_naive_split_is_named() {
    let in_proj = "deberta.encoder.layer.0.attention.self.in_proj.weight";
    let (h, d) = (3, 8);
    let thirds = |row: usize| {
        let (part, head, at) = (row / (h * d), row / d % h, row % d);
        (head * 3 + part) * d + at
    };
    let heads = |row: usize| {
        let (head, part, at) = (row / (3 * d), row / d % 3, row % d);
        (part * h + head) * d + at
    };
    for everywhere in [false, true] {
        for back in [false, true] {
            let mut model = Model::of("masked-lm");
            for layer in 0..if everywhere { 2 } else { 1 } {
                let name = in_proj.replace(".0.", &format!(".{layer}."));
                if back { model.rows(&name, heads) } else { model.rows(&name, thirds) }
            }
            model.verify().expect("naive split", &places(in_proj), Some("naive-split"));
        }
    }
}

#[test]
fn a_wrong_line_of_the_configuration_is_named() {
    for (case, key, value, place, kind) in [
        ("masked-lm", "hidden_act", json!("gelu_new"), "encoder.layer.0.intermediate", "hidden-act"),
        ("masked-lm", "hidden_act", json!("relu"), "encoder.layer.0.intermediate", "hidden-act"),
        ("masked-lm", "layer_norm_eps", json!(1e-5), "embeddings.LayerNorm", "layer-norm-eps"),
        (
            "masked-lm",
            "pos_att_type",
            json!(["c2p"]),
            "encoder.layer.0.attention.self.pos_q_proj",
            "pos-att-type",
        ),
        (
            "masked-lm",
            "pos_att_type",
            json!(["p2c"]),
            "encoder.layer.0.attention.self.pos_proj",
            "pos-att-type",
        ),
    ] {
        let mut model = Model::of(case);
        let digest = model.digest();
        model.config[key] = value;
        model.verify_against(Some(&digest)).expect(key, &[format!("deberta.{place}")], Some(kind));
    }
}

#[test]
fn small_activations_show_a_wrong_eps() {
    // A golden of its own: the model of a case, with embeddings as small as those of published models.
    let golden = tempfile::tempdir().unwrap();
    let mut model = Model::of("masked-lm");
    for value in model.values("deberta.embeddings.word_embeddings.weight") {
        *value *= 0.02;
    }
    model.config["layer_norm_eps"] = json!(1e-7);
    model.record(golden.path(), "*");
    model.config["layer_norm_eps"] = json!(1e-12);
    let place = "deberta.embeddings.LayerNorm".to_owned();
    model.verify_against(Some(&model.digest())).expect("eps", &[place], Some("layer-norm-eps"));
    // Weights that nothing is known of may be scaled as well: one normalisation does not tell the two apart.
    let said = model.verify();
    let eps = said.diagnoses.iter().find(|diagnosis| diagnosis["kind"] == "layer-norm-eps").unwrap();
    assert_eq!(eps["confirmed"], false);
    assert!(said.diagnoses.iter().any(|diagnosis| diagnosis["kind"] == "scaled-parameter"));
}

#[test]
fn parameters_that_changed_places_are_named() {
    let path = "deberta.encoder.layer";
    let mut model = Model::of("masked-lm");
    let of_first = |name: &&String| name.starts_with(&format!("{path}.0."));
    let names: Vec<String> = model.tensors.keys().filter(of_first).cloned().collect();
    for name in names {
        model.swap(&name, &name.replace(".layer.0.", ".layer.1."));
    }
    let place = format!("{path}.0.attention.self.in_proj");
    model.verify().expect("layers", &[place], Some("permuted-layers"));

    for norm in [
        "deberta.embeddings.LayerNorm".to_owned(),
        format!("{path}.0.attention.output.LayerNorm"),
        format!("{path}.1.output.LayerNorm"),
        "cls.predictions.transform.LayerNorm".to_owned(),
    ] {
        let mut model = Model::of("masked-lm");
        model.swap(&format!("{norm}.weight"), &format!("{norm}.bias"));
        model.verify().expect(&norm, std::slice::from_ref(&norm), Some("swapped-gamma-beta"));
    }

    let mut model = Model::of("masked-lm");
    let word = "deberta.embeddings.word_embeddings.weight";
    let count = model.shape(word)[0];
    model.rows(word, |row| (row + 3) % count);
    model.verify().expect("tokens", &places(word), Some("wrong-token-ids"));
}

#[test]
fn what_is_right_has_no_diagnosis() {
    for case in CASES {
        let said = Model::of(case).verify();
        assert!(said.code == 0 && said.diagnoses.is_empty(), "{case}: {said:?}");
    }
}

const VERSION_2: [&str; 3] = ["v2-masked-lm", "v2-model-separate", "v2-model-conv"];

/// What the names of the base model start with.
pub(crate) fn base(model: &Model) -> &'static str {
    if model.tensors.contains_key("embeddings.LayerNorm.weight") { "" } else { "deberta." }
}

#[test]
fn what_is_right_in_version_2_has_no_diagnosis() {
    for case in VERSION_2 {
        let said = Model::of(case).verify();
        assert!(said.code == 0 && said.diagnoses.is_empty(), "{case}: {said:?}");
    }
}

#[test]
fn a_wrong_line_of_version_2_is_named() {
    let shared = "v2-masked-lm";
    let conv = "v2-model-conv";
    for (case, key, value, place, kind) in [
        (shared, "hidden_act", json!("gelu_new"), "encoder.layer.0.intermediate", "hidden-act"),
        (shared, "norm_rel_ebd", json!("none"), "encoder.LayerNorm", "norm-rel-ebd"),
        (
            shared,
            "pos_att_type",
            json!("c2p"),
            "encoder.layer.0.attention.self.pos_query_proj",
            "pos-att-type",
        ),
        (shared, "pos_att_type", json!("p2c"), "encoder.layer.0.attention.self.pos_key_proj", "pos-att-type"),
        (
            "v2-model-separate",
            "share_att_key",
            json!(true),
            "encoder.layer.0.attention.self.pos_key_proj",
            "share-att-key",
        ),
        (conv, "conv_act", json!("tanh"), "encoder.conv.LayerNorm", "conv-act"),
        (conv, "conv_kernel_size", json!(0), "encoder.conv.conv", "convolution"),
    ] {
        let mut model = Model::of(case);
        model.config[key] = value;
        let place = format!("{}{place}", base(&model));
        model.verify().expect(key, &[place], Some(kind));
    }
}

#[test]
fn weights_that_changed_places_in_version_2_are_named() {
    let layer = "encoder.layer.1.attention.self";
    for (case, [one, other]) in [
        ("v2-masked-lm", ["query_proj", "key_proj"]),
        ("v2-masked-lm", ["key_proj", "value_proj"]),
        ("v2-model-separate", ["pos_key_proj", "pos_query_proj"]),
    ] {
        let mut model = Model::of(case);
        let path = |name: &str| format!("{}{layer}.{name}", base(&model));
        let [one, other] = [path(one), path(other)];
        for word in ["weight", "bias"] {
            model.swap(&format!("{one}.{word}"), &format!("{other}.{word}"));
        }
        model.verify().expect(&one, std::slice::from_ref(&one), Some("misplaced-parameter"));
    }
    // The heads 0 and 2 of one projection, 8 rows each, with and without its bias.
    for (case, name) in [
        ("v2-masked-lm", "query_proj"),
        ("v2-masked-lm", "value_proj"),
        ("v2-model-separate", "pos_key_proj"),
    ] {
        for words in [&["weight"][..], &["bias"], &["weight", "bias"]] {
            let mut model = Model::of(case);
            let path = format!("{}{layer}.{name}", base(&model));
            for word in words {
                model.rows(&format!("{path}.{word}"), |row| match row / 8 {
                    0 => row + 16,
                    2 => row - 16,
                    _ => row,
                });
            }
            let what = format!("{path} {words:?}");
            model.verify().expect(&what, std::slice::from_ref(&path), Some("permuted-heads"));
        }
    }
}

#[test]
fn what_is_lost_in_version_2_is_named() {
    for case in VERSION_2 {
        let good = Model::of(case);
        let layer = format!("{}encoder.layer.0.attention.self", base(&good));
        for (name, kind) in
            [("query_proj", "dropped-q-bias"), ("key_proj", "dropped-bias"), ("value_proj", "dropped-v-bias")]
        {
            let mut model = Model::of(case);
            let path = format!("{layer}.{name}");
            model.values(&format!("{path}.bias")).fill(0.0);
            model.verify().expect(&path, std::slice::from_ref(&path), Some(kind));
        }
        let mut model = Model::of(case);
        let path = format!("{}encoder.LayerNorm", base(&good));
        model.swap(&format!("{path}.weight"), &format!("{path}.bias"));
        model.verify().expect(&path, std::slice::from_ref(&path), Some("swapped-gamma-beta"));
    }
}

#[test]
fn a_kernel_in_another_order_is_named() {
    let (name, place) = ("encoder.conv.conv.weight", "encoder.conv.conv".to_owned());
    type Place = fn([usize; 3], [usize; 3]) -> usize;
    let orders: [(&str, Place); 3] = [
        ("reversed-kernel", |[_, input, taps], [o, i, k]| (o * input + i) * taps + taps - 1 - k),
        ("transposed-kernel", |[_, input, taps], [o, i, k]| (i * input + o) * taps + k),
        // Keras' [k, in, out], read as if it were PyTorch's.
        ("transposed-kernel", |[out, input, taps], [o, i, k]| {
            let at = (o * input + i) * taps + k;
            (at % out * input + at / out % input) * taps + at / out / input
        }),
    ];
    for (kind, from) in orders {
        let mut model = Model::of("v2-model-conv");
        let shape = <[usize; 3]>::try_from(model.shape(name)).unwrap();
        let old = model.values(name).clone();
        let at = |at: usize| [at / shape[2] / shape[1], at / shape[2] % shape[1], at % shape[2]];
        *model.values(name) = (0..old.len()).map(|new| old[from(shape, at(new))]).collect();
        model.verify().expect(kind, std::slice::from_ref(&place), Some(kind));
    }
}

#[test]
fn projections_of_positions_as_before_training_are_named() {
    let mut model = Model::of("v2-masked-lm");
    model.config["share_att_key"] = json!(false);
    for layer in 0..2 {
        for name in ["pos_key_proj", "pos_query_proj"] {
            let path = format!("deberta.encoder.layer.{layer}.attention.self.{name}");
            let values = (0..24 * 24).map(|at| 0.02 * ((at * 37 % 101) as f32 / 50.0 - 1.0)).collect();
            model.tensors.insert(format!("{path}.weight"), (vec![24, 24], values));
            model.tensors.insert(format!("{path}.bias"), (vec![24], vec![0.0; 24]));
        }
    }
    let place = "deberta.encoder.layer.0.attention.self.pos_key_proj".to_owned();
    model.verify().expect("unshared", &[place], Some("share-att-key"));
}

#[test]
fn buckets_are_named_where_hidden_states_alone_are_known_of_sixteen_heads() {
    for heads in [2, 16] {
        let golden = tempfile::tempdir().unwrap();
        let mut model = Model::of("v2-model-long");
        model.golden.set_file_name("far.safetensors");
        model.config["num_attention_heads"] = json!(heads);
        model.record(golden.path(), "none");
        let mut recorded = Trace::read(&model.golden).unwrap();
        recorded.tensors.retain(|tensor| !tensor.name.contains("attentions"));
        recorded.write(&model.golden).unwrap();
        model.config["max_relative_positions"] = json!(24);
        let place = "outputs.hidden_states.1".to_owned();
        model.verify().expect(&format!("{heads} heads"), &[place], Some("position-buckets"));
    }
}

#[test]
fn a_model_whose_buckets_are_not_used_is_diagnosed() {
    let golden = tempfile::tempdir().unwrap();
    let mut model = Model::of("v2-model-long");
    model.config["relative_attention"] = json!(false);
    model.config["position_buckets"] = json!(256);
    model.record(golden.path(), "*");
    model.config["hidden_act"] = json!("relu");
    let place = "encoder.layer.0.intermediate".to_owned();
    model.verify().expect("relu", &[place], Some("hidden-act"));
}
