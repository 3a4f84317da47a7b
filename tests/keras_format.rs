//! Keras files that h5py wrote, read here and compared with what numpy put into them (`fixtures/h5py`).

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use deberta_converters::format::TensorFile;
use deberta_converters::format::keras::{self, KEPT_ASIDE, KerasFile};
use deberta_converters::mapped::Mapped;
use deberta_converters::tensor::TensorInfo;
use deberta_converters::{Kind, Result};
use safetensors::SafeTensors;

const GAMMA: &str = "deberta/tf_deberta_for_masked_lm/deberta/embeddings/LayerNorm/gamma:0";

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/h5py")).join(name)
}

fn open(path: &Path) -> Result<KerasFile> {
    keras::open(Mapped::open(path)?)
}

fn open_bytes(bytes: Vec<u8>) -> Result<KerasFile> {
    keras::open(Mapped::from_bytes(bytes, Path::new("changed.h5")))
}

/// Every tensor with its bytes.
fn contents(file: &KerasFile) -> Result<Vec<(TensorInfo, Vec<u8>)>> {
    let tensors = file.tensors().iter().enumerate();
    tensors.map(|(index, info)| Ok((info.clone(), file.read(index)?.into_owned()))).collect()
}

fn names(file: &KerasFile) -> Vec<&str> {
    file.tensors().iter().map(|tensor| tensor.name.as_str()).collect()
}

/// Panics unless `file` holds exactly the tensors that are in the safetensors file, bit for bit.
fn assert_same(file: &KerasFile, sidecar: &Path) {
    let sidecar_bytes = fs::read(sidecar).unwrap();
    let expected = SafeTensors::deserialize(&sidecar_bytes).unwrap();
    let place = sidecar.display();
    let (mut found, mut wanted) = (names(file), expected.names());
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{place}");
    for (info, bytes) in contents(file).unwrap() {
        let view = expected.tensor(&info.name).unwrap();
        assert_eq!(info.shape, view.shape(), "{place}: {}", info.name);
        assert_eq!(
            info.dtype.to_string().to_uppercase(),
            format!("{:?}", view.dtype()),
            "{place}: {}",
            info.name
        );
        assert!(bytes == view.data(), "{place}: {}: bytes differ", info.name);
    }
}

#[test]
fn every_fixture_is_read_as_numpy_wrote_it() {
    let mut count = 0;
    for entry in fs::read_dir(fixture("")).unwrap() {
        let sidecar = entry.unwrap().path();
        if sidecar.extension().is_some_and(|ending| ending == "safetensors") {
            let file = open(&sidecar.with_extension("h5")).unwrap_or_else(|error| panic!("{error}"));
            assert_same(&file, &sidecar);
            count += 1;
        }
    }
    assert_eq!(count, 24, "fixtures with a sidecar");
}

#[test]
fn order_is_that_of_the_lists() {
    let in_order = [
        "deberta/tf_deberta_for_masked_lm/deberta/encoder/layer_._0/attention/self/in_proj/kernel:0",
        "deberta/tf_deberta_for_masked_lm/deberta/embeddings/word_embeddings/weight:0",
        GAMMA,
        "cls/tf_deberta_for_masked_lm/cls/predictions/bias:0",
    ];
    for name in ["keras.h5", "split_names.h5", "fixed_strings.h5", "full_model.h5"] {
        assert_eq!(names(&open(&fixture(name)).unwrap()), in_order, "{name}");
    }
}

#[test]
fn what_is_kept_aside_is_read_and_what_is_forgotten_is_told() {
    let file = open(&fixture("kept_aside.h5")).unwrap();
    let aside = [
        "top_level_model_weights/scale:0".to_owned(),
        format!("{KEPT_ASIDE}/embeddings.position_ids"),
        format!("{KEPT_ASIDE}/lm_predictions.lm_head.bias"),
    ];
    assert_eq!(names(&file)[4..], aside);
    let extras: Vec<_> =
        file.extras().iter().map(|extra| (extra.name.as_str(), extra.what.as_str())).collect();
    assert_eq!(extras, [("cls/forgotten:0", "dataset not listed in weight_names")]);
    let extras = open(&fixture("full_model.h5")).unwrap();
    assert_eq!(extras.extras()[0].name, "optimizer_weights/iteration:0");
}

#[test]
fn contiguous_data_is_not_copied() {
    let file = open(&fixture("keras.h5")).unwrap();
    assert!((0..4).all(|index| matches!(file.read(index).unwrap(), Cow::Borrowed(_))));
    let file = open(&fixture("big_endian.h5")).unwrap();
    assert!((0..4).all(|index| matches!(file.read(index).unwrap(), Cow::Owned(_))));
}

/// File, kind, and what the message must say.
const REFUSED: [(&str, Kind, &str); 32] = [
    (
        "external_link",
        Kind::Malformed,
        "gamma:0\": listed, but there is no such dataset (soft and external links",
    ),
    (
        "external_link_layer",
        Kind::Malformed,
        "kernel:0\": listed, but there is no such dataset (soft and external links",
    ),
    (
        "soft_link",
        Kind::Malformed,
        "embeddings/LayerNorm\": an address is undefined; soft links are not followed",
    ),
    (
        "soft_link_loop",
        Kind::Malformed,
        "embeddings/LayerNorm\": an address is undefined; soft links are not followed",
    ),
    (
        "soft_link_latest",
        Kind::Malformed,
        "gamma:0\": listed, but there is no such dataset (soft and external links",
    ),
    ("virtual", Kind::Unsupported, "gamma:0\": a virtual dataset: its data is in other datasets or files"),
    ("external_storage", Kind::Unsupported, "gamma:0\": dataset stores its elements in external files"),
    ("never_written", Kind::Malformed, "gamma:0\": its data was never written"),
    ("null_dataspace", Kind::Malformed, "gamma:0\": its data was never written"),
    ("missing_chunk", Kind::Malformed, "gamma:0\": 1 of its 4 chunks were never written"),
    ("growable_twice", Kind::Unsupported, "gamma:0\": chunks that can grow in several directions"),
    ("layout_5", Kind::Unsupported, "gamma:0\": stored in the newest format of HDF5 2.0"),
    (
        "huge",
        Kind::Malformed,
        "gamma:0\": shape [1099511627776] in 1073741824 chunks of 4096 bytes cannot be stored in",
    ),
    (
        "huge_chunk",
        Kind::Malformed,
        "gamma:0\": shape [1099511627776] in 2048 chunks of 2147483648 bytes cannot be stored",
    ),
    ("lzf", Kind::Unsupported, "gamma:0\": compressed by HDF5 filter 32000; write it with gzip"),
    ("compound", Kind::Unsupported, "gamma:0\": elements of type compound"),
    ("strings", Kind::Unsupported, "gamma:0\": elements of type string"),
    ("opaque", Kind::Unsupported, "gamma:0\": elements of type opaque"),
    ("enumeration", Kind::Unsupported, "gamma:0\": elements of type enum"),
    ("group_for_dataset", Kind::Malformed, "gamma:0\": listed as a weight, but it is a group"),
    ("missing_dataset", Kind::Malformed, "gamma:0\": listed, but there is no such dataset"),
    ("missing_layer", Kind::Malformed, "layer_names lists \"cls\", but there is no such group"),
    ("missing_weight_names", Kind::Malformed, "layer \"deberta\" has no attribute weight_names"),
    ("listed_twice", Kind::Malformed, "gamma:0\": listed twice"),
    (
        "numbers_for_names",
        Kind::Malformed,
        "group \"/deberta\": attribute weight_names holds i64[], not a list of names",
    ),
    ("no_utf8", Kind::Malformed, "group \"/\": attribute layer_names holds a name that is not UTF-8"),
    ("hard_links", Kind::Malformed, "the file is damaged, or both are links to one dataset"),
    ("hard_link_cycle", Kind::Malformed, "groups nest deeper than 32"),
    ("deep", Kind::Malformed, "groups nest deeper than 32"),
    ("keras3", Kind::Unsupported, "a Keras 3 weights file (it has no layer_names)"),
    ("plain", Kind::Unsupported, "an HDF5 file of 1 datasets without the attribute layer_names"),
    ("empty", Kind::Unsupported, "an HDF5 file of 0 datasets without the attribute layer_names"),
];

#[test]
fn what_cannot_be_read_is_refused_with_its_reason() {
    for (name, kind, message) in REFUSED {
        let path = fixture(name).with_extension("h5");
        let error = open(&path).err().unwrap_or_else(|| panic!("{name} is read"));
        assert!(error.to_string().contains(message), "{name}: {error}");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{name}: {error}");
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
    let files = fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap().path());
    let h5 = files.filter(|path| path.extension().is_some_and(|ending| ending == "h5"));
    assert_eq!(h5.count(), 24 + REFUSED.len(), "every fixture is read or refused");
}

/// Names in the links of an old group are in its heap, where another name of the same length can stand.
#[test]
fn links_with_impossible_names_are_refused() {
    let whole = fs::read(fixture("keras.h5")).unwrap();
    let renamed = |to: &[u8]| {
        let mut changed = whole.clone();
        let at = 1 + whole.windows(9).position(|name| name == b"\0gamma:0\0").unwrap();
        changed[at..at + to.len()].copy_from_slice(to);
        open_bytes(changed).unwrap_err().to_string()
    };
    assert!(renamed(b"gam/a:0").contains("LayerNorm\": a link cannot be called \"gam/a:0\""));
    assert!(renamed(b"gam\xffa:0").contains("is not UTF-8"));
    assert!(renamed(b"delta:0").contains("gamma:0\": listed, but there is no such dataset"));
}

#[test]
fn other_files_are_not_hdf5() {
    for bytes in [
        &b""[..],
        b"version https://git-lfs.github.com/spec/v1\n",
        b"<!DOCTYPE html>",
        b"PK\x03\x04",
        b"\x89HDF\r\n",
    ] {
        let error = open_bytes(bytes.to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "changed.h5: not an HDF5 file");
    }
}

#[test]
fn a_truncated_file_is_an_error_wherever_it_ends() {
    for name in ["keras.h5", "latest.h5", "gzip_shuffle.h5"] {
        let whole = fs::read(fixture(name)).unwrap();
        for len in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
            let error = open_bytes(whole[..len].to_vec()).err();
            assert!(error.is_some(), "{name}: its first {len} of {} bytes are read", whole.len());
        }
    }
}

/// Every byte of the chunks is covered by a checksum, fletcher32's or zlib's.
#[test]
fn flipped_bits_in_checked_data_are_errors() {
    // The bytes of the chunks, as h5py counts them. A zlib stream has a few unused bits, and may turn too long.
    for (name, stored, message) in [
        ("fletcher32.h5", 1344, "checksum mismatch: fletcher32"),
        ("gzip.h5", 908 - 16, "zlib data is damaged"),
        ("gzip_shuffle_fletcher32.h5", 976, "checksum mismatch: fletcher32"),
    ] {
        let whole = fs::read(fixture(name)).unwrap();
        let caught = |&at: &usize| {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            let error = open_bytes(changed).and_then(|file| contents(&file)).err();
            error.is_some_and(|error| error.to_string().contains(message))
        };
        // The chunks are at the end of the file.
        let caught = (whole.len() - 8192..whole.len()).filter(caught).count();
        assert!(caught >= stored, "{name}: {caught} of {stored}");
    }
}

/// Changes of all kinds at random places: an answer every time, whatever it is.
#[test]
fn damage_never_panics() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut read, mut refused) = (0, 0);
    for entry in fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "h5") {
            continue;
        }
        let whole = fs::read(&path).unwrap();
        for _ in 0..100 {
            let mut changed = whole.clone();
            for _ in 0..=random(3) {
                let (at, from) = (random(whole.len() - 8), random(whole.len() - 8));
                match random(4) {
                    0 => changed[at] ^= 1 << random(8),
                    1 => changed[at..at + 8].fill(if random(2) == 0 { 0xff } else { 0 }),
                    2 => changed.copy_within(from..from + 8, at),
                    _ => changed[at..at + 8].copy_from_slice(&(from as u64).to_le_bytes()),
                }
            }
            match open_bytes(changed).and_then(|file| contents(&file)) {
                Ok(_) => read += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
}
