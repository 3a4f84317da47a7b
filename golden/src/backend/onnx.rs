//! ONNX graphs as a backend: `rten` computes every node as the file has it, without fusing any.
//!
//! The file is read and checked by `deberta_converters` first, so that the runtime sees only bytes that keep the rules of
//! the format and data inside the model's folder. What the runtime does with them happens on a thread of its own, with a
//! limit of time: a panic, an unknown operator and a graph that does not end become errors. Its memory is not limited.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, mpsc};
use std::time::Duration;
use std::{panic, thread};

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::{TensorFile as _, onnx};
use deberta_converters::forward::CLASS_KEY;
use deberta_converters::mapped::Mapped;
use deberta_reference::probe::matches;
use deberta_reference::{Inputs, MaskedRows};
use ndarray::ArrayD;
use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::prelude::*;

use super::{Backend, BackendName, Graph};
use crate::class::{Class, masked_rows_name, masked_rows_of};
use crate::points::rank;
use crate::tolerance::Precision;
use crate::trace_file::{Data, Tensor, Trace};

mod feed;

use feed::Feed;

/// How long a graph may take to load or to run.
const LIMIT: Duration = Duration::from_secs(600);

/// The name of the thread that the runtime works on, and what the names of its own threads start with.
const THREAD: &str = "rten";

static QUIET: Once = Once::new();

/// For the runtime's recursions.
const STACK: usize = 64 << 20;

/// The outputs that stand for themselves. All others are activations.
const OUTPUTS: [&str; 4] = ["last_hidden_state", "logits", "start_logits", "end_logits"];

/// A graph that is run as it is.
pub struct Onnx {
    path: PathBuf,
    model: Arc<Model>,
    threads: Arc<ThreadPool>,
    feed: Feed,
    /// By their names in a trace, in the order of execution.
    outputs: Vec<(String, NodeId)>,
    class: Option<Class>,
    masked_rows: MaskedRows,
    precision: Precision,
    unknown: Vec<String>,
}

impl Onnx {
    /// Loads the graph of a file.
    ///
    /// # Errors
    /// What is no ONNX model; metadata with a class or a convention that there is not; operators that the runtime does
    /// not know.
    pub fn open(path: &Path) -> Result<Onnx> {
        Onnx::load(path).map_err(|error| error.in_file(path))
    }

    fn load(path: &Path) -> Result<Onnx> {
        let mapped = Mapped::open(path)?;
        let bytes = mapped.to_vec();
        let file = onnx::open(mapped)?;
        let floating = file.tensors().iter().map(|tensor| tensor.dtype);
        let precision = Precision::of(floating);
        let metadata = Trace { metadata: file.metadata().to_vec(), tensors: Vec::new() };
        let class = metadata.metadata(CLASS_KEY).map(Class::from_name).transpose()?;
        let rows = metadata.metadata("deberta.masked_rows").map(str::to_owned);
        let rows = rows.map(|rows| ("masked_rows".to_owned(), rows)).into_iter().collect();
        let masked_rows = masked_rows_of(&Trace { metadata: rows, tensors: Vec::new() })?;

        let external: Vec<(String, Vec<u8>)> =
            file.external().iter().map(|(name, data)| (name.clone(), data.to_vec())).collect();
        let initializers: Vec<String> = file.tensors().iter().map(|tensor| tensor.name.clone()).collect();
        drop(file);
        let model = apart("load the graph", move || {
            let mut options = ModelOptions::with_all_ops();
            options.enable_optimization(false);
            for (name, data) in external {
                options.external_data(&name, data);
            }
            options.load(bytes)
        })?
        .map_err(|error| Error::unsupported(format!("the runtime does not take this graph: {error}")))?;
        let feed = Feed::of(&model, &initializers)?;
        let (mut outputs, mut unknown) = (Vec::new(), Vec::new());
        for &id in model.output_ids() {
            let Some(name) = model.node_info(id).and_then(|node| node.name()) else { continue };
            let traced = traced(name);
            if rank(&traced) == rank("") {
                unknown.push(name.to_owned());
            } else {
                outputs.push((traced, id));
            }
        }
        outputs.sort_by_key(|(name, _)| rank(name));
        Ok(Onnx {
            path: path.to_owned(),
            model: Arc::new(model),
            threads: Arc::new(ThreadPool::with_num_threads(rayon::current_num_threads())),
            feed,
            outputs,
            class,
            masked_rows: masked_rows.or(class.map(Class::masked_rows)).unwrap_or_default(),
            precision,
            unknown,
        })
    }
}

impl Backend for Onnx {
    fn name(&self) -> &'static str {
        BackendName::Onnx.as_str()
    }

    fn run(&self, inputs: &Inputs, points: &[&str], replaced: Vec<(String, ArrayD<f32>)>) -> Result<Trace> {
        if let Some((name, _)) = replaced.first() {
            let why = format!("a graph cannot be given the values of {name}: it has no such input");
            return Err(Error::new(Kind::Request, why).in_file(&self.path));
        }
        let values = self.feed.values(inputs)?;
        let wanted = |name: &str| match name.strip_prefix("activations.") {
            Some(name) => points.iter().any(|pattern| matches(pattern, name)),
            None => true,
        };
        let outputs: Vec<&(String, NodeId)> = self.outputs.iter().filter(|(name, _)| wanted(name)).collect();
        let ids: Vec<NodeId> = outputs.iter().map(|&&(_, id)| id).collect();
        let model = Arc::clone(&self.model);
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads)));
        let computed = apart("run the graph", move || {
            let values = values.into_iter().map(|(id, value)| (id, ValueOrView::from(value))).collect();
            model.run(values, &ids, Some(options))
        })?
        .map_err(|error| Error::new(Kind::Model, format!("the graph does not run: {error}")))?;
        let named = outputs.into_iter().zip(computed);
        let tensors = named.map(|((name, _), value)| tensor(name, value)).collect::<Result<_>>()?;
        let mut metadata = vec![
            ("framework".to_owned(), self.name().to_owned()),
            ("producer".to_owned(), "rten 0.27".to_owned()),
            ("masked_rows".to_owned(), masked_rows_name(self.masked_rows).to_owned()),
        ];
        metadata.extend(self.class.map(|class| ("class".to_owned(), class.to_string())));
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
        self.feed.values(inputs).map(drop)
    }
}

/// The name of a graph's output in a trace.
fn traced(name: &str) -> String {
    let group = if OUTPUTS.contains(&name) { "outputs" } else { "activations" };
    format!("{group}.{name}")
}

fn tensor(name: &str, value: Value) -> Result<Tensor> {
    let (shape, data) = match value {
        Value::FloatTensor(values) => (values.shape().to_vec(), Data::Floats(values.into_data())),
        Value::Int32Tensor(values) => {
            let integers = values.iter().map(|&integer| i64::from(integer)).collect();
            (values.shape().to_vec(), Data::Integers(integers))
        }
        other => {
            let why = format!("the graph makes {:?}, no numbers", other.dtype());
            return Err(Error::new(Kind::Model, why).in_tensor(name));
        }
    };
    Ok(Tensor { name: name.to_owned(), shape, data })
}

/// Does something on a thread of its own. One that does not end in time is left behind: it ends with the process.
fn apart<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let failed = |why: &str| Error::unsupported(format!("cannot {what}: {why}"));
    QUIET.call_once(keep_quiet);
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new()
        .name(THREAD.to_owned())
        .stack_size(STACK)
        .spawn(move || drop(sender.send(work())))
        .map_err(|error| failed(&format!("no thread to do it on: {error}")))?;
    match receiver.recv_timeout(LIMIT) {
        Ok(done) => Ok(done),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(failed(&format!("not done after {} seconds", LIMIT.as_secs())))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let panic = thread.join().err();
            let text = panic.as_ref().and_then(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                text.or_else(|| panic.downcast_ref::<&str>().copied())
            });
            Err(failed(&format!("the runtime gave up: {}", text.unwrap_or("it does not say why"))))
        }
    }
}

/// Keeps panics of the runtime from standard error: they become errors.
fn keep_quiet() {
    let otherwise = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !thread::current().name().is_some_and(|name| name.starts_with(THREAD)) {
            otherwise(panic);
        }
    }));
}
