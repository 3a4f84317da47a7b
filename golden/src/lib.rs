//! Golden traces of DeBERTa models: what was put in, what every module computed, what came out.
//!
//! A [`Backend`] runs a [`Class`] on the inputs of a [`Trace`] and records a trace of its own; a [`Case`] says which
//! traces belong to a model, and how close another run must come.

pub mod arbiter;
pub mod backend;
pub mod bless;
pub mod case;
pub mod class;
pub mod cli;
pub mod compare;
pub mod complete;
pub mod diagnose;
pub mod difference;
pub mod fault;
pub mod goldens;
pub mod inputs;
pub mod made;
pub mod points;
pub mod policy;
pub mod recorded;
pub mod report;
pub mod samples;
pub mod selftest;
pub mod slice;
pub mod task;
pub mod tokens;
pub mod tolerance;
pub mod trace_file;
pub mod verify;

pub use backend::{Backend, Reference};
pub use case::Case;
pub use class::Class;
pub use slice::Slice;
pub use trace_file::{Data, Tensor, Trace};
