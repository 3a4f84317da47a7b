//! The parts of a zip archive of stored entries (APPNOTE 6.3, sections 4.3.7 to 4.3.16).
//!
//! Fields that are too narrow hold their largest value, and the real one stands in a 64-bit field.

/// An entry whose place in the file is fixed.
#[derive(Debug)]
pub(super) struct Entry {
    name: String,
    len: u64,
    header_at: u64,
    /// Bytes of padding in the header's last extra field, for the alignment of the data.
    padding: u16,
}

/// torch aligns the data of entries so; it can then be used in place.
const ALIGNMENT: u64 = 64;

/// Every entry is from 1980-01-01 00:00, the first moment of the format.
const TIME: u16 = 0;
const DATE: u16 = 1 << 5 | 1;

/// Versions of the specification needed to read an entry: 2.0, and 4.5 for 64-bit fields.
const VERSION: u16 = 20;
const VERSION64: u16 = 45;

const ZIP64: u16 = 1;
/// The extra field of torch's padding: "FB".
const PADDING: u16 = u16::from_le_bytes(*b"FB");

const LOCAL_LEN: u64 = 30;
const CENTRAL_LEN: u64 = 46;
const END_LEN: u64 = 22;
const END64_LEN: u64 = 56;
const LOCATOR64_LEN: u64 = 20;

impl Entry {
    /// The entry whose header starts at byte `header_at`. `None` if its end cannot be counted.
    pub(super) fn place(name: String, len: u64, header_at: u64) -> Option<Entry> {
        let mut entry = Entry { name, len, header_at, padding: 0 };
        let unaligned = header_at.checked_add(entry.header_len())?;
        entry.padding = u16::try_from(unaligned.checked_next_multiple_of(ALIGNMENT)? - unaligned).ok()?;
        unaligned.checked_add(ALIGNMENT)?.checked_add(len)?;
        Some(entry)
    }

    /// Where its header starts.
    pub(super) fn header_at(&self) -> u64 {
        self.header_at
    }

    /// Where its data starts.
    pub(super) fn data_at(&self) -> u64 {
        self.header_at + self.header_len()
    }

    /// Where its data ends.
    pub(super) fn end(&self) -> u64 {
        self.data_at() + self.len
    }

    fn header_len(&self) -> u64 {
        LOCAL_LEN + self.name.len() as u64 + self.local_extra().len() as u64
    }

    /// Whether its size needs a 64-bit field.
    fn is_large(&self) -> bool {
        self.len >= u64::from(u32::MAX)
    }

    /// The header in front of its data.
    pub(super) fn local_header(&self, crc32: u32) -> Vec<u8> {
        let extra = self.local_extra();
        let mut header = Vec::from(b"PK\x03\x04");
        header.extend(self.version().to_le_bytes());
        self.extend_common(&mut header, crc32, extra.len());
        header.extend(self.name.as_bytes());
        header.extend(extra);
        header
    }

    /// Its entry in the directory.
    pub(super) fn directory_entry(&self, crc32: u32) -> Vec<u8> {
        let extra = self.directory_extra();
        let mut entry = Vec::from(b"PK\x01\x02");
        entry.extend(self.version().to_le_bytes()); // made by
        entry.extend(self.version().to_le_bytes()); // needed
        self.extend_common(&mut entry, crc32, extra.len());
        entry.extend([0; 10]); // comment length, disk, attributes
        entry.extend(narrow32(self.header_at).to_le_bytes());
        entry.extend(self.name.as_bytes());
        entry.extend(extra);
        entry
    }

    /// The fields that both headers have, from the flags to the length of the extra fields.
    fn extend_common(&self, header: &mut Vec<u8>, crc32: u32, extra_len: usize) {
        header.extend([0; 4]); // flags, method: stored
        header.extend(TIME.to_le_bytes());
        header.extend(DATE.to_le_bytes());
        header.extend(crc32.to_le_bytes());
        header.extend(narrow32(self.len).to_le_bytes()); // compressed
        header.extend(narrow32(self.len).to_le_bytes());
        header.extend(narrow16(self.name.len()).to_le_bytes());
        header.extend(narrow16(extra_len).to_le_bytes());
    }

    fn local_extra(&self) -> Vec<u8> {
        let sizes: &[u64] = if self.is_large() { &[self.len, self.len] } else { &[] };
        let mut extra = wide_field(sizes);
        extra.extend(PADDING.to_le_bytes());
        extra.extend(self.padding.to_le_bytes());
        extra.resize(extra.len() + usize::from(self.padding), 0);
        extra
    }

    fn directory_extra(&self) -> Vec<u8> {
        let mut wide = if self.is_large() { vec![self.len, self.len] } else { Vec::new() };
        if self.header_at >= u64::from(u32::MAX) {
            wide.push(self.header_at);
        }
        wide_field(&wide)
    }

    fn version(&self) -> u16 {
        if self.directory_extra().is_empty() { VERSION } else { VERSION64 }
    }
}

/// Bytes of the directory and what follows it, when it starts at byte `start`.
pub(super) fn directory_len(entries: &[Entry], start: u64) -> u64 {
    let directory: u64 = entries
        .iter()
        .map(|entry| CENTRAL_LEN + entry.name.len() as u64 + entry.directory_extra().len() as u64)
        .sum();
    let end64 = if is_large(entries.len(), start, directory) { END64_LEN + LOCATOR64_LEN } else { 0 };
    directory + end64 + END_LEN
}

/// What follows a directory of `count` entries and `len` bytes that starts at byte `start`.
pub(super) fn end_records(count: usize, start: u64, len: usize) -> Vec<u8> {
    let (count64, len64) = (count as u64, len as u64);
    let mut records = Vec::new();
    if is_large(count, start, len64) {
        records.extend(b"PK\x06\x06");
        records.extend((END64_LEN - 12).to_le_bytes());
        records.extend(VERSION64.to_le_bytes()); // made by
        records.extend(VERSION64.to_le_bytes()); // needed
        records.extend([0; 8]); // disks
        for field in [count64, count64, len64, start] {
            records.extend(field.to_le_bytes());
        }
        records.extend(b"PK\x06\x07");
        records.extend([0; 4]); // disk
        records.extend((start + len64).to_le_bytes());
        records.extend(1u32.to_le_bytes()); // disks
    }
    records.extend(b"PK\x05\x06");
    records.extend([0; 4]); // disks
    records.extend(narrow16(count).to_le_bytes());
    records.extend(narrow16(count).to_le_bytes());
    records.extend(narrow32(len64).to_le_bytes());
    records.extend(narrow32(start).to_le_bytes());
    records.extend([0; 2]); // comment length
    records
}

fn is_large(count: usize, start: u64, len: u64) -> bool {
    count >= usize::from(u16::MAX) || start >= u64::from(u32::MAX) || len >= u64::from(u32::MAX)
}

fn wide_field(values: &[u64]) -> Vec<u8> {
    if values.is_empty() {
        return Vec::new();
    }
    let mut field = Vec::from(ZIP64.to_le_bytes());
    field.extend(narrow16(8 * values.len()).to_le_bytes());
    field.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    field
}

fn narrow32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn narrow16(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}
