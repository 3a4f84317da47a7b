//! The files of a release: none passes unjudged, whatever its name and whatever it is.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deberta_tests::hub_server::Repository;
use deberta_tests::hub_world::{ID, World, read_folder, text};
use deberta_tests::{Run, fixture, run, succeed};
use serde_json::{Value, json};

use crate::{CONVERT, VERIFY};

fn trained(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/trained").join(name)
}

/// A folder with a good model, and the golden that it is judged by in another one.
struct Release {
    folder: tempfile::TempDir,
    golden: PathBuf,
}

impl Release {
    fn of(name: &str) -> Release {
        let folder = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(trained(name).join(file), folder.path().join(file)).unwrap();
        }
        Release { folder, golden: trained(name) }
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// The good weights with nothing but zeros.
    fn write_zeros(&self, name: &str) {
        let mut bytes = fs::read(self.golden.join("model.safetensors")).unwrap();
        let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[start..].fill(0);
        self.write(name, &bytes);
    }

    fn configure(&self, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        let path = self.folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(config.as_object_mut().unwrap());
        fs::write(path, config.to_string()).unwrap();
    }

    fn verify(&self, more: &[&str]) -> Run {
        let (model, golden) = (text(self.folder.path()), text(&self.golden));
        run(VERIFY, &[&["--model", &model, "--golden", &golden, "--no-diagnosis"], more].concat())
    }

    /// Verifies it, which must end with `code`; returns the report.
    fn ends(&self, code: i32, more: &[&str]) -> Value {
        let run = self.verify(&[&["--json"], more].concat());
        assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    }
}

/// The role and the detail of a file.
fn role<'r>(report: &'r Value, file: &str) -> (&'r str, &'r str) {
    let entries = report["inventory"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["file"] == file);
    let entry = entry.unwrap_or_else(|| panic!("no {file}: {entries:?}"));
    (entry["role"].as_str().unwrap(), entry["detail"].as_str().unwrap_or_default())
}

/// The kinds of the findings of the model and its files, without what the golden's inputs do not exercise.
fn kinds(report: &Value) -> Vec<&str> {
    let files = report["files"].as_array().unwrap().iter();
    let findings = files.flat_map(|file| file["findings"].as_array().unwrap());
    let findings = findings.chain(report["findings"].as_array().unwrap());
    findings.map(|finding| finding["kind"].as_str().unwrap()).filter(|&kind| kind != "coverage").collect()
}

#[test]
fn weights_of_every_name_are_judged() {
    for name in [
        "model.fp16.safetensors",
        "model_best.safetensors",
        "f32/model.safetensors",
        "model.safetensors.bak",
        "weights",
    ] {
        let release = Release::of("nli");
        release.write_zeros(name);
        let report = release.ends(1, &[]);
        assert_eq!(role(&report, name).0, "judged", "{name}");
        assert!(kinds(&report).contains(&"files-differ"), "{name}: {report}");
        // The same weights twice are no fault.
        release.write(name, &fs::read(release.path("model.safetensors")).unwrap());
        release.ends(0, &["--strict"]);
    }
    for name in ["pytorch_model.fp16.bin", "model.pt", "pytorch.model.bin", "checkpoint.pth"] {
        let release = Release::of("nli");
        release.write(name, &fs::read(trained("nli/pytorch_model.bin")).unwrap());
        let report = release.ends(0, &["--strict"]);
        assert_eq!(role(&report, name), ("judged", "PyTorch: weights by reference"));
        release.write(name, b"PK\x03\x04");
        let report = release.ends(2, &[]);
        assert_eq!(role(&report, name).0, "not-judged");
    }
}

#[test]
fn shards_beside_a_single_file_are_judged() {
    let release = Release::of("nli");
    release.write_zeros("stale/model.safetensors");
    fs::copy(release.path("config.json"), release.path("stale/config.json")).unwrap();
    let (from, to) = (text(&release.path("stale/model.safetensors")), text(&release.path("pytorch/")));
    succeed(CONVERT, &["st2pt", &from, "-o", &format!("{to}/"), "--max-shard-size", "200KB"]);
    fs::remove_dir_all(release.path("stale")).unwrap();
    let shards = read_folder(&release.path("pytorch"));
    fs::remove_dir_all(release.path("pytorch")).unwrap();
    let (index, shards): (Vec<_>, Vec<_>) = shards
        .into_iter()
        .filter(|(name, _)| name != "config.json")
        .partition(|(name, _)| name.ends_with(".json"));
    assert!(index.len() == 1 && shards.len() > 1, "{index:?}");
    for (name, bytes) in &shards {
        release.write(name, bytes);
    }
    // Without their index nothing loads them.
    let report = release.ends(2, &[]);
    assert!(role(&report, &shards[0].0).1.contains("no index"), "{report}");
    release.write(&index[0].0, &index[0].1);
    let report = release.ends(1, &[]);
    assert_eq!(role(&report, &index[0].0).0, "judged");
    assert!(role(&report, &shards[0].0).1.contains("a shard of pytorch_model.bin.index.json"), "{report}");
    let (shard, golden) = (text(&release.path(&shards[0].0)), text(&release.golden));
    let alone = run(VERIFY, &["--model", &shard, "--golden", &golden]);
    assert!(alone.code == 2 && alone.stderr.contains("one of several shards"), "{}", alone.stderr);
    // A variant has its index under another name.
    fs::rename(release.path(&index[0].0), release.path("pytorch_model.bin.index.fp16.json")).unwrap();
    let report = release.ends(1, &[]);
    assert_eq!(role(&report, "pytorch_model.bin.index.fp16.json").0, "judged");
}

#[test]
fn a_shard_without_tensors_is_not_stale() {
    let release = Release::of("nli");
    release.write("tf_model-00001-of-00005.h5", &fs::read(fixture("reading/tf-empty-shard.h5")).unwrap());
    release.write("model-00001-of-00002.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    let report = release.ends(0, &["--strict"]);
    for name in ["tf_model-00001-of-00005.h5", "model-00001-of-00002.safetensors"] {
        assert_eq!(role(&report, name), ("not-of-the-model", "a shard without tensors"));
    }
}

#[test]
fn every_graph_is_judged() {
    let graph = fs::read(trained("nli/model.onnx")).unwrap();
    for name in ["model_quantized.onnx", "onnx/model.onnx", "onnx/model_fp16.onnx"] {
        let release = Release::of("nli");
        release.write(name, &graph);
        let report = release.ends(0, &["--strict"]);
        assert_eq!(role(&report, name), ("judged", "ONNX: weights by reference, graph by onnx"));
        release.write(name, &graph[..graph.len() / 2]);
        let report = release.ends(2, &[]);
        assert_eq!(role(&report, name).0, "not-judged");
    }
    let release = Release::of("nli");
    let (from, to) = (text(&release.path("model.safetensors")), text(&release.path("onnx/")));
    succeed(CONVERT, &["st2onnx", &from, "-o", &format!("{to}/"), "--external-data"]);
    let report = release.ends(0, &["--strict"]);
    assert_eq!(role(&report, "onnx/model.onnx.data"), ("judged", "the data of onnx/model.onnx"));
    fs::copy(release.path("onnx/model.onnx"), release.path("onnx/model_too.onnx")).unwrap();
    let report = release.ends(0, &["--strict"]);
    let of_both = "the data of onnx/model.onnx, onnx/model_too.onnx";
    assert_eq!(role(&report, "onnx/model.onnx.data"), ("judged", of_both));
}

#[test]
fn formats_that_nothing_reads_are_named() {
    const FILES: [&str; 5] = [
        "flax_model.msgpack",
        "rust_model.ot",
        "openvino/openvino_model.bin",
        "openvino/openvino_model.xml",
        "model.gguf",
    ];
    let release = Release::of("nli");
    for file in FILES {
        release.write(file, b"\x80\x01\xff\0");
    }
    let run = release.verify(&[]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    let last = run.stdout.lines().last().unwrap();
    assert!(last.starts_with("pass: ") && last.ends_with("not judged: 5 files"), "{last}");
    for format in ["text", "json", "junit", "markdown", "html"] {
        let run = release.verify(&["--format", format]);
        let name = |file: &str| file.replace('_', if format == "markdown" { "&#95;" } else { "_" });
        for file in FILES.map(name) {
            assert!(run.stdout.contains(&file), "{format}: {file}: {}", run.stdout);
        }
    }
    let report = release.ends(2, &["--strict"]);
    assert!(kinds(&report).iter().all(|kind| *kind == "file-not-judged"), "{report}");

    let policy = |unjudged: &str| {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in read_folder(&release.golden) {
            if !name.ends_with(".onnx") && !name.ends_with(".bin") && !name.ends_with(".h5") {
                fs::create_dir_all(folder.path().join("golden")).unwrap();
                fs::write(folder.path().join("golden").join(name), bytes).unwrap();
            }
        }
        for file in ["config.json", "model.safetensors"].iter().chain(&FILES) {
            let to = folder.path().join("release").join(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(release.path(file), to).unwrap();
        }
        let text = format!("models: [{{model: ./release, goldens: [./golden]}}]\n{unjudged}\n");
        fs::write(folder.path().join("verify.yaml"), text).unwrap();
        let policy = folder.path().join("verify.yaml");
        run_policy(&policy)
    };
    assert_eq!(policy("").code, 2);
    assert_eq!(policy("unjudged: fail").code, 2);
    assert_eq!(policy("unjudged: allow").code, 0);
    assert_eq!(policy("unjudged: [flax_model.msgpack, rust_model.ot, 'openvino/*', '*.gguf']").code, 0);
    let run = policy("unjudged: [flax_model.msgpack, 'openvino/*', '*.gguf']");
    assert!(run.code == 2 && run.stdout.contains("rust_model.ot"), "{}", run.stdout);
    let run = policy("unjudged: []");
    assert!(run.code == 2 && run.stderr.contains("the list is empty"), "{}", run.stderr);
}

fn run_policy(policy: &Path) -> Run {
    run(VERIFY, &["--policy", policy.to_str().unwrap()])
}

#[test]
fn what_is_not_of_the_model_is_no_fault() {
    let release = Release::of("nli");
    for file in [
        "optimizer.pt",
        "training_args.bin",
        "rng_state_0.pth",
        "README.md",
        ".gitattributes",
        "LICENSE",
        "runs/events.out.tfevents.1.host",
        ".git/objects/pack.bin",
    ] {
        release.write(file, b"text");
    }
    let report = release.ends(0, &["--strict"]);
    assert_eq!(role(&report, "optimizer.pt"), ("not-of-the-model", "of a training"));
    assert_eq!(role(&report, "LICENSE"), ("not-of-the-model", "text"));
    assert_eq!(role(&report, ".git"), ("not-of-the-model", "a folder of a tool"));
    assert_eq!(role(&report, "config.json").0, "configuration");
}

#[test]
fn another_model_in_the_folder_is_undecided() {
    let release = Release::of("nli");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(trained("nli").join(file), release.path(&format!("checkpoint-5/{file}"))).unwrap();
    }
    let report = release.ends(2, &[]);
    assert!(role(&report, "checkpoint-5/model.safetensors").1.contains("a model of its own"), "{report}");
}

#[test]
fn an_adapter_is_never_passed_over() {
    for file in ["adapter_model.safetensors", "adapter_model.bin"] {
        let release = Release::of("nli");
        release.write(file, b"an adapter");
        assert_eq!(kinds(&release.ends(2, &[])), ["adapter"]);
        release.write("adapter_config.json", br#"{"peft_type": "IA3", "base_model_name_or_path": "a/b"}"#);
        let report = release.ends(2, &[]);
        let message = report["findings"][0]["message"].as_str().unwrap();
        assert!(message.contains("IA3") && message.contains("\"a/b\""), "{message}");
        // In a folder of its own transformers does not look for it.
        for name in [file, "adapter_config.json"] {
            fs::rename(release.path(name), release.path(&format!("tuned/{name}"))).unwrap();
        }
        let report = release.ends(0, &[]);
        assert_eq!(role(&report, &format!("tuned/{file}")).0, "not-judged");
        release.ends(2, &["--strict"]);
    }
}

#[test]
fn a_file_that_is_named_is_judged_alone() {
    let release = Release::of("nli");
    release.write_zeros("model.fp16.safetensors");
    let (model, golden) = (text(&release.path("model.safetensors")), text(&release.golden));
    let report = succeed(VERIFY, &["--model", &model, "--golden", &golden, "--json", "--strict"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["inventory"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_no_file_is_named_at_once() {
    let start = Instant::now();
    let release = Release::of("nli");
    fs::create_dir(release.path("pytorch_model.bin")).unwrap();
    release.ends(0, &[]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        release.path("tf_model.h5"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let _socket = UnixListener::bind(release.path("model.onnx")).unwrap();
    symlink(".", release.path("circle")).unwrap();
    symlink("loop", release.path("loop")).unwrap();
    symlink(trained("nli/pytorch_model.bin").canonicalize().unwrap(), release.path("model.bin")).unwrap();
    let odd = release.folder.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe.safetensors"));
    fs::write(odd, b"none").unwrap();
    let report = release.ends(2, &[]);
    for (file, why) in [
        ("tf_model.h5", "a pipe"),
        ("model.onnx", "a socket"),
        ("circle", "a link to a folder"),
        ("loop", "cannot be followed"),
        ("model.bin", "a link out of the model's folder"),
        ("\u{fffd}\u{fffd}.safetensors", "its findings say why"),
    ] {
        let (role, detail) = role(&report, file);
        assert!(role == "not-judged" && detail.contains(why), "{file}: {role}, {detail}");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn many_files_are_counted() {
    let release = Release::of("nli");
    for at in 0..3_000 {
        release.write(&format!("logs/{at}.log"), b"");
        release.write(&format!("parts/{at}.part"), b"\0\x01");
    }
    let start = Instant::now();
    let run = release.verify(&[]);
    assert!(run.code == 0 && start.elapsed() < Duration::from_secs(20), "{}", run.stdout);
    assert!(run.stdout.lines().last().unwrap().ends_with("not judged: 3,000 files"), "{}", run.stdout);
    assert!(run.stdout.len() < 50_000, "{}", run.stdout.len());
    for at in 0..80 {
        release.write(&format!("{at}.safetensors"), b"");
    }
    let report = release.ends(2, &[]);
    assert!(report["inventory"].to_string().contains("more than 64 weight files"));
}

#[test]
fn the_repository_is_looked_at_and_nothing_more_is_downloaded() {
    let mut files = read_folder(&trained("nli"));
    files.retain(|name, _| ["config.json", "model.safetensors"].contains(&name.as_str()));
    for name in ["rust_model.ot", "model.fp16.safetensors", "onnx/model_quantized.onnx", "training_args.bin"]
    {
        files.insert(name.to_owned(), b"not wanted".to_vec());
    }
    let world = World::new(VERIFY, Repository { files: files.clone(), ..Repository::default() });
    let golden = text(&trained("nli").canonicalize().unwrap());
    let arguments = ["--model", ID, "--golden", &golden, "--json"];
    let run = world.run(&arguments);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    for name in ["model.fp16.safetensors", "onnx/model_quantized.onnx"] {
        assert_eq!(role(&report, name), ("not-judged", "not downloaded"));
    }
    assert_eq!(role(&report, "training_args.bin").0, "not-of-the-model");
    let requests = world.hub.requests();
    assert_eq!(requests.iter().filter(|request| request.line.contains("/api/")).count(), 1);
    let unwanted = ["fp16", "quantized", "rust_model", "training_args"];
    assert!(!requests.iter().any(|request| unwanted.iter().any(|name| request.line.contains(name))));
    assert_eq!(world.run(&[&arguments[..], &["--strict"]].concat()).code, 2);
    let offline = world.run_with(&[("HF_HUB_OFFLINE", "1")], &arguments);
    assert_eq!(offline.code, 0, "{}", offline.stderr);
    assert!(offline.stdout.contains("is not known"), "{}", offline.stdout);

    files.insert("adapter_config.json".to_owned(), b"{}".to_vec());
    let world = World::new(VERIFY, Repository { files, ..Repository::default() });
    assert_eq!(world.run(&arguments).code, 2);
}

#[test]
fn the_configuration_must_be_of_the_weights() {
    type Change = fn(&mut serde_json::Map<String, Value>);
    let cases: [(&str, &str, Change, i32, &str); 9] = [
        ("nli", "a good one", |_| {}, 0, ""),
        (
            "nli",
            "labels",
            |config| {
                let labels = config["id2label"].as_object().unwrap();
                let last = labels.len() - 1;
                let turned = labels.iter().map(|(id, name)| {
                    let id: usize = id.parse().unwrap();
                    ((last - id).to_string(), name.clone())
                });
                config["id2label"] = turned.collect();
            },
            1,
            "labels-differ",
        ),
        ("nli", "names", |config| config["id2label"]["0"] = json!("?"), 1, "labels-differ"),
        ("nli", "number", |config| config["id2label"]["3"] = json!("?"), 1, "config-unfit"),
        (
            "nli",
            "class",
            |config| config["architectures"] = json!(["DebertaForQuestionAnswering"]),
            1,
            "config-unfit",
        ),
        (
            "nli",
            "family",
            |config| config["architectures"] = json!(["DebertaV2ForSequenceClassification"]),
            1,
            "config-unfit",
        ),
        ("nli", "layers", |config| config["num_hidden_layers"] = json!(1), 1, "config-unfit"),
        (
            "questions",
            "answers",
            |config| drop(config.insert("id2label".to_owned(), json!({"0": "a", "1": "b", "2": "c"}))),
            1,
            "config-unfit",
        ),
        ("nli", "eps", |config| config["layer_norm_eps"] = json!(1.0001e-7), 2, "config-differs"),
    ];
    for (model, what, change, code, kind) in cases {
        let release = Release::of(model);
        release.configure(change);
        let report = release.ends(code, &[]);
        assert!(kind.is_empty() || kinds(&report).contains(&kind), "{what}: {:?}", kinds(&report));
    }
}
