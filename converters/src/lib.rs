//! Conversion of DeBERTa checkpoints between PyTorch, TensorFlow 2 and safetensors: faithful or nothing, streaming.

pub mod error;
pub mod format;
pub mod mapped;
pub mod tensor;

pub use error::{Error, Kind, Result};
