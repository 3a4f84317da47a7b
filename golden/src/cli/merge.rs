//! `merge`: the reports of a policy's shards as one.

use std::path::PathBuf;

use clap::Args;
use deberta_converters::error::Result;

use super::exit_status::ExitStatus;
use super::output::OutputArgs;
use crate::report::{Document, Merged, merge};

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// JSON reports of runs with --policy and --shard. A shard without a report makes the result undecided
    #[arg(value_name = "REPORT", required = true)]
    reports: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl MergeArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let output = self.output.open(Vec::new())?;
        let Merged { policy, rules, reports } = merge(&self.reports)?;
        let document = Document { policy: Some(&policy), shard: None, rules, reports: &reports };
        output.show(&document)
    }
}
