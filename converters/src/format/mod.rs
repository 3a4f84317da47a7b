//! File formats: bytes only, nothing about what the tensors mean, which is the business of [`crate::naming`].
//!
//! Each format has a reader that implements [`TensorFile`] and a writer that implements [`FilePlan`]; [`open_file`]
//! chooses the reader by the first bytes of a file.

use std::fmt;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::git_lfs;
use crate::mapped::Mapped;

pub mod keras;
pub mod onnx;
pub mod safetensors;
pub mod torch;
mod traits;

pub use traits::{Extra, FilePlan, Span, TensorFile};

/// The formats that weights come in. Deserialises from its [`Format::word`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `pytorch_model.bin`.
    PyTorch,
    /// `tf_model.h5`.
    TensorFlow,
    /// `model.safetensors`.
    Safetensors,
    /// `model.onnx`.
    Onnx,
}

impl Format {
    /// All formats, the preferred source first.
    pub const ALL: [Format; 4] = [Format::Safetensors, Format::PyTorch, Format::TensorFlow, Format::Onnx];

    /// The word for it on a command line and in a policy.
    pub const fn word(self) -> &'static str {
        match self {
            Format::PyTorch => "pytorch",
            Format::TensorFlow => "tensorflow",
            Format::Safetensors => "safetensors",
            Format::Onnx => "onnx",
        }
    }

    /// The file name that transformers looks for.
    pub fn file_name(self) -> &'static str {
        match self {
            Format::PyTorch => "pytorch_model.bin",
            Format::TensorFlow => "tf_model.h5",
            Format::Safetensors => "model.safetensors",
            Format::Onnx => "model.onnx",
        }
    }

    /// The name of the index of a sharded checkpoint.
    pub fn index_name(self) -> String {
        format!("{}.index.json", self.file_name())
    }

    /// Where a folder may have weights of this format, the likeliest place first: the file, the index of its shards,
    /// or for ONNX the folder that Optimum exports to.
    pub fn places(self) -> [String; 2] {
        let file = self.file_name();
        let other = if self == Format::Onnx { format!("onnx/{file}") } else { self.index_name() };
        [file.to_owned(), other]
    }

    /// The name of one of several shards, counted from 1.
    pub fn shard_name(self, number: usize, of: usize) -> String {
        let name = self.file_name();
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        format!("{stem}-{number:05}-of-{of:05}.{extension}")
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::PyTorch => "PyTorch",
            Format::TensorFlow => "TensorFlow",
            Format::Safetensors => "safetensors",
            Format::Onnx => "ONNX",
        })
    }
}

/// Opens a weight file by what its first bytes say it is, whatever its name.
///
/// # Errors
/// What is no weight file, with the name of what it looks like; whatever its reader finds wrong.
pub fn open_file(file: Mapped) -> Result<(Format, Box<dyn TensorFile>)> {
    let path = file.path().to_owned();
    match sniff(&file).map_err(|error| error.in_file(&path))? {
        Format::PyTorch => Ok((Format::PyTorch, Box::new(torch::open(file)?))),
        Format::TensorFlow => Ok((Format::TensorFlow, Box::new(keras::open(file)?))),
        Format::Safetensors => Ok((Format::Safetensors, Box::new(safetensors::open(file)?))),
        Format::Onnx => Ok((Format::Onnx, Box::new(onnx::open(file)?))),
    }
}

/// The format of a file by its first bytes.
pub fn sniff(bytes: &[u8]) -> Result<Format> {
    if bytes.is_empty() {
        return Err(Error::malformed("the file is empty"));
    }
    let starts_as = |format: &Format| match format {
        Format::PyTorch => torch::sniff(bytes),
        Format::TensorFlow => keras::sniff(bytes),
        Format::Safetensors => safetensors::sniff(bytes),
        Format::Onnx => onnx::sniff(bytes),
    };
    // safetensors comes before PyTorch: the length that its files start with may look like the start of a pickle.
    if let Some(format) = Format::ALL.into_iter().find(starts_as) {
        return Ok(format);
    }
    Err(foreign(bytes).unwrap_or_else(|| {
        let start: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Error::unsupported(format!(
            "neither PyTorch, nor HDF5, nor safetensors, nor ONNX: the file starts with {} (truncated, or another format?)",
            start.join(" ")
        ))
    }))
}

/// Names files that are often found where weights should be.
pub(crate) fn foreign(bytes: &[u8]) -> Option<Error> {
    let start = String::from_utf8_lossy(bytes.get(..512).unwrap_or(bytes)).trim_start().to_lowercase();
    let what = if git_lfs::is_pointer(bytes) {
        git_lfs::ADVICE
    } else if start.starts_with("<!doctype html") || start.starts_with("<html") || start.starts_with("<?xml")
    {
        "a web page, not a model: the download went wrong"
    } else if start.starts_with('{') || start.starts_with('[') {
        "JSON text, not weights (a shard index must end in .index.json)"
    } else if bytes.starts_with(&[0x1f, 0x8b]) {
        "gzip data: unpack it first"
    } else if bytes.get(257..262) == Some(b"ustar") {
        "a tar archive: unpack it first (a .tar checkpoint of PyTorch before 0.1.10 must be saved again)"
    } else {
        return None;
    };
    Some(Error::unsupported(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        assert_eq!(sniff(b"PK\x03\x04....").unwrap(), Format::PyTorch);
        assert_eq!(sniff(b"\x80\x02\x8a\x0a").unwrap(), Format::PyTorch);
        assert_eq!(sniff(b"\x89HDF\r\n\x1a\n....").unwrap(), Format::TensorFlow);
        assert_eq!(
            sniff(&[vec![0; 512], b"\x89HDF\r\n\x1a\n".to_vec()].concat()).unwrap(),
            Format::TensorFlow
        );
        // A user block of 128 KiB.
        assert_eq!(
            sniff(&[vec![0; 1 << 17], b"\x89HDF\r\n\x1a\n".to_vec()].concat()).unwrap(),
            Format::TensorFlow
        );
        assert_eq!(sniff(b"\x10\0\0\0\0\0\0\0{\"a\":...").unwrap(), Format::Safetensors);
        // A header of 0x280 bytes starts like a pickle of protocol 2.
        assert_eq!(sniff(b"\x80\x02\0\0\0\0\0\0{\"a\":...").unwrap(), Format::Safetensors);
    }

    #[test]
    fn what_is_found_in_the_place_of_weights_is_named() {
        let message = |bytes: &[u8]| sniff(bytes).unwrap_err().to_string();
        assert!(
            message(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n").contains("git lfs pull")
        );
        assert!(message(b"\n<!DOCTYPE html><html>").contains("web page"));
        assert!(message(b"{\"error\": \"not found\"}").contains("JSON"));
        assert!(message(b"").contains("empty"));
        assert!(message(&[0; 100]).contains("00 00"));
    }

    #[test]
    fn every_format_is_read_from_its_word() {
        for format in Format::ALL {
            assert_eq!(serde_json::from_value::<Format>(format.word().into()).unwrap(), format);
        }
    }

    #[test]
    fn shards_are_named_as_transformers_names_them() {
        assert_eq!(Format::PyTorch.shard_name(1, 12), "pytorch_model-00001-of-00012.bin");
        assert_eq!(Format::Safetensors.shard_name(12, 12), "model-00012-of-00012.safetensors");
    }
}
