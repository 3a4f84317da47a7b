//! Files as memory: the only place with `unsafe` code.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::git_lfs::refuse_pointer;
use crate::opening;

/// A file mapped into memory for reading, together with the name that messages give it.
///
/// Its pages belong to the page cache: they do not count against the memory of this process, and they are
/// dropped when the system needs room.
#[derive(Debug)]
pub struct Mapped {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Mapped(memmap2::Mmap),
    /// An empty file cannot be mapped.
    Empty,
    Owned(Vec<u8>),
}

impl Mapped {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// No such file, or none that is regular; what [`Mapped::from_file`] refuses.
    pub fn open(path: &Path) -> Result<Self> {
        Mapped::from_file(&opening::open(path)?, path)
    }

    /// Maps a file that is already open. `path` is for messages.
    ///
    /// # Errors
    /// It cannot be mapped; it is a pointer of git-LFS.
    pub fn from_file(file: &File, path: &Path) -> Result<Self> {
        let len = file.metadata().map_err(|error| Error::io(path, "read", error))?.len();
        let bytes = if len == 0 {
            Bytes::Empty
        } else {
            // SAFETY: the map is read-only and private to this process. Another process that shrinks the file
            // while it is mapped ends us by a signal; one that writes to it changes bytes under us, which every
            // reader tolerates because it validates what it reads where it reads it, and which the digests at
            // the end of a conversion detect.
            #[allow(unsafe_code)]
            let map = unsafe { memmap2::Mmap::map(file) };
            let map = map.map_err(|error| Error::io(path, "map", error))?;
            // Of a clone without its large files, whatever should have been there is such a pointer.
            refuse_pointer(&map).map_err(|error| error.in_file(path))?;
            Bytes::Mapped(map)
        };
        Ok(Mapped { path: path.to_owned(), bytes })
    }

    /// The contents of a file that is not on disk. `path` is for messages.
    pub fn from_bytes(bytes: Vec<u8>, path: &Path) -> Self {
        Mapped { path: path.to_owned(), bytes: Bytes::Owned(bytes) }
    }

    /// The name that messages give the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Empty => &[],
            Bytes::Owned(bytes) => bytes,
        }
    }
}
