//! Golden traces of DeBERTa models: what was put in, what every module computed, what came out.
//!
//! A [`Backend`] runs a [`Class`] on the inputs of a [`Trace`] and records a trace of its own.

pub mod backend;
pub mod class;
pub mod cli;
pub mod inputs;
pub mod trace_file;

pub use backend::{Backend, Reference};
pub use class::Class;
pub use trace_file::{Data, Tensor, Trace};
