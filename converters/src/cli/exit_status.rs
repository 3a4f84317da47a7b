//! The exit status: what 0, 1 and 2 mean.

/// What the help says about it.
pub(super) const HELP: &str =
    "Exit status: 0 done (diff: same model), 1 failed (diff: another model), 2 wrong usage.";

/// How the program ends when its arguments are understood; for those that are not, clap says 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExitStatus {
    /// 0: done; of `diff`, the same model; of `audit`, nothing that conversion would refuse.
    Success,
    /// 1: failed; of `diff`, another model; of `audit`, something that conversion would refuse.
    Failure,
}

impl From<ExitStatus> for u8 {
    fn from(status: ExitStatus) -> u8 {
        match status {
            ExitStatus::Success => 0,
            ExitStatus::Failure => 1,
        }
    }
}
