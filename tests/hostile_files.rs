//! Small files that wait, have no end, lead elsewhere, or write to the terminal: each is an error, soon, that shows nothing of
//! what it should not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use deberta_tests::{Run, run, run_command};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{CONVERT, VERIFY};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/trained/nli");
const SECRET: &str = "{\"user\": \"hunter2-is-the-secret\"}";

/// A folder with the trained model.
fn model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "vocab.json", "merges.txt", "case.yaml"] {
        fs::copy(Path::new(MODEL).join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Runs a program, which must fail soon and say why in a line without anything that a terminal or a runner obeys.
fn refused(program: &str, arguments: &[&str]) -> Run {
    let start = Instant::now();
    let run = run(program, arguments);
    assert!(start.elapsed() < Duration::from_secs(20), "{arguments:?} took {:?}", start.elapsed());
    assert!(run.code == 1 || run.code == 2, "{arguments:?}: {} {}{}", run.code, run.stdout, run.stderr);
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.contains("hunter2"), "{arguments:?}: {text}");
        assert!(!text.contains(['\x1b', '\u{202e}']), "{arguments:?}: {text}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("::")), "{arguments:?}: {text}");
    }
    run
}

#[test]
fn what_is_no_regular_file_in_the_folder_is_refused_at_once() {
    let secret = tempfile::tempdir().unwrap();
    let secret = secret.path().join("secret");
    fs::write(&secret, SECRET).unwrap();
    for name in [
        "config.json",
        "vocab.json",
        "merges.txt",
        "case.yaml",
        "model.safetensors.index.json",
        "tokenizer.json",
    ] {
        for kind in ["pipe", "device", "elsewhere"] {
            let folder = model();
            let path = folder.path().join(name);
            let _ = fs::remove_file(&path);
            if name.ends_with("index.json") {
                fs::remove_file(folder.path().join("model.safetensors")).unwrap();
            }
            match kind {
                "pipe" => pipe(&path),
                "device" => symlink("/dev/zero", &path).unwrap(),
                _ => symlink(&secret, &path).unwrap(),
            }
            let model = folder.path().to_str().unwrap();
            let run = match name {
                "config.json" | "model.safetensors.index.json" => {
                    refused(VERIFY, &["--model", model, "--golden", MODEL]);
                    refused(CONVERT, &["inspect", model])
                }
                "case.yaml" => refused(VERIFY, &["--model", MODEL, "--golden", model]),
                // A pipe of this name is no tokenizer.json.
                "tokenizer.json" if kind != "elsewhere" => continue,
                _ => refused(VERIFY, &["tokenize", "--model", model]),
            };
            let said = run.stdout + &run.stderr;
            assert!(
                said.contains("not a regular file") || said.contains("leads out"),
                "{name}, {kind}: {said}"
            );
        }
    }
    let policy = tempfile::tempdir().unwrap();
    let path = policy.path().join("verify.yaml");
    pipe(&path);
    let run = refused(VERIFY, &["--policy", path.to_str().unwrap()]);
    assert!(run.stderr.contains("not a regular file"), "{}", run.stderr);
}

#[test]
fn names_from_files_reach_neither_terminal_nor_runner() {
    const HOSTILE: &str = "a\u{1b}[2J\n::add-mask::b\n ::error::c\u{202e}d";
    let folder = model();
    let at = |name: &str| folder.path().join(name);
    let whole = folder.path().to_str().unwrap();

    fs::rename(at("model.safetensors"), at("kept")).unwrap();
    let index = at("model.safetensors.index.json");
    fs::write(&index, json!({ "weight_map": { HOSTILE: HOSTILE } }).to_string()).unwrap();
    refused(CONVERT, &["inspect", whole]);
    fs::write(&index, json!({ HOSTILE: 1, "weight_map": HOSTILE }).to_string()).unwrap();
    refused(CONVERT, &["inspect", whole]);
    fs::remove_file(&index).unwrap();

    let header = json!({ HOSTILE: { "dtype": HOSTILE, "shape": [1], "data_offsets": [0, 4] } }).to_string();
    let header = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
    fs::write(at("model.safetensors"), &header).unwrap();
    refused(CONVERT, &["inspect", whole]);
    let said = json!({ "__metadata__": { HOSTILE: HOSTILE },
        HOSTILE: { "dtype": "F32", "shape": [1], "data_offsets": [0, 4] } });
    let header = said.to_string();
    fs::write(
        at("model.safetensors"),
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat(),
    )
    .unwrap();
    refused(CONVERT, &["diff", whole, MODEL]);
    refused(VERIFY, &["--model", whole, "--golden", MODEL]);
    fs::rename(at("kept"), at("model.safetensors")).unwrap();

    let mut config: Value = serde_json::from_str(&fs::read_to_string(at("config.json")).unwrap()).unwrap();
    for (key, value) in
        [("pos_att_type", json!([HOSTILE])), ("hidden_act", json!(HOSTILE)), (HOSTILE, json!(1))]
    {
        config[key] = value;
        fs::write(at("config.json"), config.to_string()).unwrap();
        let run = run(CONVERT, &["inspect", whole]);
        assert!(!(run.stdout.clone() + &run.stderr).contains(['\x1b', '\u{202e}']), "{key}: {run:?}");
    }
    for text in [format!("name: {HOSTILE:?}\n"), format!("{HOSTILE:?}: 1\n"), format!("model: {HOSTILE:?}\n")]
    {
        fs::write(at("case.yaml"), &text).unwrap();
        refused(VERIFY, &["--model", MODEL, "--golden", whole]);
        fs::write(at("verify.yaml"), &text).unwrap();
        refused(VERIFY, &["--policy", at("verify.yaml").to_str().unwrap()]);
    }
    fs::write(at("vocab.json"), format!("{{{:?}: -1}}", "x".repeat(10_000_000))).unwrap();
    let run = refused(VERIFY, &["tokenize", "--model", whole]);
    assert!(run.stderr.len() < 10_000, "{} bytes are said", run.stderr.len());
}

/// What `tokenize` says of a tokenizer.json, changed.
fn tokenized(change: impl FnOnce(&mut Value)) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let special = |id: u32, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true })
    };
    let mut tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[CLS]"), special(2, "[SEP]"), special(3, "[UNK]"), special(4, "[MASK]")],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": { "type": "BPE", "dropout": null, "unk_token": "[UNK]", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": { "[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "[MASK]": 4, "a": 5, "b": 6, "ab": 7 },
            "merges": ["a b"] },
    });
    change(&mut tokenizer);
    fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::copy(Path::new(MODEL).join("config.json"), folder.path().join("config.json")).unwrap();
    let texts = folder.path().join("texts");
    fs::write(&texts, "abab\nab ab\n").unwrap();
    let mut command = Command::new(VERIFY);
    command.args(["tokenize", "--model", folder.path().to_str().unwrap()]);
    command.stdin(fs::File::open(&texts).unwrap());
    let start = Instant::now();
    let run = run_command(&mut command);
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    run
}

#[test]
fn components_of_tokenizers_do_no_harm() {
    assert_eq!(tokenized(|_| ()).code, 0);
    let replace =
        |content: &str| json!({ "type": "Replace", "pattern": { "String": "a" }, "content": content });
    let mut cases: Vec<(&str, Value)> = vec![
        ("normalizer", json!({ "type": "Replace", "pattern": { "Regex": "" }, "content": "b" })),
        ("normalizer", json!({ "type": "Replace", "pattern": { "Regex": "x*" }, "content": "b" })),
        ("normalizer", json!({ "type": "Precompiled" })),
        ("normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": 5 })),
        ("normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" })),
        ("normalizer", json!({ "type": "Sequence", "normalizers": vec![replace("aa"); 25] })),
        ("normalizer", replace(&"b".repeat(5000))),
        ("pre_tokenizer", json!({ "type": "FixedLength", "length": 0 })),
        (
            "pre_tokenizer",
            json!({ "type": "Split", "pattern": { "String": "" }, "behavior": "Isolated", "invert": false }),
        ),
        ("post_processor", json!({ "type": "Unheard" })),
    ];
    cases.push((
        "added_tokens",
        json!([{ "id": 0, "content": "a".repeat(5_000_000), "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": true }]),
    ));
    let many = (0..100_000).map(|id| {
        json!({ "id": 10 + id, "content": format!("<{id}>"), "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true })
    });
    cases.push(("added_tokens", many.collect()));
    for (key, value) in cases {
        let said: String = value.to_string().chars().take(120).collect();
        let run = tokenized(|tokenizer| tokenizer[key] = value);
        // One finds nothing and is taken.
        assert!(run.code == 2 || said.contains("x*"), "{key} {said}: {run:?}");
    }
    for (key, value) in
        [("continuing_subword_prefix", json!("##")), ("continuing_subword_prefix", json!("é"))]
    {
        let run = tokenized(|tokenizer| tokenizer["model"][key] = value);
        assert_eq!(run.code, 2, "{run:?}");
    }
}

#[test]
fn no_variable_of_the_environment_ends_the_program() {
    let home = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("all_proxy", "socks4a://127.0.0.1:1"),
        ("http_proxy", "socks://127.0.0.1:1"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "18446744073709551615"),
    ] {
        let mut command = Command::new(CONVERT);
        command.args(["inspect", "someone/model"]).env_remove("no_proxy").env_remove("NO_PROXY");
        for proxy in ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command.env("HF_HOME", home.path()).env("HF_ENDPOINT", "http://127.0.0.1:1").env(name, value);
        let run = run_command(&mut command);
        assert_eq!(run.code, 1, "{name}: {}", run.stderr);
        if name.ends_with("roxy") || name.ends_with("PROXY") {
            assert!(run.stderr.contains(name), "{name}: {}", run.stderr);
        }
    }
}
