//! What several test targets share: running a program, finding fixtures, comparing folders.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub mod cases;
pub mod hub_server;
pub mod hub_world;

/// The end of a program: its exit code and what it printed.
#[derive(Debug)]
pub struct Run {
    /// The exit code, or -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `program` with `args` to its end.
pub fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Run {
    run_command(Command::new(program).args(args))
}

/// Runs a command to its end.
pub fn run_command(command: &mut Command) -> Run {
    // What is installed on the machine decides no test.
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        command.env("ORT_DYLIB_PATH", "");
    }
    let output = command.output().unwrap();
    let run = Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    run
}

/// Runs `program`, which must succeed, and returns its standard output.
pub fn succeed<S: AsRef<OsStr> + std::fmt::Debug>(program: &str, args: &[S]) -> String {
    let run = run(program, args);
    assert_eq!(run.code, 0, "{args:?} failed: {}", run.stderr);
    run.stdout
}

/// Runs `program`, which must fail with exit code 1 and one line on standard error, and returns that line.
pub fn fail<S: AsRef<OsStr> + std::fmt::Debug>(program: &str, args: &[S]) -> String {
    let run = run(program, args);
    assert_eq!(run.code, 1, "{args:?}: {}{}", run.stdout, run.stderr);
    let line = run.stderr.trim_end().to_owned();
    assert!(line.starts_with("error: ") && !line.contains('\n'), "{args:?}: {line}");
    line
}

/// A folder under `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The folders under `tests/fixtures/<group>`.
pub fn fixtures(group: &str) -> Vec<PathBuf> {
    folders(&fixture(group))
}

/// The folders of the shared fixtures beside the project; none, with a line saying so, in a clone that has none.
pub fn shared_fixtures() -> Vec<PathBuf> {
    shared("fixtures")
}

/// The same of DeBERTa version 2.
pub fn shared_fixtures_of_version_2() -> Vec<PathBuf> {
    shared("fixtures-v2")
}

fn shared(name: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name);
    if !root.is_dir() {
        println!("skipped: {} is not there, only the project's own fixtures are tested", root.display());
        return Vec::new();
    }
    folders(&root)
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "no fixtures in {}", root.display());
    folders
}

/// Changes the numbers of an f32 tensor of a safetensors file, which `change` is given with its shape.
pub fn change_tensor(path: &Path, name: &str, change: impl FnOnce(&[usize], &mut [f32])) {
    let mut bytes = fs::read(path).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let entry = &header[name];
    assert_eq!(entry["dtype"], "F32", "{name}");
    let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
    let shape: Vec<usize> = entry["shape"].as_array().unwrap().iter().map(number).collect();
    let [from, to] = [0, 1].map(|end| start + number(&entry["data_offsets"][end]));
    let tensor = &mut bytes[from..to];
    let mut values: Vec<f32> =
        tensor.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    change(&shape, &mut values);
    tensor
        .chunks_exact_mut(4)
        .zip(&values)
        .for_each(|(four, value)| four.copy_from_slice(&value.to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

/// Every file of a folder and its content.
pub fn snapshot(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap_or_default()))
        .collect()
}
