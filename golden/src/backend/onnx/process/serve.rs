//! The process that computes: loads one graph, and runs it until its standard input ends.

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use deberta_converters::error::{Error, Result};

use super::message::{Failure, Loaded, Reply, Request};
use super::{Arguments, Loading};
use crate::backend::onnx::feed::Given;
use crate::backend::onnx::here;
use crate::backend::onnx::range::Restricted;
use crate::backend::onnx::runtime::Runtime;
use crate::selftest::memory::status;
use crate::trace::tensor::Tensor;

/// What tells the program that it is such a process: no subcommand, as nobody but this program is to call it.
pub const ARGUMENT: &str = "--serve-one-graph";

/// Does the work of such a process, on the arguments behind [`ARGUMENT`], and returns its exit status.
pub fn serve(arguments: Vec<OsString>) -> u8 {
    let Some(arguments) = Arguments::read(arguments) else { return 2 };
    limits::no_cores();
    limits::memory(arguments.memory);
    // Where memory runs out for the whole system, this is the process to end.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let mut out = io::stdout().lock();
    let (runtime, values) = match load(&arguments) {
        Ok(loaded) => loaded,
        Err(error) => {
            let _ = Reply::Failed(Failure::from(&error)).write(&mut out);
            return 1;
        }
    };
    let (sender, requests) = channel();
    let reading = thread::Builder::new().spawn(move || {
        let mut stdin = BufReader::new(io::stdin());
        while let Ok(Some(request)) = Request::read(&mut stdin) {
            if sender.send(request).is_err() {
                break;
            }
        }
        // Nobody waits for what is being computed.
        std::process::exit(0)
    });
    let first = reading.map_err(|error| Error::unsupported(format!("no thread for the graph: {error}")));
    let first = first.and_then(|_| runtime.inputs()).map(|inputs| {
        Reply::Loaded(Loaded { producer: runtime.producer(), inputs, outputs: runtime.outputs(), values })
    });
    let mut reply = first.unwrap_or_else(|error| Reply::Failed((&error).into()));
    loop {
        if reply.write(&mut out).is_err() {
            return 1;
        }
        let Ok((request, given)) = requests.recv() else { return 0 };
        reply = match run(&*runtime, &request, given) {
            Ok(tensors) => {
                Reply::Computed { tensors, peak: status("VmHWM").map_or(0, |kilobytes| kilobytes * 1024) }
            }
            Err(error) => Reply::Failed((&error).into()),
        };
    }
}

/// A graph, and the values that it makes infinite.
type Graph = (Arc<dyn Runtime>, Vec<(String, String)>);

fn load(arguments: &Arguments) -> Result<Graph> {
    #[cfg(feature = "onnxruntime")]
    if let Some(library) = &arguments.library {
        crate::backend::use_library(library)?;
    }
    match arguments.loading {
        Loading::Plain => Ok((here(&arguments.path, arguments.backend)?, Vec::new())),
        Loading::Restricted => Restricted::here(&arguments.path).map(Restricted::parts),
    }
}

fn run(runtime: &dyn Runtime, request: &Request, given: Vec<Given>) -> Result<Vec<Tensor>> {
    limits::memory(request.memory);
    let tensors = runtime.run(given, &request.outputs).map_err(|error| {
        // ONNX Runtime goes on when memory runs out.
        let is_memory = ["Failed to allocate", "bad_alloc", "bad allocation"];
        if is_memory.iter().any(|said| error.message().contains(said)) {
            let megabytes = request.memory / 1_000_000;
            let why =
                format!("cannot run the graph: it takes more memory than the {megabytes} MB that it gets");
            return Error::unsupported(why);
        }
        error
    })?;
    let bytes = tensors.iter().map(|tensor| tensor.data.len() as u64 * 8).sum::<u64>();
    if bytes > request.most_output {
        let megabytes = request.most_output / 1_000_000;
        return Err(Error::unsupported(format!(
            "cannot run the graph: its outputs have {bytes} bytes, more than the {megabytes} MB that those of a model as \
             large as it have"
        )));
    }
    Ok(tensors)
}

/// Limits of this process, as far as it may set them.
#[cfg(unix)]
mod limits {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// That a crash leaves no image of the memory.
    pub(super) fn no_cores() {
        limit(Resource::Core, 0);
    }

    /// The most memory that it may allocate, in bytes.
    pub(super) fn memory(bytes: u64) {
        limit(Resource::Data, bytes);
    }

    fn limit(resource: Resource, value: u64) {
        let maximum = getrlimit(resource).maximum;
        let current = Some(maximum.map_or(value, |maximum| maximum.min(value)));
        let _ = setrlimit(resource, Rlimit { current, maximum });
    }
}

/// Windows has them for jobs alone: only the time of a graph is limited there.
#[cfg(not(unix))]
mod limits {
    pub(super) fn no_cores() {}

    pub(super) fn memory(_bytes: u64) {}
}
