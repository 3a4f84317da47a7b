//! Opening files of others, with errors that name them: [`deberta_reference::opening`].

use std::fs::File;
use std::io;
use std::path::Path;

use deberta_reference::opening;

use crate::error::{Error, Result};

/// Opens a regular file for reading.
///
/// # Errors
/// No such file, or none that is regular.
pub fn open(path: &Path) -> Result<File> {
    opening::open(path).map_err(|error| named(path, "open", error))
}

/// Reads a regular file of at most so many bytes.
///
/// # Errors
/// As [`open`]; a longer one, with both numbers.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    opening::read(path, most).map_err(|error| named(path, "read", error))
}

/// Reads a regular file of UTF-8 of at most so many bytes.
///
/// # Errors
/// As [`read`]; what is no UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    let bytes = opening::read(path, most).map_err(|error| named(path, "open", error))?;
    String::from_utf8(bytes).map_err(|error| {
        let error = io::Error::new(io::ErrorKind::InvalidData, error.utf8_error().to_string());
        named(path, "read as text", error)
    })
}

fn named(path: &Path, doing: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidInput => Error::unsupported("not a regular file").in_file(path),
        io::ErrorKind::FileTooLarge => Error::malformed(error.to_string()).in_file(path),
        _ => Error::io(path, doing, error),
    }
}
