//! The exit status: what 0, 1 and 2 mean.

use crate::judge::verdict::Outcome;

/// What the help says about it.
pub(super) const HELP: &str =
    "Exit status: 0 everything agrees, 1 something differs, 2 something could not be judged.";

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExitStatus {
    /// 0: done, and everything agrees.
    Success,
    /// 1: something differs, or is not as good as was asked.
    Failure,
    /// 2: something could not be judged. Bad input, nothing compared.
    Error,
}

impl From<Outcome> for ExitStatus {
    fn from(outcome: Outcome) -> ExitStatus {
        match outcome {
            Outcome::Pass => ExitStatus::Success,
            Outcome::Divergence => ExitStatus::Failure,
            Outcome::Undecided => ExitStatus::Error,
        }
    }
}

impl From<ExitStatus> for u8 {
    fn from(status: ExitStatus) -> u8 {
        match status {
            ExitStatus::Success => 0,
            ExitStatus::Failure => 1,
            ExitStatus::Error => 2,
        }
    }
}
