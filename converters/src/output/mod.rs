//! Output files that appear whole or not at all, one alone or several together.
//!
//! ```text
//! mod           writing a small file, or to a device
//!   staged        a file that does not exist yet under its name
//!   folder        a folder that does not
//!   batch         files that appear together
//!   unfinished    the hidden folder that they pass through, and its journal
//!   strays        what runs left that were killed
//!   lock          one at a time
//!   place         links, devices and pipes in the place of an output
//!   temporary     names that go when the process is asked to end
//! ```

use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, Result};

mod batch;
mod folder;
mod lock;
mod place;
mod staged;
mod strays;
pub mod temporary;
mod unfinished;

pub use batch::Batch;
pub(crate) use batch::exists;
pub use folder::StagedFolder;
pub use place::{is_stream, refuse_as_weights};
pub use staged::Staged;
pub use strays::clear;

/// Writes a file as a whole, in place of the one that is there; where a link leads to, and through devices and pipes.
///
/// # Errors
/// A folder that is not there or cannot be written to; a folder of that name.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let report = folder.path().join("report.txt");
/// deberta_converters::output::replace(&report, b"all is well\n")?;
/// assert_eq!(std::fs::read(&report)?, b"all is well\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if is_stream(path) {
        let opened = std::fs::File::options().append(true).open(path);
        return opened
            .and_then(|mut stream| stream.write_all(bytes))
            .map_err(|error| Error::io(path, "write", error));
    }
    let staged = Staged::create(path)?;
    staged.write_at(0, bytes)?;
    staged.sync()?;
    staged.commit(true)
}

/// Checks, before any work is done, that [`replace`] can write there.
///
/// # Errors
/// As [`replace`].
pub fn check(path: &Path) -> Result<()> {
    if is_stream(path) { Ok(()) } else { Staged::create(path).map(drop) }
}
