//! Golden traces of DeBERTa models: what was put in, what every module computed, what came out.
//!
//! A [`Backend`] runs a [`Class`] on the inputs of a [`Trace`] and records a trace of its own; a [`Case`] says which
//! traces belong to a model, and how close another run must come.

pub mod backend;
pub mod bless;
pub mod case;
pub mod cli;
pub mod diagnose;
pub mod fault;
pub mod goldens;
pub mod judge;
pub mod policy;
pub mod report;
pub mod selftest;
pub mod task;
pub mod trace;
pub mod verify;
pub mod workshop;
mod yaml;

pub use backend::{Backend, Reference};
pub use case::Case;
pub use trace::{Class, Data, Slice, Tensor, Trace};
