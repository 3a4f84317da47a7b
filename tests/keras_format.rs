//! Keras files that h5py wrote, read here and compared with what numpy put into them (`fixtures/h5py`), and files
//! written here, read by us, by h5py and by h5dump.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use deberta_converters::format::keras::{self, KEPT_ASIDE, KerasFile};
use deberta_converters::format::{FilePlan, TensorFile};
use deberta_converters::mapped::Mapped;
use deberta_converters::tensor::{Dtype, TensorInfo};
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

#[test]
fn the_shared_fixtures_are_read_and_written_again() {
    let shared = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures"));
    if !shared.is_dir() {
        println!("skipped: {} is not there", shared.display());
        return;
    }
    let mut count = 0;
    for model in fs::read_dir(shared).unwrap() {
        let path = model.unwrap().path().join("tf_model.h5");
        if path.is_file() {
            let expected = contents(&open(&path).unwrap()).unwrap();
            assert!(expected.len() > 40, "{}", path.display());
            let again = open_bytes(written(&layers(&expected), &expected)).unwrap();
            assert!(contents(&again).unwrap() == expected, "{}", path.display());
            count += 1;
        }
    }
    assert_eq!(count, 3, "h5 files in {}", shared.display());
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
        let caught = (0..whole.len()).filter(caught).count();
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

/// The file of `tensors` that the plan lays out.
fn written(layers: &[String], tensors: &[(TensorInfo, Vec<u8>)]) -> Vec<u8> {
    let infos: Vec<_> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let plan = keras::plan(layers, &infos).unwrap_or_else(|error| panic!("{error}"));
    let mut file = vec![0; usize::try_from(plan.file_len()).unwrap()];
    let data = plan.offsets().iter().copied().zip(tensors.iter().map(|(_, bytes)| bytes.clone()));
    let metadata = plan.seal(&[]).unwrap();
    for (offset, bytes) in data.chain(metadata.into_iter().map(|span| (span.offset, span.bytes))) {
        let start = usize::try_from(offset).unwrap();
        file[start..start + bytes.len()].copy_from_slice(&bytes);
    }
    file
}

/// The layers of `tensors`, in order.
fn layers(tensors: &[(TensorInfo, Vec<u8>)]) -> Vec<String> {
    let mut layers: Vec<String> = Vec::new();
    for (info, _) in tensors {
        let layer = info.name.split('/').next().unwrap().to_owned();
        if !layers.contains(&layer) && layer != KEPT_ASIDE && layer != "top_level_model_weights" {
            layers.push(layer);
        }
    }
    layers
}

fn tensor(name: &str, dtype: Dtype, shape: &[usize]) -> (TensorInfo, Vec<u8>) {
    let info = TensorInfo { name: name.to_owned(), dtype, shape: shape.to_vec() };
    let bytes = (0..info.byte_len().unwrap()).map(|at| u8::try_from(at % 127).unwrap()).collect();
    (info, bytes)
}

/// One of everything that can be written.
fn one_of_everything() -> (Vec<String>, Vec<(TensorInfo, Vec<u8>)>) {
    let mut tensors = vec![
        tensor("deberta/tf_deberta/embeddings/weight:0", Dtype::F32, &[5, 3]),
        tensor("deberta/tf_deberta/LayerNorm/gamma:0", Dtype::F16, &[7]),
        tensor("cls/tf_deberta/scalar:0", Dtype::F64, &[]),
        tensor("cls/tf_deberta/empty:0", Dtype::F32, &[0, 3]),
        tensor("top_level_model_weights/scale:0", Dtype::F32, &[1]),
    ];
    for dtype in [Dtype::I16, Dtype::I32, Dtype::I64, Dtype::I8, Dtype::U8] {
        tensors.push(tensor(&format!("{KEPT_ASIDE}/{dtype}"), dtype, &[2, 2, 2]));
    }
    (["deberta", "dropout", "cls"].map(str::to_owned).to_vec(), tensors)
}

/// As many layers as need their names split, in one group of hundreds of links.
fn hundreds() -> (Vec<String>, Vec<(TensorInfo, Vec<u8>)>) {
    let stem = "tf_deberta_for_sequence_classification/deberta/encoder";
    let weight = |index| format!("deberta/{stem}/layer_._{index}/attention/self/in_proj/kernel:0");
    (vec!["deberta".to_owned()], (0..900).map(|index| tensor(&weight(index), Dtype::F32, &[1])).collect())
}

#[test]
fn what_is_written_is_read_back_in_order() {
    for (layers, tensors) in [one_of_everything(), hundreds(), (Vec::new(), Vec::new())] {
        let bytes = written(&layers, &tensors);
        assert!(bytes == written(&layers, &tensors), "the bytes depend on nothing else");
        let file = open_bytes(bytes).unwrap();
        assert!(contents(&file).unwrap() == tensors, "{:?}", names(&file));
        assert_eq!(file.extras(), []);
    }
}

#[test]
fn data_is_aligned_and_does_not_overlap() {
    let (layers, tensors) = one_of_everything();
    let infos: Vec<_> = tensors.into_iter().map(|(info, _)| info).collect();
    let plan = keras::plan(&layers, &infos).unwrap();
    let mut end =
        plan.seal(&[]).unwrap().iter().map(|span| span.offset + span.bytes.len() as u64).max().unwrap();
    for (offset, info) in plan.offsets().iter().zip(&infos) {
        assert!(*offset >= end && offset % 64 == 0, "{}", info.name);
        end = offset + info.byte_len().unwrap() as u64;
    }
    assert_eq!(plan.file_len(), end);
}

#[test]
fn offsets_beyond_4_gb_are_planned() {
    let infos = [tensor("deberta/a:0", Dtype::F32, &[]).0, tensor("deberta/b:0", Dtype::F32, &[]).0];
    let infos = infos.map(|info| TensorInfo { shape: vec![1 << 20, 1 << 12], ..info });
    let plan = keras::plan(&["deberta".to_owned()], &infos).unwrap();
    assert!(plan.offsets()[1] > 1 << 34 && plan.file_len() > 1 << 35);
}

/// All metadata is under a checksum.
#[test]
fn a_flipped_bit_in_written_metadata_is_an_error() {
    let (layers, tensors) = one_of_everything();
    let whole = written(&layers, &tensors);
    let infos: Vec<_> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let metadata = keras::plan(&layers, &infos).unwrap().seal(&[]).unwrap().remove(0).bytes.len();
    for at in 0..metadata {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(open_bytes(changed).is_err(), "byte {at} of {metadata}");
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let refusal = |layers: &[&str], names: &[&str], dtype, shape: &[usize]| {
        let layers: Vec<_> = layers.iter().map(|&layer| layer.to_owned()).collect();
        let info = |name: &&str| TensorInfo { name: (*name).to_owned(), dtype, shape: shape.to_vec() };
        let infos: Vec<_> = names.iter().map(info).collect();
        keras::plan(&layers, &infos)
            .err()
            .map_or_else(|| panic!("{names:?} are planned"), |error| error.to_string())
    };
    let name = |name: &str| refusal(&["a"], &[name], Dtype::F32, &[1]);
    assert_eq!(
        refusal(&["a"], &["a/b", "a/b"], Dtype::F32, &[1]),
        "tensor \"a/b\": another tensor has the same name"
    );
    assert_eq!(
        refusal(&["a"], &["a/b", "a/b/c"], Dtype::F32, &[1]),
        "tensor \"a/b/c\": \"b\" in its path is another tensor"
    );
    assert!(
        refusal(&["a"], &["a/b/c", "a/b"], Dtype::F32, &[1]).contains("the path of a group of other tensors")
    );
    assert!(
        refusal(&["a", "a"], &[], Dtype::F32, &[1])
            .contains("\"a\" cannot be the name of one layer among others")
    );
    assert!(name("a//b").contains("\"\" cannot be a component of an HDF5 path"));
    assert!(name("a/./b").contains("\".\" cannot be a component"));
    assert!(name("a/b\0c").contains("cannot be a component"));
    assert!(name(&"a/".repeat(40)).contains("41 components in its name, a Keras file holds 32"));
    assert!(name(&format!("a/{}", "b".repeat(70_000))).contains("70000 bytes in one component"));
    assert_eq!(refusal(&["a"], &["a/b"], Dtype::BF16, &[1]), "tensor \"a/b\": a Keras file cannot hold bf16");
    assert!(
        refusal(&["a"], &["a/b"], Dtype::F32, &[1; 33])
            .contains("33 dimensions, an HDF5 dataset has at most 32")
    );
    assert!(refusal(&["a"], &["a/b"], Dtype::F32, &[usize::MAX, 2]).contains("overflows the address space"));
}

#[test]
fn h5py_reads_what_is_written() {
    let Some(python) = std::env::var_os("DEBERTA_TEST_PYTHON") else {
        println!("skipped: DEBERTA_TEST_PYTHON names no Python with h5py");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (index, (layers, tensors)) in [one_of_everything(), hundreds()].into_iter().enumerate() {
        let path = folder.path().join(format!("{index}.h5"));
        fs::write(&path, written(&layers, &tensors)).unwrap();
        let sidecar = path.with_extension("safetensors");
        let views = tensors.iter().map(|(info, bytes)| {
            let dtype = safetensors_dtype(info.dtype);
            (
                info.name.clone(),
                safetensors::tensor::TensorView::new(dtype, info.shape.clone(), bytes).unwrap(),
            )
        });
        safetensors::serialize_to_file(views, None, &sidecar).unwrap();
        let check = Command::new(&python)
            .arg(fixture("check_written.py"))
            .args([&path, &sidecar])
            .args(&layers)
            .output();
        let check = check.unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    }
}

fn safetensors_dtype(dtype: Dtype) -> safetensors::Dtype {
    match dtype {
        Dtype::F64 => safetensors::Dtype::F64,
        Dtype::F32 => safetensors::Dtype::F32,
        Dtype::F16 => safetensors::Dtype::F16,
        Dtype::I64 => safetensors::Dtype::I64,
        Dtype::I32 => safetensors::Dtype::I32,
        Dtype::I16 => safetensors::Dtype::I16,
        Dtype::I8 => safetensors::Dtype::I8,
        Dtype::U8 => safetensors::Dtype::U8,
        Dtype::BF16 | Dtype::Bool => panic!("Keras files hold no {dtype}"),
    }
}

#[test]
fn h5dump_reads_what_is_written() {
    if Command::new("h5dump").arg("--version").output().is_err() {
        println!("skipped: h5dump (hdf5-tools) is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (index, (layers, tensors)) in [one_of_everything(), hundreds()].into_iter().enumerate() {
        let path = folder.path().join(format!("{index}.h5"));
        fs::write(&path, written(&layers, &tensors)).unwrap();
        let dump = Command::new("h5dump").arg(&path).output().unwrap();
        assert!(dump.status.success() && dump.stderr.is_empty(), "{}", String::from_utf8_lossy(&dump.stderr));
        let datasets = String::from_utf8_lossy(&dump.stdout).matches("DATASET \"").count();
        assert_eq!(datasets, tensors.len());
    }
}
