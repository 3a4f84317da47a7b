//! The workflows without GitHub: what must hold of all of them, and the scripts of `release.yml` as a runner runs them, with
//! programs in place of those that publish. `tests/interop/workflows/run.sh` has the checks that others wrote.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use deberta_tests::{Run, run_command};
use serde_yaml::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

const WORKFLOWS: [&str; 2] = [".github/workflows/ci.yml", ".github/workflows/release.yml"];
const ACTION: &str = ".github/actions/deberta-verify/action.yml";

fn jobs(workflow: &str) -> Vec<(String, Value)> {
    let workflow: Value = serde_yaml::from_str(&read(workflow)).unwrap();
    assert_eq!(workflow["permissions"], Value::Mapping(Default::default()));
    let jobs = workflow["jobs"].as_mapping().unwrap();
    jobs.iter().map(|(name, job)| (name.as_str().unwrap().to_owned(), job.clone())).collect()
}

fn steps(job: &Value) -> &[Value] {
    job["steps"].as_sequence().unwrap()
}

#[test]
fn every_action_is_pinned_to_one_commit_and_names_its_version() {
    let mut pinned = BTreeMap::new();
    for file in [&WORKFLOWS[..], &[ACTION]].concat() {
        for line in read(file).lines().filter(|line| line.contains("uses: ")) {
            let (action, pin) = line.split_once("uses: ").unwrap().1.split_once('@').unwrap();
            let (commit, version) = pin.split_once(" # v").unwrap_or_else(|| panic!("{file}: {line}"));
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
            assert_eq!(version.split('.').count(), 3, "{line}");
            let first = pinned.entry(action.to_owned()).or_insert(pin.to_owned());
            assert_eq!(first, pin, "{file}: two versions of {action}");
        }
    }
    assert!(pinned.contains_key("actions/checkout"));
}

#[test]
fn jobs_have_the_rights_that_they_need_and_texts_of_others_are_no_scripts() {
    for workflow in WORKFLOWS {
        for (name, job) in jobs(workflow) {
            let rights = job["permissions"].as_mapping().unwrap();
            let writes = rights.values().any(|right| right == "write");
            let publishes = name.starts_with("publish-") || name == "release";
            assert_eq!(writes, publishes, "{workflow}: {name}");
            // People say when something is published.
            assert_eq!(job["environment"] == "release", publishes, "{workflow}: {name}");
            assert!(job["timeout-minutes"].is_u64(), "{workflow}: {name}");
            for step in steps(&job) {
                assert!(!step["run"].as_str().unwrap_or_default().contains("${{"), "{workflow}: {name}");
                let action = step["uses"].as_str().unwrap_or_default();
                let forgets = step["with"]["persist-credentials"] == Value::Bool(false);
                assert!(!action.starts_with("actions/checkout@") || forgets, "{workflow}: {name}");
            }
        }
    }
}

#[test]
fn nothing_is_published_by_hand_or_before_all_is_tried() {
    let jobs: BTreeMap<String, Value> = jobs(WORKFLOWS[1]).into_iter().collect();
    let (published, made): (Vec<_>, Vec<_>) =
        jobs.iter().partition(|(_, job)| job["environment"] == "release");
    for (name, job) in &published {
        let needs: Vec<&str> =
            job["needs"].as_sequence().unwrap().iter().map(|job| job.as_str().unwrap()).collect();
        if *name == "release" {
            assert!(
                published.iter().all(|(other, _)| *other == "release" || needs.contains(&other.as_str()))
            );
        } else {
            assert_eq!(job["if"], "github.event_name == 'push'", "{name}");
            assert!(made.iter().all(|(other, _)| needs.contains(&other.as_str())), "{name}: {needs:?}");
        }
    }
}

/// Runs the step of a job of `release.yml` that has this name, in a folder, with these programs first in the path.
/// Returns what it wrote to `GITHUB_OUTPUT`, too.
fn step(
    (job, name): (&str, &str),
    folder: &Path,
    programs: &[(&str, &str)],
    environment: &[(&str, &str)],
) -> (Run, String) {
    let jobs = jobs(WORKFLOWS[1]);
    let job = &jobs.iter().find(|(other, _)| other == job).unwrap().1;
    let script = steps(job).iter().find(|step| step["name"] == name).unwrap()["run"].as_str().unwrap();
    let bin = folder.join(".bin");
    fs::create_dir_all(&bin).unwrap();
    for (name, text) in programs {
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = folder.join(".output");
    fs::write(&output, "").unwrap();
    let mut command = Command::new("bash");
    command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]).current_dir(folder);
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    command.env("GITHUB_OUTPUT", &output).envs(environment.iter().copied());
    (run_command(&mut command), fs::read_to_string(output).unwrap())
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn the_tag_and_the_repository_are_those_of_the_workspace() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("docs")).unwrap();
    fs::write(folder.path().join("docs/changelog.md"), format!("# Changelog\n\n## {VERSION}\n")).unwrap();
    fs::write(folder.path().join("Cargo.toml"), read("Cargo.toml")).unwrap();
    let tag = format!("v{VERSION}");
    let check = |event: &str, tag: &str, repository: &str| {
        let environment = [
            ("GITHUB_EVENT_NAME", event),
            ("GITHUB_REF_NAME", tag),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", repository),
        ];
        step(("check", "Compare the tag with the version"), folder.path(), &[], &environment)
    };
    let known = format!("version={VERSION}\n");
    // By hand from any branch, of any fork.
    let (run, output) = check("workflow_dispatch", "main", "someone/fork");
    assert_eq!((run.code, run.stdout.as_str(), output), (0, "", known.clone()));
    let manifest = read("Cargo.toml");
    let repository =
        manifest.lines().find_map(|line| line.strip_prefix("repository = ")).unwrap().trim_matches('"');
    assert_eq!(check("push", &tag, repository.strip_prefix("https://github.com/").unwrap()).1, known);
    let (run, output) = check("push", "v9.9.9", "someone/fork");
    assert_eq!((run.code, output.as_str()), (1, ""));
    assert!(run.stdout.contains("the tag is v9.9.9, the version of the workspace "), "{}", run.stdout);
    let (run, output) = check("push", &tag, "someone/fork");
    assert_eq!((run.code, output.as_str()), (1, ""));
    assert!(run.stdout.contains("this is https://github.com/someone/fork: write that"), "{}", run.stdout);
    fs::write(folder.path().join("docs/changelog.md"), "## Unreleased\n").unwrap();
    assert!(check("workflow_dispatch", "main", "a/b").0.stdout.contains("::warning file=docs/changelog.md"));
}

#[test]
fn programs_are_packed_where_cargo_binstall_looks_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let target = "x86_64-unknown-linux-musl";
    let built = folder.path().join("target").join(target).join("release");
    fs::create_dir_all(&built).unwrap();
    for name in ["deberta-convert", "deberta-verify", "other"] {
        fs::write(built.join(name), name).unwrap();
    }
    for name in ["LICENSE", "README.md"] {
        fs::copy(root().join(name), folder.path().join(name)).unwrap();
    }
    let (run, _) =
        step(("programs", "Pack"), folder.path(), &[], &[("TARGET", target), ("VERSION", "1.2.3")]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let dist = folder.path().join("dist");
    let checked = run_command(
        Command::new("sha256sum")
            .args(["--check", "--quiet", &format!("deberta-1.2.3-{target}.tar.gz.sha256")])
            .current_dir(&dist),
    );
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    let mut packed = Vec::new();
    for (manifest, program) in [("converters", "deberta-convert"), ("golden", "deberta-verify")] {
        let manifest = read(&format!("{manifest}/Cargo.toml"));
        let said = |key: &str| {
            let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("{key} = \""))).unwrap();
            let known = [("repo", "REPO"), ("version", "1.2.3"), ("target", target), ("bin", program)];
            known.iter().fold(line.trim_end_matches('"').to_owned(), |line, (name, value)| {
                line.replace(&format!("{{ {name} }}"), value)
            })
        };
        let file = said("pkg-url").strip_prefix("REPO/releases/download/v1.2.3/").unwrap().to_owned();
        let listed = run_command(Command::new("tar").arg("-tzf").arg(dist.join(file)));
        assert!(listed.stdout.lines().any(|line| line == said("bin-dir")), "{program}: {}", listed.stdout);
        packed.push(listed.stdout);
    }
    assert_eq!(packed[0], packed[1]);
    let mut names: Vec<&str> =
        packed[0].lines().filter_map(|line| line.split_once('/')).map(|(_, name)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["", "LICENSE", "README.md", "deberta-convert", "deberta-verify"]);
}

#[test]
fn crates_that_are_published_already_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let cargo = "#!/bin/sh\nif [ $1 = info ]; then case \" $* \" in *\" $KNOWN@1.2.3 \"*) exit 0;; esac; exit 101; fi\necho \"$@\"\n";
    let publish = |known: &str| {
        let environment = [("VERSION", "1.2.3"), ("KNOWN", known)];
        step(("publish-crates", "Publish"), folder.path(), &[("cargo", cargo)], &environment).0.stdout
    };
    // The crates of the workspace that are for others, each after what it needs.
    let manifests = ["reference", "converters", "golden"].map(|name| read(&format!("{name}/Cargo.toml")));
    assert!(manifests.iter().all(|manifest| !manifest.contains("publish = false")));
    assert_eq!(
        publish("none"),
        "publish --locked --package deberta-reference --package deberta-converters --package deberta-golden\n"
    );
    assert_eq!(
        publish("deberta-converters"),
        "deberta-converters 1.2.3 is published\npublish --locked --package deberta-reference --package deberta-golden\n"
    );
}

#[test]
fn an_image_has_one_name_for_both_processors() {
    let folder = tempfile::tempdir().unwrap();
    let docker = "#!/bin/sh\necho \"$@\" >> log\ncase \"$*\" in *inspect*) echo sha256:12;; esac\n";
    let publish = |version: &str| {
        fs::write(folder.path().join("log"), "").unwrap();
        let environment = [
            ("VERSION", version),
            ("GITHUB_REPOSITORY", "Owner/Models"),
            ("GITHUB_ACTOR", "someone"),
            ("TOKEN", "secret"),
        ];
        let (run, output) =
            step(("publish-image", "Publish"), folder.path(), &[("docker", docker)], &environment);
        assert_eq!(
            (run.code, output.as_str()),
            (0, "name=ghcr.io/owner/models\ndigest=sha256:12\n"),
            "{}",
            run.stderr
        );
        fs::read_to_string(folder.path().join("log")).unwrap()
    };
    let log = publish("1.2.3");
    assert!(!log.contains("secret"), "{log}");
    let name = "ghcr.io/owner/models";
    assert!(
        log.contains(&format!("push {name}:1.2.3-amd64\n"))
            && log.contains(&format!("push {name}:1.2.3-arm64\n"))
    );
    let create =
        format!("create --tag {name}:1.2.3 --tag {name}:latest {name}:1.2.3-amd64 {name}:1.2.3-arm64\n");
    assert!(log.contains(&create), "{log}");
    assert!(!publish("1.2.3-rc.1").contains("latest"));
}

#[test]
fn a_release_has_all_files_and_says_if_it_is_not_final() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("dist")).unwrap();
    for name in ["a.tar.gz", "a.tar.gz.sha256", "b.whl"] {
        fs::write(folder.path().join("dist").join(name), "").unwrap();
    }
    let publish = |version: &str| {
        let environment = [("VERSION", version), ("GITHUB_REPOSITORY", "owner/models")];
        step(("release", "Publish"), folder.path(), &[("gh", "#!/bin/sh\necho \"$@\"\n")], &environment)
            .0
            .stdout
    };
    let expected = |version: &str, options: &str| {
        format!(
            "release create v{version} --repo owner/models --verify-tag --title {version} --generate-notes{options} dist/a.tar.gz dist/a.tar.gz.sha256 dist/b.whl\n"
        )
    };
    assert_eq!(publish("1.2.3"), expected("1.2.3", ""));
    assert_eq!(publish("1.2.3-rc.1"), expected("1.2.3-rc.1", " --prerelease"));
}
