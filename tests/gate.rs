//! `deberta-verify` as a gate: exit codes, reports, policies and the action, as people and CI systems run them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use deberta_tests::{Run, run};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::VERIFY;

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
    // What the goldens of the model do not exercise is the one thing that there is to note.
    let [note] = report["findings"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_eq!((&note["kind"], &note["outcome"]), (&"coverage".into(), &"pass".into()));
    assert_eq!(xml.root_element().attribute("tests"), Some((points + 1).to_string().as_str()));
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

/// Verifies a shard of a policy in the folder, with a JSON report; how it ends.
fn shard(folder: &Path, part: &str, report: &str) -> Run {
    verify(folder, &["--policy", "verify.yaml", "--shard", part, "--report", report], &[])
}

const FLEET: &str = "models: [{model: ./good}, {model: ./bad}, {model: ./good/model.safetensors, goldens: [./good]}]\npadding: allow\n";

#[test]
fn the_reports_of_shards_merge_into_that_of_one_run() {
    let folder = with_policy(FLEET);
    let first = shard(folder.path(), "1/2", "1.json");
    assert_eq!(first.code, 0, "{}{}", first.stdout, first.stderr);
    assert!(
        first.stdout.lines().last().unwrap().starts_with("pass: shard 1 of 2, 2 of 3 models, 2 files, "),
        "{}",
        first.stdout
    );
    assert_eq!(shard(folder.path(), "2/2", "2.json").code, 1);
    let whole = verify(folder.path(), &["--policy", "verify.yaml", "--report", "whole.json"], &[]);
    // In any order, in every format.
    let args = ["merge", "2.json", "1.json", "--report", "merged.json", "--report", "merged.html"];
    let merged = verify(folder.path(), &args, &[]);
    assert_eq!((whole.code, merged.code), (1, 1), "{}", merged.stderr);
    assert_eq!(merged.stdout.lines().last(), whole.stdout.lines().last());
    let timeless = |name: &str| {
        let mut report = json(&folder.path().join(name));
        for model in report["models"].as_array_mut().unwrap() {
            for file in model["files"].as_array_mut().unwrap() {
                file["runs"].as_array_mut().unwrap().iter_mut().for_each(|run| run["seconds"] = 0.into());
            }
        }
        serde_json::to_string_pretty(&report).unwrap()
    };
    let (merged, whole) = (timeless("merged.json"), timeless("whole.json"));
    let other = merged.lines().zip(whole.lines()).find(|(merged, whole)| merged != whole);
    assert_eq!((other, merged.len()), (None, whole.len()));
    assert!(fs::read_to_string(folder.path().join("merged.html")).unwrap().contains("<h1>verify.yaml</h1>"));
}

#[test]
fn a_shard_without_a_report_is_undecided_and_one_without_a_model_an_error() {
    let folder =
        with_policy("models: [{model: ./good}, {model: ./good/model.safetensors, goldens: [./good]}]");
    assert_eq!(shard(folder.path(), "2/2", "2.json").code, 0);
    let merged = verify(folder.path(), &["merge", "2.json"], &[]);
    assert_eq!(merged.code, 2, "{}", merged.stdout);
    let lacking = "1 of 2 shards have no report, shard 1 among them: 1 models were not verified";
    assert!(merged.stdout.contains(lacking), "{}", merged.stdout);
    let empty = shard(folder.path(), "3/3", "3.json");
    assert_eq!(empty.code, 2);
    assert!(
        empty.stderr.contains("the policy has 2 models, so that this shard has none"),
        "{}",
        empty.stderr
    );
    assert!(!folder.path().join("3.json").exists());
    for part in ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"] {
        let run = verify(folder.path(), &["--policy", "verify.yaml", &format!("--shard={part}")], &[]);
        assert_eq!(run.code, 2, "{part}");
        assert!(run.stderr.contains("expected I/N"), "{part}: {}", run.stderr);
    }
}

#[test]
fn reports_that_do_not_belong_together_do_not_merge() {
    let folder = with_policy(FLEET);
    shard(folder.path(), "1/3", "1.json");
    shard(folder.path(), "2/3", "2.json");
    shard(folder.path(), "1/2", "half.json");
    verify(folder.path(), &["--policy", "verify.yaml", "--report", "whole.json"], &[]);
    verify(folder.path(), &["--model", "good", "--report", "model.json"], &[]);
    let edited = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut report = json(&folder.path().join("2.json"));
        change(&mut report);
        fs::write(folder.path().join(name), report.to_string()).unwrap();
    };
    edited("rules.json", &|report| report["rules"]["padding"] = "fail".into());
    edited("old.json", &|report| report["producer"] = "deberta-verify 0.0.1".into());
    edited("empty.json", &|report| report["models"] = Vec::<Value>::new().into());
    edited("huge.json", &|report| report["shard"]["count"] = u64::MAX.into());
    edited("none.json", &|report| report["shard"]["index"] = 0.into());
    // A report that calls itself a success.
    edited("pass.json", &|report| report["models"][0]["outcome"] = "pass".into());
    fs::write(folder.path().join("text.json"), "[".repeat(100_000)).unwrap();
    for (second, message) in [
        ("1.json", "1.json: shard 1 of 3 has another report: 1.json"),
        ("half.json", "half.json: not of the same run as 1.json"),
        ("rules.json", "rules.json: not of the same run as 1.json"),
        ("old.json", "made by deberta-verify 0.0.1, this is deberta-verify"),
        ("empty.json", "empty.json: 0 models, shard 2 of 3 has 1 of the policy's 3"),
        ("huge.json", "huge.json: not of the same run"),
        ("none.json", "none.json: not the report of a shard"),
        ("whole.json", "whole.json: not the report of a shard"),
        ("model.json", "model.json: not the JSON report of a policy"),
        ("text.json", "text.json: not the JSON report of a policy"),
        ("absent.json", "absent.json: cannot read"),
    ] {
        let run = verify(folder.path(), &["merge", "1.json", second], &[]);
        assert!(run.stderr.contains(message), "{second}: {}", run.stderr);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{second}");
    }
    shard(folder.path(), "3/3", "3.json");
    assert_eq!(verify(folder.path(), &["merge", "1.json", "pass.json", "3.json"], &[]).code, 1);
}

/// The scripts of the action's steps.
fn scripts() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github/actions/deberta-verify/action.yml");
    let action: serde_yaml::Value = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let steps = action["runs"]["steps"].as_sequence().unwrap().clone();
    let scripts: Vec<String> =
        steps.iter().filter_map(|step| step["run"].as_str().map(str::to_owned)).collect();
    assert_eq!(scripts.len(), 3);
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
    fs::write(folder.join("path"), "").unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]).current_dir(folder);
    for name in ["POLICY", "SHARD", "MERGE", "MODEL", "GOLDEN", "FORMAT", "REPORT"] {
        command.env(name, if name == "FORMAT" { "text" } else { "" });
    }
    command.env_remove("GITHUB_ACTIONS").env("PATH", path).env("GITHUB_OUTPUT", &output);
    command.env("GITHUB_PATH", folder.join("path")).env("RUNNER_TEMP", folder.join("temporary"));
    command.env("RUNNER_OS", "Linux").env("RUNNER_ARCH", "X64").env("ImageOS", "ubuntu24");
    let run = command.envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ended =
        Run { code: run.status.code().unwrap_or(-1), stdout: text(run.stdout), stderr: text(run.stderr) };
    (ended, fs::read_to_string(output).unwrap())
}

#[test]
fn the_action_passes_inputs_on_and_tells_how_it_ended() {
    let script = scripts().remove(2);
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
    // Shards and what merges them.
    for part in ["1/2", "2/2"] {
        let report = format!("shard {}.json\n", &part[..1]);
        let environment = [("POLICY", "fleet.yaml"), ("SHARD", part), ("REPORT", &report)];
        fs::write(folder.path().join("fleet.yaml"), FLEET).unwrap();
        assert_eq!(run(&environment).0.code, i32::from(part == "2/2"));
    }
    let (ended, output) = run(&[("MERGE", "shard *.json\n"), ("REPORT", "merged.html\n")]);
    assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
    assert!(output.contains("\nmerged.html\nend-"), "{output}");
    let (ended, _) = run(&[("MERGE", "absent-*.json")]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("absent-*.json: cannot read"), "{}", ended.stderr);
    // Nothing asked for, and text that a shell would run.
    let (ended, output) = run(&[]);
    assert_eq!(ended.code, 2, "{}", ended.stdout);
    assert!(output.starts_with("outcome=undecided\n"), "{output}");
    let (ended, _) = run(&[("MODEL", "$(touch hacked)`touch hacked`; touch hacked"), ("GOLDEN", "--help")]);
    assert_eq!(ended.code, 2, "{}", ended.stdout);
    assert!(!folder.path().join("hacked").exists());
}

/// A fake Python, whose virtual environments have a pip that says what it is asked for, and fails if `PIP_FAILS` is set.
const PYTHON: &str = r#"#!/bin/sh
[ "$1 $2" = "-m venv" ] && mkdir -p "$3/bin" || exit 1
printf '%s\n' '#!/bin/sh' 'echo pip "$@"' '[ -z "$PIP_FAILS" ]' > "$3/bin/pip"
chmod +x "$3/bin/pip"
"#;

/// Runs the first step of the action, which installs the package.
fn installed(folder: &Path, environment: &[(&str, &str)]) -> (Run, String, String) {
    let (ended, output) = action(&scripts()[0], folder, &[("python3", PYTHON)], environment);
    (ended, output, fs::read_to_string(folder.join("path")).unwrap())
}

#[test]
fn the_action_installs_the_package_of_its_tag_or_of_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let bin = format!("{}/bin\n", folder.path().join("temporary/deberta-verify").display());
    for (version, tag, installs) in [
        ("", "v1.2.3", "1.2.3"),
        ("", "v1.2.3-rc.1", "1.2.3-rc.1"),
        ("0.1.0", "v1.2.3", "0.1.0"),
        ("v0.1.0", "0123456789012345678901234567890123456789", "0.1.0"),
    ] {
        let (ended, output, path) = installed(folder.path(), &[("VERSION", version), ("ACTION_REF", tag)]);
        let pip = format!(
            "pip install --quiet --disable-pip-version-check --only-binary=:all: deberta-verify=={installs}\n"
        );
        assert_eq!((ended.code, ended.stdout), (0, pip), "{}", ended.stderr);
        // Nothing is left to build.
        assert_eq!((output.as_str(), path.as_str()), ("", bin.as_str()));
    }
    for version in ["latest", "1.2", "1.2.3 --index-url x", "1.2.3\n::add-mask::x", "$(touch hacked)"] {
        let (ended, output, path) =
            installed(folder.path(), &[("VERSION", version), ("ACTION_REF", "v1.2.3")]);
        let first = version.lines().next().unwrap();
        let message =
            format!("::error title=deberta-verify::version: {first}: expected a version such as 1.2.3\n");
        assert_eq!((ended.code, ended.stdout, output + &path), (2, message, String::new()));
    }
    assert!(!folder.path().join("hacked").exists());
}

/// A fake cargo that builds a program.
const CARGO: &str = r#"#!/bin/sh
echo "$@"
for argument; do case $argument in --root=*) root=${argument#--root=}; esac; done
mkdir -p "$root/bin" && touch "$root/bin/deberta-verify" && chmod +x "$root/bin/deberta-verify"
"#;

/// Runs the step of the action that builds, with what the first one said. Returns what is in the path then.
fn built(folder: &Path, output: &str, action_path: &str) -> (String, String) {
    let said = |name: &str| output.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let environment = [("VERSION", said("build=")), ("ROOT", said("root=")), ("ACTION_PATH", action_path)];
    let (ended, _) = action(&scripts()[1], folder, &[("cargo", CARGO)], &environment);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    (ended.stdout, fs::read_to_string(folder.join("path")).unwrap())
}

#[test]
fn the_action_builds_a_version_without_a_package_once() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("VERSION", ""), ("ACTION_REF", "v1.2.3"), ("PIP_FAILS", "1")];
    let (ended, output, path) = installed(folder.path(), &environment);
    assert_eq!((ended.code, path.as_str()), (0, ""), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("::warning title=deberta-verify::no package of version 1.2.3"),
        "{}",
        ended.stdout
    );
    let root = folder.path().join("temporary/deberta-verify-built");
    let root = root.display();
    assert_eq!(output, format!("build=1.2.3\nroot={root}\nkey=deberta-verify-1.2.3-Linux-X64-ubuntu24\n"));
    let bin = format!("{root}/bin\n");
    let (cargo, path) = built(folder.path(), &output, "/a");
    assert_eq!(cargo, format!("install --locked --root={root} --version=1.2.3 deberta-golden\n"));
    assert_eq!(path, bin);
    // Where the cache had it, it is not built.
    assert_eq!(built(folder.path(), &output, "/a"), (String::new(), bin));
}

#[test]
fn the_action_builds_its_own_source_where_it_has_no_version() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    for name in
        ["reference/src", "converters/src", "golden/src", "golden/tests", ".github/actions/deberta-verify"]
    {
        fs::create_dir_all(source.join(name)).unwrap();
    }
    for name in ["Cargo.toml", "Cargo.lock", "golden/src/a file.rs", "golden/tests/a.rs"] {
        fs::write(source.join(name), name).unwrap();
    }
    let action_path = source.join(".github/actions/deberta-verify").display().to_string();
    let keys: Vec<String> = ["main", "0123456789012345678901234567890123456789", "v1"]
        .iter()
        .map(|revision| {
            let environment = [("VERSION", ""), ("ACTION_REF", *revision), ("ACTION_PATH", &action_path)];
            let (ended, output, _) = installed(folder.path(), &environment);
            assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{}", ended.stderr);
            let (cargo, _) = built(folder.path(), &output, &action_path);
            assert!(
                cargo.is_empty() || cargo.ends_with(&format!(" --path={action_path}/../../../golden\n")),
                "{cargo}"
            );
            // What is built is kept under what it was built from.
            let changed = if *revision == "main" { "golden/tests/a.rs" } else { "golden/src/a file.rs" };
            fs::write(source.join(changed), "changed").unwrap();
            output.lines().last().unwrap().to_owned()
        })
        .collect();
    assert!(
        keys[0].starts_with("key=deberta-verify-") && keys[0].ends_with("-Linux-X64-ubuntu24"),
        "{keys:?}"
    );
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
}
