//! Faults of a release: files beside good weights, and a configuration that is not theirs. Numbers show none of them: the
//! verification of the folder must.

use std::path::{Path, PathBuf};

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::config_file::ConfigFile;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::loading::Parameters;
use deberta_converters::progress::Progress;
use deberta_converters::recipe::Recipe;
use deberta_converters::source::Source;
use deberta_reference::Head;
use serde_json::{Value, json};

use super::files::{configure, copy, write};
use super::{Fate, FaultReport, SubjectReport};
use crate::backend::Backend as _;
use crate::fault::Model;
use crate::goldens::Golden;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind, Report, Rules, UnjudgedRule};
use crate::trace::class::Class;
use crate::trace::file::Trace;
use crate::trace::inputs::inputs;
use crate::trace::points::POINTS;
use crate::trace::tensor::{Data, Tensor};
use crate::verify::{VerifyRequest, verify};
use crate::workshop::Workshop;

/// The configuration of the model that is released.
const CONFIG: &str = r#"{
    "vocab_size": 37, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
    "max_position_embeddings": 16, "relative_attention": true, "pos_att_type": "c2p|p2c", "type_vocab_size": 0,
    "id2label": {"0": "no", "1": "maybe", "2": "yes"}, "label2id": {"no": 0, "maybe": 1, "yes": 2}
}"#;

const WEIGHTS: &str = "model.safetensors";

/// A fault of a release.
struct Fault {
    kind: &'static str,
    description: &'static str,
    /// The head of the model that it is put beside.
    head: Head,
    /// Puts it into the folder. The second folder has the same model with other numbers.
    put: fn(&Path, &Path) -> Result<()>,
    /// The finding that names it, and a word of its message, or the file that it is about.
    named: (FindingKind, &'static str),
}

const FAULTS: [Fault; 12] = [
    Fault {
        kind: "stale-variant",
        description: "model.fp16.safetensors has the numbers of another training",
        head: Head::SequenceClassification,
        put: |folder, other| copy(&other.join(WEIGHTS), &folder.join("model.fp16.safetensors")),
        named: (FindingKind::FilesDiffer, "model.fp16.safetensors"),
    },
    Fault {
        kind: "stale-shards",
        description: "shards of another training, with their index, lie beside the single file",
        head: Head::SequenceClassification,
        put: |folder, other| shard(folder, other, true),
        named: (FindingKind::FilesDiffer, "model.safetensors.index.json"),
    },
    Fault {
        kind: "stray-shard",
        description: "a shard lies there whose index does not",
        head: Head::SequenceClassification,
        put: |folder, other| shard(folder, other, false),
        named: (FindingKind::FileNotJudged, "model-00001-of-00001.safetensors"),
    },
    Fault {
        kind: "nested-weights",
        description: "a folder of the release has the numbers of another training",
        head: Head::SequenceClassification,
        put: |folder, other| copy(&other.join(WEIGHTS), &folder.join("f32").join(WEIGHTS)),
        named: (FindingKind::FilesDiffer, "f32/model.safetensors"),
    },
    Fault {
        kind: "broken-graph",
        description: "onnx/model.onnx is cut off",
        head: Head::SequenceClassification,
        put: |folder, _| write(&folder.join("onnx/model.onnx"), b"\x08\x07\x12\x40truncated"),
        named: (FindingKind::Error, "onnx/model.onnx"),
    },
    Fault {
        kind: "adapter",
        description: "transformers applies an adapter that lies beside the weights",
        head: Head::SequenceClassification,
        put: |folder, _| write(&folder.join("adapter_config.json"), br#"{"peft_type": "LORA"}"#),
        named: (FindingKind::Adapter, "adapter_config.json"),
    },
    Fault {
        kind: "unread-format",
        description: "flax_model.msgpack is judged by nobody",
        head: Head::SequenceClassification,
        put: |folder, _| write(&folder.join("flax_model.msgpack"), b"\x80"),
        named: (FindingKind::FileNotJudged, "flax_model.msgpack"),
    },
    Fault {
        kind: "label-order",
        description: "id2label has the labels in another order",
        head: Head::SequenceClassification,
        put: |folder, _| configure(folder, "id2label", json!({"0": "yes", "1": "maybe", "2": "no"})),
        named: (FindingKind::LabelsDiffer, "another order"),
    },
    Fault {
        kind: "number-of-labels",
        description: "id2label has more labels than the classifier",
        head: Head::SequenceClassification,
        put: |folder, _| {
            configure(folder, "id2label", json!({"0": "no", "1": "maybe", "2": "yes", "3": "?"}))
        },
        named: (FindingKind::ConfigUnfit, "4 labels"),
    },
    Fault {
        kind: "architectures",
        description: "architectures names a class whose head is not in the weights",
        head: Head::SequenceClassification,
        put: |folder, _| configure(folder, "architectures", json!(["DebertaForQuestionAnswering"])),
        named: (FindingKind::ConfigUnfit, "architectures"),
    },
    Fault {
        kind: "legacy",
        description: "legacy is false, and the head is cls.predictions",
        head: Head::MaskedLm,
        put: |folder, _| configure(folder, "legacy", json!(false)),
        named: (FindingKind::ConfigUnfit, "legacy"),
    },
    Fault {
        kind: "left-out-layer",
        description: "num_hidden_layers is 1 too small",
        head: Head::MaskedLm,
        put: |folder, _| configure(folder, "num_hidden_layers", json!(1)),
        named: (FindingKind::ConfigUnfit, "leaves out"),
    },
];

/// Puts every fault into a release of its own, and verifies it. `progress` is told what is being done.
///
/// # Errors
/// A release without a fault that does not pass; files that cannot be written.
pub fn releases(progress: &dyn Progress) -> Result<SubjectReport> {
    let workshop = Workshop::new(None, 1 << 20)?;
    let mut faults = Vec::with_capacity(FAULTS.len());
    for head in [Head::SequenceClassification, Head::MaskedLm] {
        let release = Release::make(&workshop, head)?;
        let (report, findings) = release.verify(&release.good)?;
        if report.outcome != Outcome::Pass || !findings.is_empty() {
            let why = findings.first().map_or("its numbers do not agree", |finding| &finding.message);
            let message = format!("a release without a fault must pass without a word: {why}");
            return Err(Error::new(Kind::Request, message).in_file(&release.good));
        }
        for fault in FAULTS.iter().filter(|fault| fault.head == head) {
            progress.step(&format!("a release: {}", fault.description));
            faults.push(release.inject(fault, &workshop)?);
        }
    }
    Ok(SubjectReport { model: "a release".to_owned(), faults, absent: Vec::new() })
}

/// A good model, another one of the same configuration, and the golden of the first.
struct Release {
    good: PathBuf,
    other: PathBuf,
    golden: Golden,
}

impl Release {
    fn make(workshop: &Workshop, head: Head) -> Result<Release> {
        let config = ConfigFile::parse(Path::new("config.json"), CONFIG.to_owned())?;
        let made = |seed: u64, name: &str| {
            let recipe = Recipe::new(&config, head, seed)?;
            Ok(workshop.make(&recipe, &format!("{name}-{}", head.word()), &())?.0)
        };
        let (good, other): (PathBuf, PathBuf) = (made(1, "good")?, made(2, "other")?);
        let golden = workshop.path().join(format!("golden-{}", head.word()));
        copy(&good.join("config.json"), &golden.join("config.json"))?;
        record(&good, &golden.join("plain.safetensors"))?;
        Ok(Release { good, other, golden: Golden::open(&golden)? })
    }

    fn inject(&self, fault: &Fault, workshop: &Workshop) -> Result<FaultReport> {
        let folder = workshop.path().join(fault.kind);
        for name in ["config.json", WEIGHTS] {
            copy(&self.good.join(name), &folder.join(name))?;
        }
        (fault.put)(&folder, &self.other)?;
        let (report, findings) = self.verify(&folder)?;
        let (kind, word) = fault.named;
        let is_named = |finding: &&Finding| finding.kind == kind && finding.message.contains(word);
        let named = findings.iter().find(is_named);
        Ok(FaultReport {
            kind: fault.kind,
            description: fault.description.to_owned(),
            fate: if report.outcome == Outcome::Pass { Fate::Survived } else { Fate::Killed },
            in_place: named.is_some(),
            diagnosed: named.is_some(),
            reason: named.or(findings.first()).map(|finding| finding.message.clone()),
            ..FaultReport::default()
        })
    }

    /// Verifies a folder as strictly as a policy does. Returns every finding, too.
    fn verify(&self, folder: &Path) -> Result<(Report, Vec<Finding>)> {
        let rules = Rules { unjudged: UnjudgedRule::Fail, ..Rules::DEFAULT };
        let goldens = vec![self.golden.clone()];
        let request =
            VerifyRequest { model: folder.to_owned(), goldens, diagnose: false, ..VerifyRequest::default() };
        let mut report = verify(&request, &())?;
        rules.judge(&mut report);
        let of_runs = report.files.iter().flat_map(|file| &file.runs).flat_map(|run| &run.findings);
        let of_files = report.files.iter().flat_map(|file| &file.findings);
        let findings = of_files.chain(of_runs).chain(&report.findings);
        // What the golden's inputs do not exercise says nothing of the release.
        let findings = findings.filter(|finding| finding.kind != FindingKind::Coverage).cloned().collect();
        Ok((report, findings))
    }
}

/// Records what the model computes.
fn record(model: &Path, path: &Path) -> Result<()> {
    let (sequences, tokens) = (3, 9);
    let ids = (0..27).map(|at| (at * 5 + at / 7 + 3) % 37).collect();
    let ids = Tensor {
        name: "inputs.input_ids".to_owned(),
        shape: vec![sequences, tokens],
        data: Data::Integers(ids),
    };
    let mut trace = Trace { metadata: Vec::new(), tensors: vec![ids] };
    let (_, checkpoint) = Checkpoint::open(Source::locate(model, None, None)?, None, None)?;
    let class = Class::of_checkpoint(&checkpoint);
    let model = Model::read(&Parameters::new(checkpoint)?, class, class.masked_rows())?.build()?;
    let computed = model.run(&inputs(&trace)?, &["*"], Vec::new())?;
    trace.metadata = vec![("class".to_owned(), class.to_string()), (POINTS.to_owned(), "*".to_owned())];
    trace.tensors.extend(computed.tensors);
    trace.write(path)
}

/// Puts the other model beside the good one as a shard, and the index of it.
fn shard(folder: &Path, other: &Path, indexed: bool) -> Result<()> {
    const SHARD: &str = "model-00001-of-00001.safetensors";
    copy(&other.join(WEIGHTS), &folder.join(SHARD))?;
    if !indexed {
        return Ok(());
    }
    let (_, files) = Source::locate(&folder.join(SHARD), None, None)?.open()?;
    let names = files.iter().flat_map(|file| file.tensors());
    let weight_map: serde_json::Map<String, Value> =
        names.map(|tensor| (tensor.name.clone(), json!(SHARD))).collect();
    let index = json!({ "weight_map": weight_map }).to_string();
    write(&folder.join("model.safetensors.index.json"), index.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_release_is_seen_and_named() {
        let report = releases(&()).unwrap();
        for fault in &report.faults {
            assert_eq!((fault.fate, fault.diagnosed), (Fate::Killed, true), "{fault:?}");
        }
    }
}
