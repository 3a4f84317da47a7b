//! Output files that appear whole or not at all.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::mapped::Mapped;

/// A file that is being written and does not exist yet under its name.
///
/// On Linux it has no name at all, so that nothing is left of it when the process dies, however it dies.
/// Elsewhere, and on file systems that have no nameless files, it has a temporary name beside the target.
pub struct Staged {
    target: PathBuf,
    file: File,
    /// The temporary name, if there is one.
    temporary: Option<PathBuf>,
}

impl Staged {
    /// Creates a file that will become `target`, in an existing folder.
    pub fn create(target: &Path) -> Result<Staged> {
        let folder = folder_of(target);
        if let Some(file) = nameless(folder) {
            return Ok(Staged { target: target.to_owned(), file, temporary: None });
        }
        let temporary = temporary_name(target);
        let created = File::options().read(true).write(true).create_new(true).open(&temporary);
        let file = created.map_err(|error| Error::io(target, "create", error))?;
        Ok(Staged { target: target.to_owned(), file, temporary: Some(temporary) })
    }

    /// Makes room for `len` bytes, all zero.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|error| Error::io(&self.target, "write", error))
    }

    /// Writes `bytes` at `offset`.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| Error::io(&self.target, "write", error))
    }

    /// Maps what was written, under the name of the target.
    pub fn map(&self) -> Result<Mapped> {
        Mapped::from_file(&self.file, &self.target)
    }

    /// Waits until the bytes are on the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| Error::io(&self.target, "write", error))
    }

    /// Gives the file its name. An existing file is replaced if `replace` says so, in one step.
    ///
    /// # Errors
    /// The target exists and must not be replaced.
    pub fn commit(mut self, replace: bool) -> Result<()> {
        let linked = match self.temporary.take() {
            Some(temporary) if replace => fs::rename(&temporary, &self.target),
            Some(temporary) => {
                let linked = fs::hard_link(&temporary, &self.target);
                let _ = fs::remove_file(&temporary);
                linked
            }
            None => name(&self.file, &self.target, replace),
        };
        linked.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(&self.target),
            _ => Error::io(&self.target, "create", error),
        })?;
        let folder = folder_of(&self.target);
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| Error::io(&self.target, "write", error))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// The error for an output that is already there.
pub fn exists(path: &Path) -> Error {
    Error::new(Kind::Request, "already exists: --force replaces it, -o writes elsewhere").in_file(path)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary_name(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}

#[cfg(target_os = "linux")]
fn nameless(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::from_raw_mode(0o666)).ok().map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn nameless(_folder: &Path) -> Option<File> {
    None
}

/// Names a nameless file.
#[cfg(target_os = "linux")]
fn name(file: &File, target: &Path, replace: bool) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, CWD, linkat};
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |path: &Path| linkat(CWD, &nameless, CWD, path, AtFlags::SYMLINK_FOLLOW);
    match link(target) {
        Err(rustix::io::Errno::EXIST) if replace => {
            // A link never replaces; a rename does, in one step.
            let temporary = temporary_name(target);
            link(&temporary)?;
            fs::rename(&temporary, target).inspect_err(|_| {
                let _ = fs::remove_file(&temporary);
            })
        }
        result => Ok(result?),
    }
}

#[cfg(not(target_os = "linux"))]
fn name(_file: &File, _target: &Path, _replace: bool) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
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
        let target = folder.path().join("out");
        fs::write(&target, "old").unwrap();
        let error = Staged::create(&target).unwrap().commit(false).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"old");
        let staged = Staged::create(&target).unwrap();
        staged.write_at(0, b"new").unwrap();
        staged.commit(true).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Staged::create(&folder.path().join("no/out")).is_err());
    }
}
