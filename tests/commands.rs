//! What `inspect`, `diff`, `digest`, `names` and `audit` print, and the help texts.

use std::fs;
use std::path::Path;

use deberta_tests::{fail, fixture, run, succeed};

use crate::{CONVERT, VERIFY};

/// Runs in `tests/fixtures`, so that paths are the same everywhere, and returns code and output.
fn in_fixtures(args: &[&str]) -> String {
    let output = std::process::Command::new(CONVERT).args(args).current_dir(fixture("")).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!("{}{}exit code {}\n", text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A copy of a fixture's safetensors with one byte of data changed at `offset` from the end.
fn changed_copy(case: &str, offset: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture(case).join("config.json"), folder.path().join("config.json")).unwrap();
    let mut bytes = fs::read(fixture(case).join("model.safetensors")).unwrap();
    let at = bytes.len() - offset;
    bytes[at] ^= 0x10;
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    folder
}

#[test]
fn inspect() {
    insta::assert_snapshot!("inspect_h5", in_fixtures(&["inspect", "transformers/tokcls/tf_model.h5"]));
    insta::assert_snapshot!(
        "inspect_old_names",
        in_fixtures(&["inspect", "transformers/old-names/pytorch_model.bin"])
    );
    insta::assert_snapshot!(
        "inspect_incomplete",
        in_fixtures(&["inspect", "transformers/qa", "--head", "mlm"])
    );
}

#[test]
fn inspect_without_a_configuration_lists_what_is_there() {
    let text = in_fixtures(&["inspect", "torch/nested.bin"]);
    assert!(
        text.contains("class       unknown") && text.contains("--config") && text.ends_with("exit code 0\n"),
        "{text}"
    );
}

#[test]
fn inspect_as_json() {
    let input = path(&fixture("transformers/mlm/pytorch_model.bin"));
    let json: serde_json::Value =
        serde_json::from_str(&succeed(CONVERT, &["inspect", &input, "--format", "json"])).unwrap();
    assert_eq!(json["schema"], "deberta-inspect-1");
    assert_eq!((&json["class"], &json["complete"]), (&"DebertaForMaskedLM".into(), &true.into()));
    assert_eq!(json["digest"].as_str().unwrap(), succeed(CONVERT, &["digest", &input]).trim());
    assert_eq!(json["copies"].as_array().unwrap().len(), 2);
    let sum: u64 = json["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tensor| {
            tensor["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|dimension| dimension.as_u64().unwrap())
                .product::<u64>()
        })
        .sum();
    assert_eq!(json["parameters"], sum);
}

#[test]
fn diff_of_the_same_model_in_two_formats() {
    insta::assert_snapshot!(
        "diff_same",
        in_fixtures(&["diff", "transformers/seqcls/tf_model.h5", "transformers/seqcls/pytorch_model.bin"])
    );
}

#[test]
fn diff_finds_one_changed_value() {
    let changed = changed_copy("transformers/mlm", 2);
    let run = run(CONVERT, &["diff", &path(&fixture("transformers/mlm/tf_model.h5")), &path(changed.path())]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.contains(": 1 values differ, max abs "), "{}", run.stdout);
    assert!(run.stdout.contains("not the same model: 1 tensors differ"), "{}", run.stdout);
}

#[test]
fn diff_recognises_a_transposed_square_matrix() {
    use deberta_converters::format::open_file;
    use deberta_converters::mapped::Mapped;
    let folder = tempfile::tempdir().unwrap();
    let source = fixture("transformers/mlm");
    let weights = source.join("model.safetensors");
    fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
    let (_, file) = open_file(Mapped::open(&weights).unwrap()).unwrap();
    let name = "deberta.encoder.layer.1.attention.self.pos_proj.weight";
    let index = file.tensors().iter().position(|info| info.name == name).unwrap();
    let side = file.tensors()[index].shape[0];
    let matrix = file.read(index).unwrap().into_owned();
    let mut bytes = fs::read(&weights).unwrap();
    let start = bytes.windows(matrix.len()).position(|window| window == matrix).unwrap();
    for row in 0..side {
        for column in 0..side {
            let (from, to) = ((row * side + column) * 4, start + (column * side + row) * 4);
            bytes[to..to + 4].copy_from_slice(&matrix[from..from + 4]);
        }
    }
    let spoilt = folder.path().join("model.safetensors");
    fs::write(&spoilt, bytes).unwrap();
    let run =
        run(CONVERT, &["diff", &path(&source.join("pytorch_model.bin")), &path(&spoilt), "--format", "json"]);
    assert_eq!(run.code, 1);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let differing = json["differing"].as_array().unwrap();
    assert_eq!(differing.len(), 1);
    assert_eq!((&differing[0]["tensor"], &differing[0]["transposed"]), (&name.into(), &true.into()));
    assert!(differing[0]["max_abs"].as_f64().unwrap() > 0.0);
}

#[test]
fn diff_compares_what_the_configuration_says_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture("transformers/seqcls");
    fs::copy(source.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let config = fs::read_to_string(source.join("config.json")).unwrap().replace("1e-07", "1e-12");
    fs::write(folder.path().join("config.json"), config).unwrap();
    let run = run(CONVERT, &["diff", &path(&source), &path(folder.path())]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("configuration: layer_norm_eps is 1e-7 in a, 1e-12 in b"), "{}", run.stdout);
}

#[test]
fn diff_of_different_classes() {
    let text = in_fixtures(&["diff", "transformers/seqcls", "transformers/tokcls"]);
    assert!(text.contains("only in a: pooler.dense.weight") && text.ends_with("exit code 1\n"), "{text}");
}

#[test]
fn digests_of_several_checkpoints_carry_their_names() {
    let (a, b) =
        (path(&fixture("transformers/qa/tf_model.h5")), path(&fixture("transformers/qa/model.safetensors")));
    let text = succeed(CONVERT, &["digest", &a, &b]);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split("  ").collect()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0][0], lines[1][0]);
    assert_eq!((lines[0][0].len(), lines[0][1], lines[1][1]), (64, a.as_str(), b.as_str()));
}

#[test]
fn the_documented_names_are_the_programs() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/names.md");
    let printed = succeed(CONVERT, &["names", "--format", "markdown"]);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &printed).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&page).unwrap(),
        printed,
        "run the tests with UPDATE_DOCS=1 to write docs/names.md"
    );
}

#[test]
fn the_documented_containers_are_those_of_the_table() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats/containers.md");
    let table = deberta_converters::containers::page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &table).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&page).unwrap(),
        table,
        "run the tests with UPDATE_DOCS=1 to write docs/formats/containers.md"
    );
}

#[test]
fn names_of_one_model() {
    let config = path(&fixture("transformers/embed-proj/config.json"));
    let text = succeed(CONVERT, &["names", "--config", &config, "--head", "mlm"]);
    assert!(text.contains("deberta.embeddings.embed_proj.weight") && text.contains("(transposed)"), "{text}");
}

#[test]
fn audit() {
    insta::assert_snapshot!("audit_clean", in_fixtures(&["audit", "torch/zip-f32.bin"]));
    insta::assert_snapshot!("audit_call", in_fixtures(&["audit", "torch/bad-call.bin"]));
    let error = fail(CONVERT, &["audit", &path(&fixture("transformers/qa/tf_model.h5"))]);
    assert!(error.contains("tf_model.h5"), "{error}");
}

#[test]
fn help() {
    insta::assert_snapshot!("help", in_fixtures(&["--help"]));
    insta::assert_snapshot!("help_convert", in_fixtures(&["convert", "--help"]));
}

#[test]
fn ledger() {
    let out = tempfile::tempdir().unwrap();
    let out = path(out.path());
    let text = in_fixtures(&["pt2tf", "microsoft/emd/pytorch_model.bin", "--mlm-head", "remap", "-o", &out]);
    insta::assert_snapshot!("ledger", text.replace(&out, "OUT"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let input = path(&fixture("transformers/mlm"));
    let script = format!("'{CONVERT}' inspect '{input}' | head -1");
    let run = run("sh", &["-c", &script]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}

#[test]
fn completions_and_manual_pages_know_every_subcommand() {
    for (program, name, some) in
        [(CONVERT, "deberta-convert", ["tf2pt", "audit"]), (VERIFY, "deberta-verify", ["record", "merge"])]
    {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = succeed(program, &["completions", shell]);
            assert!(script.contains(name) && some.iter().all(|some| script.contains(some)), "{shell}");
        }
        let folder = tempfile::tempdir().unwrap();
        let pages = folder.path().join("new/man1");
        let told = succeed(program, &["man", &path(&pages)]);
        let count = fs::read_dir(&pages).unwrap().count();
        assert_eq!(told, format!("{}: {count} pages\n", pages.display()));
        for some in some {
            let page = fs::read_to_string(pages.join(format!("{name}-{some}.1"))).unwrap();
            assert!(page.contains(".SH SYNOPSIS") && page.contains(some), "{page}");
        }
        assert!(fs::read_to_string(pages.join(format!("{name}.1"))).unwrap().contains(".SH SUBCOMMANDS"));
    }
}
