//! What follows from the names and the places of files: which are judged, and which are not, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use deberta_converters::companions::CONFIGURATION;
use deberta_converters::error::Result;
use deberta_converters::format::{Format, onnx, open_file, sniff};
use deberta_converters::hub::Listed;
use deberta_converters::mapped::Mapped;
use deberta_converters::source::{Source, is_shard};
use deberta_reference::probe::matches;

use super::names::{Kind, kind};
use super::walk::{Seen, What, walk};
use super::{Entry, Found, Inventory, Role, adapter};
use crate::backend::BackendName;
use crate::case;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind};
use crate::trace::folder::is_trace;
use crate::verify::VerifyRequest;

/// The most weight files that are judged.
const MOST_JUDGED: usize = 64;

/// The bytes of a file that tell whether it is text.
const START: usize = 4096;

/// Where exports are, which belong to the model of the folder above.
const EXPORTS: &str = "onnx";

/// Sorts the files of a folder.
pub(super) fn sort(request: &VerifyRequest) -> Result<Inventory> {
    let (seen, whole) = walk(&request.model);
    let mut sorter = Sorter::new(request, &seen);
    for seen in &seen {
        sorter.sort(seen);
    }
    sorter.sort_by_bytes();
    if !whole {
        sorter.unjudged("…", Outcome::Undecided, "more files than are looked at");
    }
    sorter.listed(&seen);
    sorter.finish()
}

struct Sorter<'r> {
    request: &'r VerifyRequest,
    inventory: Inventory,
    /// The paths of traces and cases that the model is compared with, and of their folders, with `/` at the end.
    goldens: Vec<String>,
    /// Folders in the folder that have a configuration of their own.
    models: BTreeSet<String>,
    /// The configuration of the model.
    config: Option<PathBuf>,
    /// Shards of indexes, and the index.
    shards: BTreeMap<String, String>,
    /// Files that are weights if their bytes say so, or data of a graph.
    unsorted: Vec<(&'r Seen, Kind)>,
    adapter: bool,
}

impl<'r> Sorter<'r> {
    fn new(request: &'r VerifyRequest, seen: &[Seen]) -> Sorter<'r> {
        let is_config = |seen: &&Seen| CONFIGURATION.contains(&name_in_folder(&seen.name));
        let (own, nested): (Vec<&Seen>, Vec<&Seen>) =
            seen.iter().filter(is_config).partition(|seen| folder_of(&seen.name).is_empty());
        let mut sorter = Sorter {
            request,
            inventory: Inventory::default(),
            goldens: goldens(request),
            models: nested.into_iter().map(|seen| folder_of(&seen.name).to_owned()).collect(),
            config: own.first().map(|seen| seen.path.clone()),
            shards: BTreeMap::new(),
            unsorted: Vec::new(),
            adapter: false,
        };
        for seen in seen.iter().filter(|seen| seen.what == What::File && kind(&seen.name) == Kind::Index) {
            let shards =
                Source::locate(&seen.path, None, None).map(|source| source.files).unwrap_or_default();
            for shard in shards.iter().filter_map(|path| path.file_name()) {
                let shard = join(folder_of(&seen.name), &shard.to_string_lossy());
                sorter.shards.entry(shard).or_insert_with(|| seen.name.clone());
            }
        }
        sorter
    }

    fn add(&mut self, name: &str, role: Role, detail: impl Into<String>) {
        self.inventory.entries.push(Entry::new(name.to_owned(), role, detail));
    }

    fn unjudged(&mut self, name: &str, outcome: Outcome, why: impl Into<String>) {
        self.inventory.entries.push(Entry::unjudged(name.to_owned(), outcome, why));
    }

    /// Whether the policy names the file as one that need not be judged.
    fn is_allowed(&self, name: &str) -> bool {
        self.request.unjudged.iter().any(|pattern| matches(pattern, name))
    }

    fn sort(&mut self, seen: &'r Seen) {
        let name = seen.name.as_str();
        let of = kind(name);
        match &seen.what {
            What::Hidden => return self.add(name, Role::NotOfTheModel, "a folder of a tool"),
            What::Not(why) if self.is_allowed(name) => {
                return self.add(name, Role::NotJudged, format!("the policy allows it: {why}"));
            }
            What::Not(why) => {
                let harmless = matches!(of, Kind::Aside(_) | Kind::Tokenizer | Kind::Configuration);
                let outcome = if harmless { Outcome::Pass } else { Outcome::Undecided };
                return self.unjudged(name, outcome, why);
            }
            What::File => {}
        }
        if self.is_golden(name) {
            return self.add(name, Role::Golden, "");
        }
        match of {
            Kind::Aside(what) => return self.add(name, Role::NotOfTheModel, what),
            Kind::Configuration => return self.add(name, Role::Configuration, ""),
            Kind::Tokenizer => return self.add(name, Role::Tokenizer, ""),
            _ if self.is_allowed(name) => return self.add(name, Role::NotJudged, "the policy allows it"),
            Kind::Foreign(_) | Kind::Unknown => return self.unsorted.push((seen, of)),
            Kind::Adapter | Kind::AdapterConfig => return self.adapter(name, of),
            Kind::Index | Kind::Weights => {}
        }
        let shard = self.shards.get(name).cloned();
        if let Some(model) = self.other_model(name) {
            let why =
                format!("of a model of its own, whose configuration is in {model}: --model names its folder");
            self.unjudged(name, Outcome::Undecided, why);
        } else if let Some(index) = shard {
            self.inventory.part(name.to_owned(), vec![index], "a shard");
        } else if is_shard(name) && holds_nothing(&seen.path) {
            self.add(name, Role::NotOfTheModel, "a shard without tensors");
        } else if is_shard(name) {
            let why = "a shard that no index here names: nothing loads it, and it is no model alone";
            self.unjudged(name, Outcome::Undecided, why);
        } else if name.ends_with(".safetensors") && is_trace(&seen.path).unwrap_or(false) {
            self.add(name, Role::Golden, "a trace");
        } else {
            self.judge(seen);
        }
    }

    fn is_golden(&self, name: &str) -> bool {
        let of =
            |golden: &String| golden == name || (golden.ends_with('/') && name.starts_with(golden.as_str()));
        self.goldens.iter().any(of) || name_in_folder(name) == case::FILE_NAME
    }

    /// The folder of the file, or one above it, that has a configuration: of a checkpoint of the training, say.
    fn other_model(&self, name: &str) -> Option<&str> {
        let folder = folder_of(name);
        let above = |model: &&String| folder == *model || folder.starts_with(&format!("{model}/"));
        self.models.iter().filter(above).find(|model| *model != EXPORTS).map(String::as_str)
    }

    /// Adds a weight file, or the index of one, to what is judged.
    fn judge(&mut self, seen: &Seen) {
        let name = seen.name.as_str();
        let graph_alone = self.request.backend.is_some_and(BackendName::runs_graphs);
        if graph_alone && !name.to_lowercase().ends_with(".onnx") {
            return self.unjudged(name, Outcome::Pass, "graphs alone were asked for (--backend)");
        }
        if self.inventory.sources.len() >= MOST_JUDGED {
            let why = format!("more than {MOST_JUDGED} weight files");
            return self.unjudged(name, Outcome::Undecided, why);
        }
        let folder = folder_of(name);
        let config = self.config.clone().filter(|_| !folder.is_empty() && folder != EXPORTS);
        self.add(name, Role::Judged, "");
        let source = Source::locate(&seen.path, None, None);
        self.inventory.sources.push(Found { name: name.to_owned(), source, config });
    }

    fn adapter(&mut self, name: &str, of: Kind) {
        if !folder_of(name).is_empty() {
            let why = "an adapter in a folder of its own: transformers applies it only where it is asked to";
            return self.unjudged(name, Outcome::Pass, why);
        }
        let why = if of == Kind::AdapterConfig {
            self.adapter = true;
            "transformers applies the adapter that it is of"
        } else {
            "an adapter: it changes the weights that were judged"
        };
        self.unjudged(name, Outcome::Undecided, why);
    }

    /// Sorts what the names left open: data of graphs, and then what the bytes tell.
    fn sort_by_bytes(&mut self) {
        let unsorted = std::mem::take(&mut self.unsorted);
        let mut data: BTreeMap<String, Vec<String>> = BTreeMap::new();
        if !unsorted.is_empty() {
            for found in &self.inventory.sources {
                let Ok(source) = &found.source else { continue };
                for file in external_files(&found.name, &source.path) {
                    data.entry(file).or_default().push(found.name.clone());
                }
            }
        }
        let names: BTreeSet<&str> = unsorted.iter().map(|(seen, _)| seen.name.as_str()).collect();
        for (seen, of) in &unsorted {
            let name = seen.name.as_str();
            let graphs = data.remove(name).or_else(|| Some(vec![self.graph_of(name)?]));
            let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
            // OpenVINO has the graph in an XML file and its weights beside it.
            let twin = if extension == "xml" { "bin" } else { "xml" };
            let is_openvino =
                ["bin", "xml"].contains(&extension) && names.contains(format!("{stem}.{twin}").as_str());
            match (graphs, of) {
                (Some(graphs), _) => self.inventory.part(name.to_owned(), graphs, "the data"),
                (_, Kind::Foreign(whose)) => self.unjudged(name, Outcome::Pass, foreign(whose)),
                _ if is_openvino => self.unjudged(name, Outcome::Pass, foreign("OpenVINO")),
                _ => self.by_bytes(seen),
            }
        }
    }

    /// The graph that a file is the data of by its name: `model.onnx_data`, `model.onnx.data`.
    fn graph_of(&self, name: &str) -> Option<String> {
        let of = |found: &&Found| {
            let rest = name.strip_prefix(found.name.as_str());
            rest.is_some_and(|rest| rest == ".data" || rest.starts_with("_data"))
        };
        self.inventory.sources.iter().find(of).map(|found| found.name.clone())
    }

    fn by_bytes(&mut self, seen: &Seen) {
        let name = seen.name.as_str();
        let bytes = match Mapped::open(&seen.path) {
            Ok(bytes) => bytes,
            Err(error) => return self.unjudged(name, Outcome::Undecided, error.to_string()),
        };
        match sniff(&bytes) {
            Ok(_) if self.other_model(name).is_none() => self.judge(seen),
            Ok(format) => {
                let why = format!("{format}, in the folder of another model: --model names it");
                self.unjudged(name, Outcome::Undecided, why);
            }
            Err(_) if bytes.is_empty() => self.add(name, Role::NotOfTheModel, "empty"),
            Err(error) if bytes.starts_with(b"version https://git-lfs") => {
                self.unjudged(name, Outcome::Undecided, error.to_string());
            }
            Err(_) if is_text(bytes.get(..START).unwrap_or(&bytes)) => {
                self.add(name, Role::NotOfTheModel, "text");
            }
            Err(_) => self.unjudged(name, Outcome::Pass, "of a format that is not known here"),
        }
    }

    /// Adds what the repository of the hub has and the folder has not.
    fn listed(&mut self, seen: &[Seen]) {
        let files = match &self.request.listed {
            Listed::Folder => return,
            Listed::Unknown => {
                let why =
                    "the hub was not asked, or did not answer: what else the repository has is not known";
                return self.unjudged("(the repository)", Outcome::Pass, why);
            }
            Listed::Repository(files) => files,
        };
        let there: BTreeSet<&str> = seen.iter().map(|seen| seen.name.as_str()).collect();
        for name in files.iter().filter(|name| !there.contains(name.as_str())) {
            const WHY: &str = "not downloaded";
            match kind(name) {
                Kind::Aside(what) => self.add(name, Role::NotOfTheModel, what),
                Kind::Configuration => self.add(name, Role::Configuration, WHY),
                Kind::Tokenizer => self.add(name, Role::Tokenizer, WHY),
                _ if self.is_allowed(name) => self.add(name, Role::NotJudged, "the policy allows it"),
                Kind::Foreign(whose) => self.unjudged(name, Outcome::Pass, foreign(whose)),
                of @ (Kind::Adapter | Kind::AdapterConfig) => self.adapter(name, of),
                Kind::Index | Kind::Weights | Kind::Unknown => self.unjudged(name, Outcome::Pass, WHY),
            }
        }
    }

    /// The inventory: the weights that transformers looks for first, in the order of formats, then the others.
    fn finish(mut self) -> Result<Inventory> {
        let places: Vec<String> = Format::ALL.into_iter().flat_map(Format::places).collect();
        let rank =
            |found: &Found| places.iter().position(|place| *place == found.name).unwrap_or(places.len());
        self.inventory.sources.sort_by_key(rank);
        self.inventory.entries.sort_by(|a, b| (depth(&a.file), &a.file).cmp(&(depth(&b.file), &b.file)));
        if self.inventory.sources.is_empty() {
            return Err(self.nothing_to_judge());
        }
        if self.adapter {
            let folder = Some(self.request.model.as_path());
            self.inventory.findings.push(adapter::applied(folder));
        } else if self
            .inventory
            .entries
            .iter()
            .any(|entry| entry.outcome.is_some() && adapter::is_of_adapter(&entry.file))
        {
            let message = "an adapter without adapter_config.json is beside the weights: transformers does not apply it, \
                           and what it was trained for is lost; merge it, or move it into a folder of its own";
            self.inventory.findings.push(Finding::new(FindingKind::Adapter, Outcome::Undecided, message));
        }
        Ok(self.inventory)
    }

    /// Why there is nothing to judge, with what there is instead.
    fn nothing_to_judge(&self) -> deberta_converters::Error {
        let wanted = self.request.backend.filter(|backend| backend.runs_graphs()).map(|_| Format::Onnx);
        let error = match Source::locate(&self.request.model, wanted, None) {
            Err(error) => error,
            Ok(source) => {
                let why = "no weight file that can be judged in this folder";
                deberta_converters::Error::new(deberta_converters::Kind::Io, why).in_file(source.folder())
            }
        };
        let unjudged = self.inventory.entries.iter().filter(|entry| entry.role == Role::NotJudged);
        let there: Vec<String> = unjudged
            .take(super::NAMED)
            .map(|entry| format!("{} ({})", entry.file, entry.detail.as_deref().unwrap_or("not judged")))
            .collect();
        if there.is_empty() || error.to_string().contains("; there is ") {
            error
        } else {
            error.followed_by(&format!("; there is {}", there.join(", ")))
        }
    }
}

/// The paths in the model's folder that goldens are at: files, and folders with `/` at the end.
fn goldens(request: &VerifyRequest) -> Vec<String> {
    let Ok(root) = request.model.canonicalize() else { return Vec::new() };
    let relative = |path: &Path| {
        let path = path.canonicalize().ok()?;
        let inside = path.strip_prefix(&root).ok().filter(|inside| !inside.as_os_str().is_empty())?;
        Some(inside.to_string_lossy().into_owned())
    };
    let traces = request.goldens.iter().flat_map(|golden| &golden.traces).filter_map(|path| relative(path));
    let folders = request.goldens.iter().filter_map(|golden| relative(golden.folder.as_deref()?));
    traces.chain(folders.map(|folder| format!("{folder}/"))).collect()
}

/// The files that hold tensors of a graph.
fn external_files(graph: &str, path: &Path) -> BTreeSet<String> {
    if !graph.to_lowercase().ends_with(".onnx") {
        return BTreeSet::new();
    }
    let Ok(file) = Mapped::open(path).and_then(onnx::open) else { return BTreeSet::new() };
    file.external_files().map(|file| join(folder_of(graph), file.trim_start_matches("./"))).collect()
}

/// Whether a weight file has no tensors, as the first shard that transformers' TensorFlow classes write before a weight that
/// is larger than a shard; their index does not name it.
fn holds_nothing(path: &Path) -> bool {
    Mapped::open(path).and_then(open_file).is_ok_and(|(_, file)| file.tensors().is_empty())
}

fn foreign(whose: &str) -> String {
    format!("{whose}: no reader here knows this format")
}

/// Whether the start of a file is text, as licences are without an extension.
fn is_text(start: &[u8]) -> bool {
    let cut = |error: std::str::Utf8Error| error.error_len().is_none();
    !start.contains(&0) && std::str::from_utf8(start).map_or_else(cut, |_| true)
}

/// In how many folders of the model's folder a file is.
fn depth(name: &str) -> usize {
    name.matches('/').count()
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn name_in_folder(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, name)| name)
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
