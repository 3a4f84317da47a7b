//! Tokenizers as people meet them: `tokenize`, and what a verification says of those of a release.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use deberta_tests::{fixture, run, succeed};
use serde_json::{Value, json};

use crate::VERIFY;

fn trained(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/trained").join(name)
}

/// Exit status, standard output and standard error of `tokenize` on an input.
fn tokenize(model: &Path, more: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut command = Command::new(VERIFY);
    command.args(["tokenize", "--model"]).arg(model).args(more);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that stops early closes the pipe.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn tokens_are_those_of_transformers() {
    for (model, fixture_of, class) in
        [("nli", "nli", None), ("v3-nli", "v3-nli", None), ("v3-nli", "v3-nli-slow", Some("--slow"))]
    {
        let recorded = fs::read_to_string(fixture("tokenizers").join(format!("{fixture_of}.jsonl"))).unwrap();
        let more: Vec<&str> = ["--jsonl"].into_iter().chain(class).collect();
        let (code, printed, said) = tokenize(&trained(model), &more, recorded.as_bytes());
        assert_eq!((code, said.as_str()), (0, ""));
        let (want, got) = (lines(&recorded), lines(&printed));
        assert_eq!(want.len(), got.len());
        for (want, got) in want.iter().zip(&got) {
            for key in ["ids", "tokens", "type_ids", "offsets"] {
                assert_eq!(want[key], got[key], "{fixture_of}: {want}");
            }
        }
        // What --with-text writes is a golden's file.
        let more: Vec<&str> = more.iter().copied().chain(["--with-text"]).collect();
        let (_, whole, _) = tokenize(&trained(model), &more, recorded.as_bytes());
        let (code, again, _) = tokenize(&trained(model), &more, whole.as_bytes());
        assert_eq!((code, again), (0, whole));
    }
}

#[test]
fn lines_are_texts_and_what_is_wrong_names_its_line() {
    let model = trained("nli");
    let (code, printed, _) = tokenize(&model, &[], b"The kite.\r\n\nThe kite.");
    let found = lines(&printed);
    assert_eq!((code, found.len()), (0, 3));
    assert_eq!((&found[0], &found[1]["ids"]), (&found[2], &json!([1, 2])));
    assert_eq!(tokenize(&model, &[], b"").1, "");

    let long = [b"a\n".to_vec(), vec![b'a'; 3 << 20]].concat();
    let cases: [(&[&str], &[u8], &str); 6] = [
        (&[], b"a\n\xff\n", "standard input, line 2: byte 0: not UTF-8"),
        (&["--slow"], &long, "standard input, line 2: more than 1048576 bytes"),
        (&["--jsonl"], b"{\"text\": \"a\"}\n{\"text\": 1}\n", "standard input, line 2: expected an object"),
        (&["--jsonl"], b"{\"text\": \"a\"}\nno\n", "standard input, line 2: expected an object"),
        (&["--jsonl"], b"{\"text\": \"a\"}\n\n", "standard input, line 2: expected an object"),
        (&["--jsonl"], b"{\"text\": \"a\"}\n{\"text\": \"\\ud800\"}\n", "standard input, line 2: expected"),
    ];
    for (more, input, message) in cases {
        let (code, printed, said) = tokenize(&model, more, input);
        assert_eq!((code, printed.lines().count()), (2, 1), "{said}");
        assert!(said.starts_with(&format!("error: {message}")), "{said}");
    }
    let nothing = run(VERIFY, &["tokenize", "--model", fixture("torch").to_str().unwrap()]);
    assert_eq!(nothing.code, 2);
    assert!(nothing.stderr.contains("no tokenizer"), "{}", nothing.stderr);
}

/// A release with weights and a tokenizer, and a golden with texts.
struct Release {
    folder: tempfile::TempDir,
}

impl Release {
    fn of(model: &str, texts: &str) -> Release {
        let folder = tempfile::tempdir().unwrap();
        for (name, files) in [
            (
                "release",
                &[
                    "config.json",
                    "model.safetensors",
                    "vocab.json",
                    "merges.txt",
                    "spm.model",
                    "tokenizer.json",
                    "tokenizer_config.json",
                    "added_tokens.json",
                    "special_tokens_map.json",
                ][..],
            ),
            ("golden", &["texts.safetensors"][..]),
        ] {
            fs::create_dir(folder.path().join(name)).unwrap();
            for file in files {
                let from = trained(model).join(file);
                if from.exists() {
                    fs::copy(from, folder.path().join(name).join(file)).unwrap();
                }
            }
        }
        let texts = fixture("tokenizers").join(format!("{texts}.jsonl"));
        fs::copy(texts, folder.path().join("golden/tokenizer.jsonl")).unwrap();
        Release { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value: Value = serde_json::from_str(&fs::read_to_string(self.file(name)).unwrap()).unwrap();
        change(&mut value);
        fs::write(self.file(name), value.to_string()).unwrap();
    }

    /// The exit status and the report.
    fn verify(&self) -> (i32, Value) {
        let path = |name: &str| self.file(name).to_str().unwrap().to_owned();
        let run = run(VERIFY, &["--model", &path("release"), "--golden", &path("golden"), "--json"]);
        (run.code, serde_json::from_str(&run.stdout).unwrap())
    }

    /// The messages of the kind.
    fn said(report: &Value, kind: &str) -> Vec<String> {
        let findings = report["findings"].as_array().unwrap().iter();
        let of_kind = findings.filter(|finding| finding["kind"] == kind);
        of_kind.map(|finding| finding["message"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn good_tokenizers_pass_and_have_one_digest() {
    for (model, texts, classes) in [
        ("nli", "nli", &["DebertaTokenizer"][..]),
        ("v3-nli", "v3-nli", &["DebertaV2Tokenizer", "DebertaV2TokenizerFast"]),
        ("v3-nli", "v3-nli-slow", &["DebertaV2Tokenizer", "DebertaV2TokenizerFast"]),
    ] {
        let (code, report) = Release::of(model, texts).verify();
        assert_eq!((code, &report["outcome"]), (0, &json!("pass")), "{texts}: {}", report["findings"]);
        let said = Release::said(&report, "tokenizer-not-judged");
        assert!(said.len() == 1 && said[0].contains("no tokenizer_digest: its 24 texts read "), "{said:?}");
        let tokenizers = report["tokenizers"].as_array().unwrap();
        let found: Vec<&str> =
            tokenizers.iter().map(|tokenizer| tokenizer["class"].as_str().unwrap()).collect();
        assert_eq!(found, classes);
        for tokenizer in tokenizers {
            assert_eq!(
                (&tokenizer["compared"], &tokenizer["differ"]),
                (&json!(24), &json!(0)),
                "{tokenizer}"
            );
            assert_eq!(tokenizer["digest"], tokenizers[0]["digest"]);
        }
        // Of the same release without slow files, and of the slow files alone.
        if classes.len() == 2 {
            for file in ["spm.model", "tokenizer.json"] {
                let release = Release::of(model, texts);
                fs::remove_file(release.file("release").join(file)).unwrap();
                let (code, report) = release.verify();
                assert_eq!(code, 0, "{texts} without {file}: {}", report["findings"]);
            }
        }
    }
}

#[test]
fn faults_fail_and_are_named_by_the_text_and_the_file() {
    type Fault = (&'static str, &'static str, fn(&Release));
    let faults: [Fault; 6] = [
        ("added-token", "tokenizer.json: ", |release| {
            fs::remove_file(release.file("release/spm.model")).unwrap();
            release.edit("release/tokenizer.json", |file| {
                let word = json!({"id": 541, "content": "the", "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": false});
                file["added_tokens"].as_array_mut().unwrap().push(word);
            });
        }),
        ("lower-case", "spm.model: ", |release| {
            release.edit("release/tokenizer_config.json", |config| config["do_lower_case"] = json!(true));
        }),
        ("normalizer", "tokenizer.json: ", |release| {
            let nfc = json!([{"type": "Strip", "strip_left": true, "strip_right": true}, {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]);
            release.edit("release/tokenizer.json", |file| file["normalizer"]["normalizers"] = nfc);
        }),
        ("vocabulary-order", "tokenizer.json: ", |release| {
            release.edit("release/tokenizer.json", |file| {
                file["model"]["vocab"].as_array_mut().unwrap().swap(302, 303);
            });
        }),
        ("post-processor", "tokenizer.json: ", |release| {
            release.edit("release/tokenizer.json", |file| {
                file["post_processor"]["single"].as_array_mut().unwrap().remove(2);
            });
        }),
        ("lower-case", "spm.model: ", |release| {
            fs::remove_file(release.file("release/tokenizer.json")).unwrap();
            release.edit("release/tokenizer_config.json", |config| config["do_lower_case"] = json!(true));
        }),
    ];
    for (cause, file, fault) in faults {
        let release = Release::of("v3-nli", "v3-nli");
        fault(&release);
        let (code, report) = release.verify();
        assert_eq!(code, 1, "{cause}: {}", report["findings"]);
        let said = Release::said(&report, "tokenizer-differs");
        assert!(
            said.len() == 1 && said[0].starts_with(file) && said[0].contains("token "),
            "{cause}: {said:?}"
        );
        let causes: Vec<&Value> =
            report["tokenizers"].as_array().unwrap().iter().map(|t| &t["cause"]).collect();
        assert!(causes.contains(&&json!(cause)), "{cause}: {causes:?} {said:?}");
    }
}

#[test]
fn slow_and_fast_files_are_compared_without_a_golden_of_texts() {
    let release = Release::of("v3-nli", "v3-nli");
    fs::remove_file(release.file("golden/tokenizer.jsonl")).unwrap();
    let (code, report) = release.verify();
    assert_eq!(code, 0, "{}", report["findings"]);
    assert_eq!(Release::said(&report, "tokenizer-not-judged").len(), 1);
    release.edit("release/tokenizer.json", |file| file["model"]["vocab"][302][1] = json!(-50.0));
    let (code, report) = release.verify();
    assert_eq!(code, 1);
    let said = Release::said(&report, "tokenizer-differs");
    assert!(
        said.len() == 1 && said[0].contains("are not the same tokenizer") && said[0].contains("score"),
        "{said:?}"
    );
}

#[test]
fn a_release_without_the_tokenizer_of_its_golden_is_undecided() {
    let release = Release::of("nli", "nli");
    for file in ["vocab.json", "merges.txt"] {
        fs::remove_file(release.file("release").join(file)).unwrap();
    }
    let (code, report) = release.verify();
    assert_eq!(code, 2, "{}", report["findings"]);
    assert!(Release::said(&report, "tokenizer-not-judged")[0].contains("24 texts"));
}

#[test]
fn configurations_must_fit_the_tokenizer() {
    let with = |file: &str, change: &dyn Fn(&mut Value)| {
        let release = Release::of("v3-nli", "v3-nli");
        release.edit(file, change);
        let (code, report) = release.verify();
        (code, Release::said(&report, "tokenizer-config"))
    };
    let (code, said) = with("release/config.json", &|config| config["pad_token_id"] = json!(2));
    assert!(code == 1 && said[0].contains("pad_token_id of config.json is 2"), "{code} {said:?}");
    let class = |config: &mut Value| config["tokenizer_class"] = json!("DebertaTokenizer");
    let (code, said) = with("release/tokenizer_config.json", &class);
    assert!(code == 1 && said[0].contains("of the other version"), "{code} {said:?}");
    let class = |config: &mut Value| config["tokenizer_class"] = json!("BertTokenizer");
    let (code, said) = with("release/tokenizer_config.json", &class);
    assert!(code == 2 && said[0].contains("was not judged"), "{code} {said:?}");
}

#[test]
fn dropout_is_ignored_said_and_fails() {
    let release = Release::of("nli", "nli");
    let folder = release.file("release");
    // The tokenizer.json of the good files.
    let text = deberta_reference::Tokenizer::fast_from_vocabulary(&folder).unwrap().to_json().unwrap();
    fs::write(folder.join("tokenizer.json"), text).unwrap();
    let (code, report) = release.verify();
    assert_eq!(code, 0, "{}", report["findings"]);
    release.edit("release/tokenizer.json", |file| file["model"]["dropout"] = json!(0.5));
    let (code, report) = release.verify();
    assert_eq!((code, &report["tokenizers"][1]["cause"]), (1, &json!("dropout")));
    let text = b"Ada owns the black boat, and Simon likes it.\n".repeat(20);
    let (code, printed, said) = tokenize(&folder, &[], &text);
    assert!(code == 0 && said.starts_with("warning: tokenizer.json asks for tokens that differ"), "{said}");
    let found = lines(&printed);
    assert!(found.iter().all(|line| *line == found[0]));
    let data = trained("data").join("mnli/dev_matched.tsv");
    let (model, data) = (folder.to_str().unwrap(), data.to_str().unwrap());
    let task = succeed(
        VERIFY,
        &["task", "mnli", "--model", model, "--data", data, "--limit", "4", "--format", "json"],
    );
    assert!(task.contains("asks for tokens that differ"), "{task}");
}
