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

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The payload of the extra field `id` among the extra fields of a header. `None` if there is none, or if they
/// are cut off before it.
pub(super) fn extra_field(mut extra: &[u8], id: u16) -> Option<&[u8]> {
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
pub(super) const ZIP64: u16 = 1;
