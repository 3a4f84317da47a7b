//! Conversion of DeBERTa checkpoints between PyTorch, TensorFlow 2, safetensors and ONNX: faithful or nothing, streaming.
//!
//! First steps, each with an example: [load a model](loading::from_pretrained), [classify a text](loading),
//! [read a checkpoint of any format](checkpoint::Checkpoint), [convert it](convert::convert()),
//! [digest it](checkpoint::Checkpoint::digest).
//!
//! The program `deberta-convert` is the feature `cli`, the download of models from the Hugging Face hub the feature `hub`:
//! both are on by default, and a user of the library needs neither (`default-features = false`).

pub mod adapter;
pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod companions;
pub mod config_file;
pub mod confinement;
pub mod containers;
pub mod convert;
pub mod destination;
pub mod digest;
pub mod error;
pub mod fidelity;
pub mod folding;
pub mod format;
pub mod forward;
pub mod git_lfs;
pub mod hub;
mod incomplete;
pub mod int8;
mod json;
pub mod ledger;
pub mod loading;
pub mod lowering;
pub mod mapped;
pub mod matching;
pub mod naming;
pub mod opening;
pub mod output;
pub mod parallel;
pub mod printable;
mod problem;
pub mod progress;
pub mod recipe;
mod remap;
mod repetition;
pub mod request;
pub mod selection;
mod shard;
pub mod source;
pub mod system;
mod targets;
pub mod tensor;
mod truncation;
pub mod values;
mod verification;

pub use error::{Error, Kind, Result};
