//! Names of temporary files and folders: known while they are in use, so that they go when the process is asked to end, and locked,
//! so that others tell them from those of runs that were killed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::system;

static IN_USE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The permissions of an output: whatever the process grants others.
pub const EVERYBODY: u32 = 0o777;
/// The permissions of what is nobody else's business.
pub const OWNER: u32 = 0o700;

/// A temporary name. What is there is removed when this goes, or by [`remove_all`].
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Temporary {
    /// Makes a folder in `parent` whose name starts with `prefix` and ends with `suffix`, for [`EVERYBODY`] or [`OWNER`].
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn folder(parent: &Path, prefix: &str, suffix: &str, mode: u32) -> io::Result<Temporary> {
        Temporary::make(parent, prefix, suffix, |path| {
            system::create_folder(path, mode)?;
            system::open_folder(path)
        })
        .map(|(temporary, _)| temporary)
    }

    /// Makes a file, as [`Temporary::folder`].
    pub(super) fn file(parent: &Path, prefix: &str, suffix: &str) -> io::Result<(Temporary, File)> {
        Temporary::make(parent, prefix, suffix, |path| {
            File::options().read(true).write(true).create_new(true).open(path)
        })
    }

    fn make(
        parent: &Path,
        prefix: &str,
        suffix: &str,
        create: impl Fn(&Path) -> io::Result<File>,
    ) -> io::Result<(Temporary, File)> {
        /// How often others may clear it before it is opened. Elsewhere, as in `/proc`, nothing is ever found.
        const TIMES: u32 = 1000;
        let process = std::process::id();
        let mut cleared = 0;
        // In containers, processes of the same number share folders.
        for number in 0_u32.. {
            let path = parent.join(format!("{prefix}{process}-{number}{suffix}"));
            let file = match create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                // Somebody took it for a stray before it was opened.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && cleared < TIMES && parent.is_dir() =>
                {
                    cleared += 1;
                    continue;
                }
                created => created?,
            };
            // Where there are no locks, nobody takes what is not locked for a stray.
            let locked = file.try_lock();
            let is_ours = !matches!(locked, Err(fs::TryLockError::WouldBlock))
                && system::id_at(&path).is_ok_and(|there| system::id(&file).is_ok_and(|own| own == there));
            if !is_ours {
                // Somebody took it for a stray before it was locked.
                continue;
            }
            with(|known| known.insert(path.clone()));
            let held = file.try_clone()?;
            return Ok((Temporary { path, _file: held }, file));
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The name.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.path);
        with(|known| known.remove(&self.path));
    }
}

/// Whether this is a temporary folder of this process.
pub(super) fn is_own(folder: &Path) -> bool {
    with(|known| known.contains(folder))
}

/// Removes every temporary file and folder of this process, which is about to end.
pub fn remove_all() {
    // A thread may be writing into a folder while it is removed.
    for _ in 0..3 {
        with(|known| known.retain(|path| !remove(path)));
    }
}

/// Removes what runs left in `parent` under names that start and end so, if nobody holds its lock.
pub fn clear(parent: &Path, prefix: &str, suffix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let numbers = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
        if numbers.is_some_and(is_numbered) {
            remove_unlocked(&entry.path());
        }
    }
}

/// Whether this is the number of a process, and that of a name of it.
fn is_numbered(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-').is_some_and(|(process, number)| is_number(process) && is_number(number))
}

/// Removes a file or folder that is a run's, unless it holds the lock.
pub(super) fn remove_unlocked(path: &Path) {
    let is_plain = fs::symlink_metadata(path).is_ok_and(|there| there.is_file() || there.is_dir());
    // A file that is opened for reading can be locked, too.
    if is_plain && File::open(path).is_ok_and(|file| file.try_lock().is_ok()) {
        remove(path);
    }
}

/// Removes a file or folder; whether it is gone.
fn remove(path: &Path) -> bool {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.is_ok() || fs::symlink_metadata(path).is_err()
}

fn with<R>(act: impl FnOnce(&mut BTreeSet<PathBuf>) -> R) -> R {
    act(&mut IN_USE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_go_and_what_is_in_use_stays() {
        let parent = tempfile::tempdir().unwrap();
        let used = Temporary::folder(parent.path(), "x-", ".partial", OWNER).unwrap();
        let [stray, other, file] =
            ["x-1-0.partial", "x-y-0.partial", "x-7-1.partial"].map(|name| parent.path().join(name));
        fs::create_dir_all(stray.join("below")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(&file, "").unwrap();
        clear(parent.path(), "x-", ".partial");
        assert!(used.path().exists() && other.exists() && !stray.exists() && !file.exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }

    #[test]
    fn what_another_run_clears_while_it_is_made_is_made_again() {
        use std::sync::atomic::{AtomicBool, Ordering};

        let parent = tempfile::tempdir().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        clear(parent.path(), "x-", "");
                    }
                });
            }
            let made = (0..500).map(|_| Temporary::folder(parent.path(), "x-", "", OWNER).map(drop));
            let made: io::Result<()> = made.collect();
            done.store(true, Ordering::Relaxed);
            made.unwrap();
        });
    }

    #[test]
    fn names_of_the_same_process_differ_and_all_go_at_its_end() {
        let parent = tempfile::tempdir().unwrap();
        // As a process of the same number left it, in another container.
        let taken = parent.path().join(format!("x-{}-0", std::process::id()));
        fs::write(&taken, "").unwrap();
        let (first, _) = Temporary::file(parent.path(), "x-", "").unwrap();
        let (second, _) = Temporary::file(parent.path(), "x-", "").unwrap();
        assert!(first.path() != second.path() && first.path() != taken);
    }
}
