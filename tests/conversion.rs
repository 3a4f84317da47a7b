//! Conversions of every fixture between every pair of formats, by the program as a user runs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use deberta_converters::format::{TensorFile, open_file};
use deberta_converters::mapped::Mapped;
use deberta_tests::cases::each;
use deberta_tests::{
    fail, fixture, fixtures, run, shared_fixtures, shared_fixtures_of_version_2, snapshot, succeed,
};

use crate::CONVERT;

const FORMATS: [(&str, &str); 3] =
    [("pt", "pytorch_model.bin"), ("tf", "tf_model.h5"), ("st", "model.safetensors")];

fn cases() -> Vec<PathBuf> {
    [
        fixtures("transformers"),
        fixtures("microsoft"),
        goldens_2(),
        shared_fixtures(),
        shared_fixtures_of_version_2(),
    ]
    .concat()
}

/// The recorded models of versions 2 and 3.
fn goldens_2() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data");
    let mut folders: Vec<PathBuf> = data.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.file_name().unwrap().to_str().unwrap().starts_with("v2-"));
    folders.sort();
    assert!(folders.len() >= 30, "{} models", folders.len());
    folders
}

fn arg(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Converts `input` and returns the written file; panics with the message if that fails.
fn convert(command: &str, input: &Path, out: &Path, more: &[&str]) -> PathBuf {
    let mut args = vec![command.to_owned(), arg(input), "-o".to_owned(), format!("{}/", out.display())];
    args.extend(more.iter().map(|&more| more.to_owned()));
    let ledger = succeed(CONVERT, &args);
    assert!(ledger.contains("digest"), "{ledger}");
    let to = more.last().filter(|_| command == "convert").copied().unwrap_or(command);
    let (_, name) = FORMATS.iter().find(|(short, _)| to.ends_with(short)).unwrap();
    out.join(name)
}

fn digest(input: &Path) -> String {
    succeed(CONVERT, &["digest", &arg(input)]).trim().to_owned()
}

/// Every tensor of a file by its name.
fn tensors(path: &Path) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let (_, file) = open_file(Mapped::open(path).unwrap()).unwrap();
    named(file.as_ref())
}

fn named(file: &dyn TensorFile) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let all = file.tensors().iter().enumerate();
    all.map(|(index, info)| {
        let bytes = file.read(index).unwrap().into_owned();
        (info.name.clone(), (info.dtype.to_string(), info.shape.clone(), bytes))
    })
    .collect()
}

/// Whether TensorFlow can hold the case: a reason if it cannot.
fn tensorflow_refuses(folder: &Path) -> Option<&'static str> {
    match folder.file_name().unwrap().to_str().unwrap() {
        "mlm-new" | "emd" | "v2-emd" | "v2-mask-decoder" | "v2-mask-decoder-conv" | "v2-masked-lm-new" => {
            Some("lm_predictions")
        }
        "v2-rtd" | "v2-replaced-tokens" => Some("mask_predictions"),
        "v2-masked-lm-untied" => Some("not tied"),
        "v2-model-conv-groups" => Some("conv_groups"),
        "talking-head" => Some("talking_head"),
        _ => None,
    }
}

#[test]
fn every_pair_of_formats_keeps_every_value() {
    let mut pairs = Vec::new();
    for folder in cases() {
        for (from, name) in FORMATS.into_iter().filter(|(_, name)| folder.join(name).exists()) {
            let others = FORMATS.into_iter().filter(|(to, _)| *to != from);
            pairs.extend(others.map(|(to, _)| (folder.join(name), from, to)));
        }
    }
    let conversions = each(pairs, |(input, from, to)| {
        let (folder, command) = (input.parent().unwrap(), format!("{from}2{to}"));
        let out = tempfile::tempdir().unwrap();
        if *to == "tf"
            && let Some(reason) = tensorflow_refuses(folder)
        {
            let error = fail(CONVERT, &[command, arg(input), "-o".into(), arg(out.path())]);
            assert!(error.contains(reason), "{error}");
            assert!(snapshot(out.path()).is_empty());
            return 0;
        }
        let expected = digest(input);
        let there = convert(&command, input, out.path(), &[]);
        assert_eq!(digest(&there), expected, "{command}");
        let back = convert(&format!("{to}2{from}"), &there, &out.path().join("back"), &[]);
        assert_eq!(digest(&back), expected, "{command} and back");
        // bf16 comes back from HDF5 as f32, old and prefixed names come back canonical, differences are not part of the model.
        let renamed =
            ["bf16", "old-names", "bert-prefix", "v2-rtd"].iter().any(|case| folder.ends_with(case));
        if *from != "tf" && !renamed && !folder.ends_with("tf-safetensors") {
            assert_eq!(tensors(&back), tensors(input), "{command} and back");
        }
        2
    });
    let conversions: usize = conversions.into_iter().sum();
    println!("{conversions} conversions");
    assert!(conversions >= 200, "only {conversions} conversions were made");
}

#[test]
fn pytorch_to_safetensors_is_the_same_directly_and_through_tensorflow() {
    let mut folders = cases();
    folders.retain(|folder| tensorflow_refuses(folder).is_none() && !folder.ends_with("bf16"));
    folders.retain(|folder| folder.join("pytorch_model.bin").exists());
    let compared = each(folders, |folder| {
        let out = tempfile::tempdir().unwrap();
        let input = folder.join("pytorch_model.bin");
        let direct = convert("pt2st", &input, &out.path().join("direct"), &[]);
        let h5 = convert("pt2tf", &input, &out.path().join("h5"), &[]);
        let through = convert("tf2st", &h5, &out.path().join("through"), &[]);
        assert_eq!(fs::read(direct).unwrap(), fs::read(through).unwrap());
    });
    let compared = compared.len();
    assert!(compared >= 8, "only {compared} were compared");
}

#[test]
fn what_transformers_wrote_itself_comes_out_the_same() {
    // The same model saved by transformers in both formats: converting one gives the other, byte for byte.
    let files = |folder: &Path| ["pytorch_model.bin", "model.safetensors"].map(|name| folder.join(name));
    let mut folders = cases();
    folders.retain(|folder| files(folder).iter().all(|file| file.exists()));
    folders
        .retain(|folder| !["old-names", "bert-prefix", "v2-rtd"].iter().any(|case| folder.ends_with(case)));
    let compared = each(folders, |folder| {
        let [bin, st] = files(folder);
        let out = tempfile::tempdir().unwrap();
        let written = convert("pt2st", &bin, out.path(), &[]);
        assert_eq!(tensors(&written), tensors(&st));
        let written = convert("st2pt", &st, &out.path().join("pt"), &[]);
        assert_eq!(tensors(&written), tensors(&bin));
    });
    let compared = compared.len();
    assert!(compared >= 10, "only {compared} were compared");
}

#[test]
fn names_of_tensorflow_in_safetensors_are_recognised() {
    let input = fixture("transformers/tf-safetensors/model.safetensors");
    let out = tempfile::tempdir().unwrap();
    let bin = convert("st2pt", &input, out.path(), &[]);
    assert!(tensors(&bin).contains_key("deberta.embeddings.word_embeddings.weight"));
    assert_eq!(digest(&bin), digest(&input));
}

#[test]
fn old_names_buffers_and_prefixes_become_canonical() {
    let input = fixture("transformers/old-names/pytorch_model.bin");
    let out = tempfile::tempdir().unwrap();
    let ledger = succeed(CONVERT, &["pt2st", &arg(&input), "-o", &format!("{}/", arg(out.path()))]);
    assert!(ledger.contains("position_ids") && ledger.contains("module."), "{ledger}");
    let names: Vec<String> = tensors(&out.path().join("model.safetensors")).into_keys().collect();
    assert!(names.iter().all(|name| !name.contains("gamma") && !name.starts_with("module.")));
}

#[test]
fn shards_are_read_and_written() {
    let whole = tempfile::tempdir().unwrap();
    let folder = fixture("transformers/sharded");
    let from_st = convert("convert", &folder, whole.path(), &["--to", "pt"]);
    let bin_index = folder.join("pytorch_model.bin.index.json");
    let from_bin = convert("pt2st", &bin_index, &whole.path().join("st"), &[]);
    assert_eq!(digest(&from_st), digest(&from_bin));

    for (command, index) in
        [("st2pt", "pytorch_model.bin.index.json"), ("pt2st", "model.safetensors.index.json")]
    {
        let input = if command == "st2pt" { &from_bin } else { &from_st };
        let out = tempfile::tempdir().unwrap();
        let args = [command, &arg(input), "-o", &arg(out.path()), "--max-shard-size", "30KB"];
        succeed(CONVERT, &args);
        let written = snapshot(out.path());
        assert!(written.len() >= 4 && written.contains_key(index), "{:?}", written.keys());
        assert!(written.contains_key("config.json"));
        assert_eq!(digest(&out.path().join(index)), digest(input));
        let json: serde_json::Value = serde_json::from_slice(&written[index]).unwrap();
        assert!(json["weight_map"].as_object().unwrap().len() > 20);
        assert!(json["metadata"]["total_size"].as_u64().unwrap() > 30_000);
    }
}

#[test]
fn a_dtype_is_converted_and_the_rounding_reported() {
    let input = fixture("transformers/mlm/model.safetensors");
    let out = tempfile::tempdir().unwrap();
    for (dtype, name) in [("f16", "float16"), ("bf16", "bfloat16"), ("f64", "float64")] {
        let folder = out.path().join(dtype);
        let ledger =
            succeed(CONVERT, &["st2pt", &arg(&input), "-o", &format!("{}/", arg(&folder)), "--dtype", dtype]);
        let rounding = ledger.lines().find(|line| line.starts_with("rounding")).unwrap();
        assert_eq!(rounding.contains("none"), dtype == "f64", "{rounding}");
        assert!(tensors(&folder.join("pytorch_model.bin")).values().all(|(stored, _, _)| stored == dtype));
        assert!(fs::read_to_string(folder.join("config.json")).unwrap().contains(name));
    }
    // What is exact in the narrow type comes back exactly.
    let half = out.path().join("f16/pytorch_model.bin");
    let wide = convert("pt2st", &half, &out.path().join("wide"), &["--dtype", "f32"]);
    assert_eq!(digest(&wide), digest(&half));
}

#[test]
fn the_masked_lm_head_moves_only_on_request() {
    let input = fixture("microsoft/emd/pytorch_model.bin");
    let out = tempfile::tempdir().unwrap();
    let h5 = convert("pt2tf", &input, &out.path().join("tf"), &["--mlm-head", "remap"]);
    let config = fs::read_to_string(out.path().join("tf/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!((&config["legacy"], &config["tie_word_embeddings"]), (&true.into(), &true.into()));

    let back = convert("tf2pt", &h5, &out.path().join("pt"), &["--mlm-head", "remap"]);
    let config = fs::read_to_string(out.path().join("pt/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!((&config["legacy"], &config["tie_word_embeddings"]), (&false.into(), &false.into()));
    // The position embeddings of the mask decoder went through TensorFlow's file too.
    assert_eq!(tensors(&back), tensors(&input));
}

#[test]
fn microsofts_own_layout_becomes_one_that_transformers_reads() {
    let input = fixture("microsoft/bert-prefix/pytorch_model.bin");
    let out = tempfile::tempdir().unwrap();
    let st = convert("pt2st", &input, out.path(), &[]);
    assert!(tensors(&st).contains_key("deberta.embeddings.word_embeddings.weight"));
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["model_type"], "deberta");
    assert!(config["pad_token_id"].is_u64());
}

#[test]
fn the_output_goes_where_it_is_wanted() {
    let source = fixture("transformers/tokcls");
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tf_model.h5"] {
        fs::copy(source.join(name), folder.path().join(name)).unwrap();
    }
    let input = arg(&folder.path().join("tf_model.h5"));
    // Beside the input, with the conventional name.
    succeed(CONVERT, &["tf2pt", &input]);
    let first = snapshot(folder.path());
    assert_eq!(first.keys().collect::<Vec<_>>(), ["config.json", "pytorch_model.bin", "tf_model.h5"]);
    // Never over an existing file, unless asked to.
    let error = fail(CONVERT, &["tf2pt", &input]);
    assert!(error.contains("pytorch_model.bin: already exists") && error.contains("--force"), "{error}");
    fs::write(folder.path().join("pytorch_model.bin"), "old").unwrap();
    fail(CONVERT, &["tf2pt", &input]);
    assert_eq!(fs::read(folder.path().join("pytorch_model.bin")).unwrap(), b"old");
    succeed(CONVERT, &["tf2pt", &input, "--force"]);
    assert_eq!(snapshot(folder.path()), first);
    // To a file.
    let file = folder.path().join("new/some.bin");
    succeed(CONVERT, &["tf2pt", &input, "-o", &arg(&file)]);
    assert_eq!(snapshot(&folder.path().join("new")).keys().collect::<Vec<_>>(), ["some.bin"]);
    // The whole folder as input, config from elsewhere.
    let bare = tempfile::tempdir().unwrap();
    fs::copy(source.join("tf_model.h5"), bare.path().join("tf_model.h5")).unwrap();
    let error = fail(CONVERT, &["tf2st", &arg(bare.path())]);
    assert!(error.contains("config.json: not found") && error.contains("--config"), "{error}");
    succeed(CONVERT, &["tf2st", &arg(bare.path()), "--config", &arg(&source.join("config.json"))]);
    assert!(bare.path().join("config.json").exists() && bare.path().join("model.safetensors").exists());
}

#[test]
fn conversion_is_deterministic() {
    let input = fixture("transformers/mlm/pytorch_model.bin");
    for command in ["pt2tf", "pt2st"] {
        let out = tempfile::tempdir().unwrap();
        let first = convert(command, &input, &out.path().join("1"), &[]);
        let second = convert(command, &input, &out.path().join("2"), &[]);
        assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
    }
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    for args in [&["tf2pt"][..], &["frobnicate"], &["convert", "x"], &["tf2pt", "x", "--dtype", "f8"], &[]] {
        assert_eq!(run(CONVERT, args).code, 2, "{args:?}");
    }
    assert_eq!(run(CONVERT, &["--help"]).code, 0);
}
