//! Files as memory: the only place with `unsafe` code.

use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::{Error, Result};
use crate::git_lfs::refuse_pointer;
use crate::opening;
use crate::system::{self, FileId};

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
    Mapped {
        map: memmap2::Mmap,
        _extent: Entered,
    },
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
            // while it is mapped ends us by a signal, of which the programs make an error; one that writes to it
            // changes bytes under us, which every reader tolerates because it validates what it reads where it reads
            // it, and which the digests at the end of a conversion detect.
            #[allow(unsafe_code)]
            let map = unsafe { memmap2::Mmap::map(file) };
            let map = map.map_err(|error| Error::io(path, "map", error))?;
            // Of a clone without its large files, whatever should have been there is such a pointer.
            refuse_pointer(&map).map_err(|error| error.in_file(path))?;
            Bytes::Mapped { map, _extent: Extent::enter(file, path, len) }
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
            Bytes::Mapped { map, .. } => map,
            Bytes::Empty => &[],
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// A file that is mapped: where it is, which one it is, if the system tells, and how long it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extent {
    path: PathBuf,
    file: Option<FileId>,
    len: u64,
}

/// All of them, for [`refuse_shrunk`].
static EXTENTS: Mutex<Vec<Extent>> = Mutex::new(Vec::new());

impl Extent {
    /// Enters a file among those that are mapped, until this goes.
    fn enter(file: &File, path: &Path, len: u64) -> Entered {
        let file = system::id(file).ok();
        let extent = Extent { path: path.to_owned(), file, len };
        with_extents(|extents| extents.push(extent.clone()));
        Entered(extent)
    }

    /// How long the file is now, if it is shorter than it was.
    fn shrunk(&self) -> Option<u64> {
        let there = fs::metadata(&self.path).ok().filter(|there| there.len() < self.len)?;
        let file = system::id(&opening::open(&self.path).ok()?).ok();
        (file.is_some() && file == self.file).then_some(there.len())
    }
}

/// An entry of [`EXTENTS`], which goes with the map.
#[derive(Debug)]
struct Entered(Extent);

impl Drop for Entered {
    fn drop(&mut self) {
        with_extents(|extents| {
            if let Some(own) = extents.iter().position(|extent| *extent == self.0) {
                extents.swap_remove(own);
            }
        });
    }
}

fn with_extents<R>(act: impl FnOnce(&mut Vec<Extent>) -> R) -> R {
    act(&mut EXTENTS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

/// Checks that every file that is mapped is as long as it was. Where one ends now inside of its last page, zeros were read.
///
/// # Errors
/// One is shorter.
pub fn refuse_shrunk() -> Result<()> {
    with_extents(|extents| {
        let mut shrunk = extents.iter().filter_map(|extent| Some((extent, extent.shrunk()?)));
        let Some((Extent { path, len, .. }, got)) = shrunk.next() else { return Ok(()) };
        let why = format!(
            "became shorter while it was read: it has {got} bytes, and had {len}; run again when nobody writes to it"
        );
        Err(Error::malformed(why).wanting(len, got).in_file(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_becomes_shorter_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        fs::write(&path, [1; 100]).unwrap();
        let map = Mapped::open(&path).unwrap();
        assert_eq!(map.last(), Some(&1));
        File::options().write(true).open(&path).unwrap().set_len(50).unwrap();
        let error = refuse_shrunk().unwrap_err().to_string();
        assert!(error.contains("it has 50 bytes, and had 100"), "{error}");
        drop(map);
        // Other tests have files of their own.
        assert!(!refuse_shrunk().is_err_and(|error| error.to_string().contains("weights: became shorter")));
    }
}
