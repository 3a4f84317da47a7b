//! A file that does not exist yet under its name.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::batch::Batch;
use super::place::{folder_of, real};
use super::strays::{PREFIX, SUFFIX};
use super::temporary::Temporary;
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::system::{self, FileId};

/// A file that is being written and does not exist yet under its name.
///
/// On Linux it has no name at all, so that nothing is left of it when the process dies, however it dies.
/// Elsewhere, and on file systems that have no nameless files, it has a temporary name beside the target.
pub struct Staged {
    target: PathBuf,
    file: File,
    /// The temporary name, if there is one.
    temporary: Option<Temporary>,
    /// What was there when this was created.
    before: Option<Identity>,
}

/// Which file is there, and in which state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    file: FileId,
    len: u64,
    changed: Option<SystemTime>,
}

impl Identity {
    /// What is at a path; nothing if there is nothing, or nothing that can be seen.
    pub(super) fn of(path: &Path) -> Option<Identity> {
        let there = fs::symlink_metadata(path).ok()?;
        Some(Identity { file: system::id_at(path).ok()?, len: there.len(), changed: there.modified().ok() })
    }

    /// Whether it is the same file or folder, whatever is in it by now.
    pub(super) fn is_same_file(&self, other: &Identity) -> bool {
        self.file == other.file
    }
}

impl Staged {
    /// Creates a file that will become `target`, in an existing folder. Where a link is, it is the file that this leads to.
    ///
    /// # Errors
    /// The folder cannot be written to; a folder, device or pipe is there.
    pub fn create(target: &Path) -> Result<Staged> {
        let target = real(target)?;
        let before = Identity::of(&target);
        let folder = folder_of(&target);
        if let Some(file) = nameless(folder) {
            return Ok(Staged { target, file, temporary: None, before });
        }
        let created = Temporary::file(folder, PREFIX, SUFFIX);
        let (temporary, file) = created.map_err(|error| Error::io(&target, "create", error))?;
        Ok(Staged { target, file, temporary: Some(temporary), before })
    }

    /// Makes room for `len` bytes, all zero.
    ///
    /// # Errors
    /// The file cannot be that long.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|error| Error::io(&self.target, "write", error))
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// The disk is full, or refuses.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        system::write_all_at(&self.file, bytes, offset)
            .map_err(|error| Error::io(&self.target, "write", error))
    }

    /// Maps what was written, under the name of the target.
    ///
    /// # Errors
    /// As [`Mapped::from_file`].
    pub fn map(&self) -> Result<Mapped> {
        Mapped::from_file(&self.file, &self.target)
    }

    /// Waits until the bytes are on the disk.
    ///
    /// # Errors
    /// They do not get there.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| Error::io(&self.target, "write", error))
    }

    /// Gives the file its name. An existing file is replaced if `replace` says so, in one step, whoever wrote it when.
    ///
    /// # Errors
    /// The target exists and must not be replaced; it cannot be named.
    pub fn commit(mut self, replace: bool) -> Result<()> {
        self.before = Identity::of(&self.target);
        let mut batch = Batch::in_folder(folder_of(&self.target));
        batch.add(self);
        batch.commit(replace)
    }

    /// What the file will be.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// The name in its folder.
    pub(super) fn name(&self) -> &OsStr {
        self.target.file_name().unwrap_or_default()
    }

    /// What was there when this was created.
    pub(super) fn before(&self) -> Option<&Identity> {
        self.before.as_ref()
    }

    /// Gives the file a name that nothing has.
    pub(super) fn name_as(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        super::unfinished::killed::maybe();
        match &self.temporary {
            Some(temporary) => super::unfinished::rename_to_absent(temporary.path(), path),
            None => link(&self.file, path),
        }
    }
}

#[cfg(target_os = "linux")]
fn nameless(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    // By which it is named in the end.
    if !Path::new("/proc/self/fd").exists() {
        return None;
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::from_raw_mode(0o666)).ok().map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn nameless(_folder: &Path) -> Option<File> {
    None
}

/// Names a nameless file.
#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;

    use rustix::fs::{AtFlags, CWD, linkat};
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, &nameless, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_file: &File, _path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn nothing_is_there_before_commit_and_all_after() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        let staged = Staged::create(&target).unwrap();
        staged.set_len(8).unwrap();
        staged.write_at(3, b"abc").unwrap();
        assert!(!target.exists());
        assert_eq!(&*staged.map().unwrap(), b"\0\0\0abc\0\0");
        staged.sync().unwrap();
        staged.commit(false).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"\0\0\0abc\0\0");
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn dropping_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Staged::create(&folder.path().join("out")).unwrap());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn an_existing_file_is_replaced_only_on_request() {
        let folder = tempfile::tempdir().unwrap();
        // As long as a name can be.
        let target = folder.path().join("o".repeat(255));
        fs::write(&target, "old").unwrap();
        let error = Staged::create(&target).unwrap().commit(false).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"old");
        let staged = Staged::create(&target).unwrap();
        staged.write_at(0, b"new").unwrap();
        staged.commit(true).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(folder.path()).len(), 1);
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [real, link] = ["real", "link"].map(|name| folder.path().join(name));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        let staged = Staged::create(&link).unwrap();
        staged.write_at(0, b"new").unwrap();
        staged.commit(true).unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Staged::create(&folder.path().join("no/out")).is_err());
        assert!(Staged::create(folder.path()).is_err());
    }
}
