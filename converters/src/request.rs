//! What a conversion is to make of a checkpoint.

use std::path::PathBuf;
use std::sync::Arc;

use crate::format::Format;
use crate::forward;
use crate::mapped::Mapped;
use crate::tensor::Dtype;

/// What to make of a checkpoint.
#[derive(Clone, Debug)]
pub struct Request {
    /// The format of the output.
    pub to: Format,
    /// The weight file to write; the folder and the conventional name decide for several shards.
    pub output: PathBuf,
    /// Other files to write with it: `config.json`.
    pub companions: Vec<Companion>,
    /// The dtype of every parameter; as in the input when absent.
    pub dtype: Option<Dtype>,
    /// Split the output into shards of at most so many bytes of tensor data.
    pub max_shard_size: Option<u64>,
    /// Whether existing files are replaced.
    pub replace: bool,
    /// What an ONNX file is to be.
    pub onnx: OnnxRequest,
}

/// What an ONNX file is to be.
#[derive(Clone, Debug, Default)]
pub struct OnnxRequest {
    /// What it computes.
    pub forward: forward::Options,
    /// Whether the weights are in a file of their own even if one file can hold everything.
    pub external_data: bool,
}

/// A small file that belongs to the output.
#[derive(Clone, Debug)]
pub struct Companion {
    /// Where it goes.
    pub path: PathBuf,
    /// What is in it.
    pub content: Content,
}

/// What is in a small file.
#[derive(Clone, Debug)]
pub enum Content {
    /// Text that was made for it.
    Text(String),
    /// What another file holds.
    CopyOf(Arc<Mapped>),
}

impl AsRef<[u8]> for Content {
    fn as_ref(&self) -> &[u8] {
        match self {
            Content::Text(text) => text.as_bytes(),
            Content::CopyOf(file) => file,
        }
    }
}
