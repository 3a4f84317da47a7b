//! One test per way in which an archive can lie.

use super::Archive;
use crate::format::torch::testing::{TestEnd, TestEntry, deflated, stored, zip, zip_with};

fn message(file: &[u8]) -> String {
    Archive::parse(file).map(drop).unwrap_err().to_string()
}

fn with(change: impl Fn(&mut TestEntry)) -> Vec<u8> {
    let mut entry = stored("b", b"second");
    change(&mut entry);
    zip(&[stored("a", b"first"), entry])
}

#[test]
fn the_honest_archive_opens() {
    let file = zip(&[stored("a", b"first"), deflated("b/c", b"second"), stored("empty", b"")]);
    let archive = Archive::parse(&file).unwrap();
    let read = |name: &str| archive.entry(name).unwrap().read(&file, 10).unwrap().into_owned();
    assert_eq!(archive.entries().len(), 3);
    assert_eq!((read("a"), read("b/c"), read("empty")), (b"first".to_vec(), b"second".to_vec(), vec![]));
    assert!(archive.entry("a").unwrap().read(&file, 4).is_err());
    let end = TestEnd { comment: b"a comment".to_vec(), ..TestEnd::default() };
    assert!(Archive::parse(&zip_with(&[stored("a", b"")], &end)).is_ok());
}

#[test]
fn a_truncated_archive() {
    let file = zip(&[stored("a", b"first"), stored("b", b"second")]);
    for len in 0..file.len() {
        let message = message(&file[..len]);
        assert!(message.contains("truncated") && message.contains(&format!("{len} bytes")), "{message}");
    }
}

#[test]
fn bytes_behind_the_archive() {
    let file = [zip(&[stored("a", b"first")]), b"x".to_vec()].concat();
    assert!(message(&file).contains("without its end record"));
}

#[test]
fn bytes_in_front_of_the_archive() {
    let file = [b"x".to_vec(), zip(&[stored("a", b"first")])].concat();
    assert!(message(&file).contains("ends at byte"));
}

#[test]
fn a_directory_that_is_elsewhere() {
    let one = [stored("a", b"first")];
    for end in [
        TestEnd { start: Some(1), ..TestEnd::default() },
        TestEnd { start: Some(u32::MAX - 1), ..TestEnd::default() },
        TestEnd { len: Some(3), ..TestEnd::default() },
        TestEnd { between: b"???".to_vec(), ..TestEnd::default() },
    ] {
        assert!(message(&zip_with(&one, &end)).contains("its end record starts at"));
    }
}

#[test]
fn a_wrong_number_of_entries() {
    let two = [stored("a", b"first"), stored("b", b"second")];
    let count = |count| TestEnd { count: Some(count), ..TestEnd::default() };
    assert!(message(&zip_with(&two, &count(1))).contains("47 bytes behind the last entry"));
    assert!(message(&zip_with(&two, &count(3))).contains("cannot hold the 3 entries that it claims"));
    assert!(message(&zip_with(&two, &count(65_535))).contains("cannot hold the 65535 entries"));
}

#[test]
fn several_disks() {
    assert!(
        message(&zip_with(&[stored("a", b"")], &TestEnd { disk: 1, ..TestEnd::default() }))
            .contains("several parts")
    );
    assert!(message(&with(|entry| entry.disk = 1)).contains("several parts"));
}

#[test]
fn encryption_and_unknown_compression() {
    assert!(message(&with(|entry| entry.flags = 1)).contains("zip entry \"b\" is encrypted"));
    assert!(message(&with(|entry| entry.local_flags = 1)).contains("zip entry \"b\" is encrypted"));
    assert!(message(&with(|entry| entry.method = 12)).contains("zip entry \"b\" is compressed by method 12"));
    assert!(message(&with(|entry| entry.flags = 1 << 5)).contains("zip entry \"b\" is a patch"));
}

#[test]
fn a_name_twice() {
    let twice = [stored("a", b"first"), stored("a", b"second")];
    assert_eq!(message(&zip(&twice)), "zip entry \"a\" occurs twice");
}

#[test]
fn headers_that_disagree() {
    let wrong = |change: &dyn Fn(&mut TestEntry)| message(&with(change));
    assert!(
        wrong(&|entry| entry.local_name = "c".to_owned())
            .contains("has name c in its header and b in the directory")
    );
    assert!(
        wrong(&|entry| entry.local_method = 8).contains("has method 8 in its header and 0 in the directory")
    );
    assert!(wrong(&|entry| entry.local_len = 5).contains("has size 5 in its header and 6 in the directory"));
    assert!(
        wrong(&|entry| entry.local_packed_len = 7)
            .contains("has size 7 in its header and 6 in the directory")
    );
    assert!(wrong(&|entry| entry.local_crc32 = 0).contains("has checksum 00000000 in its header and"));
}

/// With this flag the header has neither sizes nor checksum: they come behind the data.
#[test]
fn sizes_behind_the_data_that_disagree() {
    let crc32 = crc32fast::hash(b"second");
    let follow = |crc32: u32, sizes: &[u8], signature: &[u8]| {
        with(|entry| {
            (entry.local_flags, entry.local_len, entry.local_packed_len, entry.local_crc32) = (8, 0, 0, 0);
            entry.data.extend([signature, &crc32.to_le_bytes(), sizes].concat());
        })
    };
    let (narrow, wide) = (&[6, 0, 0, 0, 6, 0, 0, 0], &[6, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
    for signature in [&b"PK\x07\x08"[..], b""] {
        assert!(Archive::parse(&follow(crc32, narrow, signature)).is_ok());
        assert!(Archive::parse(&follow(crc32, wide, signature)).is_ok());
        assert!(
            message(&follow(crc32 ^ 1, narrow, signature))
                .contains("has another size or checksum behind its data")
        );
        assert!(message(&follow(crc32, &[6, 0, 0, 0, 7, 0, 0, 0], signature)).contains("has another size"));
    }
}

#[test]
fn sizes_that_lie() {
    let sizes = |len, packed_len| {
        message(&with(|entry| {
            (entry.len, entry.local_len) = (len, len);
            (entry.packed_len, entry.local_packed_len) = (packed_len, packed_len);
        }))
    };
    assert!(sizes(5, 6).contains("is stored uncompressed, but 5 bytes take 6"));
    assert!(sizes(7, 7).contains("has 7 bytes at"));
    assert!(sizes(u32::MAX - 1, u32::MAX - 1).contains("the zip directory starts at"));
    assert!(sizes(u32::MAX, u32::MAX).contains("entry 1 of the zip directory is damaged"));
}

#[test]
fn offsets_that_lie() {
    assert!(message(&with(|entry| entry.shift = 1)).contains("zip entry \"b\" has no header at byte 37"));
    assert!(message(&with(|entry| entry.shift = 1 << 30)).contains("zip entry \"b\" has no header at byte"));
    // Both entries at the same place, under the name that stands there.
    let mut second = stored("b", b"second");
    second.shift = -36;
    assert!(message(&zip(&[stored("a", b"first"), second])).contains("has name a in its header"));
}

#[test]
fn entries_that_share_bytes() {
    let inner = zip(&[stored("b", b"second")]);
    let outer = stored("a", &inner);
    let mut second = stored("b", b"second");
    second.shift = -i64::try_from(inner.len()).unwrap();
    let file = zip(&[outer, second]);
    assert!(
        message(&file).contains("zip entry \"a\" ends at byte") && message(&file).contains("inside \"b\"")
    );
}

#[test]
fn names_that_are_no_text() {
    let mut file = with(|_| {});
    let name_at = file.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap() + 46;
    file[name_at] = 0xff;
    assert!(message(&file).contains("is not UTF-8"));
}

/// The 64-bit end record, as an archive has it whose directory is beyond 4 GiB; here it is not, which is allowed.
#[test]
fn the_64_bit_end_record() {
    let file = zip(&[stored("a", b"first")]);
    let start = 36u64;
    let directory_end = file.len() - 22;
    let len = directory_end as u64 - start;
    let build = |count: u64, len: u64, start: u64, record_at: u64, disks: u32| {
        let mut wide = file[..directory_end].to_vec();
        wide.extend(b"PK\x06\x06");
        wide.extend(44u64.to_le_bytes());
        wide.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for field in [count, count, len, start] {
            wide.extend(field.to_le_bytes());
        }
        wide.extend(b"PK\x06\x07\0\0\0\0");
        wide.extend(record_at.to_le_bytes());
        wide.extend(disks.to_le_bytes());
        wide.extend(&file[directory_end..]);
        let end = wide.len() - 22;
        wide[end + 8..end + 20].fill(0xff);
        wide
    };
    let record_at = directory_end as u64;
    assert!(Archive::parse(&build(1, len, start, record_at, 1)).is_ok());
    for wrong in [
        build(2, len, start, record_at, 1),
        build(u64::MAX, len, start, record_at, 1),
        build(1, len + 1, start, record_at, 1),
        build(1, u64::MAX, start, record_at, 1),
        build(1, len, u64::MAX, record_at, 1),
        build(1, len, start, record_at + 1, 1),
        build(1, len, start, u64::MAX, 1),
        build(1, len, start, record_at, 0),
        build(1, len, start, record_at, 2),
    ] {
        message(&wrong);
    }
    let mut disagreeing = build(1, len, start, record_at, 1);
    let end = disagreeing.len() - 22;
    disagreeing[end + 8..end + 12].copy_from_slice(&[2, 0, 2, 0]);
    assert!(message(&disagreeing).contains("the two end records of the zip archive disagree"));
}
