//! A folder that does not exist yet under its name.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::batch::overtaken;
use super::lock::FolderLock;
use super::place::folder_of;
use super::staged::Identity;
use super::strays::{PREFIX, SUFFIX, clear_locked};
use super::temporary::{EVERYBODY, Temporary};
use super::unfinished::{Change, Unfinished, sync_folder};
use crate::error::{Error, Result};

/// A folder that is being filled and has a hidden name beside its own.
pub struct StagedFolder {
    target: PathBuf,
    temporary: Temporary,
    /// What was there when this was created.
    before: Option<Identity>,
}

impl StagedFolder {
    /// Creates a folder that will become `target`; where a link to a folder is, the folder that this leads to.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(target: &Path) -> Result<StagedFolder> {
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let failed = |error| Error::io(&target, "create", error);
        let temporary = Temporary::folder(folder_of(&target), PREFIX, SUFFIX, EVERYBODY).map_err(failed)?;
        let before = Identity::of(&target);
        Ok(StagedFolder { target, temporary, before })
    }

    /// Where it is now.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the folder its name, if `check` has no objection to what is there, which goes then.
    ///
    /// # Errors
    /// What `check` returns; another run wrote the folder in the meantime; it cannot be named. What is there stays then.
    pub fn commit(self, check: impl FnOnce() -> Result<()>) -> Result<()> {
        let parent = folder_of(&self.target);
        let failed = |error: io::Error| Error::io(&self.target, "create", error);
        self.sync().map_err(failed)?;
        let _lock = FolderLock::take(parent)?;
        clear_locked(parent, &[])?;
        check()?;
        match (Identity::of(&self.target), &self.before) {
            (Some(there), Some(before)) if there.is_same_file(before) => {}
            (None, _) => {}
            // An empty folder is nobody's output.
            _ if fs::remove_dir(&self.target).is_ok() => {}
            _ => return Err(overtaken(&self.target)),
        }
        let renamed = match fs::rename(self.path(), &self.target) {
            Err(_) if self.target.is_dir() => self.exchange(),
            renamed => renamed,
        };
        renamed.map_err(failed)?;
        sync_folder(parent);
        Ok(())
    }

    /// Takes the place of a folder that is not empty.
    fn exchange(&self) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_vendor = "apple"))]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            // The old one has the hidden name then, and goes with it.
            if renameat_with(CWD, self.path(), CWD, &self.target, RenameFlags::EXCHANGE).is_ok() {
                return Ok(());
            }
        }
        let mut unfinished = Unfinished::create(folder_of(&self.target))?;
        let new = unfinished.add(self.target.file_name().unwrap_or_default(), Change::Replace);
        fs::rename(self.path(), &new).inspect_err(|_| unfinished.clear())?;
        unfinished.finish()
    }

    /// Waits until the files are on the disk.
    fn sync(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.path())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                File::open(entry.path())?.sync_all()?;
            }
        }
        sync_folder(self.path());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(target: &Path, text: &str) -> StagedFolder {
        let folder = StagedFolder::create(target).unwrap();
        super::super::replace(&folder.path().join("file"), text.as_bytes()).unwrap();
        folder
    }

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn the_first_of_two_runs_wins_whole() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("golden");
        for is_there in [false, true] {
            let (first, second) = (filled(&target, "1"), filled(&target, "2"));
            first.commit(|| Ok(())).unwrap();
            let error = second.commit(|| Ok(())).unwrap_err().to_string();
            assert!(error.contains("another run wrote it"), "{error}");
            assert_eq!(
                (fs::read(target.join("file")).unwrap(), count(parent.path())),
                (b"1".to_vec(), 1),
                "{is_there}"
            );
        }
        filled(&target, "3").commit(|| Ok(())).unwrap();
        assert_eq!((fs::read(target.join("file")).unwrap(), count(parent.path())), (b"3".to_vec(), 1));
    }

    #[test]
    fn an_objection_leaves_what_is_there() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("golden");
        fs::create_dir(&target).unwrap();
        filled(&target, "1").commit(|| Ok(())).unwrap();
        let objection = || Err(Error::malformed("no"));
        assert_eq!(filled(&target, "2").commit(objection).unwrap_err().to_string(), "no");
        assert_eq!((fs::read(target.join("file")).unwrap(), count(parent.path())), (b"1".to_vec(), 1));
    }
}
