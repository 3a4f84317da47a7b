//! The exit status: what 0, 1 and 2 mean.

use std::process::ExitCode;

/// What the help says about it.
pub(super) const HELP: &str =
    "Exit status: 0 done (diff: same model), 1 failed (diff: another model), 2 wrong usage.";

/// How the program ends when its arguments are understood; for those that are not, clap ends it with 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExitStatus {
    /// 0: done; of `diff`, the same model; of `audit`, nothing that conversion would refuse.
    Success,
    /// 1: failed; of `diff`, another model; of `audit`, something that conversion would refuse.
    Failure,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> ExitCode {
        match status {
            ExitStatus::Success => ExitCode::SUCCESS,
            ExitStatus::Failure => ExitCode::FAILURE,
        }
    }
}
