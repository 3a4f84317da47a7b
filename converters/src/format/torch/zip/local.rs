//! The header before each entry's data (APPNOTE 6.3, section 4.3.7).

use std::ops::Range;

use super::directory::{Central, DEFLATED, ENCRYPTED, LOCAL_SIGNATURE, SIZES_FOLLOW};
use super::field::{Wide, u16_at, u32_at, u64_at};
use crate::error::{Error, Printable, Result};

const LOCAL_LEN: usize = 30;
const DESCRIPTOR_SIGNATURE: &[u8] = b"PK\x07\x08";

/// An entry as the header before its data describes it.
#[derive(Debug)]
pub(crate) struct LocalHeader<'f> {
    /// Its path, if it is UTF-8.
    pub(crate) name: &'f str,
    /// Whether it is compressed by deflate.
    pub(crate) deflated: bool,
    /// Where its data starts.
    pub(crate) data_at: usize,
    /// Bytes of its packed data, if they are known here.
    pub(crate) packed_len: Option<u64>,
    flags: u16,
    method: u16,
    crc32: u32,
    len: Option<u64>,
}

impl<'f> LocalHeader<'f> {
    fn read(file: &'f [u8], at: usize) -> Option<LocalHeader<'f>> {
        let header = file.get(at..)?;
        if !header.starts_with(LOCAL_SIGNATURE) {
            return None;
        }
        let (flags, method, crc32) = (u16_at(header, 6)?, u16_at(header, 8)?, u32_at(header, 14)?);
        let (packed32, len32) = (u32_at(header, 18)?, u32_at(header, 22)?);
        let [name_len, extra_len] = [u16_at(header, 26)?, u16_at(header, 28)?].map(usize::from);
        let (name, rest) = header.get(LOCAL_LEN..)?.split_at_checked(name_len)?;
        let extra = rest.get(..extra_len)?;
        let mut wide = Wide::of(extra);
        let (len, packed_len) = (wide.len(len32), wide.len(packed32));
        let known = flags & SIZES_FOLLOW == 0;
        Some(LocalHeader {
            name: std::str::from_utf8(name).ok()?,
            deflated: method == DEFLATED,
            data_at: at.checked_add(LOCAL_LEN + name_len + extra_len)?,
            packed_len: packed_len.filter(|_| known),
            flags,
            method,
            crc32,
            len: len.filter(|_| known),
        })
    }
}

/// Every local header in the file, found by its signature: for archives whose directory cannot be read.
pub(crate) fn local_headers(file: &[u8]) -> impl Iterator<Item = LocalHeader<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = file.get(at..)?;
            let found =
                at + rest.windows(LOCAL_SIGNATURE.len()).position(|window| window == LOCAL_SIGNATURE)?;
            at = found + LOCAL_SIGNATURE.len();
            if let Some(header) = LocalHeader::read(file, found) {
                return Some(header);
            }
        }
    })
}

/// Where the data of an entry is, and where its local header starts. The header must agree with the directory, and
/// the data must end before the directory, at byte `directory_at`.
pub(super) fn locate(file: &[u8], central: &Central, directory_at: usize) -> Result<(Range<usize>, usize)> {
    let wrong = |what: String| Error::malformed(format!("zip entry \"{}\" {what}", Printable(&central.name)));
    let header = LocalHeader::read(file, central.header_at)
        .ok_or_else(|| wrong(format!("has no header at byte {}, where it should", central.header_at)))?;
    let disagree = |what: &str, here: String, there: String| {
        Err(wrong(format!("has {what} {here} in its header and {there} in the directory")))
    };
    if header.name != central.name {
        return disagree("name", Printable(header.name).to_string(), Printable(&central.name).to_string());
    }
    if header.flags & ENCRYPTED != 0 {
        return Err(Error::unsupported(format!("zip entry \"{}\" is encrypted", Printable(&central.name))));
    }
    if header.method != central.method {
        return disagree("method", header.method.to_string(), central.method.to_string());
    }
    if header.flags & SIZES_FOLLOW == 0 {
        for (here, there) in [(header.len, central.len), (header.packed_len, central.packed_len)] {
            if here != u64::try_from(there).ok() {
                let here = here.map_or_else(|| "unknown".to_owned(), |here| here.to_string());
                return disagree("size", here, there.to_string());
            }
        }
        if header.crc32 != central.crc32 {
            return disagree("checksum", format!("{:08x}", header.crc32), format!("{:08x}", central.crc32));
        }
    }
    let end = header.data_at.checked_add(central.packed_len).filter(|&end| end <= directory_at);
    let end = end.ok_or_else(|| {
        wrong(format!(
            "has {} bytes at {}, the zip directory starts at {directory_at}",
            central.packed_len, header.data_at
        ))
    })?;
    // torch writes nothing behind an empty entry.
    if header.flags & SIZES_FOLLOW != 0 && central.len > 0 {
        let behind = file.get(end..directory_at).unwrap_or_default();
        if !has_descriptor(behind, central) {
            return Err(wrong(
                "has another size or checksum behind its data than in the directory".to_owned(),
            ));
        }
    }
    Ok((header.data_at..end, central.header_at))
}

/// Whether the bytes behind an entry's data start with its checksum and sizes, of 32 or 64 bits, with or without a
/// signature before them (section 4.3.9).
fn has_descriptor(behind: &[u8], central: &Central) -> bool {
    let fields = behind.strip_prefix(DESCRIPTOR_SIGNATURE).unwrap_or(behind);
    let expected = [central.packed_len, central.len].map(|len| u64::try_from(len).ok());
    let narrow = || [u32_at(fields, 4).map(u64::from), u32_at(fields, 8).map(u64::from)];
    let wide = || [u64_at(fields, 4), u64_at(fields, 12)];
    u32_at(fields, 0) == Some(central.crc32) && (narrow() == expected || wide() == expected)
}
