//! Work on a thread of its own, without the interpreter's lock. The thread that called waits, and looks at Ctrl-C.

use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::stop::Stop;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rayon::ThreadPoolBuilder;

use crate::raised::raised;
pub(crate) use crate::told::Told;

/// How long signals wait.
const TICK: Duration = Duration::from_millis(50);
/// How long work that is stopped is waited for: until its next activation, or its next strip of a tensor. What takes longer, such
/// as a connection, ends later and unseen.
const GRACE: Duration = Duration::from_millis(500);
/// As much stack as the thread of a program has.
const STACK: usize = 8 << 20;

/// The process that called first. Its threads are in no process that is forked from it.
static CALLER: OnceLock<u32> = OnceLock::new();

/// How to do some work.
#[derive(Default)]
pub(crate) struct Call {
    /// Is told how far the work is.
    pub(crate) progress: Option<Py<PyAny>>,
    /// Threads to compute with; those of the process if absent.
    pub(crate) threads: Option<usize>,
}

impl Call {
    /// Does the work, and returns what comes of it.
    ///
    /// # Errors
    /// Those of the work, of `progress`, of the handlers of signals; a process that was forked after a call.
    pub(crate) fn run<T: Send + 'static>(
        self,
        py: Python<'_>,
        work: impl FnOnce(&Told) -> Result<T> + Send + 'static,
    ) -> PyResult<T> {
        refuse_fork()?;
        let Call { progress, threads } = self;
        let (told, stop) = (Arc::new(Told::default()), Stop::default());
        let (sender, mut receiver) = channel();
        let (tells, stopped) = (Arc::clone(&told), stop.clone());
        let working = move || {
            let work = || stopped.during(|| work(&tells));
            // Whoever was to receive it may have gone.
            let _ = sender.send(match threads {
                None => work(),
                Some(threads) => with_threads(threads, work),
            });
        };
        thread::Builder::new().stack_size(STACK).spawn(working)?;
        loop {
            let (again, received) = py.detach(move || {
                let received = receiver.recv_timeout(TICK);
                (receiver, received)
            });
            receiver = again;
            let interrupted = told.tell(py, progress.as_ref()).and_then(|()| py.check_signals());
            match received {
                Ok(done) => {
                    interrupted?;
                    return done.map_err(|error| raised(py, &error));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = interrupted {
                        stop.ask();
                        wait(py, receiver);
                        return Err(error);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let why = "a fault of deberta_verify ended the call: what it printed says where";
                    return Err(PyRuntimeError::new_err(why));
                }
            }
        }
    }
}

/// Waits for work that was told to stop.
fn wait<T: Send>(py: Python<'_>, receiver: Receiver<T>) {
    let _ = py.detach(move || receiver.recv_timeout(GRACE));
}

fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    let pool =
        pool.map_err(|error| Error::new(Kind::Request, format!("cannot start {threads} threads: {error}")))?;
    pool.install(work)
}

/// Refuses to wait for ever for threads that a forked process does not have.
fn refuse_fork() -> PyResult<()> {
    if *CALLER.get_or_init(process::id) == process::id() {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(
        "deberta_verify was used before this process was forked, and its threads are not in a fork: start processes by \
         multiprocessing's method \"spawn\" or \"forkserver\", or make the first call after the fork",
    ))
}
