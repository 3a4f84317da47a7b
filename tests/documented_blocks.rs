//! Every YAML block of the documentation is used as it is printed: policies by `--policy`, workflows and the action by bash as
//! a runner would, the Job of Kubernetes by sh, cases and parts of cases by the reader of `case.yaml`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use deberta_golden::Case;
use deberta_tests::{Run, run_command};
use serde_yaml::Value;

use crate::VERIFY;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The YAML blocks of a text, in its order.
fn blocks(text: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(text)).unwrap();
    let parts = text.split("```yaml\n").skip(1);
    parts.map(|part| part.split_once("\n```").unwrap().0.to_owned() + "\n").collect()
}

fn parsed(yaml: &str) -> Value {
    serde_yaml::from_str(yaml).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
    }
}

/// A folder with what the policies speak of: the releases, a golden, data of tasks; and the program.
fn world() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let trained = |name: &str| root().join("golden/trained").join(name);
    copy(&trained("nli"), &at("release"));
    copy(&trained("questions"), &at("release-squad"));
    fs::create_dir(at("golden")).unwrap();
    fs::copy(trained("nli").join("texts.safetensors"), at("golden/texts.safetensors")).unwrap();
    fs::copy(trained("data/mnli/dev_matched.tsv"), at("dev_matched.tsv")).unwrap();
    fs::create_dir(at(".bin")).unwrap();
    symlink(VERIFY, at(".bin/deberta-verify")).unwrap();
    folder
}

/// Runs a script in a folder with nothing of GitHub in the environment but what is given.
fn shell(shell: &[&str], script: &str, folder: &Path, environment: &BTreeMap<String, String>) -> Run {
    let mut command = Command::new(shell[0]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GITHUB_")) {
        command.env_remove(name);
    }
    let path = format!("{}:{}", folder.join(".bin").display(), std::env::var("PATH").unwrap());
    command.args(&shell[1..]).arg(script).current_dir(folder).env("PATH", path);
    run_command(command.envs(environment))
}

/// A runner of GitHub: what its expressions stand for, and the folder that it checked out.
struct Runner<'r> {
    folder: &'r Path,
    known: BTreeMap<String, String>,
}

/// How a step ended: its exit status, and what it printed.
type Ended = (i32, String);

impl Runner<'_> {
    /// A text in which every `${{ name }}` is what the name stands for.
    fn expanded(&self, text: &str) -> String {
        let mut parts = text.split("${{");
        let mut out = parts.next().unwrap().to_owned();
        for part in parts {
            let (name, rest) = part.split_once("}}").unwrap();
            let value = self.known.get(name.trim());
            out.push_str(value.unwrap_or_else(|| panic!("nothing is called {name:?}")));
            out.push_str(rest);
        }
        out
    }

    fn strings(&self, map: &Value) -> BTreeMap<String, String> {
        let Some(map) = map.as_mapping() else { return BTreeMap::new() };
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Bool(flag) => flag.to_string(),
            other => panic!("{other:?}"),
        };
        map.iter().map(|(key, value)| (text(key), self.expanded(&text(value)))).collect()
    }

    /// Runs the steps of a job. After one that failed, those with `if: always()` alone.
    fn job(&mut self, steps: &Value) -> Ended {
        let (mut code, mut printed) = (0, String::new());
        for step in steps.as_sequence().unwrap() {
            if code != 0 && step["if"].as_str() != Some("always()") {
                continue;
            }
            let (ended, said) = self.step(step);
            code = if code == 0 { ended } else { code };
            printed.push_str(&said);
        }
        (code, printed)
    }

    fn step(&mut self, step: &Value) -> Ended {
        let Some(action) = step["uses"].as_str() else {
            let run = self.bash(step["run"].as_str().unwrap(), &self.strings(&step["env"]), None);
            return (run.code, run.stdout + &run.stderr);
        };
        if action.starts_with("actions/") {
            // The folder is checked out, and all jobs of the test share it with their artifacts.
            return (0, String::new());
        }
        assert!(action.starts_with("OWNER/REPOSITORY/.github/actions/deberta-verify@"), "{action}");
        let given = self.strings(&step["with"]);
        let (ended, outputs) = self.action(&given);
        if let Some(id) = step["id"].as_str() {
            self.known.extend(
                outputs.into_iter().map(|(name, value)| (format!("steps.{id}.outputs.{name}"), value)),
            );
        }
        ended
    }

    /// Runs the action with these inputs. Returns its outputs, too.
    fn action(&self, given: &BTreeMap<String, String>) -> (Ended, BTreeMap<String, String>) {
        let place = root().join(".github/actions/deberta-verify/action.yml");
        let action = parsed(&fs::read_to_string(place).unwrap());
        let mut inside = Runner { folder: self.folder, known: BTreeMap::new() };
        for (name, input) in action["inputs"].as_mapping().unwrap() {
            let name = name.as_str().unwrap();
            let value =
                given.get(name).cloned().unwrap_or_else(|| input["default"].as_str().unwrap().to_owned());
            inside.known.insert(format!("inputs.{name}"), value);
        }
        assert!(given.keys().all(|name| inside.known.contains_key(&format!("inputs.{name}"))), "{given:?}");
        let steps = action["runs"]["steps"].as_sequence().unwrap();
        let step = steps.iter().find(|step| step["id"].as_str() == Some("verify")).unwrap();
        let file = self.folder.join(".output");
        fs::write(&file, "").unwrap();
        let run = inside.bash(step["run"].as_str().unwrap(), &inside.strings(&step["env"]), Some(&file));
        ((run.code, run.stdout + &run.stderr), outputs(&fs::read_to_string(&file).unwrap()))
    }

    /// Runs a script as GitHub's runners do.
    fn bash(&self, script: &str, environment: &BTreeMap<String, String>, output: Option<&Path>) -> Run {
        let mut environment = environment.clone();
        if let Some(output) = output {
            environment.insert("GITHUB_OUTPUT".into(), output.display().to_string());
        }
        for (name, value) in [
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("GITHUB_WORKSPACE", self.folder.display().to_string()),
            ("GITHUB_STEP_SUMMARY", self.folder.join(".summary").display().to_string()),
        ] {
            environment.insert(name.to_owned(), value);
        }
        shell(&["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"], script, self.folder, &environment)
    }
}

/// What a step wrote to `GITHUB_OUTPUT`: `name=value`, and `name<<end`, lines, `end`.
fn outputs(text: &str) -> BTreeMap<String, String> {
    let (mut outputs, mut lines) = (BTreeMap::new(), text.lines());
    while let Some(line) = lines.next() {
        if let Some((name, end)) = line.split_once("<<") {
            let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
            outputs.insert(name.to_owned(), value.join("\n"));
        } else {
            let (name, value) = line.split_once('=').unwrap();
            outputs.insert(name.to_owned(), value.to_owned());
        }
    }
    outputs
}

/// Damages the weights of the release.
fn damage(folder: &Path) {
    let path = folder.join("release/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0);
    fs::write(&path, bytes).unwrap();
}

#[test]
fn policies_pass_as_they_are_printed() {
    for (text, at) in [("docs/gate.md", 0), ("docs/tasks.md", 0), ("docs/quantized.md", 1)] {
        let world = world();
        fs::write(world.path().join("verify.yaml"), &blocks(text)[at]).unwrap();
        if text == "docs/tasks.md" {
            documents_of_tasks(world.path());
        }
        let run = shell(&["sh", "-c"], "deberta-verify --policy verify.yaml", world.path(), &BTreeMap::new());
        assert_eq!(run.code, 0, "{text}: {}{}", run.stdout, run.stderr);
    }
}

/// Files of the names that the policy of docs/tasks.md has.
fn documents_of_tasks(folder: &Path) {
    let data = root().join("golden/trained/data");
    for (from, to) in [
        ("mnli/dev_mismatched.tsv", "dev_mismatched.tsv"),
        ("zero-shot/colours.tsv", "topics.tsv"),
        ("squad/dev-v2.json", "dev-v2.0.json"),
    ] {
        fs::copy(data.join(from), folder.join(to)).unwrap();
    }
}

/// The workflow for one policy of docs/gate.md, and its policy, side by side.
fn workflow(world: &Path) -> (Ended, BTreeMap<String, String>) {
    let blocks = blocks("docs/gate.md");
    fs::write(world.join("verify.yaml"), &blocks[0]).unwrap();
    let mut runner = Runner { folder: world, known: BTreeMap::new() };
    let ended = runner.job(&parsed(&blocks[1])["jobs"]["verify"]["steps"]);
    (ended, runner.known)
}

#[test]
fn the_workflow_runs_with_the_policy_beside_it() {
    let world = world();
    let ((code, printed), known) = workflow(world.path());
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("it ends with pass"), "{printed}");
    assert_eq!(known["steps.verify.outputs.report"], "report.html\nreport.json");
    for name in ["report.html", "report.json", "junit.xml"] {
        assert!(world.path().join(name).is_file(), "{name}");
    }
    let summary = fs::read_to_string(world.path().join(".summary")).unwrap();
    assert!(summary.starts_with("<!-- deberta-verify -->"), "{summary}");

    damage(world.path());
    let ((code, printed), known) = workflow(world.path());
    assert_eq!(code, 1, "{printed}");
    assert!(
        printed.contains("it ends with divergence") && printed.contains("::error file=release/"),
        "{printed}"
    );
    assert_eq!(known["steps.verify.outputs.report"], "report.html\nreport.json");
}

#[test]
fn a_report_of_an_earlier_run_is_no_output_of_one_that_failed() {
    let world = world();
    for name in ["report.html", "report.json"] {
        fs::write(world.path().join(name), "old").unwrap();
    }
    let runner = Runner { folder: world.path(), known: BTreeMap::new() };
    let given = |report: &str| {
        BTreeMap::from(
            [("policy", "verify.yaml"), ("report", report)].map(|(a, b)| (a.to_owned(), b.to_owned())),
        )
    };
    // No such folder: the program ends before it verifies anything.
    let ((code, printed), outputs) = runner.action(&given("report.html\nabsent/report.json\n"));
    assert_eq!((code, outputs["report"].as_str()), (2, ""), "{printed}");
    // A policy that cannot be read has a report.
    fs::write(world.path().join("verify.yaml"), "models: [").unwrap();
    let ((code, printed), outputs) = runner.action(&given("report.html\nreport.json\n"));
    assert_eq!((code, outputs["report"].as_str()), (2, "report.html\nreport.json"), "{printed}");
    let report = fs::read_to_string(world.path().join("report.json")).unwrap();
    assert!(report.contains("\"undecided\"") && report.contains("not a policy"), "{report}");
}

/// Five models, for policies in four shards.
fn fleet(world: &Path) {
    let models: Vec<String> = (1..=5).map(|at| format!("./model-{at}")).collect();
    for model in &models {
        copy(&root().join("golden/data/masked-lm"), &world.join(model));
    }
    let models: String = models.iter().map(|model| format!("  - model: {model}\n")).collect();
    fs::write(world.join("verify.yaml"), format!("models:\n{models}")).unwrap();
}

#[test]
fn the_matrix_and_its_report_run() {
    let world = world();
    fleet(world.path());
    let jobs = parsed(&blocks("docs/gate.md")[2])["jobs"].clone();
    let shards = jobs["verify"]["strategy"]["matrix"]["shard"].as_sequence().unwrap().clone();
    assert_eq!(shards.len(), 4);
    for shard in &shards {
        let known = BTreeMap::from([("matrix.shard".to_owned(), shard.as_u64().unwrap().to_string())]);
        let (code, printed) = Runner { folder: world.path(), known }.job(&jobs["verify"]["steps"]);
        assert_eq!(code, 0, "{printed}");
    }
    let (code, printed) =
        Runner { folder: world.path(), known: BTreeMap::new() }.job(&jobs["report"]["steps"]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("pass: 5 models"), "{printed}");
    // A job that died is not forgotten.
    fs::remove_file(world.path().join("shard-3.json")).unwrap();
    let (code, printed) =
        Runner { folder: world.path(), known: BTreeMap::new() }.job(&jobs["report"]["steps"]);
    assert_eq!(code, 2, "{printed}");
}

#[test]
fn the_job_of_kubernetes_runs() {
    let world = world();
    fleet(world.path());
    fs::create_dir(world.path().join("reports")).unwrap();
    let job = parsed(&blocks("docs/gate.md")[3]);
    let spec = &job["spec"];
    let container = &spec["template"]["spec"]["containers"][0];
    let command: Vec<&str> =
        container["command"].as_sequence().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
    let [script] = container["args"].as_sequence().unwrap().as_slice() else { panic!("{container:?}") };
    // The volumes are mounted where the folder has them.
    let mut script = script.as_str().unwrap().to_owned();
    for (mount, to) in [("/models/", ""), ("/reports/", "reports/")] {
        script = script.replace(mount, &format!("{}/{to}", world.path().display()));
    }
    for index in 0..spec["completions"].as_u64().unwrap() {
        let environment = BTreeMap::from([("JOB_COMPLETION_INDEX".to_owned(), index.to_string())]);
        let run = shell(&command, &script, world.path(), &environment);
        assert_eq!(run.code, 0, "{script}: {}{}", run.stdout, run.stderr);
    }
    let merged =
        shell(&["sh", "-c"], "deberta-verify merge reports/shard-*.json", world.path(), &BTreeMap::new());
    assert_eq!(merged.code, 0, "{}{}", merged.stdout, merged.stderr);
}

#[test]
fn cases_are_read_as_they_are_printed() {
    let [case, published, made] = <[String; 3]>::try_from(blocks("docs/golden.md")).unwrap();
    let trace = "traces:\n  - {file: plain.safetensors, framework: pytorch, class: DebertaModel, masked_rows: uniform}\n";
    let head = "class: DebertaModel\nproducer: a test\ntolerances:\n  default: {atol: 1.0e-5}\n";
    let rounded = &blocks("docs/quantized.md")[0];
    let rounded = rounded.replace("tolerances:\n", "tolerances:\n  default: {atol: 1.0e-5}\n");
    let rounded = format!("model: owner/model\nclass: DebertaModel\nproducer: a test\n{trace}{rounded}");
    let whole =
        [case, format!("model: owner/model\n{head}{published}"), format!("{head}{trace}{made}"), rounded];
    for text in whole {
        Case::from_yaml(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    }
}

/// The hook for pre-commit runs the gate, and ends as it does.
#[test]
fn the_hook_runs_the_gate() {
    let [hooks] = <[String; 1]>::try_from(blocks("docs/python.md")).unwrap();
    let hook = parsed(&hooks)["repos"][0]["hooks"][0].clone();
    let world = world();
    let policy = &blocks("docs/gate.md")[0];
    for (policy, status) in [(policy.as_str(), 0), ("models: []\n", 2)] {
        fs::write(world.path().join("verify.yaml"), policy).unwrap();
        let run = shell(&["bash", "-c"], hook["entry"].as_str().unwrap(), world.path(), &BTreeMap::new());
        assert_eq!(run.code, status, "{}", run.stderr);
    }
}

#[test]
fn every_block_is_used_here() {
    let mut found = BTreeMap::new();
    for folder in ["docs", "docs/formats", "."] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                let count = fs::read_to_string(&path).unwrap().matches("```y").count();
                found.extend((count > 0).then_some((name, count)));
            }
        }
    }
    // Those of the tutorial are used by tests/interop/tutorial.
    let used = [
        ("docs/gate.md", 4),
        ("docs/golden.md", 3),
        ("docs/python.md", 1),
        ("docs/quantized.md", 2),
        ("docs/tasks.md", 1),
        ("docs/tutorial.md", 2),
    ];
    assert_eq!(found, used.map(|(name, count)| (name.to_owned(), count)).into());
}
