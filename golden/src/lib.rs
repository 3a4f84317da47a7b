//! Golden traces of DeBERTa models: what was put in, what every module computed, what came out.
//!
//! First steps, each with an example: [verify a model](verify::verify()), [read a report](report::Report), [read a trace](Trace::read),
//! [run a graph](backend::Onnx).
//!
//! A [`Backend`] runs a [`Class`] on the inputs of a [`Trace`] and records a trace of its own; a [`Case`] says which
//! traces belong to a model, and how close another run must come.
//!
//! The program `deberta-verify` is the feature `cli`, models from the Hugging Face hub the feature `hub`: both are on by default, and a user
//! of the library needs neither (`default-features = false`). `tch` and `onnxruntime` add backends: [`backend`].

pub mod backend;
pub mod bless;
pub mod case;
#[cfg(feature = "cli")]
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

pub use backend::{Backend, Reference};
pub use case::Case;
pub use trace::{Class, Data, Slice, Tensor, Trace};
