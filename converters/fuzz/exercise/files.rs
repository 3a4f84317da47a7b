//! What the targets for the small files beside weights do with their input: it is put in its place in a folder, whose other
//! files are good, and read.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_converters::config_file::ConfigFile;
use deberta_converters::source::Source;
use deberta_golden::Case;
use deberta_golden::goldens::Golden;
use deberta_golden::policy::Policy;
use deberta_golden::report::{Document, Merged, ReportFormat, Style, merge};
use deberta_golden::task::choices::MultipleChoice;
use deberta_golden::task::masked_lm::MaskedLm;
use deberta_golden::task::metric::entities::Scheme;
use deberta_golden::task::mnli::Mnli;
use deberta_golden::task::stsb::Stsb;
use deberta_golden::task::tokens::TokenClassification;
use deberta_golden::task::zero_shot::ZeroShot;
use deberta_golden::trace::file::TraceFile;
use deberta_golden::trace::inputs::inputs;
use deberta_reference::tokenizer::{EncodeOptions, PreTrainedTokenizerBase as _, Tokenizer};

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn with(files: &[(&str, &[u8])]) -> Folder {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("deberta-fuzz-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder can be made");
        for (name, data) in files {
            fs::write(folder.join(name), data).expect("a file can be written");
        }
        Folder(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The target `config`: config.json.
pub(crate) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    if let Ok(file) = ConfigFile::parse(Path::new("config.json"), text) {
        let _ = file.config.warnings();
    }
}

/// The target `index`: the index of shards, of which none is there.
pub(crate) fn index(data: &[u8]) {
    let folder = Folder::with(&[("model.safetensors.index.json", data)]);
    if let Ok(source) = Source::locate(&folder.0, None, None) {
        let _ = source.open();
    }
}

/// The target `yaml`: case.yaml and verify.yaml.
pub(crate) fn yaml(data: &[u8]) {
    let folder = Folder::with(&[("case.yaml", data), ("verify.yaml", data)]);
    if let Ok(case) = Case::from_yaml(&String::from_utf8_lossy(data)) {
        let _ = (case.model_folder(&folder.0), case.recipe(&folder.0));
    }
    let _ = Golden::open(&folder.0);
    if let Ok(policy) = Policy::open(&folder.file("verify.yaml")) {
        let _ = (policy.rules(), policy.reports());
    }
}

/// The target `trace`: a trace with all numbers, or with samples of them.
pub(crate) fn trace(data: &[u8]) {
    let folder = Folder::with(&[("trace.safetensors", data)]);
    if let Ok(file) = TraceFile::open(&folder.file("trace.safetensors")) {
        let names: Vec<String> = file.names().map(str::to_owned).collect();
        for name in names {
            let _ = file.recorded(&name);
        }
        if let Ok(trace) = file.inputs() {
            let _ = inputs(&trace);
        }
    }
}

const TEXT: &str = "Ada owns a [MASK] kite; 漢字\u{301} <x> \u{3000}ﬁ!";

fn tokenize(folder: &Folder) {
    let tokenizers = [
        Tokenizer::fast_from_pretrained(&folder.0).map(Tokenizer::Fast),
        Tokenizer::slow_from_pretrained(&folder.0).map(Tokenizer::Slow),
    ];
    for tokenizer in tokenizers.into_iter().flatten() {
        if let Ok(encoding) = tokenizer.encode_plus(TEXT, Some("kite"), &EncodeOptions::default()) {
            let _ = tokenizer.decode(&encoding.input_ids, true, None);
        }
    }
}

/// The target `tokenizer`: tokenizer.json, of either version, and the settings beside a vocabulary.
pub(crate) fn tokenizer(data: &[u8]) {
    tokenize(&Folder::with(&[("tokenizer.json", data)]));
    for name in ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"] {
        tokenize(&Folder::with(&[("vocab.json", VOCABULARY), ("merges.txt", MERGES), (name, data)]));
    }
}

const VOCABULARY: &[u8] = include_bytes!("../../../golden/trained/nli/vocab.json");
const MERGES: &[u8] = include_bytes!("../../../golden/trained/nli/merges.txt");

/// The target `vocabulary`: vocab.json, and merges.txt.
pub(crate) fn vocabulary(data: &[u8]) {
    tokenize(&Folder::with(&[("vocab.json", data), ("merges.txt", MERGES)]));
    tokenize(&Folder::with(&[("vocab.json", VOCABULARY), ("merges.txt", data)]));
}

/// The target `pieces`: spm.model.
pub(crate) fn pieces(data: &[u8]) {
    tokenize(&Folder::with(&[("spm.model", data)]));
}

/// The target `tasks`: data of tasks, under every name that says of which form they are.
pub(crate) fn tasks(data: &[u8]) {
    let names = ["data.txt", "data.tsv", "data.csv", "data.json", "data.jsonl"];
    let folder = Folder::with(&names.map(|name| (name, data)));
    for name in names {
        let files = [folder.file(name)];
        let _ = Mnli::read(&files, None, None);
        let _ = Stsb::read(&files, None);
        let _ = MaskedLm::read(&files, None, None);
        let _ = MultipleChoice::race(&files, None);
        let _ = MultipleChoice::swag(&files, None);
        let _ = TokenClassification::read(&files, None, Scheme::default());
        let _ = ZeroShot::read(&files, None, None, None, false);
    }
}

/// The target `report`: reports of a policy, merged and shown in every format.
pub(crate) fn report(data: &[u8]) {
    let folder = Folder::with(&[("report.json", data)]);
    if let Ok(merged) = merge(&[folder.file("report.json")]) {
        show(&merged);
    }
}

fn show(Merged { policy, rules, reports }: &Merged) {
    let document = Document { policy: Some(policy), shard: None, rules: *rules, reports };
    let formats = [
        ReportFormat::Text,
        ReportFormat::Json,
        ReportFormat::Junit,
        ReportFormat::Markdown,
        ReportFormat::Html,
        ReportFormat::Card,
    ];
    for format in formats {
        let shown = format.render(&document, Style { all_points: true, ..Style::default() });
        let hidden = |c: char| c != '\n' && c != '\t' && deberta_converters::printable::is_hidden(c);
        assert!(!shown.contains(hidden), "{format:?} has hidden characters");
    }
}
