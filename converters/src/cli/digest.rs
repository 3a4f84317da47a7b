//! `digest`: the same 64 digits for a model in every format.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::bar::Bar;
use super::{ModelArgs, print};
use crate::error::Result;
use crate::progress::Progress;
use crate::source::Source;

/// Arguments of `digest`.
#[derive(Debug, Args)]
pub(super) struct DigestArgs {
    /// Weight files, shard indexes or model folders
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Print the digest of every parameter too
    #[arg(long)]
    tensors: bool,
}

impl DigestArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        for input in &self.inputs {
            let (_, mut checkpoint) = self.model.open(Source::locate(input, None, None)?)?;
            checkpoint.check_copies()?;
            checkpoint.require_complete()?;
            let bar = Bar::new();
            bar.start("hashing", checkpoint.data_len());
            let digests = checkpoint.tensor_digests(&bar)?;
            drop(bar);
            if self.tensors {
                for (bound, digest) in checkpoint.bound.iter().zip(&digests) {
                    print(&format!("{}  {}", digest.values, bound.param.name))?;
                }
            }
            let digest = checkpoint.digest(&digests);
            // One input: the digest alone, for scripts. Several: as sha256sum prints them.
            match self.inputs.as_slice() {
                [_] => print(&digest.to_string())?,
                _ => print(&format!("{digest}  {}", input.display()))?,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
