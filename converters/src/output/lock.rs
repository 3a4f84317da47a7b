//! One at a time: whoever names files in a folder locks it.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::temporary;
use crate::error::{Error, Kind, Result};

/// The lock on a folder, held until this goes. It is an advisory lock (`flock`) on the folder itself, so that nothing is left of
/// it, whatever becomes of the process.
pub(super) struct FolderLock {
    _folder: Option<File>,
}

/// Naming files takes milliseconds: whoever holds the lock for longer does something else.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

impl FolderLock {
    /// Takes the lock, and waits for others that hold it. Where the file system has no locks, none is held.
    ///
    /// # Errors
    /// Another program holds it, and goes on holding it.
    pub(super) fn take(folder: &Path) -> Result<FolderLock> {
        if temporary::is_own(folder) {
            // Locked already, and nobody else writes there.
            return Ok(FolderLock { _folder: None });
        }
        let Ok(file) = File::open(folder) else { return Ok(FolderLock { _folder: None }) };
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(FolderLock { _folder: Some(file) }),
                Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let why = format!(
                        "another program has kept this folder locked for {} s: wait for its end, or write elsewhere",
                        PATIENCE.as_secs()
                    );
                    return Err(Error::new(Kind::Request, why).in_file(folder));
                }
                Err(TryLockError::Error(_)) => return Ok(FolderLock { _folder: None }),
            }
        }
    }
}
