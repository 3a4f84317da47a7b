//! Graphs in a process of their own, with a limit of memory and of time.
//!
//! A runtime computes what a file says: it may allocate without end, never end, or crash. In a process of its own that ends
//! nothing but this one computation, which becomes an error that says why.
//!
//! ```text
//! program   which program to start for it
//! limits    how much memory and time a graph gets
//! message   what the two processes tell each other
//! serve     the process that computes
//! ```

use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use deberta_converters::error::{Error, Result};
use deberta_converters::system::in_a_group_of_its_own;

use super::BackendName;
use super::feed::{Given, Input};
use super::runtime::Runtime;
use crate::trace::tensor::Tensor;

mod limits;
mod message;
mod program;
mod serve;

use limits::SPARE;
pub(super) use limits::Size;
use message::{Loaded, Reply, Request};
pub use program::use_graph_program;
pub use serve::{ARGUMENT, serve};

/// How a graph is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loading {
    /// As the backend takes it.
    Plain,
    /// By `rten`, with numbers that become infinite where f16 ends.
    Restricted,
}

impl Loading {
    const ALL: [Loading; 2] = [Loading::Plain, Loading::Restricted];

    fn name(self) -> &'static str {
        match self {
            Loading::Plain => "plain",
            Loading::Restricted => "restricted",
        }
    }
}

/// The most memory that a process of a graph had so far, in bytes.
static PEAK: AtomicU64 = AtomicU64::new(0);

/// The most memory that a process of a graph had so far, in bytes: 0 if there was none, or if the system does not tell.
pub fn peak_memory() -> u64 {
    PEAK.load(Ordering::Relaxed)
}

/// A graph in a process of its own.
pub(super) struct Process {
    connection: Mutex<Connection>,
    loaded: Loaded,
    size: Size,
}

impl Process {
    /// Starts a process that loads a graph, and waits until it is loaded. Nothing if there is no program for it.
    ///
    /// # Errors
    /// A process that cannot be started; what loading reports; loading that takes more memory or time than it gets.
    pub(super) fn start(
        path: &Path,
        backend: BackendName,
        loading: Loading,
        size: Size,
    ) -> Result<Option<Process>> {
        let Some(mut command) = program::command() else { return Ok(None) };
        let limits = size.to_load();
        command.args([ARGUMENT, backend.as_str(), loading.name(), &limits.memory.to_string()]);
        command.arg(path);
        #[cfg(feature = "onnxruntime")]
        command.args(super::library().filter(|_| backend == BackendName::OnnxRuntime));
        let mut connection = Connection::open(command)?;
        match connection.receive("load the graph", limits.time, limits.memory)? {
            Reply::Loaded(loaded) => Ok(Some(Process { connection: Mutex::new(connection), loaded, size })),
            other => Err(other.unexpected()),
        }
    }

    /// The values that a restricted graph makes infinite, each with the node that makes it.
    pub(super) fn values(&self) -> &[(String, String)] {
        &self.loaded.values
    }
}

impl Runtime for Process {
    fn producer(&self) -> String {
        self.loaded.producer.clone()
    }

    fn inputs(&self) -> Result<Vec<Input>> {
        Ok(self.loaded.inputs.clone())
    }

    fn outputs(&self) -> Vec<String> {
        self.loaded.outputs.clone()
    }

    fn run(&self, given: Vec<Given>, outputs: &[String]) -> Result<Vec<Tensor>> {
        let limits = self.size.to_run(&given, outputs.len());
        let (request, numbers) = Request::new(given, outputs, limits.memory, limits.most_output);
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        match connection.ask(&request, &numbers, limits.time, limits.memory)? {
            Reply::Computed { tensors, peak } => {
                PEAK.fetch_max(peak, Ordering::Relaxed);
                Ok(tensors)
            }
            other => Err(other.unexpected()),
        }
    }
}

/// A process, and what it says.
struct Connection {
    child: Child,
    /// Nothing once the process has ended.
    stdin: Option<ChildStdin>,
    replies: Receiver<Reply>,
    /// What it says on standard error, at its end.
    complaint: Option<JoinHandle<String>>,
    /// What is left of the time that it gets besides what its work takes on any machine.
    spare: Duration,
    /// Why it ended, once it has.
    ended: Option<String>,
}

impl Connection {
    fn open(mut command: Command) -> Result<Connection> {
        let failed = |error: std::io::Error| {
            Error::unsupported(format!("cannot start a process for the graph: {error}"))
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("RAYON_NUM_THREADS", rayon::current_num_threads().to_string());
        // Ctrl-C ends this process, and the other one when its standard input ends.
        in_a_group_of_its_own(&mut command);
        let mut child = command.spawn().map_err(failed)?;
        let (sender, replies) = channel();
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let reading = thread::Builder::new().name("replies of a graph".to_owned()).spawn(move || {
            let mut stdout = std::io::BufReader::new(stdout.into_iter().next()?);
            while let Ok(Some(reply)) = Reply::read(&mut stdout) {
                sender.send(reply).ok()?;
            }
            None::<()>
        });
        let complaining = thread::Builder::new()
            .name("complaints of a graph".to_owned())
            .spawn(move || stderr.map(beginning).unwrap_or_default());
        let connection =
            |complaint| Connection { child, stdin, replies, complaint, spare: SPARE, ended: None };
        match (reading, complaining) {
            (Ok(_), Ok(complaint)) => Ok(connection(Some(complaint))),
            (Err(error), _) | (_, Err(error)) => {
                // Ends the process.
                drop(connection(None));
                Err(failed(error))
            }
        }
    }

    /// Sends a request and waits for its answer.
    fn ask(&mut self, request: &Request, numbers: &[u8], time: Duration, memory: u64) -> Result<Reply> {
        const WHAT: &str = "run the graph";
        let Some(stdin) = &mut self.stdin else { return Err(self.gone(WHAT)) };
        if request.write(stdin, numbers).and_then(|()| stdin.flush()).is_err() {
            return Err(self.end(WHAT, memory));
        }
        self.receive(WHAT, time, memory)
    }

    /// Waits for an answer.
    fn receive(&mut self, what: &str, time: Duration, memory: u64) -> Result<Reply> {
        const TICK: Duration = Duration::from_millis(50);
        let (start, before) = (Instant::now(), self.computed());
        let limit = time + self.spare;
        loop {
            let received = self.replies.recv_timeout(TICK);
            let taken = self.taken(start.elapsed(), before);
            match received {
                Ok(reply) => {
                    self.spare = self.spare.saturating_sub(taken.saturating_sub(time));
                    return if let Reply::Failed(failure) = reply { Err(failure.error()) } else { Ok(reply) };
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.end(what, memory)),
                Err(RecvTimeoutError::Timeout) if taken < limit => {
                    if let Err(stopped) = Error::unless_stopped() {
                        self.close();
                        return Err(stopped);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.close();
                    self.ended = Some(format!("not done after {:.0} seconds", start.elapsed().as_secs_f64()));
                    return Err(self.gone(what));
                }
            }
        }
    }

    /// How long the process has taken of `passed`: what others had of the processor in the meantime is not its own, up to a point.
    fn taken(&self, passed: Duration, before: Option<Duration>) -> Duration {
        const BUSY: u32 = 8;
        let computed = self.computed().zip(before).map(|(now, before)| now.saturating_sub(before));
        computed.map_or(passed, |computed| computed.max(passed / BUSY).min(passed))
    }

    /// How long the process has computed so far, on all processors, where the system tells.
    fn computed(&self) -> Option<Duration> {
        // Linux counts in hundredths of a second, whatever its clock does.
        const TICK: Duration = Duration::from_millis(10);
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // Behind the name, which may have any character: the state, 10 numbers, and the time of the program and of the system for it.
        let mut numbers = status.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks = numbers.next()?.parse::<u32>().ok()?.checked_add(numbers.next()?.parse().ok()?)?;
        TICK.checked_mul(ticks)
    }

    /// The error of a process that has ended by itself.
    fn end(&mut self, what: &str, memory: u64) -> Error {
        let status = self.close();
        let complaint = self.complaint.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        self.ended = Some(reason(status, &complaint, memory));
        self.gone(what)
    }

    /// The error of a process that is no more.
    fn gone(&self, what: &str) -> Error {
        let why = self.ended.as_deref().unwrap_or("it was stopped");
        Error::unsupported(format!("cannot {what}: {why} (in a process of its own: docs/formats/onnx.md)"))
    }

    /// Ends the process, if it has not ended.
    fn close(&mut self) -> Option<ExitStatus> {
        self.stdin = None;
        // One that has given up has closed its output before it has ended.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            thread::sleep(Duration::from_millis(20));
            let _ = self.child.kill();
        }
        self.child.wait().ok()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why a process has ended.
fn reason(status: Option<ExitStatus>, complaint: &str, memory: u64) -> String {
    let megabytes = memory / 1_000_000;
    // What Rust says when an allocation fails, and what C++ says.
    if ["memory allocation of", "bad_alloc"].iter().any(|said| complaint.contains(said)) {
        return format!("it takes more memory than the {megabytes} MB that it gets");
    }
    if complaint.contains("has overflowed its stack") {
        return "it is nested too deeply".to_owned();
    }
    match status.and_then(signal) {
        Some(9) => "the system ended it, most likely because memory ran out".to_owned(),
        Some(signal) => format!("the runtime crashed (signal {signal})"),
        None => {
            let line = complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            format!("the process for it ended without an answer: {line}")
        }
    }
}

/// The signal that a process ended by.
#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

/// None: a crash is an exit status there.
#[cfg(not(unix))]
fn signal(_status: ExitStatus) -> Option<i32> {
    None
}

/// The first 4 KiB of what a process says; the rest is read and forgotten.
fn beginning(mut stream: impl Read) -> String {
    const MOST: u64 = 4096;
    let mut text = Vec::new();
    let _ = stream.by_ref().take(MOST).read_to_end(&mut text);
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
    String::from_utf8_lossy(&text).into_owned()
}

/// The arguments of a process that computes, read.
struct Arguments {
    backend: BackendName,
    loading: Loading,
    memory: u64,
    path: std::path::PathBuf,
    #[cfg(feature = "onnxruntime")]
    library: Option<std::path::PathBuf>,
}

impl Arguments {
    /// Reads what [`Process::start`] gives, without [`ARGUMENT`].
    fn read(arguments: Vec<OsString>) -> Option<Arguments> {
        let mut arguments = arguments.into_iter();
        let backend = arguments.next()?;
        let backend = [BackendName::Onnx, BackendName::OnnxRuntime]
            .into_iter()
            .find(|known| backend == known.as_str())?;
        let loading = arguments.next()?;
        let loading = Loading::ALL.into_iter().find(|known| loading == known.name())?;
        let memory = arguments.next()?.to_str()?.parse().ok()?;
        let path = arguments.next()?.into();
        Some(Arguments {
            backend,
            loading,
            memory,
            path,
            #[cfg(feature = "onnxruntime")]
            library: arguments.next().map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_says_why() {
        let ended = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            let mut connection = Connection::open(command).unwrap();
            connection.spare = Duration::ZERO;
            connection.receive("run", Duration::from_millis(120), 1 << 30).err().unwrap().to_string()
        };
        assert!(ended("kill -SEGV $$").contains("crashed (signal 11)"));
        assert!(ended("echo memory allocation of 1 bytes failed >&2; kill -ABRT $$").contains("1073 MB"));
        assert!(ended("echo no such thing >&2; exit 3").contains("no such thing"));
        assert!(ended("exec sleep 60").contains("not done after 1 seconds"));
        assert!(ended("printf 'no message at all'").contains("without an answer"));
    }
}
