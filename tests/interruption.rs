//! A conversion that is killed, or that runs out of room, leaves the old file or none.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use deberta_converters::format::{FilePlan, safetensors};
use deberta_converters::tensor::{Dtype, TensorInfo};
use deberta_reference::{DebertaConfig, Head, params};
use deberta_tests::{run, snapshot, succeed};

use crate::CONVERT;

/// Large enough that a conversion takes a while: about 60 MB.
const CONFIG: &str = r#"{"model_type": "deberta", "vocab_size": 40000, "hidden_size": 256, "num_attention_heads": 4,
    "num_hidden_layers": 8, "intermediate_size": 1024, "relative_attention": true, "pos_att_type": "c2p|p2c",
    "position_biased_input": false}"#;

/// Writes a model of zeros and ones to `folder`.
fn make_model(folder: &Path) {
    let config = DebertaConfig::from_json(CONFIG).unwrap();
    let infos: Vec<TensorInfo> = params(&config, Head::Base)
        .into_iter()
        .filter(|param| param.required)
        .map(|param| TensorInfo { name: param.name, dtype: Dtype::F32, shape: param.shape })
        .collect();
    let plan = safetensors::plan(&infos, &[("format", "pt")]).unwrap();
    let mut file: Vec<u8> =
        (0..plan.file_len() / 4).flat_map(|index| ((index % 251) as f32).to_le_bytes()).collect();
    file.resize(usize::try_from(plan.file_len()).unwrap(), 0);
    for span in plan.seal(&[]).unwrap() {
        file[usize::try_from(span.offset).unwrap()..][..span.bytes.len()].copy_from_slice(&span.bytes);
    }
    fs::write(folder.join("model.safetensors"), file).unwrap();
    fs::write(folder.join("config.json"), CONFIG).unwrap();
}

fn convert_to(out: &Path, model: &Path, command: &str) -> Command {
    let mut process = Command::new(CONVERT);
    process.arg(command).arg(model).arg("--force").arg("-o").arg(format!("{}/", out.display()));
    process.stdout(Stdio::null()).stderr(Stdio::null());
    process
}

#[test]
fn killed_at_any_moment() {
    let model = tempfile::tempdir().unwrap();
    make_model(model.path());
    let expected = succeed(CONVERT, &["digest", model.path().to_str().unwrap()]);
    for (command, name) in [("st2pt", "pytorch_model.bin"), ("st2tf", "tf_model.h5")] {
        for old in [None, Some("the old file")] {
            let (mut killed, mut finished) = (0, 0);
            for step in 0..12 {
                let out = tempfile::tempdir().unwrap();
                let target = out.path().join(name);
                if let Some(old) = old {
                    fs::write(&target, old).unwrap();
                }
                let mut child = convert_to(out.path(), model.path(), command).spawn().unwrap();
                std::thread::sleep(Duration::from_millis(step * 60));
                child.kill().unwrap();
                let status = child.wait().unwrap();
                let there = fs::read(&target).ok();
                if status.success() {
                    finished += 1;
                    assert_eq!(succeed(CONVERT, &["digest", target.to_str().unwrap()]), expected);
                } else {
                    killed += 1;
                    let complete = there.as_deref().is_some_and(|there| there.len() > 1000);
                    if out.path().join(".deberta-unfinished").exists() {
                        // Killed while the files got their names, which the next run finishes.
                        assert!(complete || there.is_none() || there.as_deref() == old.map(str::as_bytes));
                        assert!(convert_to(out.path(), model.path(), command).status().unwrap().success());
                        assert_eq!(succeed(CONVERT, &["digest", target.to_str().unwrap()]), expected);
                        assert!(!out.path().join(".deberta-unfinished").exists());
                    } else if complete {
                        // Killed between giving the file its name and ending.
                        fs::write(out.path().join("config.json"), CONFIG).unwrap();
                        assert_eq!(succeed(CONVERT, &["digest", target.to_str().unwrap()]), expected);
                    } else {
                        assert_eq!(there.as_deref(), old.map(str::as_bytes));
                        let others: Vec<String> =
                            snapshot(out.path()).into_keys().filter(|other| other != name).collect();
                        assert!(others.iter().all(|other| other == "config.json"), "{others:?}");
                    }
                }
            }
            println!("{command}, old file {}: {killed} killed, {finished} finished", old.is_some());
            assert!(killed > 0, "no run was interrupted");
        }
    }
}

#[test]
fn no_room() {
    let model = tempfile::tempdir().unwrap();
    make_model(model.path());
    let out = tempfile::tempdir().unwrap();
    // A limit on the size of files stands for a full disk: writing fails in the middle.
    let script = format!(
        "trap '' XFSZ; ulimit -f 20000; exec '{CONVERT}' st2pt '{}' -o '{}/new/'",
        model.path().display(),
        out.path().display()
    );
    let limited = run("sh", &["-c", &script]);
    assert_eq!(limited.code, 1, "{}", limited.stderr);
    assert!(limited.stderr.contains("pytorch_model.bin: cannot write"), "{}", limited.stderr);
    assert!(snapshot(out.path()).is_empty());
}

#[test]
fn a_folder_that_cannot_be_written() {
    let model = tempfile::tempdir().unwrap();
    make_model(model.path());
    let file = model.path().join("config.json");
    for out in [format!("{}/below/", file.display()), "/proc/".to_owned()] {
        if out == "/proc/" && !Path::new("/proc/self").exists() {
            println!("skipped: there is no /proc here");
            continue;
        }
        let refused = run(CONVERT, &["st2pt", model.path().to_str().unwrap(), "-o", &out]);
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(
            refused.stderr.starts_with("error: ") && refused.stderr.contains("cannot create"),
            "{}",
            refused.stderr
        );
    }
}
