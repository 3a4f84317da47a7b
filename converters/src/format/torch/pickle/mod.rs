//! A pickle machine that builds values and calls nothing.
//!
//! [`run`] interprets the instructions of one pickle. Plain values and containers it builds itself, on a [`Heap`]
//! of objects that refer to each other by index, so that cycles and shared parts cost nothing and nothing is
//! ever copied or dropped recursively. Everything that Python would import or call is asked of an
//! [`Environment`]: the reader's knows the few functions that `torch.save` writes, the audit's records them all.
//!
//! Work and memory are bounded by the number of instructions, and that by [`MAX_STEPS`].

mod heap;
mod machine;
mod op;
mod place;
mod text;

pub(crate) use heap::{Heap, MadeId, Object, ObjectId, Value};
pub(crate) use machine::{CallKind, Environment, run};
pub(crate) use op::Ops;
pub(crate) use place::Place;

/// Instructions that all pickles of a file may have together. A tensor takes about forty.
const MAX_STEPS: usize = 4_000_000;
