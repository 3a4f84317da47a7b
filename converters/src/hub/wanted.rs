//! Which files of a repository a caller has a use for.

use crate::format::Format;

/// The weights that a caller has a use for. The configuration and the tokenizer come along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Those in the first of the formats that the repository has.
    First(Vec<Format>),
    /// Those in every one of the formats that the repository has.
    Every(Vec<Format>),
    /// None: the tokenizer is wanted.
    Tokenizer,
}

impl Wanted {
    /// Weights in any format, the preferred one if there is a choice.
    pub fn any() -> Wanted {
        Wanted::First(Format::ALL.to_vec())
    }

    /// Weights in `format`, or else in the preferred format that is not `unwanted`, as [`Source::locate`] takes
    /// them.
    ///
    /// [`Source::locate`]: crate::source::Source::locate
    pub fn as_located(format: Option<Format>, unwanted: Option<Format>) -> Wanted {
        Wanted::First(match format {
            Some(format) => vec![format],
            None => Format::ALL.into_iter().filter(|&other| Some(other) != unwanted).collect(),
        })
    }
}
