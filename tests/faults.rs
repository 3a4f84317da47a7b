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

use crate::VERIFY;

/// A model of a case, to be changed and written elsewhere.
struct Model {
    /// The trace of PyTorch that it is compared with, at the default tolerances.
    golden: PathBuf,
    config: Value,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

/// What the program said.
#[derive(Debug)]
struct Said {
    code: i32,
    first: Vec<String>,
    diagnoses: Vec<Value>,
}

impl Model {
    fn of(case: &str) -> Model {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(case);
        // The pooler sees one token of each sequence, and one number says little.
        let several = case == "sequence-classification";
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

    fn values(&mut self, name: &str) -> &mut Vec<f32> {
        &mut self.tensors.get_mut(name).unwrap_or_else(|| panic!("no {name}")).1
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.tensors[name].0.clone()
    }

    fn swap(&mut self, a: &str, b: &str) {
        let (first, second) = (self.tensors[a].clone(), self.tensors[b].clone());
        self.tensors.insert(a.to_owned(), second);
        self.tensors.insert(b.to_owned(), first);
    }

    fn transpose(&mut self, name: &str) {
        let shape = self.shape(name);
        let old = self.values(name).clone();
        let n = shape[0];
        *self.values(name) = (0..n * n).map(|at| old[at % n * n + at / n]).collect();
    }

    /// Rows of a parameter in another order.
    fn rows(&mut self, name: &str, order: impl Fn(usize) -> usize) {
        let shape = self.shape(name);
        let width: usize = shape[1..].iter().product();
        let old = self.values(name).clone();
        let row = |row: usize| old[order(row) * width..(order(row) + 1) * width].to_vec();
        *self.values(name) = (0..shape[0]).flat_map(row).collect();
    }

    fn write(&self, folder: &Path) {
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

    fn verify(&self) -> Said {
        let (folder, golden) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        self.write(folder.path());
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
    fn expect(&self, what: &str, places: &[String], kind: Option<&str>) {
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
        model.config[key] = value;
        model.verify().expect(key, &[format!("deberta.{place}")], Some(kind));
    }
}

#[test]
fn small_activations_show_a_wrong_eps() {
    // A golden of its own: the model of a case, with embeddings as small as those of published models.
    let golden = tempfile::tempdir().unwrap();
    let mut model = Model::of("masked-lm");
    let inputs = model.golden.clone();
    for value in model.values("deberta.embeddings.word_embeddings.weight") {
        *value *= 0.02;
    }
    model.config["layer_norm_eps"] = json!(1e-7);
    let source = tempfile::tempdir().unwrap();
    model.write(source.path());
    let recorded = golden.path().join("plain.safetensors");
    let arguments =
        ["record", "--model", source.path().to_str().unwrap(), "--inputs", inputs.to_str().unwrap()];
    deberta_tests::succeed(VERIFY, &[&arguments[..], &["-o", recorded.to_str().unwrap()]].concat());
    model.golden = recorded;
    assert_eq!(model.verify().code, 0);
    model.config["layer_norm_eps"] = json!(1e-12);
    let place = "deberta.embeddings.LayerNorm".to_owned();
    model.verify().expect("eps", &[place], Some("layer-norm-eps"));
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
