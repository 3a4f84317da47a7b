//! PyTorch checkpoints: `pytorch_model.bin`, `*.pt`, `*.pth`.
//!
//! ```text
//! archive  legacy      the two containers: where the pickle and the storages are
//!    zip                 archives, validated
//!    pickle              the stack machine: values, nothing else
//!    rebuild  globals      what it may make, and the allow-list of what it may name
//! state_dict           which values are the model's tensors
//! contents  view  storage  where a tensor's bytes are, and reading them
//! write                a new archive
//! audit                what a pickle would have called
//! ```
//!
//! The formats are described in `docs/formats/pytorch.md`.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Extra, TensorFile};
use crate::error::{Error, Kind, Result};
use crate::git_lfs;
use crate::mapped::Mapped;
use crate::tensor::TensorInfo;

mod archive;
mod audit;
mod contents;
mod globals;
mod legacy;
#[cfg(test)]
mod lies;
mod pickle;
mod rebuild;
mod state_dict;
mod storage;
#[cfg(test)]
mod testing;
mod view;
mod write;
mod zip;

use contents::Contents;
use view::View;

pub use archive::is_script;
pub use audit::{Audit, AuditedPickle, Container, Event, EventKind, audit};
pub use write::{Alias, TorchPlan, plan};

/// A PyTorch checkpoint opened for reading.
#[derive(Debug)]
pub struct TorchFile {
    file: Mapped,
    contents: Contents,
    /// The deflated storage that was unpacked last, if several tensors are in it, so that reading them in order
    /// unpacks it once.
    unpacked: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

/// Whether the bytes start as a checkpoint does: as a zip archive, or as a pickle of protocol 2 or later.
pub fn sniff(bytes: &[u8]) -> bool {
    [&b"PK\x03\x04"[..], b"PK\x05\x06", b"\x80"].iter().any(|start| bytes.starts_with(start))
}

/// Opens a checkpoint that `torch.save` wrote, in either of its formats. Nothing in it is ever executed.
///
/// Its pickle is read and checked as a whole, of the tensor data nothing: that is checked when it is read.
///
/// # Errors
/// If the file is no such checkpoint, is damaged, calls anything that is not needed to rebuild tensors, or holds
/// tensors that cannot be read; the message names the tensor.
pub fn open(file: Mapped) -> Result<TorchFile> {
    let contents = read(&file).map_err(|error| error.in_file(file.path()))?;
    Ok(TorchFile { file, contents, unpacked: Mutex::new(None) })
}

fn read(file: &[u8]) -> Result<Contents> {
    if zip::is_archive(file) {
        return archive::read(file);
    }
    if let Some(what) = foreign(file) {
        return Err(Error::unsupported(format!("{what}, not a checkpoint of torch.save")));
    }
    match legacy::read(file) {
        Ok(Some(contents)) => Ok(contents),
        Ok(None) => {
            Err(Error::unsupported("a pickle, but not a checkpoint of torch.save: it has no magic number"))
        }
        Err(error) if error.kind() == Kind::Refused || is_surely_pickle(file) => Err(error),
        Err(error) => {
            let what = "neither a zip archive nor a pickle, so not a checkpoint of torch.save";
            Err(Error::unsupported(what).caused_by(error))
        }
    }
}

/// Whether the file is a pickle beyond doubt. Bytes of any kind can be read as an instruction or two.
fn is_surely_pickle(file: &[u8]) -> bool {
    file.first() == Some(&0x80) || legacy::is_legacy(file)
}

/// What a file is that is often found in place of a checkpoint.
fn foreign(file: &[u8]) -> Option<&'static str> {
    let start = file.trim_ascii_start();
    let starts_with =
        |text: &str| start.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()));
    if file.is_empty() {
        Some("an empty file")
    } else if git_lfs::is_pointer(file) {
        Some("a git-LFS pointer (run `git lfs pull` to get the file that it points to)")
    } else if starts_with("<!doctype") || starts_with("<html") || starts_with("<?xml") {
        Some("a web page (the download failed)")
    } else if file.starts_with(b"\x89HDF\r\n\x1a\n") {
        Some("an HDF5 file")
    } else if file.starts_with(b"\x1f\x8b") {
        Some("a gzip file")
    } else if file.get(8..10) == Some(b"{\"") {
        Some("a safetensors file")
    } else if file.get(257..262) == Some(b"ustar") {
        Some("a tar archive, as torch wrote them before 0.1.10")
    } else {
        None
    }
}

impl TensorFile for TorchFile {
    fn tensors(&self) -> &[TensorInfo] {
        &self.contents.infos
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let (Some(info), Some((storage, view))) =
            (self.contents.infos.get(index), self.contents.views.get(index))
        else {
            let count = self.contents.infos.len();
            return Err(
                Error::new(Kind::Request, format!("tensor {index} of {count}")).in_file(self.file.path())
            );
        };
        self.dense(*storage, view).map_err(|error| error.in_tensor(&info.name).in_file(self.file.path()))
    }

    fn extras(&self) -> &[Extra] {
        &self.contents.extras
    }
}

impl TorchFile {
    fn dense(&self, index: usize, view: &View) -> Result<Cow<'_, [u8]>> {
        let storage = self.contents.storages.get(index).ok_or_else(|| Error::malformed("has no storage"))?;
        let is_shared = self.contents.tenants.get(index).is_some_and(|&tenants| tenants > 1);
        if !(storage.is_deflated() && is_shared) {
            return view.dense(storage.bytes(&self.file)?, storage.is_swapped());
        }
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match unpacked.take() {
            Some((known, bytes)) if known == index => bytes,
            _ => Arc::new(storage.bytes(&self.file)?.into_owned()),
        };
        *unpacked = Some((index, Arc::clone(&bytes)));
        drop(unpacked);
        let dense = view.dense(bytes.as_slice().into(), storage.is_swapped())?;
        Ok(Cow::Owned(dense.into_owned()))
    }
}
