//! Lies of the records of an archive and of legacy streams, and files that are something else.

use super::arguments;
use crate::error::Kind;
use crate::format::TensorFile;
use crate::format::torch::testing::{
    TestEntry, deflated, int, one_tensor, open_bytes, records, refusal, stored, zip,
};

#[test]
fn damaged_tensor_data() {
    let pickle = one_tensor(&int(6), &arguments(0, &[2, 3], &[3, 1]));
    let mut entries = records(&pickle, &[("0", &[1; 24])]);
    entries[2].data[7] ^= 1;
    let file = open_bytes(zip(&entries)).unwrap();
    for _ in 0..2 {
        let message = file.read(0).unwrap_err().to_string();
        assert!(
            message.starts_with("model.bin: tensor \"w\": m/data/0 is damaged: its checksum is "),
            "{message}"
        );
    }
}

#[test]
fn damaged_records_that_nothing_depends_on() {
    let mut entries = records(&one_tensor(&int(6), &arguments(0, &[2], &[1])), &[("0", &[1; 24])]);
    entries.push(stored("m/.data/serialization_id", b"123"));
    entries[3].data[1] ^= 1;
    assert!(refusal(zip(&entries)).contains("zip entry \"m/.data/serialization_id\" is damaged"));
}

#[test]
fn a_damaged_pickle() {
    let mut entries = records(&one_tensor(&int(6), &arguments(0, &[2, 3], &[3, 1])), &[("0", &[1; 24])]);
    entries[0].data[3] ^= 1;
    assert!(refusal(zip(&entries)).contains("zip entry \"m/data.pkl\" is damaged: its checksum is"));
}

#[test]
fn a_deflated_storage() {
    let pickle = one_tensor(&int(600), &arguments(0, &[20, 30], &[30, 1]));
    let bytes: Vec<u8> = (0..2400u32).map(|index| index.to_le_bytes()[0]).collect();
    let mut entries = records(&pickle, &[]);
    entries.push(deflated("m/data/0", &bytes));
    assert_eq!(open_bytes(zip(&entries)).unwrap().read(0).unwrap().as_ref(), bytes);

    let mut damaged = entries.clone();
    damaged[2].crc32 ^= 1;
    damaged[2].local_crc32 ^= 1;
    assert!(
        open_bytes(zip(&damaged)).unwrap().read(0).unwrap_err().to_string().contains("m/data/0 is damaged")
    );

    let mut longer = entries.clone();
    longer[2].len = 2399;
    longer[2].local_len = 2399;
    assert!(refusal(zip(&longer)).contains("the archive has 2399 bytes"));
}

/// The entry, announced to unpack to `len` bytes.
fn announced(len: u32, entry: TestEntry) -> TestEntry {
    TestEntry { len, local_len: len, ..entry }
}

/// A deflated storage whose announced size, which the pickle agrees with, is not the real one.
#[test]
fn a_deflated_storage_of_another_size_than_announced() {
    for (len, words) in [(2396, "holds more than the 2396 bytes"), (2404, "ends after 2400 of 2404 bytes")] {
        let pickle = one_tensor(&int(i64::from(len) / 4), &arguments(0, &[2], &[1]));
        let bytes: Vec<u8> = (0..2400u32).map(|index| (index * index).to_le_bytes()[0]).collect();
        let mut entries = records(&pickle, &[]);
        entries.push(announced(len, deflated("m/data/0", &bytes)));
        let message = open_bytes(zip(&entries)).unwrap().read(0).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_zip_bomb_in_a_storage() {
    let elements = 1 << 28;
    let pickle = one_tensor(&int(elements), &arguments(0, &[elements], &[1]));
    let mut entries = records(&pickle, &[]);
    entries.push(announced(1 << 30, deflated("m/data/0", &vec![0; 1 << 20])));
    assert!(refusal(zip(&entries)).contains("refused as a zip bomb"));
}

#[test]
fn a_zip_bomb_in_the_pickle() {
    let entries =
        [announced(u32::MAX - 1, deflated("m/data.pkl", &[b'('; 1 << 16])), stored("m/version", b"3\n")];
    assert!(
        refusal(zip(&entries)).contains("zip entry \"m/data.pkl\" has 4294967294 bytes, at most 67108864")
    );
    let entries =
        [announced(60 << 20, deflated("m/data.pkl", &[b'('; 1 << 10])), stored("m/version", b"3\n")];
    assert!(refusal(zip(&entries)).contains("which is impossible"));
}

#[test]
fn records_that_say_nonsense() {
    let pickle = one_tensor(&int(6), &arguments(0, &[2], &[1]));
    let with = |name: &str, data: &[u8]| {
        let mut entries = records(&pickle, &[("0", &[1; 24])]);
        entries.retain(|entry| entry.name != name);
        entries.push(stored(name, data));
        zip(&entries)
    };
    assert!(open_bytes(with("m/byteorder", b"little")).is_ok());
    assert!(refusal(with("m/byteorder", b"middle")).contains("neither \"little\" nor \"big\""));
    assert!(refusal(with("m/byteorder", &[b'l'; 100])).contains("has 100 bytes, at most 16"));
    assert!(refusal(with("m/version", b"11\n")).contains("version 11 of the format, at most 10"));
    assert!(refusal(with("m/version", b"x")).contains("holds no number"));
    let mut entries = records(&pickle, &[("0", &[1; 24])]);
    entries.remove(1);
    assert!(refusal(zip(&entries)).contains("no record \"version\""));
}

#[test]
fn archives_that_are_no_checkpoints() {
    for (name, words) in [
        ("readme.txt", "a zip archive without a data.pkl"),
        ("arr_0.npy", "a NumPy archive"),
        ("model.weights.h5", "a Keras 3 archive"),
        ("data.pkl", "whose records are in no folder"),
        ("a/b/data.pkl", "without a data.pkl"),
    ] {
        let message = refusal(zip(&[stored(name, b"}.")]));
        assert!(
            message.contains(words) && message.contains("not a checkpoint of torch.save"),
            "{name}: {message}"
        );
    }
    let two = [stored("a/data.pkl", b"}."), stored("b/data.pkl", b"}.")];
    assert!(refusal(zip(&two)).contains("two checkpoints, \"a\" and \"b\""));
}

#[test]
fn files_that_are_something_else() {
    for (bytes, words) in [
        (&b""[..], "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a git-LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n <html lang=en>", "a web page"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x10\0\0\0\0\0\0\0{\"w\":{}}", "a safetensors file"),
        (b"hello world", "neither a zip archive nor a pickle"),
        (b"{\"a\": 1}", "neither a zip archive nor a pickle"),
        (b"\x80\x02}q\0.", "a pickle, but not a checkpoint of torch.save"),
    ] {
        let error = open_bytes(bytes).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.kind(), Kind::Unsupported);
    }
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(refusal(tar).contains("a tar archive"));
}

/// A legacy stream: magic, protocol, facts, the tensor of storage "0", the keys, the storages.
fn legacy(pickle: &[u8], keys: &str, storages: &[u8]) -> Vec<u8> {
    let head = b"L119547037146038801333356L\n.I1001\n.}.";
    [head, pickle, format!("({keys}l.").as_bytes(), storages].concat()
}

#[test]
fn legacy_streams() {
    let pickle = one_tensor("I6\nN", &arguments(0, &[2, 3], &[3, 1]));
    let storage = [6i64.to_le_bytes().as_slice(), &[1; 24]].concat();
    let honest = legacy(&pickle, "V0\n", &storage);
    assert_eq!(open_bytes(honest.clone()).unwrap().read(0).unwrap().as_ref(), [1; 24]);

    assert!(refusal([honest.as_slice(), b"!"].concat()).contains("1 bytes behind the last storage"));
    for cut in 1..=storage.len() {
        let message = refusal(&honest[..honest.len() - cut]);
        assert!(message.contains("storage \"0\"") && message.contains("it is truncated"), "{message}");
    }
    for cut in 4..honest.len() - storage.len() {
        open_bytes(&honest[..cut]).unwrap_err();
    }
    assert!(
        refusal(legacy(&pickle, "V0\n", &5i64.to_le_bytes())).contains("has 5 elements, the pickle says 6")
    );
    assert!(
        refusal(legacy(&pickle, "V0\n", &(-6i64).to_le_bytes()))
            .contains("has -6 elements, the pickle says 6")
    );
    assert!(refusal(legacy(&pickle, "V1\n", &storage)).contains("storage \"1\" belongs to no tensor"));
    assert!(refusal(legacy(&pickle, "", &[])).contains("tensor \"w\": its storage \"0\" is not in the file"));
    assert!(refusal(legacy(&pickle, "V0\nV0\n", &storage.repeat(2))).contains("storage \"0\" occurs twice"));
    assert!(refusal(legacy(&pickle, "N", &storage)).contains("a storage key is no string"));
    let other_protocol = String::from_utf8(honest.clone()).unwrap().replacen("I1001", "I1002", 1);
    assert!(refusal(other_protocol).contains("a protocol other than 1001"));
    let called = legacy(b"cos\nsystem\n)R.", "", &[]);
    assert!(refusal(called).contains("pickle at byte 37: refuses to call os.system"));
}
