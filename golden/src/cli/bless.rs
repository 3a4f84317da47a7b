//! `bless`: what a model computes becomes the golden.

use std::path::PathBuf;

use clap::Args;
use deberta_converters::error::Result;

use super::exit_status::ExitStatus;
use super::output::OutputArgs;
use super::terminal::{StatusLine, say};
use crate::backend::BackendName;
use crate::bless::bless;
use crate::goldens::Golden;
use crate::judge::verdict::Outcome;
use crate::report::Document;
use crate::verify::{VerifyRequest, verify};

/// Arguments of `bless`.
#[derive(Debug, Args)]
pub(super) struct BlessArgs {
    /// Model folder, weight file or shard index
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Folder with the golden
    #[arg(long, value_name = "FOLDER")]
    golden: PathBuf,
    /// Configuration of the model; found beside the weights when not given
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Replace the recordings; without it, what would change is shown and nothing is written
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl BlessArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let golden = Golden::open(&self.golden)?;
        let request = VerifyRequest {
            name: self.model.display().to_string(),
            model: self.model.clone(),
            config: self.config.clone(),
            goldens: vec![golden.clone()],
            backend: Some(BackendName::Reference),
            ..VerifyRequest::default()
        };
        let output = self.output.open(Vec::new())?;
        let progress = StatusLine::new();
        let report = verify(&request, &progress)?;
        drop(progress);
        let code = output.show(&Document::of(&report))?;
        if !self.write {
            say(match report.outcome {
                Outcome::Pass => "nothing to bless: the model agrees with the golden",
                _ => "nothing was written: the above is what --write would take for right",
            });
            return Ok(code);
        }
        for path in bless(&golden, &self.model, self.config.as_deref())? {
            say(&format!("wrote {}", path.display()));
        }
        Ok(ExitStatus::Success)
    }
}
