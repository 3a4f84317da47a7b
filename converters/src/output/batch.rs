//! Files that appear together.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::lock::FolderLock;
use super::place::refuse_as_weights;
use super::staged::{Identity, Staged};
use super::strays;
use super::unfinished::{Change, Unfinished, sync_folder};
use crate::error::{Error, Kind, Result};
use crate::mapped::Mapped;

/// Files of one folder that get their names together: all of them, or none, as far as the file system allows.
///
/// A reader sees the old files, or none that it can read, or the new ones. What a run leaves that is killed in between is carried
/// on or undone by the next that writes into the folder ([`clear`](super::clear)).
///
/// ```
/// use deberta_converters::output::{Batch, Staged};
///
/// let folder = tempfile::tempdir()?;
/// let mut batch = Batch::in_folder(folder.path());
/// for name in ["model.onnx.data", "model.onnx"] {
///     let file = Staged::create(&folder.path().join(name))?;
///     file.write_at(0, name.as_bytes())?;
///     batch.add(file);
/// }
/// batch.commit(false)?;
/// assert_eq!(std::fs::read_dir(folder.path())?.count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Batch {
    folder: PathBuf,
    files: Vec<Staged>,
    /// The files that may be there by now, if they say the same.
    shared: Vec<PathBuf>,
    superseded: Vec<PathBuf>,
}

impl Batch {
    /// No files yet, in a folder.
    pub fn in_folder(folder: &Path) -> Batch {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Batch { folder: folder.to_owned(), files: Vec::new(), shared: Vec::new(), superseded: Vec::new() }
    }

    /// Adds a file. The one that makes the others readable is added last: weights after their configuration, the index after
    /// its shards, the graph after its data.
    pub fn add(&mut self, file: Staged) {
        self.files.push(file);
    }

    /// Adds a file that other runs write, too, such as the configuration: it is no obstacle if another run wrote the same.
    pub fn add_shared(&mut self, file: Staged) {
        self.shared.push(file.target().to_owned());
        self.files.push(file);
    }

    /// Adds an old file that goes when the new ones come.
    pub fn supersede(&mut self, path: PathBuf) {
        self.superseded.push(path);
    }

    /// Checks that nothing is in the way of the files, and that what they replace is what was there when they were created.
    ///
    /// # Errors
    /// A file is there, which must not be replaced; one that another run wrote in the meantime; a folder, link or device.
    pub fn check(&self, replace: bool) -> Result<()> {
        self.files.iter().try_for_each(|file| self.is_wanted(file, replace).map(drop))
    }

    /// Gives the files their names; existing ones are replaced if `replace` says so.
    ///
    /// # Errors
    /// As [`Batch::check`]; the folder cannot be written to. Everything is as it was then.
    pub fn commit(mut self, replace: bool) -> Result<()> {
        // Another run that failed may have taken away the folder that both made.
        fs::create_dir_all(&self.folder).map_err(|error| Error::io(&self.folder, "create", error))?;
        let _lock = FolderLock::take(&self.folder)?;
        let names: Vec<&OsStr> = self.files.iter().map(Staged::name).collect();
        strays::clear_locked(&self.folder, &names)?;
        let mut files = Vec::with_capacity(self.files.len());
        for file in std::mem::take(&mut self.files) {
            if self.is_wanted(&file, replace)? {
                files.push(file);
            }
        }
        let superseded = self.superseded.iter().filter(|path| Identity::of(path).is_some());
        let superseded: Vec<&OsStr> = superseded.filter_map(|path| path.file_name()).collect();
        match (files.as_slice(), superseded.as_slice()) {
            ([], []) => Ok(()),
            ([file], []) => name_alone(&self.folder, file, replace),
            (files, superseded) => name_together(&self.folder, files, superseded),
        }
    }

    /// Whether a file is still to be named.
    fn is_wanted(&self, file: &Staged, replace: bool) -> Result<bool> {
        let path = file.target();
        let Some(there) = Identity::of(path) else { return Ok(true) };
        refuse_as_weights(path)?;
        let is_shared = self.shared.iter().any(|shared| shared == path);
        if is_shared && Mapped::open(path).is_ok_and(|there| file.map().is_ok_and(|own| there[..] == own[..]))
        {
            return Ok(false);
        }
        if !replace {
            return Err(exists(path));
        }
        if file.before() == Some(&there) {
            return Ok(true);
        }
        Err(overtaken(path))
    }
}

/// The error for an output that is already there.
pub(crate) fn exists(path: &Path) -> Error {
    Error::new(Kind::Request, "already exists: --force replaces it, -o writes elsewhere").in_file(path)
}

/// The error for an output that another run has written in the meantime.
pub(super) fn overtaken(path: &Path) -> Error {
    let why = "another run wrote it while this one worked, which therefore changed nothing: run again to replace it, or write \
               elsewhere with -o";
    Error::new(Kind::Request, why).in_file(path)
}

fn failed(path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::AlreadyExists { exists(path) } else { Error::io(path, "create", error) }
}

/// Names one file, in one step.
fn name_alone(folder: &Path, file: &Staged, replace: bool) -> Result<()> {
    let failed = |error| failed(file.target(), error);
    match file.name_as(file.target()) {
        // A link never replaces; a rename does, in one step.
        Err(error) if replace && error.kind() == io::ErrorKind::AlreadyExists => {
            let mut unfinished = Unfinished::create(folder).map_err(failed)?;
            let new = unfinished.add(file.name(), Change::Replace);
            file.name_as(&new).inspect_err(|_| unfinished.clear()).map_err(failed)?;
            unfinished.finish_alone().map_err(failed)?;
        }
        named => named.map_err(failed)?,
    }
    sync_folder(folder);
    Ok(())
}

/// Names several files, and takes away others.
fn name_together(folder: &Path, files: &[Staged], superseded: &[&OsStr]) -> Result<()> {
    let first = files.first().map_or(folder, Staged::target);
    let mut unfinished = Unfinished::create(folder).map_err(|error| failed(first, error))?;
    for (at, file) in files.iter().enumerate() {
        // With the last file, what it supersedes is no more read: that goes before it.
        if at + 1 == files.len() {
            superseded.iter().for_each(|name| drop(unfinished.add(name, Change::Remove)));
        }
        let is_there = Identity::of(file.target()).is_some();
        let new = unfinished.add(file.name(), if is_there { Change::Replace } else { Change::Add });
        file.name_as(&new)
            .inspect_err(|_| unfinished.clear())
            .map_err(|error| failed(file.target(), error))?;
    }
    unfinished.finish().map_err(|error| failed(first, error))
}

#[cfg(test)]
mod tests {
    use super::super::unfinished::{NAME, killed};
    use super::*;

    fn staged(path: &Path, text: &str) -> Staged {
        let file = Staged::create(path).unwrap();
        file.write_at(0, text.as_bytes()).unwrap();
        file
    }

    fn batch(folder: &Path, of: &[&str]) -> Batch {
        let mut batch = Batch::in_folder(folder);
        batch.add_shared(staged(&folder.join("config.json"), "{}"));
        of.iter().for_each(|name| batch.add(staged(&folder.join(name), name)));
        batch
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_first_of_two_runs_wins_whole() {
        for replace in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let (first, second) = (batch(folder.path(), &["w", "i"]), batch(folder.path(), &["x", "i"]));
            first.commit(replace).unwrap();
            let error = second.commit(replace).unwrap_err().to_string();
            assert!(
                error.contains(if replace { "another run wrote it" } else { "already exists" }),
                "{error}"
            );
            assert_eq!(names(folder.path()), ["config.json", "i", "w"]);
            batch(folder.path(), &["x", "i"]).commit(true).unwrap();
            assert_eq!(names(folder.path()), ["config.json", "i", "w", "x"]);
        }
    }

    #[test]
    fn runs_that_share_a_configuration_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (batch(folder.path(), &["w"]), batch(folder.path(), &["x"]));
        first.commit(false).unwrap();
        second.commit(false).unwrap();
        assert_eq!(names(folder.path()), ["config.json", "w", "x"]);
        let other = staged(&folder.path().join("config.json"), "{\"other\": 1}");
        let mut third = Batch::in_folder(folder.path());
        third.add_shared(other);
        assert!(third.commit(false).unwrap_err().to_string().contains("already exists"));
    }

    #[test]
    fn a_folder_in_the_way_is_seen_before_anything_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), "old").unwrap();
        let batch = batch(folder.path(), &["w"]);
        fs::create_dir(folder.path().join("w")).unwrap();
        let error = batch.commit(true).unwrap_err().to_string();
        assert!(error.contains("a folder is in the way"), "{error}");
        assert_eq!(fs::read(folder.path().join("config.json")).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["config.json", "w"]);
    }

    #[test]
    fn superseded_files_go_with_the_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("single"), "old").unwrap();
        let mut batch = batch(folder.path(), &["shard", "index"]);
        batch.supersede(folder.path().join("single"));
        batch.supersede(folder.path().join("absent"));
        batch.commit(true).unwrap();
        assert_eq!(names(folder.path()), ["config.json", "index", "shard"]);
    }

    #[test]
    fn one_file_is_replaced_in_one_step_wherever_a_run_dies() {
        for n in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("w");
            fs::write(&path, "old").unwrap();
            let ended = killed::at(n, || staged(&path, "new").commit(true).unwrap());
            let text = fs::read_to_string(&path).unwrap();
            assert!(text == "old" || text == "new");
            if !ended {
                assert_eq!((text.as_str(), names(folder.path()).len()), ("new", 1));
                break;
            }
            super::super::clear(folder.path()).unwrap();
            assert_eq!(names(folder.path()), ["w"], "{n}: {}", folder.path().join(NAME).exists());
        }
    }
}
