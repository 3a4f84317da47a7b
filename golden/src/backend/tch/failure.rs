//! What goes wrong with libtorch, in one line.

use std::fmt;

use deberta_converters::error::{Error, Kind};
use deberta_reference as reference;
use tch::TchError;

/// What goes wrong in here: with what is given, or in libtorch.
#[derive(Debug)]
pub(super) enum Failure {
    Model(reference::Error),
    Torch(TchError),
}

pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The error of that kind.
    pub(super) fn of(self, kind: Kind) -> Error {
        Error::new(kind, self.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Model(error) => error.fmt(f),
            // An operator says what is wrong in the first line, and where in its source in the others; a TorchScript program
            // where in its code, and what is wrong in the last one.
            Failure::Torch(TchError::Torch(text)) => {
                let of_program = text.lines().rev().find_map(|line| line.strip_prefix("RuntimeError: "));
                let what = of_program.or(text.lines().next()).unwrap_or_default();
                write!(f, "libtorch: {what}")
            }
            Failure::Torch(error) => write!(f, "libtorch: {error}"),
        }
    }
}

impl From<TchError> for Failure {
    fn from(error: TchError) -> Failure {
        Failure::Torch(error)
    }
}

impl From<reference::Error> for Failure {
    fn from(error: reference::Error) -> Failure {
        Failure::Model(error)
    }
}

impl From<reference::InputError> for Failure {
    fn from(error: reference::InputError) -> Failure {
        Failure::Model(error.into())
    }
}
