//! `audit`: what a pickle would have called.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Output, print};
use crate::error::Result;

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// PyTorch file, or any pickle
    input: PathBuf,
    /// How the findings are printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Output,
}

impl AuditArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        print("not yet")?;
        Ok(ExitCode::FAILURE)
    }
}
