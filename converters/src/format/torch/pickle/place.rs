//! Where in a pickle something went wrong.

use std::fmt;

use crate::error::{Error, Kind};

/// A pickle's name and the offset of one of its instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'p> {
    /// What messages call the pickle: `data.pkl`.
    pub(crate) pickle: &'p str,
    /// Byte offset of the instruction.
    pub(crate) at: usize,
}

impl Place<'_> {
    /// The instruction breaks the rules of the format.
    pub(crate) fn malformed(&self, message: impl fmt::Display) -> Error {
        self.error(Kind::Malformed, message)
    }

    /// The instruction asks for something that is not allowed.
    pub(crate) fn refused(&self, message: impl fmt::Display) -> Error {
        self.error(Kind::Refused, message)
    }

    /// The instruction asks for something that this toolkit does not handle.
    pub(crate) fn unsupported(&self, message: impl fmt::Display) -> Error {
        self.error(Kind::Unsupported, message)
    }

    fn error(&self, kind: Kind, message: impl fmt::Display) -> Error {
        Error::new(kind, format!("{self}: {message}"))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.pickle, self.at)
    }
}
