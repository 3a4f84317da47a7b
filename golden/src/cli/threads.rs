//! `--threads`: how many threads compute.

use std::sync::RwLock;
use std::thread;
use std::time::Duration;

use clap::Args;
use deberta_converters::error::{Error, Kind, Result};

/// How many threads compute.
#[derive(Debug, Args)]
pub(super) struct ThreadsArgs {
    /// Threads to compute with; as many as there are processors when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST))]
    threads: Option<u16>,
}

impl ThreadsArgs {
    /// Starts them, if a number was given.
    ///
    /// # Errors
    /// The system does not give so many.
    pub(super) fn start(&self) -> Result<()> {
        let Some(threads) = self.threads else { return Ok(()) };
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .build_global()
            .map_err(|error| Error::new(Kind::Request, format!("cannot start {threads} threads: {error}")))
    }
}

/// The most threads that are started: thousands would do nothing but wait for each other.
const MOST: i64 = 512;

/// Computes on one thread where the system does not give as many as there will be, and a few more: the pool of all would
/// be made when it is first needed, and a pool that cannot be made is a panic. Of more than [`MOST`] that the environment
/// asks for there are as many as there are processors.
pub(super) fn fewer_if_need_be() {
    const MORE: usize = 2;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    // As rayon reads it.
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse::<usize>().ok());
    let asked = asked.filter(|threads| *threads > 0);
    let too_many = |threads: usize| i64::try_from(threads).map_or(true, |threads| threads > MOST);
    let wanted = asked.filter(|threads| !too_many(*threads)).unwrap_or(processors) + MORE;
    let gate = RwLock::new(());
    let closed = gate.write();
    let enough = thread::scope(|scope| {
        let wait = || drop(gate.read());
        let enough = (0..wanted).all(|_| thread::Builder::new().spawn_scoped(scope, wait).is_ok());
        drop(closed);
        enough
    });
    if !enough {
        let _ = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
        return;
    }
    if most_threads().is_some_and(|most| most < FEW) {
        // The system counts threads for a moment after they have ended.
        thread::sleep(Duration::from_millis(10));
    }
    if asked.is_some_and(too_many) {
        let _ = rayon::ThreadPoolBuilder::new().num_threads(processors).build_global();
    }
}

/// How many processes and threads the user may have, if there is a limit.
#[cfg(unix)]
fn most_threads() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nproc).current
}

/// There is no limit.
#[cfg(not(unix))]
fn most_threads() -> Option<u64> {
    None
}

/// What is few for a limit of processes.
const FEW: u64 = 1000;
