//! What a pickle asks for, one thing at a time.

use serde::Serialize;

/// One thing that a pickle asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Offset of the instruction in the unpacked entry, or else in the file.
    pub offset: u64,
    /// What is asked for.
    pub kind: EventKind,
    /// The global, or what the call or state is applied to: `os.system`.
    pub target: String,
    /// The arguments, or the state, in short; empty for imports.
    pub arguments: String,
    /// Whether reading a checkpoint allows it.
    pub allowed: bool,
}

/// The kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// `GLOBAL`, `STACK_GLOBAL`, `INST`: a module is imported and something in it looked up.
    Import,
    /// `EXT1`, `EXT2`, `EXT4`: the same, by a number that the Python process knows.
    Extension,
    /// `REDUCE`, `INST`, `OBJ`: a function or class is called.
    Call,
    /// `NEWOBJ`, `NEWOBJ_EX`: `__new__` of a class is called.
    New,
    /// `BUILD`: `__setstate__` is called, or attributes are set.
    SetState,
    /// `APPENDS`, `SETITEMS` and the like, on something that is no plain container: its methods are called.
    AddItems,
}
