//! `digest`: the same 64 digits for a model in every format.

use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::ModelArgs;
use super::bar::Bar;
use super::exit_status::ExitStatus;
use super::print::print;
use crate::error::Result;
use crate::hub::Wanted;
use crate::progress::Progress;
use crate::source::Source;

/// Arguments of `digest`.
#[derive(Debug, Args)]
pub(super) struct DigestArgs {
    /// Weight files, shard indexes, model folders or hub ids
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Print the digest of every parameter too
    #[arg(long)]
    tensors: bool,
}

impl DigestArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let inputs: Vec<&Path> = self.inputs.iter().map(PathBuf::as_path).collect();
        self.model.hub.check(&inputs)?;
        for input in inputs {
            let path = self.model.hub.path(input, &Wanted::any())?;
            let (_, mut checkpoint) = self.model.open(Source::locate(&path, None, None)?, None)?;
            checkpoint.check_copies()?;
            checkpoint.require_complete()?;
            let bar = Bar::default();
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
        Ok(ExitStatus::Success)
    }
}
