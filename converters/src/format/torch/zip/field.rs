//! Little-endian numbers at fixed places in a header.

/// The `u16` at byte `at`.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

/// The `u32` at byte `at`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

/// The `u64` at byte `at`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// The extra field with the 64-bit values of the header's fields that are too small, in the order of those fields.
pub(super) struct Wide<'b>(&'b [u8]);

impl<'b> Wide<'b> {
    /// That of a header with these extra fields.
    pub(super) fn of(extra: &'b [u8]) -> Wide<'b> {
        Wide(extra_field(extra, ZIP64).unwrap_or_default())
    }

    /// What a field of 32 bits says, or where it says "see there", the next of the values.
    pub(super) fn len(&mut self, narrow: u32) -> Option<u64> {
        if narrow != u32::MAX {
            return Some(u64::from(narrow));
        }
        let value = u64_at(self.0, 0)?;
        self.0 = self.0.get(8..)?;
        Some(value)
    }

    /// The same for the number of the disk, which comes last.
    pub(super) fn disk(&self, narrow: u16) -> Option<u32> {
        if narrow == u16::MAX { u32_at(self.0, 0) } else { Some(u32::from(narrow)) }
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The payload of the extra field `id` among the extra fields of a header. `None` if there is none, or if they
/// are cut off before it.
fn extra_field(mut extra: &[u8], id: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16_at(extra, 2)?);
        let payload = extra.get(4..4 + len)?;
        if u16_at(extra, 0)? == id {
            return Some(payload);
        }
        extra = extra.get(4 + len..)?;
    }
}

/// The extra field that holds 64-bit sizes and offsets.
const ZIP64: u16 = 1;
