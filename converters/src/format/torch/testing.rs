//! Checkpoints made byte by byte, so that every field of theirs can lie.

use std::path::Path;

use super::{TorchFile, open};
use crate::error::Result;
use crate::mapped::Mapped;

/// An entry of a zip archive. The fields of both headers are right unless they are set otherwise.
#[derive(Clone)]
pub(super) struct TestEntry {
    pub(super) local_name: String,
    pub(super) name: String,
    /// The bytes that are written.
    pub(super) data: Vec<u8>,
    pub(super) flags: u16,
    pub(super) local_flags: u16,
    pub(super) method: u16,
    pub(super) local_method: u16,
    pub(super) crc32: u32,
    pub(super) local_crc32: u32,
    pub(super) len: u32,
    pub(super) packed_len: u32,
    pub(super) local_len: u32,
    pub(super) local_packed_len: u32,
    pub(super) disk: u16,
    /// Added to the offset in the directory.
    pub(super) shift: i64,
    /// Extra fields in the directory.
    pub(super) extra: Vec<u8>,
}

/// The records at the end of an archive, right unless they are set otherwise.
#[derive(Default)]
pub(super) struct TestEnd {
    pub(super) count: Option<u16>,
    pub(super) len: Option<u32>,
    pub(super) start: Option<u32>,
    pub(super) disk: u16,
    pub(super) comment: Vec<u8>,
    /// Bytes between the directory and the end record.
    pub(super) between: Vec<u8>,
}

/// A stored entry.
pub(super) fn stored(name: &str, data: &[u8]) -> TestEntry {
    let len = u32::try_from(data.len()).unwrap();
    let crc32 = crc32fast::hash(data);
    TestEntry {
        local_name: name.to_owned(),
        name: name.to_owned(),
        data: data.to_vec(),
        flags: 0,
        local_flags: 0,
        method: 0,
        local_method: 0,
        crc32,
        local_crc32: crc32,
        len,
        packed_len: len,
        local_len: len,
        local_packed_len: len,
        disk: 0,
        shift: 0,
        extra: Vec::new(),
    }
}

/// A deflated entry.
pub(super) fn deflated(name: &str, data: &[u8]) -> TestEntry {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    let packed = encoder.finish().unwrap();
    let packed_len = u32::try_from(packed.len()).unwrap();
    TestEntry {
        data: packed,
        method: 8,
        local_method: 8,
        packed_len,
        local_packed_len: packed_len,
        ..stored(name, data)
    }
}

/// An archive of these entries.
pub(super) fn zip(entries: &[TestEntry]) -> Vec<u8> {
    zip_with(entries, &TestEnd::default())
}

/// An archive of these entries with this end.
pub(super) fn zip_with(entries: &[TestEntry], end: &TestEnd) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let header_at = i64::try_from(file.len()).unwrap() + entry.shift;
        file.extend(b"PK\x03\x04\x14\0");
        for field in [entry.local_flags, entry.local_method, 0, 0x21] {
            file.extend(field.to_le_bytes());
        }
        for field in [entry.local_crc32, entry.local_packed_len, entry.local_len] {
            file.extend(field.to_le_bytes());
        }
        file.extend(u16::try_from(entry.local_name.len()).unwrap().to_le_bytes());
        file.extend([0, 0]);
        file.extend(entry.local_name.as_bytes());
        file.extend(&entry.data);

        directory.extend(b"PK\x01\x02\x14\0\x14\0");
        for field in [entry.flags, entry.method, 0, 0x21] {
            directory.extend(field.to_le_bytes());
        }
        for field in [entry.crc32, entry.packed_len, entry.len] {
            directory.extend(field.to_le_bytes());
        }
        directory.extend(u16::try_from(entry.name.len()).unwrap().to_le_bytes());
        directory.extend(u16::try_from(entry.extra.len()).unwrap().to_le_bytes());
        directory.extend([0, 0]);
        directory.extend(entry.disk.to_le_bytes());
        directory.extend([0; 6]);
        directory.extend(u32::try_from(header_at).unwrap().to_le_bytes());
        directory.extend(entry.name.as_bytes());
        directory.extend(&entry.extra);
    }
    let start = u32::try_from(file.len()).unwrap();
    let len = u32::try_from(directory.len()).unwrap();
    let count = end.count.unwrap_or(u16::try_from(entries.len()).unwrap());
    file.extend(directory);
    file.extend(&end.between);
    file.extend(b"PK\x05\x06");
    for field in [end.disk, end.disk, count, count] {
        file.extend(field.to_le_bytes());
    }
    file.extend(end.len.unwrap_or(len).to_le_bytes());
    file.extend(end.start.unwrap_or(start).to_le_bytes());
    file.extend(u16::try_from(end.comment.len()).unwrap().to_le_bytes());
    file.extend(&end.comment);
    file
}

/// The entries of a checkpoint with this pickle and these storages.
pub(super) fn records(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<TestEntry> {
    let mut entries = vec![stored("m/data.pkl", pickle), stored("m/version", b"3\n")];
    entries.extend(storages.iter().map(|(key, data)| stored(&format!("m/data/{key}"), data)));
    entries
}

/// The pickle `{"w": tensor}`, of a tensor of float32 in storage "0", given the arguments of its storage (elements)
/// and its own (offset, shape, strides) as pickle instructions.
pub(super) fn one_tensor(elements: &str, arguments: &str) -> Vec<u8> {
    one_tensor_of("FloatStorage", elements, arguments)
}

/// As [`one_tensor`], with another class of storage.
pub(super) fn one_tensor_of(class: &str, elements: &str, arguments: &str) -> Vec<u8> {
    format!(
        "}}(Vw\nctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\n{class}\nV0\nVcpu\n{elements}tQ{arguments}I00\n}}tRu."
    )
    .into_bytes()
}

/// A pickle instruction that pushes the number.
pub(super) fn int(number: i64) -> String {
    format!("I{number}\n")
}

/// Pickle instructions that push a tuple of the numbers.
pub(super) fn ints(numbers: &[i64]) -> String {
    let numbers: String = numbers.iter().map(|&number| int(number)).collect();
    format!("({numbers}t")
}

/// Opens a checkpoint that is these bytes.
pub(super) fn open_bytes(bytes: impl Into<Vec<u8>>) -> Result<TorchFile> {
    open(Mapped::from_bytes(bytes.into(), Path::new("model.bin")))
}

/// The message with which these bytes are refused.
pub(super) fn refusal(bytes: impl Into<Vec<u8>>) -> String {
    match open_bytes(bytes) {
        Ok(_) => panic!("should have been refused"),
        Err(error) => error.to_string(),
    }
}
