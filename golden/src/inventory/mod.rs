//! The inventory of a release: every file of it, and whether it was judged.
//!
//! ```text
//! walk      the files of the model's folder
//! names     what a file is by its name
//! sort      what follows: what is to be judged, and what is not, and why
//! adapter   LoRA and IA3: what transformers makes of a folder that has one
//! table     the inventory as a table of a report
//! ```

use std::collections::BTreeMap;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::source::{Source, is_one_of_several};
use serde::{Deserialize, Serialize};

use crate::backend::BackendName;
use crate::judge::verdict::Outcome;
use crate::report::{FileReport, Finding, FindingKind, LOWERED, name_of};
use crate::verify::VerifyRequest;

mod adapter;
mod names;
mod sort;
mod table;
mod walk;

pub(crate) use adapter::{is_tensor as is_of_adapter, unmerged};
pub(crate) use table::table;

/// The most files of one role that are listed, those that are not judged aside.
const MOST_OF_A_ROLE: usize = 100;

/// The files that a finding names, at most.
const NAMED: usize = 5;

/// A file of a release, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path in the model's folder.
    pub file: String,
    /// What it is to the verification.
    pub role: Role,
    /// How it was judged, why it was not, or what it is; or nothing.
    pub detail: Option<String>,
    /// What follows from a file that is not judged: `undecided` if this program reads its format, `pass` if nobody here
    /// does, which a policy or `--strict` refuses. Nothing for other files: what was judged has an outcome of its own.
    pub outcome: Option<Outcome>,
}

/// What a file is to the verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Its weights, and the graph that it may hold, were compared.
    Judged,
    /// What its graph computes was compared; which weights it holds is not known.
    JudgedByNumbers,
    /// Weights or a graph that nothing was compared of.
    NotJudged,
    /// Neither weights, nor anything that they are run with.
    NotOfTheModel,
    /// Settings.
    Configuration,
    /// A part of the tokenizer.
    Tokenizer,
    /// What the model is compared with.
    Golden,
}

/// The files of a release, sorted, before anything is judged.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    entries: Vec<Entry>,
    /// What is to be judged.
    pub(crate) sources: Vec<Found>,
    /// For the shard of an index, or the data of graphs, which of the sources it is a part of.
    parts: BTreeMap<String, Vec<String>>,
    findings: Vec<Finding>,
}

/// Weights or a graph to judge.
#[derive(Debug)]
pub(crate) struct Found {
    /// What reports call it: its path in the model's folder.
    pub(crate) name: String,
    /// Where it is; or what is wrong with its index.
    pub(crate) source: Result<Source>,
    /// The configuration, if it is neither beside the file nor where one of its kind is looked for.
    pub(crate) config: Option<std::path::PathBuf>,
}

impl Inventory {
    /// Sorts the files of the model that is asked for. Of one that is named by a file there is nothing but that file, with
    /// its shards: its neighbours are not looked at.
    ///
    /// # Errors
    /// No weights; the index of the shards that was named is none; one of several shards.
    pub(crate) fn of(request: &VerifyRequest) -> Result<Inventory> {
        if request.model.is_dir() { sort::sort(request) } else { Inventory::of_file(request) }
    }

    fn of_file(request: &VerifyRequest) -> Result<Inventory> {
        let source = Source::locate(&request.model, None, None)?;
        let name = name_of(&source.path);
        if is_one_of_several(&name) {
            let why =
                "one of several shards, which is no model alone: --model names their index, or the folder";
            return Err(Error::new(Kind::Request, why).in_file(&source.path));
        }
        let mut inventory = Inventory::default();
        inventory.entries.push(Entry::new(name.clone(), Role::Judged, ""));
        for shard in source.weight_map.iter().flat_map(|_| &source.files) {
            inventory.part(name_of(shard), vec![name.clone()], "a shard");
        }
        inventory.sources.push(Found { name, source: Ok(source), config: None });
        Ok(inventory)
    }

    /// Adds a file that belongs to a source, or to several.
    fn part(&mut self, file: String, of: Vec<String>, what: &str) {
        let detail = format!("{what} of {}", of.join(", "));
        self.entries.push(Entry::new(file.clone(), Role::Judged, detail));
        self.parts.insert(file, of);
    }

    /// What became of every file, once those that were to be judged have been, and what there is to say about those that
    /// were not.
    pub(crate) fn conclude(mut self, files: &[FileReport]) -> (Vec<Entry>, Vec<Finding>) {
        for entry in self.entries.iter_mut().filter(|entry| entry.role == Role::Judged) {
            let parts = self.parts.get(&entry.file);
            let of = parts.map_or(std::slice::from_ref(&entry.file), Vec::as_slice);
            let reports = files.iter().filter(|report| of.contains(&report.file));
            // What several graphs take is judged with the one of them that tells most.
            let Some((role, report)) =
                reports.map(|report| (role_of(report), report)).min_by_key(|(role, _)| *role)
            else {
                continue;
            };
            entry.role = role;
            if parts.is_none() {
                entry.detail = Some(manner(report));
            }
        }
        let mut findings = self.findings;
        findings.extend(of_unjudged(&self.entries));
        (folded(self.entries), findings)
    }
}

impl Entry {
    /// A file of this role; `detail` may be empty.
    fn new(file: String, role: Role, detail: impl Into<String>) -> Entry {
        Entry { file, role, detail: Some(detail.into()).filter(|detail| !detail.is_empty()), outcome: None }
    }

    /// A file that is not judged.
    fn unjudged(file: String, outcome: Outcome, why: impl Into<String>) -> Entry {
        Entry { outcome: Some(outcome), ..Entry::new(file, Role::NotJudged, why) }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Role::Judged => "judged",
            Role::JudgedByNumbers => "judged by its numbers alone",
            Role::NotJudged => "not judged",
            Role::NotOfTheModel => "not of the model",
            Role::Configuration => "configuration",
            Role::Tokenizer => "tokenizer",
            Role::Golden => "golden",
        })
    }
}

fn role_of(report: &FileReport) -> Role {
    if is_invalid(report) {
        return Role::Judged;
    }
    let rounded = report.quantization.as_ref().is_some_and(|answers| answers.tensors.is_some());
    match (report.runs.iter().any(|run| run.compared() > 0), report.digest.is_some() || rounded) {
        (false, _) => Role::NotJudged,
        (true, true) => Role::Judged,
        (true, false) => Role::JudgedByNumbers,
    }
}

/// What is said of a graph that is wrong whatever it would compute.
const NOT_LOADED: &str = "no runtime loads its graph";

/// Whether a file has a graph that no runtime loads.
fn is_invalid(report: &FileReport) -> bool {
    report.findings.iter().any(|finding| finding.kind == FindingKind::GraphInvalid)
}

/// How a file was judged: `ONNX: weights by reference, graph by onnx`.
fn manner(report: &FileReport) -> String {
    let mut backends: Vec<&str> = Vec::new();
    for run in report.runs.iter().filter(|run| run.compared() > 0 && run.backend != LOWERED) {
        if !backends.contains(&run.backend.as_str()) {
            backends.push(&run.backend);
        }
    }
    if backends.is_empty() && is_invalid(report) {
        return NOT_LOADED.to_owned();
    }
    if backends.is_empty() {
        return "nothing of it was compared: its findings say why".to_owned();
    }
    let runs_graphs = |backend: &str| {
        let graph = [BackendName::Onnx, BackendName::OnnxRuntime].map(BackendName::as_str).contains(&backend);
        graph || report.format.as_deref() == Some("TorchScript")
    };
    let by =
        |backend: &str| format!("{} by {backend}", if runs_graphs(backend) { "graph" } else { "weights" });
    let mut how = backends.into_iter().map(by).collect::<Vec<_>>().join(", ");
    if is_invalid(report) {
        how.push_str(&format!("; {NOT_LOADED}"));
    }
    let format = report.format.as_deref().unwrap_or("a format that is not known");
    match &report.graph {
        Some(kind) if kind != "f32" => format!("{format}, {kind}: {how}"),
        _ => format!("{format}: {how}"),
    }
}

/// One finding for all files that are not judged for one reason.
fn of_unjudged(entries: &[Entry]) -> Vec<Finding> {
    let mut reasons: Vec<(Outcome, &str, Vec<&str>)> = Vec::new();
    for entry in entries.iter().filter(|entry| !adapter::is_of_adapter(&entry.file)) {
        let Some(outcome) = entry.outcome else { continue };
        let why = entry.detail.as_deref().unwrap_or_default();
        match reasons.iter_mut().find(|(of, reason, _)| (*of, *reason) == (outcome, why)) {
            Some((.., files)) => files.push(&entry.file),
            None => reasons.push((outcome, why, vec![&entry.file])),
        }
    }
    let finding = |(outcome, why, files): (Outcome, &str, Vec<&str>)| {
        let more = files.len().saturating_sub(NAMED);
        let mut named = files.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        if more > 0 {
            named.push_str(&format!(" and {more} more"));
        }
        Finding::new(FindingKind::FileNotJudged, outcome, format!("not judged: {named}: {why}"))
    };
    reasons.into_iter().map(finding).collect()
}

/// The entries without the many of one role that nobody would read; what is not judged stays.
fn folded(entries: Vec<Entry>) -> Vec<Entry> {
    let mut counts: BTreeMap<Role, usize> = BTreeMap::new();
    let mut kept = Vec::new();
    for entry in entries {
        let count = counts.entry(entry.role).or_default();
        *count += 1;
        if *count <= MOST_OF_A_ROLE || matches!(entry.role, Role::NotJudged) {
            kept.push(entry);
        }
    }
    for (role, count) in counts {
        let more = count.saturating_sub(MOST_OF_A_ROLE);
        if more > 0 && role != Role::NotJudged {
            kept.push(Entry::new("…".to_owned(), role, format!("{more} more files")));
        }
    }
    kept
}
