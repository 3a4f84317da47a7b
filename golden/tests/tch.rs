//! libtorch as a second judge: it agrees with every golden and with the reference at every point, goes wrong where the reference
//! does when a fault is put in, and refuses what the reference refuses. `tests/tch/run.sh` builds and runs this.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::loading::Parameters;
use deberta_converters::source::Source;
use deberta_golden::backend::Tch;
use deberta_golden::fault::{Culprit, Model, faults};
use deberta_golden::trace::class::masked_rows_of;
use deberta_golden::trace::folder;
use deberta_golden::trace::inputs::inputs;
use deberta_golden::{Backend as _, Class, Data, Reference, Tensor, Trace};
use deberta_reference::{Inputs, Labels, MaskedRows};
use ndarray::{Array1, Array2, Array3, ArrayD};

/// What every number of a golden must agree within.
const TOLERANCE: f32 = 5e-6;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// The folders that hold a model.
fn models(root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = root.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("model.safetensors").exists());
    folders.sort();
    folders
}

fn parameters(folder: &Path, class: Class) -> Parameters {
    let source = Source::locate(&folder.join("model.safetensors"), None, None).unwrap();
    Parameters::new(Checkpoint::open(source, None, Some(class.head)).unwrap().1).unwrap()
}

fn load(parameters: &Parameters, class: Class, rows: MaskedRows) -> Tch {
    Tch::load(parameters.checkpoint().config.clone(), parameters, class, rows).unwrap()
}

/// A trace, and what it is of.
struct Recorded {
    name: String,
    trace: Trace,
    class: Class,
    rows: MaskedRows,
    inputs: Inputs,
}

fn recorded(folder: &Path) -> Vec<Recorded> {
    let read = |path: PathBuf| {
        let trace = Trace::read(&path).unwrap();
        Recorded {
            name: path.strip_prefix(folder.parent().unwrap()).unwrap().display().to_string(),
            class: Class::of(&trace).unwrap().unwrap(),
            rows: masked_rows_of(&trace).unwrap().unwrap(),
            inputs: Inputs { output_hidden_states: true, output_attentions: true, ..inputs(&trace).unwrap() },
            trace,
        }
    };
    folder::find(folder).unwrap().into_iter().map(read).collect()
}

fn floats(tensor: &Tensor) -> &[f32] {
    match &tensor.data {
        Data::Floats(values) => values,
        _ => panic!("{}: not f32", tensor.name),
    }
}

/// The largest difference of two tensors of one shape; NaN equals NaN.
fn distance(want: &Tensor, got: &Tensor) -> f32 {
    assert_eq!(want.shape, got.shape, "{}", want.name);
    let both_nan = |(want, got): &(&f32, &f32)| want.is_nan() && got.is_nan();
    let pairs = floats(want).iter().zip(floats(got)).filter(|pair| !both_nan(pair));
    pairs
        .map(|(want, got)| (want - got).abs())
        .fold(0.0, |largest, d| if d > largest || d.is_nan() { d } else { largest })
}

/// The largest difference over all points that `want` has; all must be there.
fn farthest(want: &Trace, got: &Trace) -> (f32, String, usize) {
    let (mut worst, mut at, mut points) = (0.0, String::new(), 0);
    for tensor in want.tensors.iter().filter(|tensor| !tensor.name.starts_with("inputs.")) {
        let found = got.get(&tensor.name).unwrap_or_else(|| panic!("{} is missing", tensor.name));
        let distance = distance(tensor, found);
        points += 1;
        if distance > worst || distance.is_nan() {
            (worst, at) = (distance, tensor.name.clone());
        }
    }
    assert!(points > 0);
    (worst, at, points)
}

/// Runs every trace below `root` and compares with it, and with the reference at every point that there is.
fn agree(root: &Path, tolerance: f32) -> (usize, usize) {
    let (mut folders, mut traces, mut points) = (0, 0, 0);
    let (mut of_goldens, mut of_reference) = ((0.0, String::new()), (0.0, String::new()));
    for folder in models(root) {
        for Recorded { name, trace, class, rows, inputs } in recorded(&folder) {
            let parameters = parameters(&folder, class);
            let run = |model: &dyn deberta_golden::Backend| model.run(&inputs, &["*"], Vec::new()).unwrap();
            let tch = run(&load(&parameters, class, rows));
            let reference = run(&Reference::load(&parameters, class, rows).unwrap());

            let (worst, at, compared) = farthest(&trace, &tch);
            assert!(worst <= tolerance, "{name}: {worst:e} from the golden at {at}");
            points += compared;
            if worst > of_goldens.0 {
                of_goldens = (worst, format!("{name}, {at}"));
            }
            let names =
                |trace: &Trace| trace.tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>();
            assert_eq!(names(&tch), names(&reference), "{name}");
            let (worst, at, _) = farthest(&reference, &tch);
            assert!(worst <= tolerance, "{name}: {worst:e} from the reference at {at}");
            if worst > of_reference.0 {
                of_reference = (worst, format!("{name}, {at}"));
            }
            assert_eq!(tch.metadata("framework"), Some("tch"));
            assert_eq!(tch.metadata("class"), Some(class.to_string().as_str()));
            traces += 1;
        }
        folders += 1;
    }
    println!("{folders} models, {traces} traces, {points} points of goldens");
    println!("farthest from a golden:      {:.1e} at {}", of_goldens.0, of_goldens.1);
    println!("farthest from the reference: {:.1e} at {}", of_reference.0, of_reference.1);
    (folders, traces)
}

#[test]
fn every_golden_agrees_at_every_point() {
    let (folders, traces) = agree(&data(), TOLERANCE);
    assert!(folders >= 77 && traces >= 282, "{folders} models, {traces} traces");
}

#[test]
fn the_shared_fixtures_agree_at_every_point() {
    // The logits of masked words are up to 11 there. The recording, libtorch and the reference each are up to 6e-6 from what
    // the reference computes in f64.
    for (name, tolerance) in [("fixtures", TOLERANCE), ("fixtures-v2", 2.0 * TOLERANCE)] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name);
        if root.is_dir() {
            let (folders, traces) = agree(&root, tolerance);
            assert!(folders > 0 && traces > 0);
        } else {
            println!("skipped: {} is not there", root.display());
        }
    }
}

/// Every fault of the selftest's catalogue, put into models of all classes: libtorch computes the same wrong numbers as the
/// reference, and they are not the golden's.
#[test]
fn faults_are_seen() {
    let (mut seen, mut kinds) = (0, BTreeSet::new());
    let cases = [
        "model-both-positions",
        "masked-lm",
        "sequence-classification",
        "model-talking-head",
        "mask-decoder",
        "v2-masked-lm",
        "v2-model-separate",
        "v2-model-conv",
        "v2-mask-decoder",
        "v2-multiple-choice",
        "v2-replaced-tokens",
    ];
    for case in cases {
        let folder = data().join(case);
        let recorded = recorded(&folder);
        let Recorded { trace, class, rows, inputs, .. } =
            recorded.iter().max_by_key(|recorded| recorded.trace.tensors.len()).unwrap();
        let parameters = parameters(&folder, *class);
        let model = Model::read(&parameters, *class, *rows).unwrap();
        let mut faults = faults(&model, inputs, model.config.num_hidden_layers / 2).faults;
        // Formulas that the golden's code has wrong are no part of a model.
        faults.retain(|fault| fault.of == Culprit::Model);
        for fault in faults {
            let faulty = model.with(&fault.changes);
            let faulty = faulty.unwrap_or_else(|| panic!("{case}: {} is not put in", fault.description));
            let reference = faulty.build().unwrap().run(inputs, &["*"], Vec::new()).unwrap();
            let tch = Tch::load(faulty.config.clone(), &faulty, faulty.class, faulty.masked_rows).unwrap();
            let tch = tch.run(inputs, &["*"], Vec::new()).unwrap();
            let largest = |tensor: &Tensor| floats(tensor).iter().fold(1.0_f32, |max, x| max.max(x.abs()));
            for want in &reference.tensors {
                let distance = distance(want, tch.get(&want.name).unwrap());
                let allowed = 1e-5 * largest(want);
                assert!(distance <= allowed, "{case}, {}: {distance:e} at {}", fault.description, want.name);
            }
            let differs = trace.tensors.iter().any(|want| {
                !want.name.starts_with("inputs.")
                    && tch
                        .get(&want.name)
                        .is_none_or(|got| got.shape != want.shape || distance(want, got) > 1e-4)
            });
            let reference_differs = trace.tensors.iter().any(|want| {
                !want.name.starts_with("inputs.")
                    && reference
                        .get(&want.name)
                        .is_none_or(|got| got.shape != want.shape || distance(want, got) > 1e-4)
            });
            assert_eq!(differs, reference_differs, "{case}, {}", fault.description);
            if differs {
                seen += 1;
                kinds.insert(fault.kind);
            }
        }
    }
    println!("{seen} faults of {} kinds are seen", kinds.len());
    assert!(seen > 100 && kinds.len() > 20, "{seen} faults of {} kinds", kinds.len());
}

#[test]
fn what_is_replaced_changes_what_follows_as_in_the_reference() {
    for (case, point) in [
        ("model-both-positions", "encoder.layer.0.attention.self.probs"),
        ("v2-model", "encoder.LayerNorm"),
        ("v2-model", "encoder.layer.1.attention.self.pos_key_proj"),
        ("v2-model-conv", "encoder.conv.conv"),
        ("v2-replaced-tokens", "mask_predictions.LayerNorm"),
    ] {
        let folder = data().join(case);
        let Recorded { class, rows, inputs, .. } = recorded(&folder).remove(0);
        let parameters = parameters(&folder, class);
        let (tch, reference) =
            (load(&parameters, class, rows), Reference::load(&parameters, class, rows).unwrap());
        let unchanged = tch.run(&inputs, &["*"], Vec::new()).unwrap();
        let tensor = unchanged.get(&format!("activations.{point}")).unwrap();
        let halved = floats(tensor).iter().map(|value| value / 2.0).collect();
        let halved = ArrayD::from_shape_vec(tensor.shape.clone(), halved).unwrap();
        // Nothing is recorded but the outputs, too.
        for points in [&["*"][..], &[]] {
            let values = vec![(point.to_owned(), halved.clone())];
            let got = tch.run(&inputs, points, values.clone()).unwrap();
            let want = reference.run(&inputs, points, values).unwrap();
            let (worst, at, _) = farthest(&want, &got);
            assert!(worst <= TOLERANCE, "{case}, {point}: {worst:e} at {at}");
            assert!(farthest(&got, &unchanged).0 > 1e-2, "{case}, {point}: nothing follows");
        }
        let wrong = vec![(point.to_owned(), ArrayD::zeros(vec![1]))];
        let error = tch.run(&inputs, &[], wrong.clone()).unwrap_err().to_string();
        assert_eq!(error, reference.run(&inputs, &[], wrong).unwrap_err().to_string());
    }
}

/// Where nothing is recorded, the rows of the table that no distance has are not projected.
#[test]
fn what_is_recorded_does_not_matter() {
    for case in ["v2-masked-lm", "v2-model-long", "v2-model-conv", "v2-mask-decoder"] {
        let folder = data().join(case);
        for Recorded { name, class, rows, inputs, .. } in recorded(&folder) {
            let model = load(&parameters(&folder, class), class, rows);
            let outputs = model.run(&inputs, &[], Vec::new()).unwrap();
            let (worst, at, _) = farthest(&outputs, &model.run(&inputs, &["*"], Vec::new()).unwrap());
            assert!(worst <= 2e-6, "{name}: {worst:e} at {at}");
        }
    }
}

/// Inputs that do not fit, in the words of the reference.
#[test]
fn inputs_that_do_not_fit_are_refused_as_by_the_reference() {
    let ids = |b, n| Inputs::from_ids(Array2::zeros((b, n)));
    let one = |id| Inputs::from_ids(Array2::from_elem((1, 2), id));
    let base = vec![
        Inputs::default(),
        ids(0, 3),
        ids(1, 0),
        one(-1),
        one(1 << 40),
        Inputs { inputs_embeds: Some(Array3::zeros((1, 2, 4))), ..one(1) },
        Inputs { inputs_embeds: Some(Array3::zeros((1, 2, 7))), ..Inputs::default() },
        Inputs { attention_mask: Some(ArrayD::zeros(vec![2, 2])), ..one(1) },
        Inputs { token_type_ids: Some(Array2::zeros((1, 3))), ..one(1) },
        Inputs { token_type_ids: Some(Array2::from_elem((1, 2), 9)), ..one(1) },
        Inputs { position_ids: Some(Array2::zeros((2, 2))), ..one(1) },
        Inputs { position_ids: Some(Array2::from_elem((1, 2), 100_000)), ..one(1) },
        ids(1, 4000),
    ];
    refused_alike("model-both-positions", &base, 10);
    let labels = |labels| Inputs { labels: Some(labels), ..one(1) };
    let classes = |shape: &[usize], class: i64| Labels::Classes(ArrayD::from_elem(shape, class));
    let tokens =
        vec![labels(classes(&[1, 3], 0)), labels(classes(&[1, 2], 1 << 40)), labels(classes(&[1, 2], -2))];
    refused_alike("token-classification", &tokens, 2);
    refused_alike("masked-lm", &tokens, 2);
    let values = Labels::Values(ArrayD::zeros(vec![1, 2]));
    let sequences = vec![labels(classes(&[2], 0)), labels(classes(&[1], 77)), labels(values)];
    refused_alike("sequence-single-label", &sequences, 3);
    let answers = |start: &[i64], end: &[i64]| Inputs {
        start_positions: Some(Array1::from_vec(start.to_vec())),
        end_positions: Some(Array1::from_vec(end.to_vec())),
        ..one(1)
    };
    refused_alike("question-answering", &[answers(&[0, 0], &[0]), answers(&[0], &[])], 2);

    let choices = |choices: Option<usize>, labels| Inputs { choices, labels, ..ids(4, 2) };
    refused_alike("v2-model", &[choices(Some(2), None), Inputs { choices: Some(1), ..Inputs::default() }], 2);
    let questions = [
        choices(None, None),
        choices(Some(0), None),
        choices(Some(3), None),
        Inputs { choices: Some(2), ..Inputs::default() },
        choices(Some(2), Some(classes(&[4], 0))),
        choices(Some(2), Some(classes(&[2], 2))),
        choices(Some(2), Some(classes(&[2], 1))),
    ];
    refused_alike("v2-multiple-choice", &questions, 6);
    let embeds = Inputs { inputs_embeds: Some(Array3::zeros((1, 2, 32))), ..Inputs::default() };
    let replaced = [
        labels(classes(&[1, 3], 0)),
        labels(classes(&[2, 2], 0)),
        labels(classes(&[1, 2], -100)),
        Inputs { labels: Some(classes(&[1, 2], 0)), ..embeds },
    ];
    refused_alike("v2-replaced-tokens", &replaced, 3);
    let decoded = [labels(classes(&[1, 2], 1 << 40)), labels(classes(&[1, 2], -1)), ids(1, 4000)];
    refused_alike("v2-mask-decoder", &decoded, 2);
}

/// Whether both backends refuse the same of `all`, at least `least` of them, in the same words.
fn refused_alike(case: &str, all: &[Inputs], least: usize) {
    let folder = data().join(case);
    let class = recorded(&folder)[0].class;
    for class in [Some(class), class.in_tensorflow()].into_iter().flatten() {
        let parameters = parameters(&folder, class);
        let tch = load(&parameters, class, class.masked_rows());
        let reference = Reference::load(&parameters, class, class.masked_rows()).unwrap();
        let mut count = 0;
        for inputs in all {
            let want = reference.run(inputs, &[], Vec::new()).err().map(|error| error.to_string());
            let got = tch.run(inputs, &[], Vec::new()).err().map(|error| error.to_string());
            assert_eq!(got, want, "{class}, {case}: {inputs:?}");
            count += usize::from(got.is_some());
        }
        assert!(count >= least, "{class}, {case}: {count} of {} are refused", all.len());
    }
}

#[test]
fn a_model_that_lacks_parameters_is_refused_as_by_the_reference() {
    for (case, class) in
        [("masked-lm", "DebertaForMaskedLM"), ("v2-multiple-choice", "DebertaV2ForMultipleChoice")]
    {
        let class = Class::from_name(class).unwrap();
        let parameters = parameters(&data().join(case), class);
        let config = parameters.checkpoint().config.clone();
        let longer = deberta_reference::DebertaConfig { num_hidden_layers: 40, ..config.clone() };
        let pooler = deberta_reference::DebertaConfig { pooler_hidden_size: 7, ..config };
        for config in [longer, pooler] {
            let rows = MaskedRows::Uniform;
            let got =
                Tch::load(config.clone(), &parameters, class, rows).err().map(|error| error.to_string());
            let want = Reference::of(config, &parameters, class, rows).err().map(|error| error.to_string());
            assert_eq!(got, want, "{case}");
        }
    }
}

fn deberta_verify(args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_deberta-verify")).args(args).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

#[test]
fn the_program_verifies_records_and_measures_with_it() {
    verifies_records_and_measures("sequence-classification", "DebertaForSequenceClassification");
    verifies_records_and_measures("v2-multiple-choice", "DebertaV2ForMultipleChoice");
    verifies_records_and_measures("v2-replaced-tokens", "ReplacedTokenDetectionModel");
    verifies_records_and_measures("v2-model-conv", "DebertaV2Model");
}

fn verifies_records_and_measures(case: &str, class: &str) {
    let folder = data().join(case);
    let model = folder.to_str().unwrap();
    for more in [&["--format", "json"][..], &["--format", "json", "--isolate"]] {
        let (code, text) =
            deberta_verify(&[&["--model", model, "--golden", model, "--backend", "tch"], more].concat());
        assert_eq!(code, 0, "{text}");
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let runs = report["files"][0]["runs"].as_array().unwrap();
        assert!(!runs.is_empty() && runs.iter().all(|run| run["backend"] == "tch"), "{text}");
    }

    let out = tempfile::tempdir().unwrap();
    let trace = out.path().join("trace.safetensors");
    let given = folder::find(&folder).unwrap().remove(0);
    let record =
        ["record", "--model", model, "--inputs", given.to_str().unwrap(), "-o", trace.to_str().unwrap()];
    let (code, text) = deberta_verify(&[&record[..], &["--backend", "tch"]].concat());
    assert_eq!(code, 0, "{text}");
    let trace = Trace::read(&trace).unwrap();
    assert_eq!(trace.metadata("framework"), Some("tch"));
    assert!(trace.metadata("producer").unwrap().starts_with("libtorch 2.13"), "{:?}", trace.metadata);

    let (code, text) = deberta_verify(&[
        "bench",
        "--model",
        model,
        "--seq",
        "8",
        "--runs",
        "2",
        "--class",
        class,
        "--backend",
        "tch",
        "--format",
        "json",
    ]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["backend"], "tch");
}

/// A model that is wrong diverges, and the reference finds the cause. Where the reference agrees, the backend is the cause.
#[test]
fn divergences_are_diagnosed_by_the_reference() {
    let folder = data().join("masked-lm");
    let model = folder.to_str().unwrap();
    let other = data().join("masked-lm-untied");
    let diagnosed = |model: &str, golden: &str| {
        let (code, text) =
            deberta_verify(&["--model", model, "--golden", golden, "--backend", "tch", "--format", "json"]);
        assert_eq!(code, 1, "{text}");
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let runs = report["files"][0]["runs"].as_array().unwrap().clone();
        let kinds = runs.iter().flat_map(|run| run["diagnoses"].as_array().unwrap().clone());
        kinds.map(|diagnosis| diagnosis["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let found = diagnosed(other.to_str().unwrap(), model);
    assert!(!found.is_empty() && !found.contains(&"backend".to_owned()), "{found:?}");

    // What the reference recorded, to the last bit.
    let golden = tempfile::tempdir().unwrap();
    let trace = golden.path().join("plain.safetensors");
    let (code, text) = deberta_verify(&[
        "record",
        "--model",
        model,
        "--inputs",
        folder.join("plain.safetensors").to_str().unwrap(),
        "-o",
        trace.to_str().unwrap(),
    ]);
    assert_eq!(code, 0, "{text}");
    let case = "model: hub/elsewhere\nclass: DebertaForMaskedLM\nproducer: the reference\ntolerances:\n  default: {atol: 1.0e-12}\n\
                traces:\n  - {file: plain.safetensors, framework: reference, class: DebertaForMaskedLM, masked_rows: uniform}\n";
    std::fs::write(golden.path().join("case.yaml"), case).unwrap();
    assert_eq!(diagnosed(model, golden.path().to_str().unwrap()), ["backend"]);
}
