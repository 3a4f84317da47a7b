//! Conversion of DeBERTa checkpoints between PyTorch, TensorFlow 2, safetensors and ONNX: faithful or nothing, streaming.

pub mod checkpoint;
pub mod cli;
pub mod config_file;
mod confinement;
pub mod convert;
pub mod destination;
pub mod digest;
pub mod error;
pub mod format;
pub mod forward;
pub mod hub;
mod json;
pub mod ledger;
pub mod loading;
pub mod mapped;
pub mod matching;
pub mod naming;
pub mod output;
pub mod parallel;
pub mod progress;
pub mod recipe;
mod remap;
pub mod request;
mod shard;
pub mod source;
mod targets;
pub mod tensor;
pub mod values;

pub use error::{Error, Kind, Result};
