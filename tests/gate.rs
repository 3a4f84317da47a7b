//! `deberta-verify` as a gate: exit codes, reports, policies and the action, as people and CI systems run them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use deberta_tests::{Run, run};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

const VERIFY: &str = env!("CARGO_BIN_EXE_deberta-verify-under-test");

fn data(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(case)
}

/// A copy of a case with its model.
fn copy(case: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(data(case)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Adds 0.01 to one number of a tensor.
fn change(weights: &Path, tensor: &str) {
    let bytes = fs::read(weights).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut changed = HashMap::new();
    for (name, view) in file.tensors() {
        let mut data = view.data().to_vec();
        if name == tensor {
            let number = f32::from_le_bytes(data[40..44].try_into().unwrap()) + 0.01;
            data[40..44].copy_from_slice(&number.to_le_bytes());
        }
        changed.insert(name, (view.dtype(), view.shape().to_vec(), data));
    }
    assert!(changed.contains_key(tensor), "no {tensor}");
    let views = changed
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let output = safetensors::serialize(views, metadata.metadata().clone()).unwrap();
    fs::write(weights, output).unwrap();
}

const CHANGED: &str = "encoder.layer.1.attention.self.in_proj.weight";

/// Runs the program in a folder, with nothing of GitHub in the environment but `environment`.
fn verify(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut command = Command::new(VERIFY);
    for name in ["GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"] {
        command.env_remove(name);
    }
    let output = command.args(args).current_dir(folder).envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let run = Run {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    run
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_good_model_passes_in_every_format_of_report() {
    let folder = tempfile::tempdir().unwrap();
    copy("sequence-classification", &folder.path().join("model"));
    let reports = ["r.txt", "r.json", "r.xml", "r.md", "r.html"];
    let mut args = vec!["--model", "model"];
    reports.iter().for_each(|report| args.extend(["--report", report]));
    let run = verify(folder.path(), &args, &[]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.lines().last().unwrap().starts_with("pass: 1 file, "), "{}", run.stdout);
    let report = json(&folder.path().join("r.json"));
    assert_eq!((&report["schema"], &report["outcome"]), (&"deberta-verify-report-1".into(), &"pass".into()));
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(text("r.txt"), run.stdout);
    let xml = text("r.xml");
    let xml = roxmltree::Document::parse(&xml).unwrap();
    assert_eq!(xml.root_element().attribute("failures"), Some("0"));
    let points: usize = report["files"][0]["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["points"].as_array().unwrap().len())
        .sum();
    assert!(points > 0);
    assert_eq!(xml.root_element().attribute("tests"), Some(points.to_string().as_str()));
    assert!(text("r.md").contains("deberta-verify: pass") && text("r.html").contains("<svg"));
    // Printed, they are the same.
    for (format, file) in [("json", "r.json"), ("junit", "r.xml"), ("markdown", "r.md"), ("html", "r.html")] {
        let run = verify(folder.path(), &["--model", "model", "--format", format], &[]);
        assert_eq!(run.code, 0);
        let start: String = text(file).chars().take(60).collect();
        assert!(run.stdout.starts_with(&start), "{format}");
        if format == "json" {
            serde_json::from_str::<Value>(&run.stdout).unwrap();
        }
    }
}

#[test]
fn a_changed_weight_is_a_divergence_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    copy("model", &folder.path().join("model"));
    change(&folder.path().join("model/model.safetensors"), CHANGED);
    let run = verify(folder.path(), &["--model", "model", "--report", "r.json"], &[]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.starts_with("FIRST DIVERGENCE in model.safetensors, "), "{}", run.stdout);
    let point = run.stdout.lines().nth(1).unwrap();
    assert!(point.contains(" activations.encoder.layer.1.attention.self.in_proj ["), "{point}");
    assert!(!run.stdout.contains('\x1b'), "colours in a pipe");
    assert_eq!(json(&folder.path().join("r.json"))["outcome"], "divergence");
}

#[test]
fn what_cannot_be_judged_is_reported_too() {
    let folder = tempfile::tempdir().unwrap();
    copy("model", folder.path());
    for entry in fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if name != "model.safetensors" && name != "config.json" {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let run = verify(folder.path(), &["--model", ".", "--format", "junit", "--report", "r.json"], &[]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("error: ") && run.stderr.contains("no golden for this model"),
        "{}",
        run.stderr
    );
    assert!(run.stdout.contains("errors=\"1\"") && run.stdout.contains("no golden for this model"));
    assert_eq!(json(&folder.path().join("r.json"))["outcome"], "undecided");
}

#[test]
fn reports_that_cannot_be_written_are_refused_before_anything_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    copy("model", &folder.path().join("model"));
    for (args, message) in [
        (&["--report", "r.png"][..], "r.png: which format?"),
        (&["--report", "absent/r.json"], "absent: cannot write to"),
        (&["--report", "r.json", "--report", "./r.json"], "two reports in one file"),
        (&["--report", "model", "--format", "json"], "a folder: --report names a file"),
    ] {
        let run = verify(folder.path(), &[&["--model", "model"], args].concat(), &[]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}");
        assert!(run.stderr.contains(message), "{args:?}: {}", run.stderr);
    }
    let args = ["--model", "model", "--report", "out", "--format", "json"];
    assert_eq!(verify(folder.path(), &args, &[]).code, 0);
    assert_eq!(json(&folder.path().join("out"))["outcome"], "pass");
}

#[test]
fn github_is_told() {
    let folder = tempfile::tempdir().unwrap();
    copy("model", &folder.path().join("release"));
    change(&folder.path().join("release/model.safetensors"), CHANGED);
    let summary = folder.path().join("summary.md");
    fs::write(&summary, "before\n").unwrap();
    let environment = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap()),
        ("GITHUB_WORKSPACE", folder.path().to_str().unwrap()),
    ];
    let run = verify(folder.path(), &["--model", "release", "--format", "json"], &environment);
    assert_eq!(run.code, 1);
    serde_json::from_str::<Value>(&run.stdout).unwrap();
    let annotation = "::error file=release/model.safetensors,title=divergence in model.safetensors%2C ";
    assert!(run.stderr.lines().any(|line| line.starts_with(annotation)), "{}", run.stderr);
    let summary = fs::read_to_string(summary).unwrap();
    assert!(summary.starts_with("before\n<!-- deberta-verify -->\n"), "{summary}");
    assert!(!verify(folder.path(), &["--model", "release"], &[]).stderr.contains("::error"));
}

/// A folder with a good and a bad model and a policy.
fn with_policy(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy("model", &folder.path().join("good"));
    copy("model", &folder.path().join("bad"));
    change(&folder.path().join("bad/model.safetensors"), CHANGED);
    fs::write(folder.path().join("verify.yaml"), text).unwrap();
    folder
}

/// The end of a run by a policy, from another folder.
fn gate(folder: &Path) -> Run {
    run(VERIFY, &["--policy", folder.join("verify.yaml").to_str().unwrap()])
}

#[test]
fn a_policy_verifies_all_models_in_one_report() {
    let good = with_policy(
        "models:\n  - {model: ./good, formats: [safetensors]}\n  - {model: ./good/model.safetensors, goldens: [./good]}\nreports: [r.json, good/r.html]\n",
    );
    let run = gate(good.path());
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.lines().last().unwrap().starts_with("pass: 2 models, 2 files, "), "{}", run.stdout);
    let report = json(&good.path().join("r.json"));
    assert_eq!(report["schema"], "deberta-verify-gate-1");
    assert_eq!(report["models"].as_array().unwrap().len(), 2);
    assert!(good.path().join("good/r.html").is_file());

    let bad = with_policy("models: [{model: ./good}, {model: ./bad}]\n");
    let run = gate(bad.path());
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stdout.starts_with("FIRST DIVERGENCE in model.safetensors"), "{}", run.stdout);
}

#[test]
fn what_a_policy_asks_for_and_is_not_there_never_passes() {
    for (text, message) in [
        ("models: [{model: ./good, formats: [safetensors, tensorflow]}]", "asks for weights in tensorflow"),
        ("models: [{model: ./absent}]", "cannot open"),
        ("models: [{model: ./good, goldens: [./absent]}]", "cannot open"),
        ("models: [{model: ./good, goldens: [someone/else]}]", "no golden \"someone/else\" comes with"),
        ("models: []", "nothing to verify"),
        ("models: [{model: ./good, goldens: []}]", "the list is empty"),
        ("models: [{model: ./good}]\nfail_on: nothing", "unknown field `fail_on`"),
        ("", "missing field `models`"),
    ] {
        let folder = with_policy(text);
        let run = gate(folder.path());
        assert_eq!(run.code, 2, "{text}: {}{}", run.stdout, run.stderr);
        assert!(
            format!("{}{}", run.stdout, run.stderr).contains(message),
            "{text}: {}{}",
            run.stdout,
            run.stderr
        );
    }
}

#[test]
fn a_policy_can_set_tolerances() {
    let tolerances =
        |atol: &str| format!("models: [{{model: ./good, tolerances: {{default: {{atol: {atol}}}}}}}]\n");
    let code = |text: &str| gate(with_policy(text).path()).code;
    assert_eq!((code(&tolerances("1.0e-5")), code(&tolerances("1.0e-9"))), (0, 1));
}

/// The scripts of the action's steps.
fn scripts() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github/actions/deberta-verify/action.yml");
    let action: serde_yaml::Value = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let steps = action["runs"]["steps"].as_sequence().unwrap().clone();
    let scripts: Vec<String> =
        steps.iter().filter_map(|step| step["run"].as_str().map(str::to_owned)).collect();
    assert_eq!(scripts.len(), 2);
    // What users write must not become part of a script.
    assert!(scripts.iter().all(|script| !script.contains("${{")));
    scripts
}

/// Runs a script of the action, with programs of these names first in the path.
fn action(
    script: &str,
    folder: &Path,
    programs: &[(&str, &str)],
    environment: &[(&str, &str)],
) -> (Run, String) {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for (name, text) in programs {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = folder.join("output");
    fs::write(&output, "").unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]).current_dir(folder);
    for name in ["POLICY", "MODEL", "GOLDEN", "FORMAT", "REPORT"] {
        command.env(name, if name == "FORMAT" { "text" } else { "" });
    }
    command.env_remove("GITHUB_ACTIONS").env("PATH", path).env("GITHUB_OUTPUT", &output);
    let run = command.envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ended =
        Run { code: run.status.code().unwrap_or(-1), stdout: text(run.stdout), stderr: text(run.stderr) };
    (ended, fs::read_to_string(output).unwrap())
}

#[test]
fn the_action_passes_inputs_on_and_tells_how_it_ended() {
    let script = scripts().remove(1);
    let folder = with_policy("models: [{model: ./bad}]");
    let program = format!("#!/bin/sh\nexec '{VERIFY}' \"$@\"\n");
    let run = |environment: &[(&str, &str)]| {
        action(&script, folder.path(), &[("deberta-verify", &program)], environment)
    };
    let (ended, output) = run(&[("MODEL", "good"), ("GOLDEN", "good\n"), ("REPORT", "r.json\n\nr.html\n")]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert!(output.starts_with("outcome=pass\nexit-code=0\nreport<<end-"), "{output}");
    assert!(output.contains("\nr.json\nr.html\nend-"), "{output}");
    let (ended, output) = run(&[("POLICY", "verify.yaml")]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(output.starts_with("outcome=divergence\nexit-code=1\n"), "{output}");
    // Nothing asked for, and text that a shell would run.
    let (ended, output) = run(&[]);
    assert_eq!(ended.code, 2, "{}", ended.stdout);
    assert!(output.starts_with("outcome=undecided\n"), "{output}");
    let (ended, _) = run(&[("MODEL", "$(touch hacked)`touch hacked`; touch hacked"), ("GOLDEN", "--help")]);
    assert_eq!(ended.code, 2, "{}", ended.stdout);
    assert!(!folder.path().join("hacked").exists());
}

#[test]
fn the_action_installs_what_it_comes_with_or_a_version() {
    let script = scripts().remove(0);
    let folder = tempfile::tempdir().unwrap();
    let program = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n";
    let run = |version: &str| {
        let environment = [("VERSION", version), ("ACTION_PATH", "/a/.github/actions/deberta-verify")];
        action(&script, folder.path(), &[("cargo", program)], &environment).0.stdout
    };
    assert_eq!(run(""), "install\n--locked\n--path\n/a/.github/actions/deberta-verify/../../../golden\n");
    assert_eq!(run("0.1.0"), "install\n--locked\n--version=0.1.0\ndeberta-golden\n");
}
