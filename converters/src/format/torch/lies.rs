//! One test per way in which a checkpoint can lie. Those about the container are in `zip/lies.rs`.

use super::testing::{
    TestEntry, deflated, int, ints, one_tensor, one_tensor_of, open_bytes, records, refusal, stored, zip,
};
use crate::error::Kind;
use crate::format::TensorFile;

/// A checkpoint of one float32 tensor: elements that the pickle declares, its arguments, bytes of its storage.
fn checkpoint(elements: i64, arguments: &str, bytes: usize) -> Vec<u8> {
    zip(&records(&one_tensor(&int(elements), arguments), &[("0", &vec![1; bytes])]))
}

fn arguments(offset: i64, shape: &[i64], strides: &[i64]) -> String {
    [int(offset), ints(shape), ints(strides)].concat()
}

/// A checkpoint whose pickle is these instructions.
fn pickled(pickle: impl AsRef<[u8]>) -> Vec<u8> {
    zip(&records(pickle.as_ref(), &[("0", &[0; 24])]))
}

#[test]
fn the_honest_checkpoint_opens() {
    let file = open_bytes(checkpoint(6, &arguments(0, &[2, 3], &[3, 1]), 24)).unwrap();
    assert_eq!(file.tensors()[0].shape, [2, 3]);
    assert_eq!(file.read(0).unwrap().as_ref(), [1; 24]);
    assert_eq!(file.read(1).unwrap_err().kind(), Kind::Request);
}

#[test]
fn a_tensor_larger_than_its_storage() {
    assert_eq!(
        refusal(checkpoint(6, &arguments(0, &[2, 4], &[4, 1]), 24)),
        "model.bin: tensor \"w\": shape [2, 4] as f32 needs 32 bytes, storage has 24"
    );
}

#[test]
fn an_offset_outside_the_storage() {
    assert_eq!(
        refusal(checkpoint(6, &arguments(1, &[2, 3], &[3, 1]), 24)),
        "model.bin: tensor \"w\": shape [2, 3] as f32 from element 1 on needs 28 bytes, storage has 24"
    );
    assert!(
        refusal(checkpoint(6, &arguments(i64::MAX, &[2, 3], &[3, 1]), 24))
            .contains("more bytes than can be counted")
    );
}

#[test]
fn strides_that_leave_the_storage() {
    assert!(
        refusal(checkpoint(6, &arguments(0, &[2, 3], &[4, 1]), 24))
            .contains("with strides [4, 1] as f32 needs 28")
    );
    assert!(
        refusal(checkpoint(6, &arguments(0, &[2, 3], &[i64::MAX, 1]), 24))
            .contains("more bytes than can be counted")
    );
}

#[test]
fn negative_numbers() {
    for (arguments, what) in [
        (arguments(-1, &[2, 3], &[3, 1]), "offset"),
        (arguments(0, &[2, -3], &[3, 1]), "shape"),
        (arguments(0, &[2, 3], &[3, -1]), "strides"),
    ] {
        let message = refusal(checkpoint(6, &arguments, 24));
        assert!(message.contains(&format!("tensor \"w\": its {what} has the negative number")), "{message}");
    }
    assert!(refusal(checkpoint(-6, &arguments(0, &[2], &[1]), 24)).contains("describes no storage"));
}

#[test]
fn a_shape_that_overflows() {
    let huge = arguments(0, &[i64::MAX, i64::MAX], &[1, 1]);
    assert!(
        refusal(checkpoint(6, &huge, 24))
            .contains("tensor \"w\": shape [9223372036854775807, 9223372036854775807] as f32 overflows")
    );
}

#[test]
fn more_strides_than_dimensions_and_more_dimensions_than_possible() {
    assert!(
        refusal(checkpoint(6, &arguments(0, &[2, 3], &[1]), 24))
            .contains("has 2 dimensions, strides [1] have 1")
    );
    let many = arguments(0, &[1; 65], &[1; 65]);
    assert!(refusal(checkpoint(6, &many, 24)).contains("its shape has 65 dimensions, at most 64"));
}

#[test]
fn arguments_of_the_wrong_type() {
    let message = refusal(checkpoint(6, &["Vx\n", &ints(&[2]), &ints(&[1])].concat(), 24));
    assert!(message.contains("tensor \"w\": its offset has a string instead of a number"), "{message}");
    let message = refusal(checkpoint(6, &[&int(0), "Vx\n", ints(&[1]).as_str()].concat(), 24));
    assert!(message.contains("tensor \"w\": its shape should be a tuple and is a string"), "{message}");
    assert!(refusal(checkpoint(6, &int(0), 24)).contains("wrong arguments"));
}

#[test]
fn a_storage_of_another_size_than_declared() {
    for (elements, bytes) in [(6, 20), (6, 28), (i64::MAX, 24)] {
        let message = refusal(checkpoint(elements, &arguments(0, &[2], &[1]), bytes));
        let words = format!("is declared as {elements} elements of 4 bytes, the archive has {bytes} bytes");
        assert!(
            message.contains("tensor \"w\": its storage \"m/data/0\"") && message.contains(&words),
            "{message}"
        );
    }
}

#[test]
fn a_storage_that_is_not_there() {
    let file = zip(&records(&one_tensor(&int(6), &arguments(0, &[2], &[1])), &[]));
    assert!(refusal(file).contains("tensor \"w\": its storage \"m/data/0\" is not in the archive"));
}

#[test]
fn a_storage_declared_twice_in_different_ways() {
    let storage = |class| format!("(Vstorage\nctorch\n{class}\nV0\nVcpu\nI6\ntQ");
    let pickle = [&storage("FloatStorage"), "0", storage("LongStorage").as_str(), "."].concat();
    assert!(refusal(pickled(pickle)).contains("storage \"0\" is declared as 6 int64 and as 6 float32"));
}

#[test]
fn an_expanded_tensor_that_outgrows_the_file() {
    let message = refusal(checkpoint(6, &arguments(0, &[1 << 40], &[0]), 24));
    assert!(
        message.contains("tensor \"w\"") && message.contains("expands 4 stored bytes to 4398046511104"),
        "{message}"
    );
}

/// A thousand tensors of a megabyte each, all the same megabyte.
#[test]
fn more_tensors_than_their_storages_make_sense_of() {
    let tensor = "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI262144\ntQI0\n(I262144\nt(I1\ntI00\n}tR";
    let entries: String = (0..1000).map(|index| format!("V{index}\n{tensor}")).collect();
    let file = zip(&records(format!("}}({entries}u.").as_bytes(), &[("0", &vec![0; 1 << 20])]));
    assert!(refusal(file).contains("its 1000 tensors claim 1048576000 bytes out of 1048576 stored ones"));
}

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

#[test]
fn calls_of_every_kind_are_refused_by_name() {
    for pickle in [
        &b"cos\nsystem\n(Vtrue\ntR."[..],
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.",
        b"(Vtrue\nios\nsystem\n.",
        b"(cos\nsystem\nVtrue\no.",
        b"cos\nsystem\n(Vtrue\nt\x81.",
        b"}Vx\ncos\nsystem\n(Vtrue\ntRs.",
    ] {
        for file in [pickled(pickle), pickle.to_vec()] {
            let error = open_bytes(file).unwrap_err();
            assert!(error.to_string().contains("refuses to call os.system"), "{error}");
            assert_eq!(error.kind(), Kind::Refused);
        }
    }
    for (pickle, words) in [
        (&b"c__builtin__\neval\n."[..], "refuses to call builtins.eval"),
        (b"ctorch.storage\n_load_from_bytes\n.", "refuses to call torch.storage._load_from_bytes"),
        (b"ctorch.storage\nUntypedStorage\n(I4\ntR.", "refuses to call a storage class"),
        (b"ctorch\nFloatStorage\n(I4\ntR.", "refuses to call a storage class"),
        (b"Vx\n)R.", "refuses to call a string"),
        (b"ctorch\nSize\n((I1\nttR(I1\ntR.", "refuses to call a tuple"),
        (b"\x82\x01.", "refuses to call Python's extension 1"),
        (b"ctorch\nSize\n}b.", "refuses to set the state of a object"),
        (b"ctorch\nSize\n(I1\ne.", "refuses to add items to a object"),
        (b"(Vmodule\nNNNNtQ.", "refuses the persistent id of a module"),
    ] {
        let message = refusal(pickled(pickle));
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn pickles_that_break_the_rules() {
    for (pickle, words) in [
        (&b""[..], "truncated"),
        (b"}", "truncated"),
        (b".", "the stack is empty"),
        (b"t.", "no mark is set"),
        (b"N(0t.", "no mark is set"),
        (b"N(R.", "the stack is empty"),
        (b"h\x05.", "memo 5 was never set"),
        (b"Nr\xff\xff\xff\xff.", "a memo number that no pickle gets to"),
        (b"q\0.", "the stack is empty"),
        (b"}(Va\nu.", "a key without a value"),
        (b"}Va\na.", "refuses to add items"),
        (b"NN\x93.", "the name of a global is no string"),
        (b"\x80\x09.", "pickle protocol 9"),
        (b"\x97.", "a buffer that is not in the file"),
        (b"P123\n.", "a persistent id as text"),
        (b"\x00.", "0x00 is no pickle instruction"),
        (b"NQ.", "describes no storage"),
        (b"(Vstorage\nctorch\nFloatStorage\nV0\nNI1\ntQ.", "describes no storage"),
        (b"ccollections\nOrderedDict\n(NNtR.", "wrong arguments for Dict"),
        (b"((VstoragetQ.", "no line end"),
    ] {
        let message = refusal(pickled(pickle));
        assert!(
            message.starts_with("model.bin: data.pkl at byte ") && message.contains(words),
            "{pickle:?}: {message}"
        );
    }
}

#[test]
fn a_dict_with_a_key_twice() {
    let tensor = "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI6\ntQI0\n(I2\nt(I1\ntI00\n}tR";
    assert!(
        refusal(pickled(format!("}}(Vw\n{tensor}Vw\n{tensor}u.")))
            .contains("key \"w\" occurs twice in a dict")
    );
    let nested = format!("}}(Va\n}}Vb\n{tensor}sVa.b\n{tensor}u.");
    assert_eq!(refusal(pickled(nested)), "model.bin: tensor \"a.b\": this name occurs twice");
    let key_is_tuple = format!("}}(I1\nt{tensor}s.");
    assert!(refusal(pickled(key_is_tuple)).contains("a tuple as the name of a tensor"));
}

#[test]
fn containers_that_contain_themselves() {
    let tensor = "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI6\ntQI0\n(I2\nt(I1\ntI00\n}tR";
    let cycle = format!("}}q\0(Vself\nh\0Vw\n{tensor}u.");
    assert!(refusal(pickled(cycle)).contains("the dict at \"self\" also occurs elsewhere in the file"));
    let wrapped = format!("}}q\0(Vmodel\nh\0Vw\n{tensor}u.");
    assert!(refusal(pickled(wrapped)).contains("nested more than 32 deep"));
    assert!(refusal(pickled("]q\0h\0a.")).contains("holds a list of 1 item"));
    let beside = format!("}}(Vw\n{tensor}Vlist\n]q\0h\0au.");
    assert_eq!(open_bytes(pickled(beside)).unwrap().extras()[0].what, "list of 1 item");
}

/// Thirty levels of lists, each ten times the one below: 10^30 items, shared.
#[test]
fn billion_laughs() {
    let tensor = "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI6\ntQI0\n(I2\nt(I1\ntI00\n}tR";
    let laugh = |open: &str, item: &dyn Fn(usize) -> String, close: &str| {
        let mut pickle = format!("Vlol\np0\n0{tensor}p100\n0");
        for level in 1..30 {
            let items: String = (0..10).map(|index| format!("{}g{}\n", item(index), level - 1)).collect();
            pickle += &format!("{open}({items}{close}p{level}\n0");
        }
        pickle
    };
    let lists = laugh("]", &|_| String::new(), "e") + &format!("}}(Vw\n{tensor}Vlol\ng29\nu.");
    assert_eq!(open_bytes(pickled(lists)).unwrap().extras()[0].what, "list of 10 items");
    let dicts =
        laugh("}", &|index| format!("V{index}\n"), "u").replacen("Vlol\np0\n0", &format!("{tensor}p0\n0"), 1)
            + "g29\n.";
    assert!(refusal(pickled(dicts)).contains("also occurs elsewhere in the file"));
}

#[test]
fn very_deep_nesting() {
    let deep = [vec![b'('; 1_000_000], vec![b't'; 1_000_000], b".".to_vec()].concat();
    assert!(refusal(pickled(deep)).contains("holds a tuple of 1 item"));
    let nested_dicts = format!(
        "{}{}{}.",
        "}Vk\n".repeat(100_000),
        "ctorch._utils\n_rebuild_meta_tensor_no_storage\n)R",
        "s".repeat(100_000)
    );
    assert!(refusal(pickled(nested_dicts)).contains("nested more than 32 deep"));
}

#[test]
fn more_work_than_any_checkpoint() {
    assert!(refusal(pickled(vec![b'N'; 5_000_000])).contains("more than 4000000 instructions"));
    // A list of a million items, copied again and again.
    let copies = [
        b"cbuiltins\nset\np0\n0(".to_vec(),
        vec![b'N'; 1_000_000],
        b"lp1\n0".to_vec(),
        b"g0\n(g1\ntR0".repeat(100),
        b"N.".to_vec(),
    ];
    assert!(refusal(pickled(copies.concat())).contains("more than 4000000 instructions"));
    // Long names, shared by many dicts inside each other.
    let name = "n".repeat(1 << 20);
    let inner = (0..90).map(|index| format!("V{index}\nNs")).collect::<String>();
    let names = format!("V{name}\np0\n0}}p1\n(g0\n}}Vx\n}}{inner}su.");
    assert!(open_bytes(pickled(names)).is_err());
}

#[test]
fn storage_classes_and_views_of_old_files() {
    let strange = one_tensor_of("StrangeStorage", &int(6), &arguments(0, &[2], &[1]));
    assert!(refusal(pickled(strange)).contains("refuses to call torch.StrangeStorage"));
    let view = |start: i64, len: i64| {
        let view = format!("I6\n(Vview\n{}{}t", int(start), int(len));
        pickled(one_tensor(&view, &arguments(1, &[2], &[1])))
    };
    let file = open_bytes(view(2, 3)).unwrap();
    assert_eq!(file.read(0).unwrap().len(), 8);
    assert!(refusal(view(4, 3)).contains("a view of 3 elements at 4, the storage has 6"));
    assert!(refusal(view(4, 2)).contains("from element 1 on needs 12 bytes, storage has 8"));
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

#[test]
fn names_are_safe_to_print() {
    let pickle = String::from_utf8(one_tensor(&int(6), &arguments(0, &[99], &[1]))).unwrap().replacen(
        "Vw\n",
        "V\u{1b}[2Jw\n",
        1,
    );
    assert!(refusal(pickled(pickle)).contains("tensor \"\\u{1b}[2Jw\""));
}
