//! Every command of the README and of docs/ is run as it is written, and shows what is written below it.
//!
//! Commands stand in blocks of `console`, after `$ `; what follows is what they print, where a line `…` stands for any lines.
//! Each block runs in a folder of its own, which has the files that the texts speak of.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use deberta_tests::hub_server::{HubServer, Repository};
use deberta_tests::{Run, fixture, run_command, succeed};

use crate::{CONVERT, VERIFY};

/// Programs by their names.
const PROGRAMS: [(&str, &str); 7] = [
    ("deberta-convert", CONVERT),
    ("deberta-verify", VERIFY),
    ("fill_mask", env!("CARGO_BIN_EXE_fill-mask-under-test")),
    ("classify_text", env!("CARGO_BIN_EXE_classify-text-under-test")),
    ("classify_tokens", env!("CARGO_BIN_EXE_classify-tokens-under-test")),
    ("answer_question", env!("CARGO_BIN_EXE_answer-question-under-test")),
    ("choose_answer", env!("CARGO_BIN_EXE_choose-answer-under-test")),
];

/// What is in commands that need a backend which this program was built without.
const OTHER_BACKENDS: [&str; 3] = ["--backend tch", "--backend onnxruntime", "export "];

/// How commands start that are not run here, and why.
const NOT_RUN: [(&str, &str); 11] = [
    ("cargo test ", "it runs this test"),
    ("cargo install ", "it builds the programs that are tested here, in release mode"),
    ("cargo bench ", "it takes minutes"),
    ("cargo fuzz ", "it needs a nightly compiler and runs until it is stopped"),
    ("tests/interop/", "it needs Python with PyTorch and TensorFlow, 7 GB"),
    (
        "cargo build ",
        "it needs libtorch or a library of ONNX Runtime, which tests/tch and tests/interop/onnx have",
    ),
    ("python3 -m venv ", "it downloads PyTorch"),
    ("pip download ", "it downloads ONNX Runtime"),
    ("pip install ", "it needs Python: tests/interop/python does that"),
    ("deberta-record ", "it needs Python with PyTorch: tests/interop/recorder does that"),
    ("deberta-convert init --config base ", "it writes half a gigabyte: tests/sizes/run.sh does that"),
];

/// Commands that end with another status than 0, by what is in them, and why.
const ENDS: [(&str, i32, &str); 3] = [
    ("deberta-convert diff a/tf_model.h5 b/model.safetensors", 1, "the two are made to differ"),
    (
        "--model microsoft/deberta-v3-xsmall",
        2,
        "the hub of this test has a small model of that name, without the words of the published values",
    ),
    ("--config /tmp/config.json", 1, "the configuration is made to be wrong"),
];

/// A command, and what the text says that it prints.
struct Shown {
    at: String,
    command: String,
    output: Vec<String>,
}

/// The blocks of commands of a text.
fn blocks(path: &Path) -> Vec<Vec<Shown>> {
    let text = fs::read_to_string(path).unwrap();
    let name = path.strip_prefix(root()).unwrap().display().to_string();
    let (mut blocks, mut fence): (Vec<Vec<Shown>>, Option<String>) = (Vec::new(), None);
    let mut indented = false;
    for (number, line) in text.lines().enumerate() {
        // What is indented as its fence is stands at the margin.
        let line = if fence.is_some() {
            line.strip_prefix("   ").filter(|_| indented).unwrap_or(line)
        } else {
            line
        };
        match (&fence, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                assert!(
                    !["sh", "bash", "shell", "shell-session"].contains(&language),
                    "{name}:{}: commands stand in blocks of console, after $",
                    number + 1
                );
                fence = Some(language.to_owned());
                indented = line.starts_with("   ");
                blocks.push(Vec::new());
            }
            (Some(_), Some(_)) => fence = None,
            (Some(language), None) if language == "console" => {
                let block = blocks.last_mut().unwrap();
                if let Some(command) = line.strip_prefix("$ ") {
                    let command = command.split_once("  #").map_or(command, |(command, _)| command);
                    let at = format!("{name}:{}", number + 1);
                    block.push(Shown { at, command: command.trim().to_owned(), output: Vec::new() });
                } else if let Some(shown) = block.last_mut() {
                    shown.output.push(line.trim_end().to_owned());
                }
            }
            _ => {}
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn data(case: &str) -> PathBuf {
    root().join("golden/data").join(case)
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// A folder with everything that the texts speak of.
fn world() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // What a clone has, for commands that run from there.
    for name in ["tests", "reference", "converters"] {
        symlink(root().join(name), at(name)).unwrap();
    }
    // A golden in a folder of its own, where a clone has its goldens.
    fs::create_dir(at("golden")).unwrap();
    for name in ["data", "trained"] {
        symlink(root().join("golden").join(name), at("golden").join(name)).unwrap();
    }
    let mlm = fixture("transformers/mlm");
    for (from, to) in [
        ("config.json", "config.json"),
        ("tf_model.h5", "model.h5"),
        ("pytorch_model.bin", "model.bin"),
        ("pytorch_model.bin", "suspicious.bin"),
        ("model.safetensors", "model.safetensors"),
    ] {
        fs::copy(mlm.join(from), at(to)).unwrap();
    }
    // A checkpoint as Microsoft publishes them.
    fs::create_dir(at("published")).unwrap();
    for name in ["config.json", "pytorch_model.bin"] {
        fs::copy(fixture("microsoft/emd").join(name), at("published").join(name)).unwrap();
    }
    copy(&mlm, &at("a"));
    copy(&fixture("transformers/mlm-new"), &at("b"));
    for name in ["FOLDER", "GOLDEN", "golden"] {
        copy(&data("masked-lm"), &at(name));
    }
    for name in ["release", "release-f16", "trusted"] {
        copy(&root().join("golden/trained/nli"), &at(name));
    }
    fs::copy(root().join("golden/trained/data/mnli/dev_matched.tsv"), at("dev_matched.tsv")).unwrap();
    fs::copy(data("masked-lm").join("plain.safetensors"), at("trace.safetensors")).unwrap();
    fs::copy(root().join("golden/trained/nli/texts.safetensors"), at("inputs.safetensors")).unwrap();
    for name in ["TRACE", "golden.safetensors", "candidate.safetensors"] {
        fs::copy(data("masked-lm").join("plain.safetensors"), at(name)).unwrap();
    }
    let policy = "models: [{model: ./release}, {model: ./FOLDER, goldens: [./GOLDEN]}]\n";
    fs::write(at("verify.yaml"), policy).unwrap();
    folder
}

/// What stands for the hub: small models under the names of published ones.
fn hub() -> HubServer {
    let repository = |folder: &Path, names: &[&str]| {
        let file = |name: &&str| ((*name).to_owned(), fs::read(folder.join(name)).unwrap());
        Repository { files: names.iter().map(file).collect(), ..Repository::default() }
    };
    let base = repository(&fixture("transformers/base"), &["config.json", "pytorch_model.bin"]);
    let of_version_3 =
        repository(&root().join("golden/data/v2-model"), &["config.json", "model.safetensors"]);
    HubServer::start([("microsoft/deberta-base", base), ("microsoft/deberta-v3-xsmall", of_version_3)])
}

/// Runs a command of the text in the folder, as a shell does.
fn shell(folder: &Path, hub: &HubServer, command: &str) -> Run {
    let bin = folder.join(".bin");
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        for (name, program) in PROGRAMS {
            symlink(program, bin.join(name)).unwrap();
        }
    }
    // What cargo builds and starts is there already.
    let command = ["cargo run --release --bin ", "cargo run --release --example "]
        .iter()
        .find_map(|start| command.strip_prefix(start))
        .map_or_else(|| command.to_owned(), |rest| rest.replacen(" -- ", " ", 1));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["--noprofile", "--norc", "-euo", "pipefail", "-c", &command.replace("/tmp/", "tmp/")]);
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("HF_") || name.starts_with("GITHUB_"))
    {
        shell.env_remove(name);
    }
    fs::create_dir_all(folder.join("tmp")).unwrap();
    shell.env("PATH", path).env("HF_HOME", folder.join(".hub")).env("HF_ENDPOINT", hub.endpoint());
    run_command(shell.current_dir(folder))
}

/// Whether lines are as the text says; `…` stands for any lines.
fn matches(expected: &[String], found: &[&str]) -> bool {
    match expected {
        [] => found.is_empty(),
        [first, rest @ ..] if first == "…" => (0..=found.len()).any(|skip| matches(rest, &found[skip..])),
        [first, rest @ ..] => found.first().is_some_and(|line| line == first) && matches(rest, &found[1..]),
    }
}

/// Runs all commands of a text.
fn run_text(path: &Path) {
    let hub = hub();
    let mut failures = Vec::new();
    for block in blocks(path) {
        let world = world();
        for shown in block {
            let Shown { at, command, output } = shown;
            let not_run = NOT_RUN.iter().find(|(start, _)| command.starts_with(start)).map(|(_, why)| *why);
            let other = OTHER_BACKENDS.iter().any(|part| command.contains(part));
            if let Some(why) =
                not_run.or(other.then_some("it is for a backend that is not built in by default"))
            {
                println!("not run: {at}: {command}: {why}");
                continue;
            }
            let run = shell(world.path(), &hub, &command);
            let expected =
                ENDS.iter().find(|(part, ..)| command.contains(part)).map_or(0, |&(_, code, _)| code);
            let printed = run.stdout.replace("tmp/", "/tmp/");
            let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
            if run.code != expected {
                failures.push(format!(
                    "{at}: {command}\nends with {}, expected {expected}:\n{}{}",
                    run.code, run.stdout, run.stderr
                ));
            } else if !output.is_empty() && !matches(&output, &lines) {
                failures.push(format!(
                    "{at}: {command}\nprints\n{printed}\nthe text says\n{}",
                    output.join("\n")
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn commands_of_the_readme() {
    run_text(&root().join("README.md"));
}

#[test]
fn commands_of_the_documentation() {
    let mut texts: Vec<PathBuf> = ["docs", "docs/formats"]
        .iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        // It trains a model by PyTorch: tests/interop/tutorial does that.
        .filter(|path| !path.ends_with("docs/tutorial.md"))
        .collect();
    texts.sort();
    assert!(texts.len() > 15, "{texts:?}");
    texts.iter().for_each(|text| run_text(text));
}

#[test]
fn every_subcommand_has_an_example_in_the_readme_or_the_documentation() {
    let mut text = fs::read_to_string(root().join("README.md")).unwrap();
    for name in ["gate.md", "tasks.md", "libtorch.md", "recipe.md", "golden.md"] {
        text.push_str(&fs::read_to_string(root().join("docs").join(name)).unwrap_or_default());
    }
    for (program, path) in &PROGRAMS[..2] {
        let help = succeed(path, &["--help"]);
        let (_, commands) = help.split_once("Commands:\n").unwrap();
        let names =
            commands.lines().map_while(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
        for name in names.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help") {
            // The twelve conversions are alike.
            let alike = name.len() > 4 && name.contains('2') || name.len() == 5;
            let shown = match name {
                "completions" | "man" => text.contains(&format!(" {name} ")), // of either program
                name => text.contains(&format!("{program} {name}")),
            };
            assert!(alike || shown, "{program} {name}");
        }
    }
}
