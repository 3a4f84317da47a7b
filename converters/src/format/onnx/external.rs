//! Tensor data in files beside the model.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Component, Path};
use std::sync::Arc;

use super::proto::StringStringEntryProto;
use crate::error::{Error, Result};
use crate::mapped::Mapped;

/// The files that a model's tensors are in, each opened once.
pub(super) struct Externals<'a> {
    open: &'a dyn Fn(&Path) -> Result<Mapped>,
    files: HashMap<String, Arc<Mapped>>,
}

impl<'a> Externals<'a> {
    pub(super) fn new(open: &'a dyn Fn(&Path) -> Result<Mapped>) -> Self {
        Externals { open, files: HashMap::new() }
    }

    /// The files by the names that the model gives them.
    pub(super) fn into_files(self) -> Vec<(String, Arc<Mapped>)> {
        self.files.into_iter().collect()
    }

    /// The file and the place in it of a tensor that needs `needed` bytes, from its entries `location`, `offset` and
    /// `length`.
    pub(super) fn locate(
        &mut self,
        entries: &[StringStringEntryProto],
        needed: usize,
    ) -> Result<(Arc<Mapped>, Range<usize>)> {
        for (index, entry) in entries.iter().enumerate() {
            if entries.iter().skip(index + 1).any(|other| other.key() == entry.key()) {
                return Err(Error::malformed(format!("external data: two entries \"{}\"", entry.key())));
            }
        }
        let entry = |key: &str| entries.iter().find(|entry| entry.key() == key).map(|entry| entry.value());
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| {
                Error::malformed(format!("external data: {key} \"{text}\" is not a number of bytes"))
            }),
        };
        let location =
            entry("location").ok_or_else(|| Error::malformed("external data without a location"))?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        if let Some(length) = length.filter(|&length| length != needed as u64) {
            return Err(Error::malformed(format!(
                "external data: length {length}, the shape needs {needed} bytes"
            ))
            .wanting(needed, length));
        }
        let file = self.file(location)?;
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(needed)?));
        let range = range.filter(|range| range.end <= file.len()).ok_or_else(|| {
            Error::malformed(format!(
                "external data: {needed} bytes at {offset} of \"{location}\", which has {} (truncated?)",
                file.len()
            ))
        })?;
        Ok((file, range))
    }

    fn file(&mut self, location: &str) -> Result<Arc<Mapped>> {
        if let Some(file) = self.files.get(location) {
            return Ok(Arc::clone(file));
        }
        let path = Path::new(location);
        let inside =
            path.components().all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
        if !inside || location.is_empty() || location.contains(['\\', '\0']) {
            let why = format!("external data: \"{location}\" is not a file in the model's own folder");
            return Err(Error::refused(why));
        }
        let file = Arc::new((self.open)(path)?);
        self.files.insert(location.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}
