//! Which model of a file is wanted, where it may hold several, or more of one than is asked for.

use deberta_reference::Head;

/// What to take of the files of a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The class; told by the configuration and the tensors when absent.
    pub head: Option<Head>,
    /// Which of several models, by what its names start with.
    pub prefix: Option<String>,
    /// Whether heads are left out that are not of the class: the base model alone is taken unless `head` is given.
    pub drop_head: bool,
}

impl From<Option<Head>> for Selection {
    fn from(head: Option<Head>) -> Selection {
        Selection { head, ..Selection::default() }
    }
}
