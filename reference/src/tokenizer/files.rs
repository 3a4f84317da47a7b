//! Reading the files of a tokenizer: what is wrong with one is said with its name and the place.

use std::path::Path;

use serde_json::{Map, Value};

use super::limits::{LARGEST_FILE, check_entries};
use crate::error::{Error, Result};
use crate::opening;

/// A fault in a tokenizer file; `place` is a line or a key, or empty.
pub(crate) fn fault(file: &Path, place: impl Into<String>, problem: impl ToString) -> Error {
    Error::TokenizerFile { file: file.to_path_buf(), place: place.into(), problem: problem.to_string() }
}

/// Reads a regular file of at most so many bytes, unless it is a pointer of git-LFS in its place.
pub(crate) fn read_bytes(file: &Path, most: u64) -> Result<Vec<u8>> {
    let bytes = opening::read(file, most).map_err(|error| fault(file, "", error))?;
    if bytes.starts_with(b"version https://git-lfs") {
        let problem = "a git-LFS pointer, not the file itself: run `git lfs pull`, or download the file";
        return Err(fault(file, "", problem));
    }
    Ok(bytes)
}

/// Reads a text file.
pub(crate) fn read(file: &Path) -> Result<String> {
    let bytes = read_bytes(file, LARGEST_FILE)?;
    String::from_utf8(bytes)
        .map_err(|error| fault(file, format!("byte {}", error.utf8_error().valid_up_to()), "not UTF-8"))
}

/// Reads a file that holds a JSON object.
pub(crate) fn read_object(file: &Path) -> Result<Map<String, Value>> {
    let text = read(file)?;
    check_entries(file, &text)?;
    serde_json::from_str(&text).map_err(|error| json_fault(file, error))
}

/// A fault in a JSON file; the message ends with its place.
pub(crate) fn json_fault(file: &Path, error: impl ToString) -> Error {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((message, place)) => fault(file, format!("line {place}"), message),
        None => fault(file, "", message),
    }
}

/// Reads a JSON object of tokens and ids, in its order.
pub(crate) fn read_ids(file: &Path) -> Result<Vec<(String, u32)>> {
    let id = |(token, value): (String, Value)| match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok((token, id)),
        None => Err(fault(
            file,
            format!("{token:?}"),
            format!("{value} is not an id, an integer from 0 to {}", u32::MAX),
        )),
    };
    read_object(file)?.into_iter().map(id).collect()
}
