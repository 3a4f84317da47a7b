//! The files of releases that faults are put into.

use std::fs;
use std::path::Path;

use deberta_converters::config_file::ConfigFile;
use deberta_converters::error::{Error, Result};
use serde_json::Value;

/// Copies a file.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    write(to, &fs::read(from).map_err(|error| Error::io(from, "read", error))?)
}

/// Writes a file, and the folder that it is in.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |error| Error::io(path, "write", error);
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
    fs::write(path, bytes).map_err(failed)
}

/// Sets a key of the configuration.
pub(super) fn configure(folder: &Path, key: &str, value: Value) -> Result<()> {
    let path = folder.join("config.json");
    let mut map = ConfigFile::read(&path)?.map;
    map.insert(key.to_owned(), value);
    write(&path, Value::Object(map).to_string().as_bytes())
}
