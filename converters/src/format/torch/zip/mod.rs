//! Zip archives, as far as checkpoints need them: a validated list of entries, and inflation with a limit.
//!
//! A file can lie in a zip archive in many places at once, because the directory at its end repeats what stands
//! before each entry. Here both must agree, entries must not share bytes, and names must not occur twice.

mod directory;
mod field;
mod inflate;
#[cfg(test)]
mod lies;
mod local;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

pub(crate) use directory::is_archive;
pub(crate) use inflate::{inflate, inflate_prefix};
pub(crate) use local::local_headers;

use crate::error::{Error, Printable, Result};

/// The entries of an archive.
#[derive(Debug)]
pub(crate) struct Archive {
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

/// One entry, whose bytes are known to be inside the file.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its path in the archive.
    pub(crate) name: String,
    /// Whether it is compressed.
    pub(crate) deflated: bool,
    /// The checksum of its unpacked bytes.
    pub(crate) crc32: u32,
    /// Where in the file its packed bytes are.
    pub(crate) packed: Range<usize>,
    /// Bytes that it has when unpacked.
    pub(crate) len: usize,
}

impl Archive {
    /// Reads and validates the directory of the archive that `file` is. Of the entries only the headers are
    /// looked at.
    pub(crate) fn parse(file: &[u8]) -> Result<Archive> {
        let directory = directory::parse(file)?;
        let mut entries = Vec::with_capacity(directory.entries.len());
        let mut by_name = HashMap::with_capacity(directory.entries.len());
        // Bytes that entries take, headers included, to find those that share some.
        let mut taken = Vec::with_capacity(directory.entries.len());
        for central in directory.entries {
            let (packed, header_start) = local::locate(file, &central, directory.start)?;
            taken.push((header_start..packed.end, entries.len()));
            if by_name.insert(central.name.clone(), entries.len()).is_some() {
                return Err(Error::malformed(format!(
                    "zip entry \"{}\" occurs twice",
                    Printable(&central.name)
                )));
            }
            entries.push(Entry {
                name: central.name,
                deflated: central.deflated,
                crc32: central.crc32,
                packed,
                len: central.len,
            });
        }
        taken.sort_unstable_by_key(|(bytes, _)| bytes.start);
        for pair in taken.windows(2) {
            let [(first, first_index), (second, second_index)] = pair else { continue };
            if first.end > second.start {
                let name = |&index: &usize| entries.get(index).map_or("", |entry: &Entry| &entry.name);
                return Err(Error::malformed(format!(
                    "zip entry \"{}\" ends at byte {}, inside \"{}\", which starts at {}",
                    Printable(name(first_index)),
                    first.end,
                    Printable(name(second_index)),
                    second.start
                )));
            }
        }
        Ok(Archive { entries, by_name })
    }

    /// The entries, in the order of the directory.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of that name.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).and_then(|&index| self.entries.get(index))
    }
}

impl Entry {
    /// The unpacked bytes, their checksum verified.
    ///
    /// # Errors
    /// If there are more than `largest`, which is known before anything is unpacked.
    pub(crate) fn read<'f>(&self, file: &'f [u8], largest: usize) -> Result<Cow<'f, [u8]>> {
        let damaged =
            |what: String| Error::malformed(format!("zip entry \"{}\" {what}", Printable(&self.name)));
        if self.len > largest {
            return Err(Error::refused(format!(
                "zip entry \"{}\" has {} bytes, at most {largest} make sense",
                Printable(&self.name),
                self.len
            )));
        }
        let packed = file.get(self.packed.clone()).unwrap_or_default();
        let bytes = if self.deflated {
            Cow::Owned(inflate(packed, self.len).map_err(|error| damaged(error.to_string()))?)
        } else {
            Cow::Borrowed(packed)
        };
        let actual = crc32fast::hash(&bytes);
        if actual != self.crc32 {
            return Err(damaged(format!(
                "is damaged: its checksum is {actual:08x}, the archive says {:08x}",
                self.crc32
            )));
        }
        Ok(bytes)
    }
}
