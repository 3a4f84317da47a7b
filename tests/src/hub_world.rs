//! A hub, an empty cache, and a program that uses both.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::hub_server::{HubServer, Repository, sha256};
use crate::{Run, fixture, run_command, succeed};

/// The model on the hub.
pub const ID: &str = "owner/tiny-deberta";
/// Its preferred weights.
pub const WEIGHTS: &str = "model.safetensors";

/// The files of a fixture, and a vocabulary.
pub fn tiny() -> Repository {
    let mut files = read_folder(&fixture("transformers/mlm"));
    files.retain(|name, _| {
        ["config.json", WEIGHTS, "pytorch_model.bin", "tf_model.h5"].contains(&name.as_str())
    });
    assert_eq!(files.len(), 4);
    files.insert("vocab.json".to_owned(), b"{}".to_vec());
    files.insert("training_args.bin".to_owned(), b"not wanted".to_vec());
    Repository { files, ..Repository::default() }
}

/// A hub and an empty cache.
pub struct World {
    /// The hub.
    pub hub: HubServer,
    /// `HF_HOME`, and the folder that programs run in.
    pub home: tempfile::TempDir,
    convert: &'static str,
}

impl World {
    /// A hub with the repository [`ID`], for the program `convert`.
    pub fn new(convert: &'static str, repository: Repository) -> World {
        World { hub: HubServer::start([(ID, repository)]), home: tempfile::tempdir().unwrap(), convert }
    }

    /// The program with these arguments, and no variables of the environment that concern the hub but these.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.convert);
        let variables = std::env::vars().filter(|(name, _)| {
            let name = name.to_uppercase();
            ["HF_", "HUGGING", "TRANSFORMERS_", "XDG_"].iter().any(|start| name.starts_with(start))
                || name.ends_with("_PROXY")
        });
        for (name, _) in variables {
            command.env_remove(name);
        }
        command.args(args).current_dir(self.home.path());
        command.env("HF_HOME", self.home.path()).env("HF_ENDPOINT", self.hub.endpoint());
        command
    }

    /// Runs the program with these arguments.
    pub fn run(&self, args: &[&str]) -> Run {
        run_command(&mut self.command(args))
    }

    /// Runs the program with these variables too.
    pub fn run_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Run {
        run_command(self.command(args).envs(variables.iter().copied()))
    }

    /// Runs `digest`, which must succeed without a word on stderr and give the fixture's digest.
    pub fn digest(&self) {
        let run = self.run(&["digest", ID]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        assert_eq!(run.stdout, succeed(self.convert, &["digest", &text(&fixture("transformers/mlm"))]));
    }

    /// Runs `digest`, which must fail with one line, and returns it.
    pub fn failure(&self, variables: &[(&str, &str)]) -> String {
        let run = self.run_with(variables, &["digest", ID]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
        assert!(run.stderr.starts_with("error: ") && run.stderr.lines().count() == 1, "{}", run.stderr);
        run.stderr
    }

    /// The cache's folder of the model.
    pub fn repository(&self) -> PathBuf {
        self.home.path().join("hub/models--owner--tiny-deberta")
    }

    /// The names of the contents in the cache.
    pub fn blobs(&self) -> Vec<String> {
        fs::read_dir(self.repository().join("blobs"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// The unfinished content of the weights.
    pub fn incomplete(&self) -> PathBuf {
        self.repository().join("blobs").join(format!("{}.incomplete", sha256(&tiny().files[WEIGHTS])))
    }

    /// Whether a request asked the content delivery network for the weights from this byte on.
    pub fn was_asked_from(&self, byte: usize) -> bool {
        let range = format!("bytes={byte}-");
        self.hub.requests().iter().any(|request| request.cdn && request.headers.get("range") == Some(&range))
    }
}

/// The files of a folder by name.
pub fn read_folder(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// A path as text.
pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Waits for something that another process does.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
