//! `--threads`: how many threads compute.

use clap::Args;
use deberta_converters::error::{Error, Kind, Result};

/// How many threads compute.
#[derive(Debug, Args)]
pub(super) struct ThreadsArgs {
    /// Threads to compute with; as many as there are processors when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
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
