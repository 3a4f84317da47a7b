//! Keras files that we wrote, read by us, by h5py and by h5dump.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use deberta_converters::Result;
use deberta_converters::format::keras::{self, KEPT_ASIDE, KerasFile};
use deberta_converters::format::{FilePlan, TensorFile};
use deberta_converters::mapped::Mapped;
use deberta_converters::tensor::{Dtype, TensorInfo};

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/h5py")).join(name)
}

fn open_bytes(bytes: Vec<u8>) -> Result<KerasFile> {
    keras::open(Mapped::from_bytes(bytes, Path::new("written.h5")))
}

/// Every tensor with its bytes.
fn contents(file: &KerasFile) -> Vec<(TensorInfo, Vec<u8>)> {
    let tensors = file.tensors().iter().enumerate();
    tensors.map(|(index, info)| (info.clone(), file.read(index).unwrap().into_owned())).collect()
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
            let expected = contents(&keras::open(Mapped::open(&path).unwrap()).unwrap());
            assert!(expected.len() > 40, "{}", path.display());
            let again = open_bytes(written(&layers(&expected), &expected)).unwrap();
            assert!(contents(&again) == expected, "{}", path.display());
            count += 1;
        }
    }
    assert_eq!(count, 3, "h5 files in {}", shared.display());
}

#[test]
fn what_is_written_is_read_back_in_order() {
    for (layers, tensors) in [one_of_everything(), hundreds(), (Vec::new(), Vec::new())] {
        let bytes = written(&layers, &tensors);
        assert!(bytes == written(&layers, &tensors), "the bytes depend on nothing else");
        let file = open_bytes(bytes).unwrap();
        assert!(contents(&file) == tensors, "{:?}", file.tensors());
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
