//! The directory at the end of an archive (APPNOTE 6.3, sections 4.3.12 to 4.3.16).

use super::field::{Wide, u16_at, u32_at, u64_at};
use crate::error::{Error, Printable, Result};

/// What every entry, and so every archive that is not empty, starts with.
pub(super) const LOCAL_SIGNATURE: &[u8] = b"PK\x03\x04";
const CENTRAL_SIGNATURE: &[u8] = b"PK\x01\x02";
const END_SIGNATURE: &[u8] = b"PK\x05\x06";
const END64_SIGNATURE: &[u8] = b"PK\x06\x06";
const LOCATOR64_SIGNATURE: &[u8] = b"PK\x06\x07";

const CENTRAL_LEN: usize = 46;
const END_LEN: usize = 22;
const END64_LEN: usize = 56;
const LOCATOR64_LEN: usize = 20;

/// More entries than any checkpoint has.
const MOST_ENTRIES: usize = 1 << 18;

/// Whether the file starts as an archive does.
pub(crate) fn is_archive(file: &[u8]) -> bool {
    file.starts_with(LOCAL_SIGNATURE) || file.starts_with(END_SIGNATURE)
}

/// The directory.
pub(super) struct Directory {
    /// Its entries.
    pub(super) entries: Vec<Central>,
    /// Its first byte, which is where the entries' data must have ended.
    pub(super) start: usize,
}

/// An entry as the directory describes it.
#[derive(Debug)]
pub(super) struct Central {
    pub(super) name: String,
    pub(super) deflated: bool,
    pub(super) method: u16,
    pub(super) crc32: u32,
    pub(super) packed_len: usize,
    pub(super) len: usize,
    pub(super) header_at: usize,
}

/// Finds and reads the directory.
pub(super) fn parse(file: &[u8]) -> Result<Directory> {
    let end = find_end(file).ok_or_else(|| {
        Error::malformed(format!(
            "a zip archive without its end record: the file is truncated or damaged ({} bytes are there)",
            file.len()
        ))
    })?;
    let extent = Extent::read(file, end)
        .ok_or_else(|| Error::malformed("the end record of the zip archive is damaged"))?;
    let extent = extent?;
    let directory = file.get(extent.start..extent.end).unwrap_or_default();
    if extent.count > MOST_ENTRIES {
        return Err(Error::refused(format!(
            "a zip archive of {} entries, at most {MOST_ENTRIES} make sense",
            extent.count
        )));
    }
    if extent.count > directory.len() / CENTRAL_LEN {
        return Err(Error::malformed(format!(
            "a zip directory of {} bytes cannot hold the {} entries that it claims",
            directory.len(),
            extent.count
        )));
    }
    let mut entries = Vec::with_capacity(extent.count);
    let mut rest = directory;
    while entries.len() < extent.count {
        let (central, after) = Central::read(rest).ok_or_else(|| {
            Error::malformed(format!("entry {} of the zip directory is damaged", entries.len()))
        })?;
        entries.push(central?);
        rest = after;
    }
    if !rest.is_empty() {
        return Err(Error::malformed(format!(
            "{} bytes behind the last entry of the zip directory",
            rest.len()
        )));
    }
    Ok(Directory { entries, start: extent.start })
}

/// The offset of the end record: the last one whose comment reaches exactly to the end of the file.
fn find_end(file: &[u8]) -> Option<usize> {
    let last = file.len().checked_sub(END_LEN)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    (first..=last).rev().find(|&at| {
        file.get(at..).is_some_and(|end| {
            end.starts_with(END_SIGNATURE) && u16_at(end, 20).map(usize::from) == Some(end.len() - END_LEN)
        })
    })
}

/// Where the directory is, and how many entries it has.
struct Extent {
    start: usize,
    end: usize,
    count: usize,
}

impl Extent {
    /// Reads the end record at `end`, and the 64-bit one before it if there is one. `None` if a field is missing.
    fn read(file: &[u8], end: usize) -> Option<Result<Extent>> {
        let record = file.get(end..)?;
        let (disk, directory_disk) = (u16_at(record, 4)?, u16_at(record, 6)?);
        let (count_here, count) = (u16_at(record, 8)?, u16_at(record, 10)?);
        let (len, start) = (u32_at(record, 12)?, u32_at(record, 16)?);
        let locator = end.checked_sub(LOCATOR64_LEN).and_then(|at| file.get(at..end));
        let Some(locator) = locator.filter(|locator| locator.starts_with(LOCATOR64_SIGNATURE)) else {
            if disk != 0 || directory_disk != 0 || count_here != count {
                return Some(Err(several_disks()));
            }
            return Some(Extent::new(end, start.into(), len.into(), count.into()));
        };
        let end64 = usize::try_from(u64_at(locator, 8)?).ok()?;
        if u32_at(locator, 4)? != 0 || u32_at(locator, 16)? != 1 {
            return Some(Err(several_disks()));
        }
        let record64 = file.get(end64..end - LOCATOR64_LEN)?;
        if !record64.starts_with(END64_SIGNATURE) || record64.len() < END64_LEN {
            return None;
        }
        if u64_at(record64, 4)?.checked_add(12)? != u64::try_from(record64.len()).ok()? {
            return None;
        }
        let (count64_here, count64) = (u64_at(record64, 24)?, u64_at(record64, 32)?);
        let (len64, start64) = (u64_at(record64, 40)?, u64_at(record64, 48)?);
        if u32_at(record64, 16)? != 0 || u32_at(record64, 20)? != 0 || count64_here != count64 {
            return Some(Err(several_disks()));
        }
        let agree = (count == u16::MAX || u64::from(count) == count64)
            && (len == u32::MAX || u64::from(len) == len64)
            && (start == u32::MAX || u64::from(start) == start64);
        if !agree {
            return Some(Err(Error::malformed(format!(
                "the two end records of the zip archive disagree: {count} entries in {len} bytes at {start}, and \
                 {count64} in {len64} at {start64}"
            ))));
        }
        Some(Extent::new(end64, start64, len64, count64))
    }

    /// `records` is where the end records start, which is where the directory must end.
    fn new(records: usize, start: u64, len: u64, count: u64) -> Result<Extent> {
        let end = start.checked_add(len);
        if end != u64::try_from(records).ok() {
            let end = end.map_or_else(|| "nowhere".to_owned(), |end| format!("at byte {end}"));
            return Err(Error::malformed(format!(
                "the zip directory of {len} bytes at {start} ends {end}, its end record starts at {records}"
            )));
        }
        let start = usize::try_from(start)
            .map_err(|_| Error::malformed("a zip directory beyond the address space"))?;
        Ok(Extent { start, end: records, count: usize::try_from(count).unwrap_or(usize::MAX) })
    }
}

impl Central {
    /// Reads the entry at the start of `bytes` and returns what follows it. `None` if a field is missing.
    fn read(bytes: &[u8]) -> Option<(Result<Central>, &[u8])> {
        if !bytes.starts_with(CENTRAL_SIGNATURE) {
            return None;
        }
        let [flags, method] = [u16_at(bytes, 8)?, u16_at(bytes, 10)?];
        let crc32 = u32_at(bytes, 16)?;
        let (packed32, len32) = (u32_at(bytes, 20)?, u32_at(bytes, 24)?);
        let [name_len, extra_len, comment_len] =
            [u16_at(bytes, 28)?, u16_at(bytes, 30)?, u16_at(bytes, 32)?].map(usize::from);
        let disk = u16_at(bytes, 34)?;
        let header32 = u32_at(bytes, 42)?;
        let (name, rest) = bytes.get(CENTRAL_LEN..)?.split_at_checked(name_len)?;
        let (extra, rest) = rest.split_at_checked(extra_len)?;
        let (_comment, rest) = rest.split_at_checked(comment_len)?;

        let mut wide = Wide::of(extra);
        let (len, packed_len, header_at) = (wide.len(len32)?, wide.len(packed32)?, wide.len(header32)?);
        let disk = wide.disk(disk)?;

        let Ok(name) = std::str::from_utf8(name) else {
            return Some((Err(Error::malformed("the name of a zip entry is not UTF-8")), rest));
        };
        let place = format!("zip entry \"{}\"", Printable(name));
        let number = |what: &str, value: u64| {
            usize::try_from(value)
                .map_err(|_| Error::malformed(format!("{place}: {what} {value} is beyond the address space")))
        };
        let checked = || {
            if flags & ENCRYPTED != 0 {
                return Err(Error::unsupported(format!("{place} is encrypted")));
            }
            if flags & PATCH != 0 {
                return Err(Error::unsupported(format!("{place} is a patch of other data")));
            }
            if method != STORED && method != DEFLATED {
                return Err(Error::unsupported(format!(
                    "{place} is compressed by method {method}; only stored and deflated entries are read"
                )));
            }
            if disk != 0 {
                return Err(several_disks());
            }
            if method == STORED && len != packed_len {
                return Err(Error::malformed(format!(
                    "{place} is stored uncompressed, but {len} bytes take {packed_len}"
                ))
                .wanting(len, packed_len));
            }
            Ok(Central {
                name: name.to_owned(),
                deflated: method == DEFLATED,
                method,
                crc32,
                packed_len: number("size", packed_len)?,
                len: number("size", len)?,
                header_at: number("offset", header_at)?,
            })
        };
        Some((checked(), rest))
    }
}

/// General purpose flags and compression methods that matter here.
pub(super) const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const PATCH: u16 = 1 << 5;
pub(super) const SIZES_FOLLOW: u16 = 1 << 3;
const STORED: u16 = 0;
pub(super) const DEFLATED: u16 = 8;

fn several_disks() -> Error {
    Error::unsupported("a zip archive in several parts")
}
