//! The weight recipe and the goldens of the published sizes: golden/sizes. What takes gigabytes is in tests/sizes/run.sh.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use deberta_converters::recipe::{Recipe, configuration};
use deberta_golden::Case;
use deberta_golden::goldens::Golden;
use deberta_golden::trace::class::{Class, masked_rows_of};
use deberta_golden::trace::file::{Recorded, Trace, TraceFile};
use deberta_golden::trace::inputs::inputs;
use deberta_golden::trace::padding::Padding;
use deberta_golden::trace::points::missing;
use deberta_golden::trace::samples::Sampled;
use deberta_golden::trace::tensor::Data;
use deberta_reference::{Head, Inputs};
use deberta_tests::{change_tensor, fail, fixture, run, succeed};
use serde_json::Value;

use crate::{CONVERT, VERIFY};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/sizes")
}

fn golden(name: &str) -> String {
    root().join(name).to_str().unwrap().to_owned()
}

fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = root().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert_eq!(folders.len(), 22, "{folders:?}");
    folders
}

#[test]
fn numbers_are_those_of_numpy() {
    numbers_are_numpys("config.json", "vectors.json");
    numbers_are_numpys("config-2.json", "vectors-2.json");
}

fn numbers_are_numpys(config: &str, vectors: &str) {
    let folder = fixture("recipe");
    let text = fs::read_to_string(folder.join(vectors)).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let config = configuration(&folder.join(config)).unwrap();
    let recipe = Recipe::new(&config, Head::MaskedLm, 42).unwrap();
    let mut compared = 0;
    for param in recipe.params() {
        let known = &vectors["numbers"][&param.name];
        assert_eq!(known["shape"], serde_json::json!(param.shape), "{}", param.name);
        let numbers = recipe.numbers(&param);
        for (at, bits) in known["bits"].as_object().unwrap() {
            let number = numbers[at.parse::<usize>().unwrap()];
            assert_eq!(format!("{:08x}", number.to_bits()), bits.as_str().unwrap(), "{} {at}", param.name);
            compared += 1;
        }
    }
    assert_eq!(vectors["numbers"].as_object().unwrap().len(), recipe.params().len());
    println!("{compared} numbers");
    for head in Head::of(config.config.family) {
        let (name, recipe) = (head.word(), Recipe::new(&config, head, 42).unwrap());
        let checkpoint = recipe.checkpoint().unwrap();
        let digest = checkpoint.digest(&checkpoint.tensor_digests(&()).unwrap()).to_string();
        assert_eq!(digest, vectors["digests"][name].as_str().unwrap(), "{name}");
    }
}

#[test]
fn init_makes_the_same_model_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let config = golden("small/config.json");
    let mut digests = BTreeMap::new();
    for to in ["safetensors", "pytorch", "tf", "onnx"] {
        let out = format!("{}/{to}/", folder.path().display());
        let args = ["init", "--config", &config, "--head", "mlm", "--seed", "1", "--to", to, "-o", &out];
        let text = succeed(CONVERT, &args);
        let digest = text.lines().last().unwrap().trim_start_matches("digest").trim().to_owned();
        assert!(
            text.contains("DebertaForMaskedLM, 4 layers") && Path::new(&out).join("config.json").exists()
        );
        let told = succeed(CONVERT, &["digest", out.trim_end_matches('/')]);
        assert!(told.starts_with(&digest), "{told} {digest}");
        digests.insert(digest, to);
    }
    let case = Case::read(&root().join("small")).unwrap();
    assert_eq!(digests.keys().collect::<Vec<_>>(), [&case.digest.unwrap()]);

    let out = format!("{}/safetensors/", folder.path().display());
    let again = ["init", "--config", &config, "--head", "mlm", "-o", &out];
    assert!(fail(CONVERT, &again).contains("already exists: --force replaces it"));
    let other = succeed(CONVERT, &[&again[..], &["--seed", "2", "--dtype", "f16", "--force"]].concat());
    assert!(other.contains("f16") && !digests.contains_key(other.lines().last().unwrap()), "{other}");
    let elsewhere = format!("{}/elsewhere/", folder.path().display());
    let unknown = fail(CONVERT, &["init", "--config", "huge", "-o", &elsewhere]);
    assert!(unknown.starts_with("error: huge: cannot open"), "{unknown}");
}

#[test]
fn committed_goldens_say_the_truth_about_themselves() {
    let mut bytes = 0;
    for folder in folders() {
        let at = folder.display();
        for entry in folder.read_dir().unwrap() {
            bytes += entry.unwrap().metadata().unwrap().len();
        }
        let golden = Golden::open(&folder).unwrap();
        let case = golden.case.as_ref().unwrap();
        let recipe = golden.recipe().unwrap().unwrap();
        let family = recipe.config.config.family;
        let class = if recipe.head == Head::ReplacedTokens {
            recipe.head.class_name(family)
        } else {
            recipe.head.architecture(family)
        };
        assert_eq!(class, case.class, "{at}");
        assert!(golden.traces.len() >= 4, "{at}");
        for (path, entry) in golden.traces.iter().zip(&case.traces) {
            let at = path.display();
            let file = TraceFile::open(path).unwrap();
            assert!(file.is_sampled(), "{at}");
            let given = file.inputs().unwrap();
            assert_eq!(Class::of(&given).unwrap().unwrap(), entry.class().unwrap(), "{at}");
            assert_eq!(masked_rows_of(&given).unwrap(), Some(entry.masked_rows), "{at}");
            assert_eq!(given.metadata("producer").unwrap(), case.producer, "{at}");
            let asked =
                Inputs { output_hidden_states: true, output_attentions: true, ..inputs(&given).unwrap() };
            let lacking = missing(&file, &recipe.config.config, entry.class().unwrap(), &asked);
            assert!(lacking.is_empty(), "{at}: {lacking:?}");
        }
    }
    println!("{bytes} bytes");
    assert!(bytes < 4 << 20, "{bytes} bytes of goldens");
}

#[test]
fn small_goldens_are_verified_from_their_recipe() {
    let version_2 = ["v2-small", "v2-small-multiple-choice", "v2-small-replaced-tokens"];
    for name in ["small", "small-mask-decoder"].into_iter().chain(version_2) {
        let folder = golden(name);
        let json = succeed(VERIFY, &["--golden", &folder, "--json"]);
        let report: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(report["outcome"], "pass");
        let runs = report["files"][0]["runs"].as_array().unwrap();
        let points = runs.iter().map(|run| run["points"].as_array().unwrap().len()).sum::<usize>();
        let statistic = &runs[0]["points"][0]["statistic"];
        assert!(runs.len() >= 4 && points > 150 && statistic["share"].as_f64().unwrap() <= 1.0, "{name}");
        println!("{name}: {points} points");
    }
}

/// The small masked LM in a folder of its own.
fn small() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let out = format!("{}/", folder.path().display());
    succeed(CONVERT, &["init", "--config", &golden("small/config.json"), "--head", "mlm", "-o", &out]);
    folder
}

/// Transposes a square matrix of a safetensors file.
fn transpose(path: &Path, name: &str) {
    change_tensor(path, name, |shape, values| {
        let size = shape[0];
        assert_eq!(shape, [size, size]);
        let old = values.to_vec();
        for (row, column) in (0..size).flat_map(|row| (0..size).map(move |column| (row, column))) {
            values[row * size + column] = old[column * size + row];
        }
    });
}

#[test]
fn a_fault_is_found_where_it_is_and_named_by_samples_and_the_recipe() {
    let model = small();
    let kernel = "deberta.encoder.layer.2.attention.output.dense";
    transpose(&model.path().join("model.safetensors"), &format!("{kernel}.weight"));
    let output =
        run(VERIFY, &["--model", model.path().to_str().unwrap(), "--golden", &golden("small"), "--json"]);
    assert_eq!(output.code, 1, "{}", output.stderr);
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let runs = report["files"][0]["runs"].as_array().unwrap();
    for run in runs {
        assert_eq!(run["first_divergence"], format!("activations.{kernel}"), "{}", run["trace"]);
    }
    let diagnoses: Vec<&Value> = runs.iter().flat_map(|run| run["diagnoses"].as_array().unwrap()).collect();
    assert_eq!(
        (&diagnoses[0]["kind"], &diagnoses[0]["confirmed"]),
        (&"transposed-kernel".into(), &true.into())
    );
    let differ = diagnoses.iter().find(|diagnosis| diagnosis["kind"] == "tensors-differ").unwrap();
    assert!(differ["cause"].as_str().unwrap().starts_with("1 of "), "{differ}");
}

#[test]
fn samples_do_not_pass_for_whole_activations() {
    let (model, folder) = (small(), golden("small"));
    let model = model.path().to_str().unwrap();
    let isolated = run(VERIFY, &["--model", model, "--golden", &folder, "--isolate"]);
    assert_eq!(isolated.code, 2);
    assert!(isolated.stdout.contains("--isolate needs whole activations"), "{}", isolated.stdout);
    let trace = format!("{folder}/n16.safetensors");
    let compared = run(VERIFY, &["compare", &trace, &trace]);
    assert!(compared.code == 2, "{}{}", compared.stdout, compared.stderr);
}

#[test]
fn samples_show_every_fault() {
    let (model, folder) = (small(), golden("small"));
    let model = model.path().to_str().unwrap();
    let printed = succeed(VERIFY, &["selftest", "--model", model, "--golden", &folder, "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let count = |key: &str| report[key].as_u64().unwrap();
    let killed = count("killed");
    assert!(killed > 40 && count("survived") == 0, "{killed}");
    assert!(100 * count("in_place") >= 98 * killed, "{} of {killed} seen in place", count("in_place"));
    assert!(100 * count("diagnosed") >= 97 * killed, "{} of {killed} named", count("diagnosed"));
    let other = run(VERIFY, &["selftest", "--model", model, "--golden", &golden("small-mask-decoder")]);
    assert!(other.code == 2, "{}{}", other.stdout, other.stderr);
}

#[test]
fn a_sampled_trace_judges_a_whole_one() {
    let (model, folder) = (small(), golden("small"));
    let model = model.path().to_str().unwrap();
    let golden = format!("{folder}/padded.safetensors");
    let recorded = tempfile::tempdir().unwrap();
    let candidate = recorded.path().join("padded.safetensors");
    let candidate = candidate.to_str().unwrap();
    succeed(VERIFY, &["record", "--model", model, "--inputs", &golden, "-o", candidate]);
    succeed(VERIFY, &["compare", &golden, candidate, "--common"]);

    let mut trace = Trace::read(Path::new(candidate)).unwrap();
    let name = "activations.deberta.encoder.layer.1.intermediate";
    let tensor = trace.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap();
    let Data::Floats(values) = &mut tensor.data else { panic!("no floats") };
    values.iter_mut().take(40).for_each(|value| *value += 0.01);
    trace.write(Path::new(candidate)).unwrap();
    let output = run(VERIFY, &["compare", &golden, candidate, "--common"]);
    assert!(output.code == 1 && output.stdout.contains("layer.1.intermediate"), "{}", output.stdout);
}

#[test]
fn samples_are_those_of_python() {
    // Whole activations of the small model differ from PyTorch's in the last digits alone, so that what Python made of
    // its own is what is made here of ours: places, signs, tokens and the order of the statistics.
    let (model, folder) = (small(), golden("small"));
    let path = PathBuf::from(format!("{folder}/padded.safetensors"));
    let whole = model.path().join("whole.safetensors");
    let args =
        ["record", "--model", model.path().to_str().unwrap(), "--inputs", path.to_str().unwrap(), "-o"];
    succeed(VERIFY, &[&args[..], &[whole.to_str().unwrap()]].concat());
    let (golden, whole) = (TraceFile::open(&path).unwrap(), Trace::read(&whole).unwrap());
    let given = inputs(&golden.inputs().unwrap()).unwrap();
    let tokens = Padding::of(&given, Head::MaskedLm);
    let mut compared = 0;
    for name in golden.names().filter(|name| !name.starts_with("inputs.")) {
        let Some(Recorded::Sampled(want)) = golden.recorded(name).unwrap() else { panic!("{name} is whole") };
        let tensor = whole.get(name).unwrap();
        let Data::Floats(values) = &tensor.data else { panic!("{name}: no floats") };
        let flags = tokens.of_tensor(name, &tensor.shape);
        let got = Sampled::of(name, &tensor.shape, values, flags.as_deref());
        assert_eq!(got.shape, want.shape, "{name}");
        let wanted = want.samples.iter().chain(want.statistics.row());
        for (want, got) in wanted.zip(got.samples.iter().chain(got.statistics.row())) {
            assert!((want - got).abs() <= 1e-3 * (1.0 + want.abs()), "{name}: {want} {got}");
            compared += 1;
        }
    }
    println!("{compared} numbers");
}

#[test]
fn sampled_traces_that_lie_are_refused() {
    let model = small();
    let good = fs::read(root().join("small/n16.safetensors")).unwrap();
    let with = |part: &str, replacement: &str| {
        assert_eq!(part.len(), replacement.len());
        let at = good.windows(part.len()).position(|window| window == part.as_bytes()).unwrap();
        [&good[..at], replacement.as_bytes(), &good[at + part.len()..]].concat()
    };
    for (bytes, expected) in [
        (with("deberta-samples-1", "deberta-samples-9"), "expected \"deberta-trace-1\" or"),
        (with("\"samples\"", "\"amples_\""), "not a trace"),
        (with("\"tensors\"", "\"tensorz\""), "no list of [name, shape]"),
        (with("[1,16,48]", "[1,16, 8]"), "SHAPE"),
        (with("outputs.logits", "weights.logits"), "neither activations.* nor outputs.*"),
        (good[..good.len() - 4].to_vec(), "truncated"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("n16.safetensors"), bytes).unwrap();
        let args = ["--model", model.path().to_str().unwrap(), "--golden", folder.path().to_str().unwrap()];
        let output = run(VERIFY, &args);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(output.code != 0 && said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn a_selftest_at_a_size_says_what_it_needs() {
    let selftest = |args: &[&str]| run(VERIFY, &[&["selftest"], args].concat());
    let nowhere = selftest(&["--size", "base", "--folder", "/no/such/folder"]);
    assert_eq!(nowhere.code, 2);
    assert!(
        nowhere.stderr.starts_with("error: /no/such/folder: cannot create a folder in"),
        "{}",
        nowhere.stderr
    );
    let unknown = selftest(&["--size", "huge"]);
    assert!(
        unknown.code == 2
            && unknown.stderr.contains("expected one of base, large, xlarge, v2-xlarge, v3-small, "),
        "{}",
        unknown.stderr
    );
    assert_eq!(selftest(&["--folder", "/tmp"]).code, 2);
}
