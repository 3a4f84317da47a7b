//! File formats: bytes only, nothing about what the tensors mean, which is the business of [`crate::naming`].
//!
//! Each format has a reader that implements [`TensorFile`] and a writer that implements [`FilePlan`]; [`open_file`]
//! chooses the reader by the first bytes of a file.

use std::fmt;

use serde::Deserialize;

use crate::containers::{Container, behind, by_bytes, by_name};
use crate::error::{Error, Printable, Result};
use crate::mapped::Mapped;

pub mod keras;
pub mod onnx;
pub mod safetensors;
pub mod torch;
mod traits;

pub use traits::{Extra, FilePlan, Span, TensorFile};

/// The formats that weights come in. Deserialises from its [`Format::word`] and its [`Format::aliases`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
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

    /// Further words for it, the shortest first.
    pub const fn aliases(self) -> &'static [&'static str] {
        match self {
            Format::PyTorch => &["pt", "torch", "bin"],
            Format::TensorFlow => &["tf", "tf2", "h5", "keras"],
            Format::Safetensors => &["st"],
            Format::Onnx => &[],
        }
    }

    /// The format of that word.
    pub fn from_word(word: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.word() == word || format.aliases().contains(&word))
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

impl TryFrom<String> for Format {
    type Error = String;

    fn try_from(word: String) -> std::result::Result<Format, String> {
        Format::from_word(&word).ok_or_else(|| {
            let words = Format::ALL.map(|format| [&[format.word()], format.aliases()].concat().join(" or "));
            format!("\"{}\" is no format: {}", Printable(&word), words.join(", "))
        })
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
    let format = sniff(&file).map_err(|error| {
        // Some have no signature.
        let known = by_bytes(&file).is_none().then(|| by_name(&path.to_string_lossy())).flatten();
        known.filter(|_| !file.is_empty()).map_or(error, Container::refusal).in_file(&path)
    })?;
    let opened: Result<Box<dyn TensorFile>> = match format {
        Format::PyTorch => torch::open(file).map(|file| Box::new(file) as _),
        Format::TensorFlow => keras::open(file).map(|file| Box::new(file) as _),
        Format::Safetensors => safetensors::open(file).map(|file| Box::new(file) as _),
        Format::Onnx => onnx::open(file).map(|file| Box::new(file) as _),
    };
    let opened = opened.map_err(|error| {
        // What starts like one of the formats, and is another by its name.
        let known = behind(&path.to_string_lossy()).filter(|known| !error.message().contains(known.lead));
        error.followed_by(&known.map(Container::and_lead).unwrap_or_default())
    });
    Ok((format, opened?))
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
    Err(by_bytes(bytes).map(Container::refusal).unwrap_or_else(|| {
        let start: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Error::unsupported(format!(
            "neither PyTorch, nor HDF5, nor safetensors, nor ONNX: the file starts with {} (truncated, or another format?)",
            start.join(" ")
        ))
    }))
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
            for alias in format.aliases() {
                assert_eq!(serde_json::from_value::<Format>((*alias).into()).unwrap(), format);
            }
        }
        let error = serde_json::from_value::<Format>("jax".into()).unwrap_err().to_string();
        assert!(
            error.contains("\"jax\" is no format: safetensors or st, pytorch or pt or torch or bin"),
            "{error}"
        );
    }

    #[test]
    fn shards_are_named_as_transformers_names_them() {
        assert_eq!(Format::PyTorch.shard_name(1, 12), "pytorch_model-00001-of-00012.bin");
        assert_eq!(Format::Safetensors.shard_name(12, 12), "model-00012-of-00012.safetensors");
    }
}
