//! Faults in graphs, and changes that are none: a small model is exported, its graph is changed, and verified as any file is.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::convert::convert;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::onnx::proto::ModelProto;
use deberta_converters::format::{Format, TensorFile, onnx};
use deberta_converters::forward;
use deberta_converters::mapped::Mapped;
use deberta_converters::progress::Progress;
use deberta_converters::request::{OnnxRequest, Request};
use deberta_converters::source::Source;
use deberta_converters::tensor::{Dtype, TensorInfo};
use deberta_reference::{Inputs, TensorSource as _};
use ndarray::Array2;
use serde::Serialize;

use super::Subject;
use super::graph_changes::{CHANGES, Change, Expected, fold};
use super::quantized_graphs::QUANTIZED;
use crate::backend::{BackendName, evaluate};
use crate::fault::Model;
use crate::goldens::Golden;
use crate::judge::verdict::Outcome;
use crate::report::{FindingKind, Report};
use crate::trace::file::Trace;
use crate::trace::tensor::{Data, Tensor};
use crate::verify::{VerifyRequest, verify};
use crate::workshop::Workshop;

/// What became of one change of a graph.
#[derive(Clone, Debug, Serialize)]
pub struct GraphReport {
    /// The model.
    pub model: String,
    /// The word for the change.
    pub kind: &'static str,
    /// What was changed.
    pub description: &'static str,
    /// How the verification ended.
    pub outcome: Outcome,
    /// Whether it ended as it must, with the right thing blamed.
    pub right: bool,
    /// What it said first.
    pub said: Option<String>,
}

/// Makes every change to the graph of a subject. `text` is the configuration.
///
/// # Errors
/// A graph that cannot be written.
pub(super) fn test(subject: &Subject, text: &str, progress: &dyn Progress) -> Result<Vec<GraphReport>> {
    let workshop = Workshop::new(None, 1 << 20)?;
    let exported = workshop.path().join("exported.onnx");
    export(&subject.model, text, Format::Onnx, &exported)?;
    let golden = record(subject, workshop.path())?;
    let changed = workshop.path().join("model.onnx");
    // Beside its weights.
    let quantized = workshop.path().join("quantized").join("model.onnx");
    beside_weights(&subject.model, text, &quantized)?;
    let changes = CHANGES.iter().map(|change| (change, &changed));
    let changes = changes.chain(QUANTIZED.iter().map(|change| (change, &quantized)));
    let mut reports = Vec::new();
    for (change, changed) in changes.filter(|(change, _)| (change.has)(subject.model.class.head)) {
        progress.step(&format!("{}: {}", subject.name, change.description));
        if !write(&exported, changed, change)? {
            continue;
        }
        let request = VerifyRequest {
            name: subject.name.clone(),
            model: changed.clone(),
            goldens: vec![golden.clone()],
            ..VerifyRequest::default()
        };
        let report = verify(&request, &())?;
        reports.push(GraphReport {
            model: subject.name.clone(),
            kind: change.kind,
            description: change.description,
            outcome: report.outcome,
            right: is_right(change.expected, &report),
            said: worst(&report),
        });
    }
    Ok(reports)
}

/// Whether a verification ended as it must, and blames what is wrong and nothing else.
fn is_right(expected: Expected, report: &Report) -> bool {
    let files = report.files.iter();
    let findings =
        files.flat_map(|file| file.findings.iter().chain(file.runs.iter().flat_map(|run| &run.findings)));
    let kinds: Vec<FindingKind> = findings
        .filter(|finding| finding.outcome == Outcome::Divergence)
        .map(|finding| finding.kind)
        .collect();
    let blames = |kind| kinds.contains(&kind);
    match expected {
        Expected::Pass => report.outcome == Outcome::Pass,
        Expected::Weights => report.outcome == Outcome::Divergence && !blames(FindingKind::GraphDiffers),
        Expected::Graph => report.outcome == Outcome::Divergence && blames(FindingKind::GraphDiffers),
        Expected::Invalid => report.outcome == Outcome::Divergence && blames(FindingKind::GraphInvalid),
        Expected::Named(words) => {
            let mut findings = report.files.iter().flat_map(|file| &file.findings);
            report.outcome == Outcome::Divergence
                && findings.any(|finding| {
                    finding.kind == FindingKind::Quantization
                        && words.iter().all(|word| finding.message.contains(word))
                })
        }
    }
}

/// What the report said of the worst that it found.
fn worst(report: &Report) -> Option<String> {
    let files = report.files.iter();
    let findings =
        files.flat_map(|file| file.findings.iter().chain(file.runs.iter().flat_map(|run| &run.findings)));
    let mut findings: Vec<_> = findings.collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.outcome));
    findings.first().map(|finding| finding.message.clone())
}

/// The folder of a graph with the weights of a model and its configuration.
fn beside_weights(model: &Model, text: &str, graph: &Path) -> Result<()> {
    let folder = graph.parent().unwrap_or(Path::new("."));
    fs::create_dir(folder).map_err(|error| Error::io(folder, "create", error))?;
    put(&folder.join("config.json"), text.as_bytes())?;
    export(model, text, Format::Safetensors, &folder.join("model.safetensors"))
}

/// A model in a file: its graph, or its weights.
fn export(model: &Model, text: &str, to: Format, output: &Path) -> Result<()> {
    let output = output.to_owned();
    let source = Source::of_files(output.clone(), Vec::new());
    let file: Box<dyn TensorFile> = Box::new(InMemory::of(model)?);
    let head = Some(model.class.head);
    let mut checkpoint =
        Checkpoint::from_files(source, Format::Safetensors, vec![file], &model.config, head)?;
    let forward = forward::Options { config: Some(text.to_owned()), ..forward::Options::default() };
    let request = Request {
        to,
        output,
        companions: Vec::new(),
        dtype: None,
        max_shard_size: None,
        replace: false,
        onnx: OnnxRequest { forward, external_data: false },
    };
    convert(&mut checkpoint, &request, &()).map(drop)
}

/// What the subject must compute, as a golden in a folder.
fn record(subject: &Subject, folder: &Path) -> Result<Golden> {
    let folder = folder.join("golden");
    fs::create_dir(&folder).map_err(|error| Error::io(&folder, "create", error))?;
    for recorded in &subject.goldens {
        let mut trace: Trace = recorded.trace.clone();
        trace.tensors.extend(inputs_of(&recorded.inputs));
        trace.write(&folder.join(format!("{}.safetensors", recorded.name)))?;
    }
    Golden::open(&folder)
}

/// The inputs as a trace has them.
fn inputs_of(inputs: &Inputs) -> Vec<Tensor> {
    let integers = |name: &str, values: &Option<Array2<i64>>| {
        let values = values.as_ref()?;
        let data = Data::Integers(values.iter().copied().collect());
        Some(Tensor { name: format!("inputs.{name}"), shape: values.shape().to_vec(), data })
    };
    let mask = inputs.attention_mask.as_ref().map(|mask| Tensor {
        name: "inputs.attention_mask".to_owned(),
        shape: mask.shape().to_vec(),
        data: Data::Floats(mask.iter().copied().collect()),
    });
    let others =
        [integers("input_ids", &inputs.input_ids), integers("token_type_ids", &inputs.token_type_ids)];
    others.into_iter().flatten().chain(mask).collect()
}

/// Writes a changed graph; `false` if the graph has nothing to change.
fn write(exported: &Path, changed: &Path, change: &Change) -> Result<bool> {
    let bytes = Mapped::open(exported)?;
    let file = onnx::open(Mapped::open(exported)?)?;
    let mut done = false;
    let rewritten = match change.change {
        Some(edit) => file.rewritten(&bytes, |model| {
            done = model.graph.as_mut().and_then(edit).is_some();
        })?,
        None => {
            let constants = changed.with_file_name("constants.onnx");
            let graph = file.rewritten(&bytes, constants_of)?;
            put(&constants, &graph)?;
            let folded = evaluate(&constants, BackendName::Onnx)?;
            done = !folded.is_empty();
            file.rewritten(&bytes, |model| model.graph.iter_mut().for_each(|graph| fold(graph, &folded)))?
        }
    };
    put(changed, &rewritten)?;
    Ok(done)
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|error| Error::io(path, "write", error))
}

/// Leaves of a model the nodes that depend on weights alone, with what the others take of them as outputs.
fn constants_of(model: &mut ModelProto) {
    let Some(graph) = &mut model.graph else { return };
    let mut known: HashSet<String> =
        graph.initializer.iter().map(|tensor| tensor.name().to_owned()).collect();
    let constant = |node: &onnx::proto::NodeProto, known: &HashSet<String>| {
        node.op_type() == "Constant"
            || !node.input.is_empty() && node.input.iter().all(|name| known.contains(name))
    };
    let (mut kept, mut others) = (Vec::new(), Vec::new());
    for node in std::mem::take(&mut graph.node) {
        if constant(&node, &known) {
            known.extend(node.output.iter().cloned());
            kept.push(node);
        } else {
            others.push(node);
        }
    }
    let taken: BTreeSet<&String> = others.iter().flat_map(|node| &node.input).collect();
    let made: Vec<String> =
        kept.iter().flat_map(|node| &node.output).filter(|name| taken.contains(name)).cloned().collect();
    graph.input.clear();
    graph.output = made
        .iter()
        .map(|name| onnx::proto::ValueInfoProto { name: Some(name.clone()), ..Default::default() })
        .collect();
    graph.node = kept;
}

/// A model's parameters in the place of a file.
struct InMemory {
    tensors: Vec<TensorInfo>,
    bytes: Vec<Vec<u8>>,
}

impl InMemory {
    fn of(model: &Model) -> Result<InMemory> {
        let (mut tensors, mut bytes) = (Vec::new(), Vec::new());
        for param in model.params() {
            let tensor =
                model.tensor(&param.name).map_err(|error| Error::new(Kind::Model, error.to_string()))?;
            let Some(tensor) = tensor else { continue };
            bytes.push((*tensor.values).as_ref().iter().flat_map(|number| number.to_le_bytes()).collect());
            tensors.push(TensorInfo { name: param.name, dtype: Dtype::F32, shape: param.shape });
        }
        Ok(InMemory { tensors, bytes })
    }
}

impl TensorFile for InMemory {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let bytes = self.bytes.get(index).ok_or_else(|| Error::malformed("no such tensor"))?;
        Ok(Cow::Borrowed(bytes))
    }
}
