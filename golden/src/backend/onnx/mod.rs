//! ONNX graphs as a backend, computed by one of two programs: `rten`, which is part of this one, or ONNX Runtime.
//!
//! The file is read and checked by `deberta_converters` first, so that the runtime sees only bytes that keep the rules of
//! the format and data inside the model's folder. What the runtime does with them happens on a thread of its own, with a
//! limit of time: a panic, an unknown operator and a graph that does not end become errors. Its memory is not limited.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::{TensorFile as _, onnx};
use deberta_converters::forward::CLASS_KEY;
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

mod apart;
mod feed;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
mod rten;
mod runtime;

use apart::apart;
use feed::Feed;
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
pub struct Onnx {
    path: PathBuf,
    backend: BackendName,
    runtime: Arc<dyn Runtime>,
    feed: Feed,
    /// Their names in a trace and in the graph, in the order of execution.
    outputs: Vec<(String, String)>,
    class: Option<Class>,
    masked_rows: MaskedRows,
    precision: Precision,
    unknown: Vec<String>,
}

impl Onnx {
    /// Loads the graph of a file into the runtime of `backend`.
    ///
    /// # Errors
    /// What is no ONNX model; metadata with a class or a convention that there is not; operators that the runtime does
    /// not know; a backend that runs no graphs, or that this program was built without.
    pub fn open(path: &Path, backend: BackendName) -> Result<Onnx> {
        Onnx::load(path, backend).map_err(|error| error.in_file(path))
    }

    fn load(path: &Path, backend: BackendName) -> Result<Onnx> {
        let mapped = Mapped::open(path)?;
        let file = onnx::open(mapped)?;
        let floating = file.tensors().iter().map(|tensor| tensor.dtype);
        let precision = Precision::of(floating);
        let metadata = Trace { metadata: file.metadata().to_vec(), tensors: Vec::new() };
        let class = metadata.metadata(CLASS_KEY).map(Class::from_name).transpose()?;
        let masked_rows = metadata.metadata("deberta.masked_rows").map(masked_rows).transpose()?;
        let external = file.external().to_vec();
        let initializers: Vec<String> = file.tensors().iter().map(|tensor| tensor.name.clone()).collect();
        // `rten` reads no bf16.
        let widened = match backend {
            BackendName::Onnx => file.widened(&Mapped::open(path)?)?,
            _ => None,
        };
        drop(file);

        let runtime = runtime(path, backend, widened, external)?;
        let feed = Feed::of(runtime.inputs()?, &initializers)?;
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
            masked_rows: masked_rows.or(class.map(Class::masked_rows)).unwrap_or_default(),
            precision,
            unknown,
        })
    }
}

/// Loads the graph into the runtime of a backend: `widened`, or else the bytes of the file. `external` are the files beside it, by
/// the names that it gives them.
fn runtime(
    path: &Path,
    backend: BackendName,
    widened: Option<Vec<u8>>,
    external: Vec<(String, Arc<Mapped>)>,
) -> Result<Arc<dyn Runtime>> {
    const WHAT: &str = "load the graph";
    match backend {
        #[cfg(feature = "onnxruntime")]
        BackendName::OnnxRuntime => {
            drop(external);
            let path = path.to_owned();
            apart(WHAT, move || Ok(Arc::new(onnxruntime::OnnxRuntime::load(&path)?) as Arc<dyn Runtime>))
        }
        BackendName::Onnx => {
            let bytes = match widened {
                Some(bytes) => bytes,
                None => Mapped::open(path)?.to_vec(),
            };
            let external = external.into_iter().map(|(name, data)| (name, data.to_vec())).collect();
            apart(WHAT, move || Ok(Arc::new(rten::Rten::load(bytes, external)?) as Arc<dyn Runtime>))
        }
        other => {
            other.require()?;
            Err(other.cannot("does not run graphs"))
        }
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
        let given = self.feed.given(inputs)?;
        let wanted = |name: &str| match name.strip_prefix("activations.") {
            Some(name) => points.iter().any(|pattern| matches(pattern, name)),
            None => true,
        };
        let outputs: Vec<&(String, String)> = self.outputs.iter().filter(|(name, _)| wanted(name)).collect();
        let names: Vec<String> = outputs.iter().map(|(_, name)| name.clone()).collect();
        let runtime = Arc::clone(&self.runtime);
        let computed = apart("run the graph", move || runtime.run(given, &names))?;
        let mut tensors = computed;
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
}

/// The name of a graph's output in a trace.
fn traced(name: &str) -> String {
    let group = if OUTPUTS.contains(&name) { "outputs" } else { "activations" };
    format!("{group}.{name}")
}
