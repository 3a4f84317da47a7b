//! The cache on disk, in the layout of huggingface_hub, which shares it:
//!
//! ```text
//! models--owner--name/refs/main                        the commit that main was
//! models--owner--name/snapshots/<commit>/config.json   a link to ../../blobs/<etag>
//! models--owner--name/blobs/<etag>                     the content; <etag>.incomplete while it comes
//! .locks/models--owner--name/<etag>.lock               held while the content comes
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::confinement::require_inside;
use crate::error::{Error, Result};
use crate::hub::id::{ModelId, Revision, is_commit};
use crate::opening;
use crate::output::replace;
use crate::system;

/// The most bytes that the name of a commit is read from.
const LONGEST_REFERENCE: u64 = 100;

/// The cache's folder of one model.
#[derive(Debug)]
pub(super) struct Repository {
    folder: PathBuf,
    locks: PathBuf,
}

impl Repository {
    pub(super) fn new(cache: &Path, id: &ModelId) -> Repository {
        let name = format!("models--{}", id.as_str().replace('/', "--"));
        Repository { folder: cache.join(&name), locks: cache.join(".locks").join(&name) }
    }

    /// The commit that the revision was when it was last asked for.
    pub(super) fn commit(&self, revision: &Revision) -> Result<Option<String>> {
        if revision.is_commit() {
            return Ok(Some(revision.as_str().to_owned()).filter(|commit| self.snapshot(commit).is_dir()));
        }
        let path = self.reference(revision);
        if !path.exists() {
            return Ok(None);
        }
        require_inside(&self.folder, &path)?;
        let text = opening::read_text(&path, LONGEST_REFERENCE)?;
        let commit = text.trim();
        if !is_commit(commit) {
            return Err(
                Error::malformed("holds no commit of 40 hexadecimal digits: delete it").in_file(&path)
            );
        }
        Ok(Some(commit.to_owned()))
    }

    /// Notes which commit a branch or tag is.
    pub(super) fn set_commit(&self, revision: &Revision, commit: &str) -> Result<()> {
        if revision.is_commit() {
            return Ok(());
        }
        let path = self.reference(revision);
        let is_there = || opening::read_text(&path, LONGEST_REFERENCE).is_ok_and(|text| text == commit);
        if is_there() {
            return Ok(());
        }
        create_parent(&path)?;
        if path.is_symlink() {
            // What it leads to is not the cache's to write.
            fs::remove_file(&path).map_err(|error| Error::io(&path, "replace", error))?;
        }
        let write = || if is_there() { Ok(()) } else { replace(&path, commit.as_bytes()) };
        beside_others(write, |_| true)
    }

    /// The folder of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The files of a commit that are there, with a depth of one folder.
    pub(super) fn files(&self, commit: &str) -> BTreeSet<String> {
        let snapshot = self.snapshot(commit);
        let mut files = BTreeSet::new();
        for (name, path) in entries(&snapshot) {
            if path.is_dir() {
                let inner = entries(&path).filter(|(_, path)| path.is_file());
                files.extend(inner.map(|(inner, _)| format!("{name}/{inner}")));
            } else if path.is_file() {
                files.insert(name);
            }
        }
        files
    }

    /// Whether a file of a commit is there.
    ///
    /// # Errors
    /// A link that leads out of the model's folder.
    pub(super) fn has(&self, commit: &str, name: &str) -> Result<bool> {
        let snapshot = self.snapshot(commit);
        let path = snapshot.join(name);
        if !path.is_file() {
            return Ok(false);
        }
        require_inside(&snapshot, &path).map(|()| true)
    }

    /// The place of a content.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Makes the file `name` of a commit a link to a content.
    pub(super) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(commit).join(name);
        let up = "../".repeat(2 + name.matches('/').count());
        create_parent(&path)?;
        let from_there = PathBuf::from(format!("{up}blobs/{etag}"));
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        // The same name for every process: what one left that was killed is taken over by the next.
        let temporary = path.with_file_name(format!(".{file_name}.partial"));
        let link = || {
            let _ = fs::remove_file(&temporary);
            system::point_to(&self.blob(etag), &from_there, &temporary)
                .and_then(|()| fs::rename(&temporary, &path))
        };
        let met_another =
            |error: &io::Error| matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound);
        beside_others(link, met_another).map_err(|error| {
            let _ = fs::remove_file(&temporary);
            Error::io(&path, "link", error)
        })
    }

    /// Waits until no other process fetches the content, and keeps others waiting until the result is dropped.
    /// `waiting` is called if there is another.
    pub(super) fn lock(&self, etag: &str, waiting: impl Fn()) -> Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        let failed = |error| Error::io(&path, "lock", error);
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => {
                    waiting();
                    file.lock().map_err(failed)?;
                }
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Whoever held it may have deleted it: then this is a lock on nothing.
            let held = system::id(&file).map_err(failed)?;
            if system::id_at(&path).is_ok_and(|there| there == held) {
                return Ok(file);
            }
        }
    }

    fn reference(&self, revision: &Revision) -> PathBuf {
        self.folder.join("refs").join(revision.as_str())
    }
}

/// Does what another process may do at the same time: tries again, for a fifth of a second, while the error is one that comes of
/// that.
fn beside_others<T, E>(
    attempt: impl Fn() -> std::result::Result<T, E>,
    met: impl Fn(&E) -> bool,
) -> std::result::Result<T, E> {
    const TIMES: usize = 20;
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..TIMES {
        match attempt() {
            Err(error) if met(&error) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    attempt()
}

/// Creates the folder that a file is to be in.
pub(super) fn create_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, "create", error))
}

fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const COMMIT: &str = "0d1b43ccf21b5acd9f4e5f7b077fa698f05cf195";

    fn repository() -> (tempfile::TempDir, Repository) {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::new(folder.path(), &"owner/name".parse().unwrap());
        fs::create_dir_all(folder.path().join("models--owner--name/blobs")).unwrap();
        (folder, repository)
    }

    #[test]
    fn what_a_killed_process_left_is_taken_over() {
        let (_folder, repository) = repository();
        fs::write(repository.blob("abc"), "content").unwrap();
        let snapshot = repository.snapshot(COMMIT);
        fs::create_dir_all(&snapshot).unwrap();
        symlink("../../blobs/old", snapshot.join(".config.json.partial")).unwrap();
        repository.link(COMMIT, "config.json", "abc").unwrap();
        assert_eq!(fs::read_to_string(snapshot.join("config.json")).unwrap(), "content");
        assert_eq!(fs::read_dir(&snapshot).unwrap().count(), 1);
    }

    #[test]
    fn a_reference_that_is_a_link_is_replaced_and_not_written_through() {
        let (folder, repository) = repository();
        let (branch, elsewhere): (Revision, _) = ("main".parse().unwrap(), folder.path().join("elsewhere"));
        fs::write(&elsewhere, "mine").unwrap();
        create_parent(&repository.reference(&branch)).unwrap();
        symlink(&elsewhere, repository.reference(&branch)).unwrap();
        repository.set_commit(&branch, COMMIT).unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
        assert_eq!(repository.commit(&branch).unwrap().as_deref(), Some(COMMIT));
    }

    #[test]
    fn files_are_relative_links_to_contents() {
        let (folder, repository) = repository();
        fs::write(repository.blob("abc"), "content").unwrap();
        for name in ["config.json", "onnx/model.onnx"] {
            assert!(!repository.has(COMMIT, name).unwrap());
            repository.link(COMMIT, name, "abc").unwrap();
            repository.link(COMMIT, name, "abc").unwrap();
            assert!(repository.has(COMMIT, name).unwrap());
        }
        let nested = folder.path().join(format!("models--owner--name/snapshots/{COMMIT}/onnx/model.onnx"));
        assert_eq!(fs::read_link(nested).unwrap(), Path::new("../../../blobs/abc"));
        assert_eq!(repository.files(COMMIT).len(), 2);
    }

    #[test]
    fn links_out_of_the_repository_are_refused() {
        let (folder, repository) = repository();
        let snapshot = repository.snapshot(COMMIT);
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir_all(folder.path().join("models--owner--other/blobs")).unwrap();
        for outside in ["secret", "models--owner--other/blobs/abc", "models--owner--name/refs"] {
            fs::write(folder.path().join(outside), "x").unwrap();
            let link = snapshot.join("config.json");
            let _ = fs::remove_file(&link);
            symlink(folder.path().join(outside), &link).unwrap();
            let error = repository.has(COMMIT, "config.json").unwrap_err().to_string();
            assert!(error.contains("config.json") && error.contains("leads out"), "{error}");
        }
    }

    #[test]
    fn revisions_are_remembered() {
        let (_folder, repository) = repository();
        let branch: Revision = "refs/pr/1".parse().unwrap();
        assert_eq!(repository.commit(&branch).unwrap(), None);
        repository.set_commit(&branch, COMMIT).unwrap();
        assert_eq!(repository.commit(&branch).unwrap().as_deref(), Some(COMMIT));
        fs::write(repository.reference(&branch), "../../../secret").unwrap();
        assert!(repository.commit(&branch).unwrap_err().to_string().contains("delete it"));
        assert_eq!(repository.commit(&COMMIT.parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn a_lock_that_was_deleted_is_taken_anew() {
        let (_folder, repository) = repository();
        let first = repository.lock("abc", || {}).unwrap();
        fs::remove_file(repository.locks.join("abc.lock")).unwrap();
        let second = repository.lock("abc", || panic!("nobody holds it")).unwrap();
        assert_ne!(system::id(&first).unwrap(), system::id(&second).unwrap());
    }
}
