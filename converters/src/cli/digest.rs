//! `digest`: the same 64 digits for a model in every format.

use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::ModelArgs;
use super::bar::Bar;
use super::exit_status::ExitStatus;
use super::print::print;
use crate::checkpoint::Checkpoint;
use crate::digest::TensorDigest;
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
        self.check()?;
        for input in &self.inputs {
            let (checkpoint, digests) = self.digests(input, &Bar::default())?;
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

    /// The digest of every input.
    pub(super) fn all(&self, progress: &dyn Progress) -> Result<Vec<String>> {
        self.check()?;
        let of = |input: &PathBuf| {
            let (checkpoint, digests) = self.digests(input, progress)?;
            Ok(checkpoint.digest(&digests).to_string())
        };
        self.inputs.iter().map(of).collect()
    }

    fn check(&self) -> Result<()> {
        let inputs: Vec<&Path> = self.inputs.iter().map(PathBuf::as_path).collect();
        self.model.hub.check(&inputs)
    }

    /// A checkpoint and the digests of its parameters.
    fn digests(&self, input: &Path, progress: &dyn Progress) -> Result<(Checkpoint, Vec<TensorDigest>)> {
        let path = self.model.hub.path(input, &Wanted::any())?;
        let (_, mut checkpoint) = self.model.open(Source::locate(&path, None, None)?, None, progress)?;
        checkpoint.check_copies()?;
        checkpoint.require_complete()?;
        progress.start("hashing", checkpoint.data_len());
        let digests = checkpoint.tensor_digests(progress)?;
        Ok((checkpoint, digests))
    }
}
