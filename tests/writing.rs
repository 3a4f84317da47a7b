//! Outputs of several files appear together or not at all; devices, pipes and links stay what they are.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use deberta_tests::{fail, run, run_command, snapshot, succeed};

use crate::{CONVERT, VERIFY};

/// A model with a classifier, in every format.
fn nli() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/trained/nli")
}

fn convert(to: &str, out: &Path, more: &[&str]) -> Vec<String> {
    let model = nli().join("model.safetensors");
    let base = ["convert", model.to_str().unwrap(), "--to", to, "-o", out.to_str().unwrap()];
    base.iter().chain(more).map(|&argument| argument.to_owned()).collect()
}

/// The same model with other numbers, of the same shapes.
fn other_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = nli().join("config.json");
    succeed(
        CONVERT,
        &[
            "init",
            "--config",
            config.to_str().unwrap(),
            "--head",
            "sequence-classification",
            "-o",
            folder.path().to_str().unwrap(),
        ],
    );
    folder
}

#[test]
fn a_late_failure_of_several_formats_leaves_what_was_there() {
    let out = tempfile::tempdir().unwrap();
    for name in ["pytorch_model.bin", "tf_model.h5", "config.json"] {
        fs::write(out.path().join(name), "old").unwrap();
    }
    let before = snapshot(out.path());
    // TensorFlow has no bf16, which is found when PyTorch's file is written.
    let told = fail(CONVERT, &convert("pytorch,tensorflow", out.path(), &["--force", "--dtype", "bf16"]));
    assert!(told.contains("bfloat16"), "{told}");
    assert_eq!(snapshot(out.path()), before);
}

#[test]
fn what_is_no_file_is_in_the_way_of_weights() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    fs::create_dir_all(out.join("pytorch_model.bin")).unwrap();
    fs::write(out.join("config.json"), "old").unwrap();
    let told = fail(CONVERT, &convert("pytorch", &out, &["--force"]));
    assert!(told.contains("pytorch_model.bin: a folder is in the way"), "{told}");
    assert_eq!(fs::read(out.join("config.json")).unwrap(), b"old");

    let [real, link] = ["real.bin", "link.bin"].map(|name| root.path().join(name));
    fs::write(&real, "old").unwrap();
    symlink(&real, &link).unwrap();
    let told = fail(CONVERT, &convert("pytorch", &link, &["--force"]));
    assert!(told.contains("link.bin: a link is in the way"), "{told}");
    assert_eq!(fs::read(&real).unwrap(), b"old");
    for device in ["/dev/null", "/dev/stdout"] {
        let told = fail(CONVERT, &convert("pytorch", Path::new(device), &["--force"]));
        assert!(told.contains("is in the way"), "{told}");
    }
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn shards_come_in_place_of_the_single_file() {
    let out = tempfile::tempdir().unwrap();
    succeed(CONVERT, &convert("safetensors", out.path(), &[]));
    for size in ["100KB", "200KB"] {
        let told =
            succeed(CONVERT, &convert("safetensors", out.path(), &["--force", "--max-shard-size", size]));
        assert!(told.contains("goes: the new shards are in its place"), "{told}");
        let files = snapshot(out.path());
        let shards = files.keys().filter(|name| name.contains("-of-")).count();
        assert!(!files.contains_key("model.safetensors") && shards > 1, "{:?}", files.keys());
        assert!(
            files
                .keys()
                .filter(|name| name.contains("-of-"))
                .all(|name| name.contains(&format!("{shards:05}.")))
        );
    }
    succeed(CONVERT, &["diff", nli().to_str().unwrap(), out.path().to_str().unwrap()]);
}

#[test]
fn of_two_runs_at_once_one_wins_whole() {
    let other = other_model();
    let models = [nli().join("model.safetensors"), other.path().join("model.safetensors")];
    let digests = models.each_ref().map(|model| succeed(CONVERT, &["digest", model.to_str().unwrap()]));
    for round in 0..10 {
        let out = tempfile::tempdir().unwrap();
        let shards = ["--to", "safetensors", "--max-shard-size", "100KB"];
        let started = models.each_ref().map(|model| {
            let mut process = Command::new(CONVERT);
            process
                .arg("convert")
                .arg(model)
                .args(shards)
                .arg("-o")
                .arg(format!("{}/", out.path().display()));
            process.args(if round % 2 == 0 { &["--force"][..] } else { &[] });
            process.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        });
        let ended = started.map(|child| child.wait_with_output().unwrap());
        let won: Vec<bool> = ended.iter().map(|output| output.status.success()).collect();
        let digest = succeed(CONVERT, &["digest", out.path().to_str().unwrap()]);
        assert!(digests.contains(&digest), "{won:?}");
        for (output, own) in ended.iter().zip(&digests) {
            let told = String::from_utf8_lossy(&output.stderr);
            let is_said = told.contains("another run wrote it") || told.contains("already exists");
            // With --force the second may have begun when the first was done.
            assert!(
                if output.status.success() { own == &digest || round % 2 == 0 } else { is_said },
                "{told}"
            );
        }
        assert!(won.contains(&true));
        assert!(snapshot(out.path()).keys().all(|name| !name.starts_with('.')));
    }
}

#[test]
fn an_account_that_cannot_be_printed_is_of_a_run_that_changed_nothing() {
    if !Path::new("/dev/full").exists() {
        println!("skipped: there is no /dev/full here");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut process = Command::new(CONVERT);
    process.args(convert("pytorch", &out.path().join("new"), &[])).stdout(full).stderr(Stdio::piped());
    let output = process.spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot print"));
    assert!(snapshot(out.path()).is_empty());
}

#[test]
fn reports_go_through_devices_pipes_and_links() {
    let folder = tempfile::tempdir().unwrap();
    let traces = nli().join("texts.safetensors");
    let traces = traces.to_str().unwrap();
    let report = |to: &Path| -> Vec<String> {
        let compare = ["compare", traces, traces, "--format", "json", "--report", to.to_str().unwrap()];
        compare.map(str::to_owned).to_vec()
    };
    // All but how long it took.
    let untimed = |text: &str| -> String {
        text.lines().filter(|line| !line.contains("\"seconds\"")).map(|line| format!("{line}\n")).collect()
    };
    let read = |path: &Path| untimed(&fs::read_to_string(path).unwrap());
    let plain = folder.path().join("plain.json");
    succeed(VERIFY, &report(&plain));
    let wanted = read(&plain);

    // Printed, and written to what is printed to: a pipe, then a file.
    assert!(untimed(&succeed(VERIFY, &report(Path::new("/dev/stdout")))) == wanted.repeat(2));
    let printed = folder.path().join("printed");
    let file = fs::File::create(&printed).unwrap();
    let status = Command::new(VERIFY).args(report(Path::new("/dev/stdout"))).stdout(file).status().unwrap();
    assert!(status.success());
    assert!(read(&printed) == wanted.repeat(2));

    let link = folder.path().join("link.json");
    fs::write(&plain, "old").unwrap();
    symlink("plain.json", &link).unwrap();
    succeed(VERIFY, &report(&link));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(read(&plain) == wanted);

    let pipe = folder.path().join("pipe.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    succeed(VERIFY, &report(&pipe));
    assert!(untimed(&reader.join().unwrap()) == wanted);
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
}

#[test]
fn external_data_has_a_name_that_a_graph_can_hold() {
    let out = tempfile::tempdir().unwrap();
    for name in [&b"back\\slash.onnx"[..], b"not utf-8 \xff.onnx"] {
        let path = out.path().join(std::ffi::OsStr::from_bytes(name));
        let mut process = Command::new(CONVERT);
        process.arg("convert").arg(nli().join("model.safetensors")).args([
            "--to",
            "onnx",
            "--external-data",
            "-o",
        ]);
        let refused = run_command(process.arg(&path));
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("the graph names this file"), "{}", refused.stderr);
    }
    assert!(snapshot(out.path()).is_empty());
    // As long as a name can be, with room for that of the data.
    let long = out.path().join(format!("{}.onnx", "x".repeat(245)));
    for more in [&["--external-data"][..], &["--external-data", "--force"]] {
        succeed(CONVERT, &convert("onnx", &long, more));
    }
    assert_eq!(snapshot(out.path()).len(), 2);
}

#[test]
fn a_run_that_was_killed_is_finished_by_the_next() {
    // As a run leaves them that dies when the old files are gone.
    let out = tempfile::tempdir().unwrap();
    succeed(CONVERT, &convert("safetensors", out.path(), &[]));
    let whole = snapshot(out.path());
    let hidden = out.path().join(".deberta-unfinished");
    fs::create_dir(&hidden).unwrap();
    for (number, name) in ["config.json", "model.safetensors"].iter().enumerate() {
        fs::rename(out.path().join(name), hidden.join(format!("new-{number}"))).unwrap();
        fs::write(hidden.join(format!("old-{number}")), "old").unwrap();
    }
    fs::write(hidden.join("journal"), "rconfig.json\0rmodel.safetensors\0").unwrap();
    fs::write(out.path().join(".deberta-1-0.partial"), "half").unwrap();
    // Which has nothing to do, since it is done then.
    let told = fail(CONVERT, &convert("safetensors", out.path(), &[]));
    assert!(told.contains("already exists"), "{told}");
    assert_eq!(snapshot(out.path()), whole);
    assert_eq!(run(CONVERT, &["digest", out.path().to_str().unwrap()]).code, 0);
}
