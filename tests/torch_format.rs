//! PyTorch checkpoints that torch wrote, read here and compared with what torch reads (`fixtures/torch`).

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use deberta_converters::format::{FilePlan, TensorFile, torch};
use deberta_converters::mapped::Mapped;
use deberta_converters::tensor::{Dtype, TensorInfo};
use safetensors::SafeTensors;

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/torch")).join(name)
}

fn open(path: &Path) -> deberta_converters::Result<torch::TorchFile> {
    torch::open(Mapped::open(path)?)
}

/// Panics unless the checkpoint holds exactly the tensors that are in the safetensors file, bit for bit.
fn assert_same(checkpoint: &Path, sidecar: &Path) {
    let file = open(checkpoint).unwrap_or_else(|error| panic!("{error}"));
    let sidecar_bytes = fs::read(sidecar).unwrap();
    let expected = SafeTensors::deserialize(&sidecar_bytes).unwrap();
    let name = checkpoint.display();
    let mut names: Vec<_> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    let mut expected_names = expected.names();
    names.sort_unstable();
    expected_names.sort_unstable();
    assert_eq!(names, expected_names, "{name}");
    for (index, info) in file.tensors().iter().enumerate() {
        let view = expected.tensor(&info.name).unwrap();
        assert_eq!(info.shape, view.shape(), "{name}: {}", info.name);
        assert_eq!(dtype_name(info.dtype), format!("{:?}", view.dtype()), "{name}: {}", info.name);
        let bytes = file.read(index).unwrap_or_else(|error| panic!("{error}"));
        assert!(bytes == view.data(), "{name}: {}: bytes differ", info.name);
    }
}

fn dtype_name(dtype: Dtype) -> String {
    match dtype {
        Dtype::Bool => "BOOL".to_owned(),
        other => other.to_string().to_uppercase(),
    }
}

#[test]
fn every_fixture_is_read_as_torch_reads_it() {
    let mut count = 0;
    for entry in fs::read_dir(fixture("")).unwrap() {
        let sidecar = entry.unwrap().path();
        if sidecar.extension().is_some_and(|ending| ending == "safetensors") {
            assert_same(&sidecar.with_extension("bin"), &sidecar);
            count += 1;
        }
    }
    assert_eq!(count, 33, "fixtures with a sidecar");
}

#[test]
fn order_is_that_of_the_file() {
    let file = open(&fixture("tied.bin")).unwrap();
    let names: Vec<_> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "embeddings.word_embeddings.weight",
            "encoder.layer.0.attention.self.in_proj.weight",
            "encoder.layer.0.attention.self.q_bias",
            "encoder.layer.0.output.LayerNorm.weight",
            "cls.predictions.decoder.weight",
        ]
    );
}

#[test]
fn dense_stored_tensors_are_not_copied() {
    for name in ["zip-f32.bin", "legacy-f32.bin"] {
        let file = open(&fixture(name)).unwrap();
        for index in 0..file.tensors().len() {
            assert!(
                matches!(file.read(index).unwrap(), std::borrow::Cow::Borrowed(_)),
                "{name}: tensor {index}"
            );
        }
    }
}

#[test]
fn what_lies_beside_the_state_dict_is_listed() {
    let file = open(&fixture("wrapped-state_dict.bin")).unwrap();
    let extras: Vec<_> =
        file.extras().iter().map(|extra| format!("{}: {}", extra.name, extra.what)).collect();
    assert_eq!(
        extras,
        [
            "epoch: int 3",
            "optimizer.state: dict of 2 entries",
            "optimizer.param_groups: list of 1 item",
            "best: None",
            "name: string \"run 7\"",
        ]
    );
    assert!(open(&fixture("zip-f32.bin")).unwrap().extras().is_empty());
    assert_eq!(open(&fixture("nested.bin")).unwrap().extras()[0].name, "step");
}

#[test]
fn of_two_state_dicts_the_keys_stay_before_the_names() {
    let file = open(&fixture("two-models.bin")).unwrap();
    let names: Vec<_> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["model.w", "state_dict.w"]);
}

#[test]
fn refused_fixtures_are_refused_in_these_words() {
    let refused = [
        (
            "bad-call",
            "data.pkl at byte 169: refuses to call posix.system (os.system): only what torch.save writes",
        ),
        ("bad-call-legacy", "refuses to call posix.system"),
        ("bad-complex", "tensor \"w\": elements of type complex64 are not supported"),
        ("bad-empty", "holds no tensors (transformers 4.57 writes such files"),
        ("bad-float8", "tensor \"w\": elements of type float8_e4m3fn are not supported"),
        ("bad-list", "holds a list of 2 items, not a dict from names to tensors"),
        ("bad-list-inside", "a list of tensors at \"weights\": only dicts give tensors a name"),
        ("bad-meta", "tensor \"deberta.embeddings.word_embeddings.weight\": is on the meta device"),
        ("bad-module", "refuses to call torch.nn.modules.linear.Linear"),
        ("bad-negative-bit", "tensor \"w\": its conjugate or negative bit is set"),
        ("bad-no-tensors", "holds no tensors beside "),
        (
            "bad-package",
            "a torch.package archive, not a checkpoint of torch.save; torch.package.PackageImporter",
        ),
        ("bad-quantized", "tensor \"w\": is quantized, which is not supported"),
        ("bad-sparse", "tensor \"w\": is sparse, which is not supported"),
        ("bad-tensor", "holds a tensor, not a dict from names to tensors"),
        ("bad-torchscript", "a TorchScript program, not a state dict"),
        ("bad-uint16", "tensor \"w\": elements of type uint16 are not supported"),
    ];
    for (name, words) in refused {
        let path = fixture(name).with_extension("bin");
        let message = open(&path).map(drop).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("{}: ", path.display())) && message.contains(words),
            "{message}"
        );
    }
    let bad = fs::read_dir(fixture(""))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("bad-"));
    assert_eq!(bad.count(), refused.len());
}

#[test]
fn shared_checkpoints_are_read_as_torch_reads_them() {
    let shared = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures"));
    if !shared.is_dir() {
        println!("skipped: {} is not there", shared.display());
        return;
    }
    let mut count = 0;
    for model in fs::read_dir(shared).unwrap() {
        let model = model.unwrap().path();
        for name in ["pytorch_model.bin", "pytorch_model.legacy.bin"] {
            if model.join(name).is_file() {
                assert_weights(&model.join(name), &model.join("model.safetensors"));
                count += 1;
            }
        }
    }
    assert!(count >= 5, "{count} checkpoints");
}

/// As [`assert_same`], but for a checkpoint that also holds the aliases that safetensors files leave out.
fn assert_weights(checkpoint: &Path, sidecar: &Path) {
    let file = open(checkpoint).unwrap_or_else(|error| panic!("{error}"));
    let sidecar_bytes = fs::read(sidecar).unwrap();
    let expected = SafeTensors::deserialize(&sidecar_bytes).unwrap();
    let index = |name: &str| file.tensors().iter().position(|tensor| tensor.name == name);
    for (name, view) in expected.iter() {
        let index = index(name).unwrap_or_else(|| panic!("{}: no {name}", checkpoint.display()));
        assert_eq!(file.tensors()[index].shape, view.shape(), "{name}");
        assert!(file.read(index).unwrap() == view.data(), "{}: {name} differs", checkpoint.display());
    }
}

/// The file that a plan makes of these tensors' bytes.
fn written(plan: &torch::TorchPlan, data: &[Vec<u8>]) -> Vec<u8> {
    assert!(plan.wants_crc32());
    let mut file = vec![0; usize::try_from(plan.file_len()).unwrap()];
    let mut put = |offset: u64, bytes: &[u8]| {
        let offset = usize::try_from(offset).unwrap();
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    for (&offset, bytes) in plan.offsets().iter().zip(data) {
        put(offset, bytes);
    }
    let checksums: Vec<_> = data.iter().map(|bytes| crc32fast::hash(bytes)).collect();
    for span in plan.seal(&checksums).unwrap() {
        put(span.offset, &span.bytes);
    }
    file
}

/// Everything that the file holds, in its order.
fn contents(file: &impl TensorFile) -> (Vec<TensorInfo>, Vec<Vec<u8>>) {
    let data = (0..file.tensors().len()).map(|index| file.read(index).unwrap().into_owned());
    (file.tensors().to_vec(), data.collect())
}

#[test]
fn what_is_written_is_read_back() {
    let mut checked = 0;
    for entry in fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        if !path.with_extension("safetensors").is_file()
            || path.extension().is_none_or(|ending| ending != "bin")
        {
            continue;
        }
        let (infos, data) = contents(&open(&path).unwrap());
        let alias = torch::Alias { name: "an alias", of: infos.len() - 1 };
        let file = written(&torch::plan(&infos, &[alias]).unwrap(), &data);
        assert_eq!(file, written(&torch::plan(&infos, &[alias]).unwrap(), &data), "not deterministic");
        let (mut infos_back, mut data_back) =
            contents(&torch::open(Mapped::from_bytes(file, Path::new("written"))).unwrap());
        let (info, bytes) = (infos_back.pop().unwrap(), data_back.pop().unwrap());
        assert_eq!((info.name.as_str(), &info.shape), ("an alias", &infos[infos.len() - 1].shape));
        assert!(&bytes == data.last().unwrap());
        assert_eq!(infos_back, infos, "{}", path.display());
        assert!(data_back == data, "{}", path.display());
        checked += 1;
    }
    assert_eq!(checked, 33);
}

#[test]
fn torch_reads_what_is_written() {
    let Some(python) = std::env::var_os("DEBERTA_TEST_PYTHON") else {
        println!(
            "skipped: DEBERTA_TEST_PYTHON names no Python with the packages of fixtures/torch/requirements.txt"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut check = Command::new(&python);
    check.arg(fixture("check_written.py"));
    for name in
        ["zip-f64", "zip-f32", "zip-f16", "zip-bf16", "zip-integers", "odd-shapes", "strided", "metadata"]
    {
        let (infos, data) = contents(&open(&fixture(name).with_extension("bin")).unwrap());
        let plan = torch::plan(&infos, &[torch::Alias { name: "tied", of: 0 }]).unwrap();
        let path = folder.path().join(name);
        fs::write(&path, written(&plan, &data)).unwrap();
        check
            .args([&path, &fixture(name).with_extension("safetensors")])
            .arg(format!("tied={}", infos[0].name));
    }
    let output = check.output().unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{complained}");
    assert_eq!(said.matches("tensors and an alias agree").count(), 8, "{said}");
}

/// Beyond 4 GiB offsets and sizes need 64 bits. The file is sparse: only its ends are ever written or read.
#[test]
fn a_file_beyond_4_gib_is_read_back() {
    let tensor = |name: &str, len| TensorInfo { name: name.to_owned(), dtype: Dtype::U8, shape: vec![len] };
    let infos = [tensor("large", (1 << 32) + 5), tensor("behind", 3)];
    let plan = torch::plan(&infos, &[]).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(plan.file_len()).unwrap();
    let mut put = |offset, bytes: &[u8]| {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(bytes).unwrap();
    };
    put(plan.offsets()[1], b"abc");
    for span in plan.seal(&[0, crc32fast::hash(b"abc")]).unwrap() {
        put(span.offset, &span.bytes);
    }
    let back = open(file.path()).unwrap();
    assert_eq!(back.tensors(), infos);
    assert_eq!(back.read(1).unwrap().as_ref(), b"abc");
}

#[test]
fn a_file_of_many_tensors_is_read_back() {
    let infos: Vec<_> = (0..70_000)
        .map(|index| TensorInfo { name: index.to_string(), dtype: Dtype::U8, shape: vec![] })
        .collect();
    let data: Vec<_> = (0..70_000u32).map(|index| vec![index.to_le_bytes()[0]]).collect();
    let file = written(&torch::plan(&infos, &[]).unwrap(), &data);
    let file = torch::open(Mapped::from_bytes(file, Path::new("many"))).unwrap();
    assert!(contents(&file) == (infos, data));
}

#[test]
fn audits_of_fixtures() {
    let audit = |name: &str| torch::audit(&Mapped::open(&fixture(name)).unwrap()).unwrap();
    for name in
        ["zip-f32.bin", "legacy-f32.bin", "metadata.bin", "protocol-4.bin", "parameters.bin", "deflated.bin"]
    {
        let audit = audit(name);
        assert!(audit.is_clean(), "{name}: {audit:?}");
        assert!(audit.pickles.iter().any(|pickle| !pickle.events.is_empty()), "{name}");
    }
    for name in ["bad-call.bin", "bad-call-legacy.bin"] {
        let audit = audit(name);
        let refused: Vec<_> =
            audit.refused().map(|(_, event)| (event.target.as_str(), event.arguments.as_str())).collect();
        let target = "posix.system (os.system)";
        assert_eq!(refused, [(target, ""), (target, "('touch /tmp/a-checkpoint-called-a-shell')")], "{name}");
    }
    let script = audit("bad-torchscript.bin");
    let entries: Vec<_> = script.pickles.iter().map(|pickle| pickle.entry.as_str()).collect();
    let code = "bad-torchscript/code/__torch__/torch/nn/modules/linear.py.debug_pkl";
    assert_eq!(entries, ["bad-torchscript/data.pkl", code, "bad-torchscript/constants.pkl"]);
    assert!(script.refused().any(|(_, event)| event.target.starts_with("__torch__")));
}

/// Everything that can be read from these bytes.
fn read_all(bytes: Vec<u8>) -> deberta_converters::Result<Vec<(TensorInfo, Vec<u8>)>> {
    let file = torch::open(Mapped::from_bytes(bytes, Path::new("damaged")))?;
    let read = |(index, info): (usize, &TensorInfo)| Ok((info.clone(), file.read(index)?.into_owned()));
    file.tensors().iter().enumerate().map(read).collect()
}

/// Archives repeat and checksum whatever matters: a changed bit is an error, or in a place without meaning.
#[test]
fn no_flipped_bit_of_an_archive_changes_what_is_read() {
    for name in ["zip-f32.bin", "deflated.bin", "strided.bin"] {
        let original = fs::read(fixture(name)).unwrap();
        let expected = read_all(original.clone()).unwrap();
        let mut errors = 0;
        for bit in 0..original.len() * 8 {
            let mut flipped = original.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match read_all(flipped) {
                Ok(read) => assert!(read == expected, "{name}: bit {bit} went unnoticed"),
                Err(_) => errors += 1,
            }
        }
        println!("{name}: {errors} of {} flipped bits were noticed", original.len() * 8);
        assert!(errors > original.len() * 8 / 2, "{name}: only {errors} flipped bits were noticed");
    }
}

#[test]
fn truncated_checkpoints_are_errors() {
    for name in ["zip-f32.bin", "deflated.bin", "big-endian-f16.bin", "legacy-f32.bin", "legacy-strided.bin"]
    {
        let original = fs::read(fixture(name)).unwrap();
        for part in 0..64 {
            let cut = original[..original.len() * part / 64].to_vec();
            assert!(read_all(cut).is_err(), "{name} cut to {part}/64");
        }
    }
}
