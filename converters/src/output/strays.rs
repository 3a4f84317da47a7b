//! What runs left that were killed.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::lock::FolderLock;
use super::temporary::{self, remove_unlocked};
use super::unfinished::{self, Unfinished};
use crate::error::{Error, Result};

/// How the names of files and folders begin and end that are being written.
pub(super) const PREFIX: &str = ".deberta-";
pub(super) const SUFFIX: &str = ".partial";

/// Carries on or undoes what an earlier run left half done in `folder`, and removes what it left of files that it was writing.
/// What a run holds that goes on stays. Called before a folder is read that will be written to.
///
/// # Errors
/// The folder cannot be written to; another program keeps it locked.
pub fn clear(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // Nearly always there is nothing to be done, nor anything to wait for.
    let is_there = fs::symlink_metadata(folder.join(unfinished::NAME)).is_ok();
    let _lock = if is_there { Some(FolderLock::take(folder)?) } else { None };
    clear_locked(folder, &[])
}

/// The same with the lock held; `names` are those of the files that are written now.
pub(super) fn clear_locked(folder: &Path, names: &[&OsStr]) -> Result<()> {
    let failed =
        |error| Error::io(&folder.join(unfinished::NAME), "carry on what an earlier run began", error);
    Unfinished::recover(folder).map_err(failed)?;
    temporary::clear(folder, PREFIX, SUFFIX);
    clear_of_first_release(folder, names);
    Ok(())
}

/// Removes `.NAME.PROCESS.partial`, which version 0.1.0 left.
fn clear_of_first_release(folder: &Path, names: &[&OsStr]) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let of = name.strip_prefix('.').and_then(|name| name.strip_suffix(SUFFIX)).and_then(|name| {
            let (of, process) = name.rsplit_once('.')?;
            process.bytes().all(|byte| byte.is_ascii_digit()).then_some(of)
        });
        if of.is_some_and(|of| names.iter().any(|name| *name == of)) {
            remove_unlocked(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Staged;

    #[test]
    fn strays_of_every_release_go_with_the_next_output() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for stray in [".out.77.partial", ".deberta-1-0.partial"] {
            fs::write(at(stray), "half").unwrap();
        }
        fs::create_dir(at(".deberta-unfinished")).unwrap();
        fs::write(at(".deberta-unfinished/new-0"), "half").unwrap();
        for other in [".other.77.partial", ".out.x.partial", "out.77.partial"] {
            fs::write(at(other), "not ours").unwrap();
        }
        for _ in 0..2 {
            Staged::create(&at("out")).unwrap().commit(true).unwrap();
        }
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".other.77.partial", ".out.x.partial", "out", "out.77.partial"]);
    }
}
