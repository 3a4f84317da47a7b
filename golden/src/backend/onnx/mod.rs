//! ONNX graphs as a backend, computed by one of two programs: `rten`, which is part of this one, or ONNX Runtime.
//!
//! The file is read and checked by `deberta_converters` first, so that the runtime sees only bytes that keep the rules of
//! the format and data inside the model's folder. What the runtime does with them happens in a process of its own, with a limit
//! of memory and of time ([`use_graph_program`]): a panic, a crash, an unknown operator, a graph that does not end and one that
//! allocates without end become errors.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::onnx::{GraphKind, Half, OnnxFile, Types};
use deberta_converters::format::{TensorFile as _, onnx};
use deberta_converters::forward::CLASS_KEY;
use deberta_converters::lowering::{self, Activations, Options, SWITCHES, lower};
use deberta_converters::mapped::Mapped;
use deberta_reference::probe::matches;
use deberta_reference::{Inputs, MaskedRows};
use ndarray::ArrayD;

use super::interface::metadata;
use super::{Backend, BackendName, Graph};
use crate::judge::tolerance::Precision;
use crate::trace::class::{Class, masked_rows};
use crate::trace::file::Trace;
use crate::trace::points::{Named, rank};
use crate::trace::tensor::Tensor;

mod apart;
mod chance;
mod computation;
mod departures;
mod feed;
#[cfg(feature = "onnxruntime")]
mod library;
mod masked;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
mod process;
mod range;
mod rewriting;
mod roles;
mod rten;
mod runtime;

pub(crate) use apart::apart;
pub use computation::said;
use feed::{Feed, Given, Input, Numbers};
#[cfg(feature = "onnxruntime")]
pub use library::{library, use_library};
pub use process::{
    ARGUMENT as GRAPH_PROCESS, peak_memory as peak_memory_of_graphs, serve, use_graph_program,
};
use process::{Loading, Process, Size};
pub use range::Overflow;
use range::Restricted;
use runtime::Runtime;

/// The outputs that stand for themselves. All others are activations.
const OUTPUTS: [&str; 4] = ["last_hidden_state", "logits", "start_logits", "end_logits"];

/// A graph that is run as it is.
///
/// ```
/// use deberta_golden::Backend;
/// use deberta_golden::backend::{BackendName, Onnx};
/// use deberta_reference::Inputs;
///
/// let path = concat!(env!("CARGO_MANIFEST_DIR"), "/trained/nli/model.onnx");
/// let graph = Onnx::open(path.as_ref(), BackendName::Onnx)?;
/// let mut inputs = Inputs::from_ids(ndarray::array![[1, 50, 51, 2]]);
/// inputs.attention_mask = Some(ndarray::Array2::ones((1, 4)).into_dyn());
/// let trace = graph.run(&inputs, &[], Vec::new())?;
/// assert_eq!(trace.get("outputs.logits").map(|logits| logits.shape.clone()), Some(vec![1, 3]));
/// # Ok::<(), deberta_converters::Error>(())
/// ```
#[derive(Clone)]
pub struct Onnx {
    path: PathBuf,
    backend: BackendName,
    runtime: Arc<dyn Runtime>,
    feed: Feed,
    /// Their names in a trace and in the graph, in the order of execution.
    outputs: Vec<(String, String)>,
    class: Option<Class>,
    masked_rows: MaskedRows,
    /// Whether the file says what becomes of masked rows.
    states_rows: bool,
    precision: Precision,
    kind: GraphKind,
    unknown: Vec<String>,
    size: Size,
    /// Which nodes compute with rounded numbers and which do not, if that can be said.
    switches: Option<Vec<f32>>,
    /// The graph with the range of f16, once it was asked for.
    restricted: Arc<OnceLock<Restricted>>,
}

impl Onnx {
    /// Loads the graph of a file into the runtime of `backend`.
    ///
    /// # Errors
    /// What is no ONNX model; metadata with a class or a convention that there is not; types that contradict each other;
    /// operators that the runtime does not know, or does not compute as the standard says; a backend that runs no graphs, or
    /// that this program was built without.
    pub fn open(path: &Path, backend: BackendName) -> Result<Onnx> {
        Onnx::load(path, backend).map_err(|error| error.in_file(path))
    }

    fn load(path: &Path, backend: BackendName) -> Result<Onnx> {
        let file = onnx::open(Mapped::open(path)?)?;
        let graph = file.graph().ok_or_else(|| Error::malformed("an ONNX model without a graph"))?;
        let floating = file.tensors().iter().map(|tensor| tensor.dtype);
        let precision = Precision::of(floating);
        let metadata = Trace { metadata: file.metadata().to_vec(), tensors: Vec::new() };
        let class = metadata.metadata(CLASS_KEY).map(Class::from_name).transpose()?;
        let stated = metadata.metadata("deberta.masked_rows").map(masked_rows).transpose()?;
        let states_rows = stated.is_some() || class.is_some();
        let rows = stated.or(class.map(Class::masked_rows)).or_else(|| masked::masked_rows(graph));
        let types = Types::infer(&file).map_err(contradiction)?;
        let kind = GraphKind::of(&file, &types);
        let initializers: Vec<String> = file.tensors().iter().map(|tensor| tensor.name.clone()).collect();

        let size = Size::of(path, &file);
        let runtime = runtime(path, backend, size)?;
        let inputs = runtime.inputs()?;
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        let names: Vec<&str> =
            names.into_iter().filter(|name| !initializers.iter().any(|of| of == name)).collect();
        let by_use = roles::by_use(graph, file.tensors(), &names);
        let feed = Feed::of(inputs, &initializers, &by_use)?;
        let (mut outputs, mut unknown) = (Vec::new(), Vec::new());
        for name in runtime.outputs() {
            let traced = traced(&name);
            match Named::of(&traced) {
                Some(_) => outputs.push((traced, name)),
                None => unknown.push(name),
            }
        }
        outputs.sort_by_key(|(name, _)| rank(name));
        Ok(Onnx {
            path: path.to_owned(),
            backend,
            runtime,
            feed,
            outputs,
            class,
            masked_rows: rows.unwrap_or_default(),
            states_rows,
            precision,
            kind,
            unknown,
            size,
            switches: None,
            restricted: Arc::default(),
        })
    }

    /// Computes outputs by the names that the graph has for them.
    fn compute(&self, inputs: &Inputs, names: Vec<String>) -> Result<Vec<Tensor>> {
        let mut given = self.feed.given(inputs)?;
        given.extend(self.switches.iter().map(|switches| Given {
            name: SWITCHES.to_owned(),
            shape: vec![switches.len()],
            numbers: Numbers::F32(switches.clone()),
        }));
        let mask = inputs.attention_mask.iter().flatten();
        if let Some(value) =
            mask.copied().find(|value| ![0.0, 1.0].contains(value) && self.backend == BackendName::Onnx)
        {
            let why = format!(
                "attention_mask: rten computes masks of 0 and 1 alone, this has {value}; {ELSEWHERE}"
            );
            return Err(Error::new(Kind::Request, why).naming("attention_mask").wanting("0 or 1", value));
        }
        self.runtime.run(given, &names)
    }
}

/// What the outputs of a graph are that has no inputs: an operator among constants, for the tests that compare `rten` with
/// ONNX Runtime.
///
/// # Errors
/// As [`Onnx::open`]; a graph that does not run.
pub fn evaluate(path: &Path, backend: BackendName) -> Result<Vec<Tensor>> {
    let file = onnx::open(Mapped::open(path)?)?;
    let runtime = runtime(path, backend, Size::of(path, &file))?;
    runtime.run(Vec::new(), &runtime.outputs())
}

/// Why no runtime that checks types loads a graph, or why it computes something else in every run, if that is so.
///
/// # Errors
/// What is no ONNX model.
pub fn contradiction_in(path: &Path) -> Result<Option<String>> {
    let file = onnx::open(Mapped::open(path)?)?;
    let types = Types::infer(&file).err().map(|why| contradiction(why).to_string());
    Ok(types.or_else(|| chance::chance(&file)))
}

fn contradiction(why: String) -> Error {
    Error::new(
        Kind::Model,
        format!(
            "no runtime that checks types loads this graph: {why}; onnx.checker with full_check says the same. Convert the \
             f32 graph again, keeping the types of Cast nodes"
        ),
    )
}

/// Loads a graph into the runtime of a backend: in a process of its own, or where there is no program for one, in this one.
fn runtime(path: &Path, backend: BackendName, size: Size) -> Result<Arc<dyn Runtime>> {
    backend.require()?;
    if !backend.runs_graphs() {
        return Err(backend.cannot("does not run graphs"));
    }
    match Process::start(path, backend, Loading::Plain, size)? {
        Some(process) => Ok(Arc::new(process)),
        None => here(path, backend),
    }
}

/// Loads a graph into the runtime of a backend in this process.
fn here(path: &Path, backend: BackendName) -> Result<Arc<dyn Runtime>> {
    let file = onnx::open(Mapped::open(path)?)?;
    let file = &file;
    match backend {
        #[cfg(feature = "onnxruntime")]
        BackendName::OnnxRuntime => {
            let path = path.to_owned();
            apart(WHAT, move || Ok(Threaded::of(onnxruntime::OnnxRuntime::load(&path)?)))
        }
        BackendName::Onnx => {
            let departs = |file: &OnnxFile| match departures::departure(file) {
                Some(why) => Err(Error::unsupported(format!("{why}; {ELSEWHERE}"))),
                None => Ok(()),
            };
            let loaded = if lowering::is_needed(file) {
                let model = lower(file, Mapped::open(path)?, Options::new(Activations::Rounded))?.model;
                departs(&onnx::from_model(model.clone(), path)?)?;
                load_rten(onnx::encoded(&model), file)
            } else {
                departs(file)?;
                load_rten_file(path, file)
            };
            let loaded = loaded.map_err(|error| {
                if error.kind() == Kind::Unsupported {
                    Error::unsupported(format!("{error}; {ELSEWHERE}"))
                } else {
                    error
                }
            });
            Ok(Threaded::of(loaded?))
        }
        other => Err(other.cannot("does not run graphs")),
    }
}

/// What to do about a graph that `rten` does not compute.
const ELSEWHERE: &str =
    "`deberta-verify --backend onnxruntime` judges it by ONNX Runtime (docs/formats/onnx.md)";

const WHAT: &str = "load the graph";

/// Loads a file as it is into `rten`. One without data in other files is read as it is parsed: its weights are in memory once.
fn load_rten_file(path: &Path, file: &OnnxFile) -> Result<rten::Rten> {
    if !file.external().is_empty() || path.extension().is_none_or(|extension| extension != "onnx") {
        return load_rten(Mapped::open(path)?.to_vec(), file);
    }
    let path = path.to_owned();
    apart(WHAT, move || rten::Rten::load_file(&path))
}

/// Loads the bytes of a model into `rten`, with the files beside it, by the names that it gives them.
fn load_rten(bytes: Vec<u8>, file: &OnnxFile) -> Result<rten::Rten> {
    let external = file.external().to_vec();
    let external = external.into_iter().map(|(name, data)| (name, data.to_vec())).collect();
    apart(WHAT, move || rten::Rten::load(bytes, external))
}

/// A runtime in this process, which computes on a thread of its own.
struct Threaded(Arc<dyn Runtime>);

impl Threaded {
    fn of(runtime: impl Runtime + 'static) -> Arc<dyn Runtime> {
        Arc::new(Threaded(Arc::new(runtime)))
    }
}

impl Runtime for Threaded {
    fn producer(&self) -> String {
        self.0.producer()
    }

    fn inputs(&self) -> Result<Vec<Input>> {
        self.0.inputs()
    }

    fn outputs(&self) -> Vec<String> {
        self.0.outputs()
    }

    fn run(&self, given: Vec<Given>, outputs: &[String]) -> Result<Vec<Tensor>> {
        let (runtime, outputs) = (Arc::clone(&self.0), outputs.to_vec());
        apart("run the graph", move || runtime.run(given, &outputs))
    }
}

impl Backend for Onnx {
    fn name(&self) -> &'static str {
        self.backend.as_str()
    }

    fn run(&self, inputs: &Inputs, points: &[&str], replaced: Vec<(String, ArrayD<f32>)>) -> Result<Trace> {
        if let Some((name, _)) = replaced.first() {
            let why = format!("a graph cannot be given the values of {name}: it has no such input");
            return Err(Error::new(Kind::Request, why).in_file(&self.path));
        }
        let wanted = |name: &str| match name.strip_prefix("activations.") {
            Some(name) => points.iter().any(|pattern| matches(pattern, name)),
            None => true,
        };
        let outputs: Vec<&(String, String)> = self.outputs.iter().filter(|(name, _)| wanted(name)).collect();
        let names: Vec<String> = outputs.iter().map(|(_, name)| name.clone()).collect();
        let mut tensors = self.compute(inputs, names)?;
        for (tensor, (name, _)) in tensors.iter_mut().zip(outputs) {
            tensor.name.clone_from(name);
        }
        let metadata = metadata("onnx", self.runtime.producer(), self.class, self.masked_rows);
        Ok(Trace { metadata, tensors })
    }
}

impl Graph for Onnx {
    fn format(&self) -> &'static str {
        "ONNX"
    }

    fn exposed(&self) -> Vec<&str> {
        self.outputs.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn unknown(&self) -> &[String] {
        &self.unknown
    }

    fn class(&self) -> Option<Class> {
        self.class
    }

    fn masked_rows(&self) -> MaskedRows {
        self.masked_rows
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn takes(&self, inputs: &Inputs) -> Result<()> {
        self.feed.given(inputs).map(drop)
    }

    fn fixed_lengths(&self) -> &[Option<usize>] {
        self.feed.fixed_lengths()
    }

    fn kind(&self) -> GraphKind {
        self.kind
    }

    fn states_rows(&self) -> bool {
        self.states_rows
    }

    fn ways(&self) -> Vec<Box<dyn Graph>> {
        let ways = self.feed.ways().into_iter();
        ways.map(|feed| Box::new(Onnx { feed, ..self.clone() }) as Box<dyn Graph>).collect()
    }

    fn renamed_inputs(&self) -> Vec<(&str, &'static str)> {
        self.feed.renamed()
    }

    fn run_unknown(&self, inputs: &Inputs) -> Result<Vec<Tensor>> {
        self.compute(inputs, self.unknown.clone())
    }

    fn with_outputs(&self, names: &[(String, String)]) -> Option<Box<dyn Graph>> {
        let mut graph = self.clone();
        graph.unknown.retain(|unknown| !names.iter().any(|(name, _)| name == unknown));
        graph.outputs.retain(|(_, known)| !names.iter().any(|(name, _)| name == known));
        graph.outputs.extend(names.iter().map(|(name, traced)| (traced.clone(), name.clone())));
        graph.outputs.sort_by_key(|(name, _)| rank(name));
        Some(Box::new(graph))
    }

    fn with_switches(&self, exact: &[bool]) -> Option<Box<dyn Graph>> {
        let switches = exact.iter().map(|&exact| if exact { 1.0 } else { 0.0 }).collect();
        Some(Box::new(Onnx { switches: Some(switches), ..self.clone() }))
    }

    fn overflow(&self, inputs: &Inputs) -> Result<Option<Overflow>> {
        let in_f32 = self.backend == BackendName::Onnx && self.kind.half() == Some(Half::F16);
        if in_f32 { self.run_restricted(inputs) } else { Ok(None) }
    }
}

/// The name of a graph's output in a trace.
fn traced(name: &str) -> String {
    let group = if OUTPUTS.contains(&name) { "outputs" } else { "activations" };
    format!("{group}.{name}")
}
