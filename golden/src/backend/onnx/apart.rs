//! Work that may panic or never end, on a thread of its own.

use std::sync::{Once, mpsc};
use std::time::Duration;
use std::{panic, thread};

use deberta_converters::error::{Error, Result};

/// How long a graph may take to load or to run.
const LIMIT: Duration = Duration::from_secs(600);

/// The name of the thread that the runtime works on, and what the names of `rten`'s own threads start with.
const THREAD: &str = "rten";

static QUIET: Once = Once::new();

/// For the runtime's recursions.
const STACK: usize = 64 << 20;

/// Does something on a thread of its own. One that does not end in time is left behind: it ends with the process.
///
/// # Errors
/// Those of the work; that it panics, or does not end in time.
pub(crate) fn apart<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let failed = |why: &str| Error::unsupported(format!("cannot {what}: {why}"));
    QUIET.call_once(keep_quiet);
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new()
        .name(THREAD.to_owned())
        .stack_size(STACK)
        .spawn(move || drop(sender.send(work())))
        .map_err(|error| failed(&format!("no thread to do it on: {error}")))?;
    match receiver.recv_timeout(LIMIT) {
        Ok(done) => done,
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
