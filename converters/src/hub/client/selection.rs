//! Which files of a repository make a model.

use std::collections::BTreeSet;

use super::file_name::check_file_name;
use crate::companions::{self, CONFIGURATION, TOKENIZER};
use crate::error::{Error, Kind, Result};
use crate::format::Format;
use crate::hub::Wanted;

/// The files of the configuration, of the tokenizer and of further settings among `files`.
pub(super) fn accompanying(files: &BTreeSet<String>) -> impl Iterator<Item = &'static str> {
    CONFIGURATION.into_iter().chain(companions::taken_along()).filter(|&name| files.contains(name))
}

/// The weight files among `files` to start from: for each format the file itself, or the index of its shards. None where
/// the tokenizer alone is wanted.
///
/// # Errors
/// None of the formats is there; no tokenizer, where that is wanted.
pub(super) fn weights(files: &BTreeSet<String>, wanted: &Wanted) -> Result<Vec<String>> {
    let of = |format: &Format| format.places().into_iter().find(|name| files.contains(name));
    let found: Vec<String> = match wanted {
        Wanted::First(formats) => formats.iter().find_map(of).into_iter().collect(),
        Wanted::Every(formats) => formats.iter().filter_map(of).collect(),
        Wanted::Tokenizer if TOKENIZER.iter().any(|&name| files.contains(name)) => return Ok(Vec::new()),
        Wanted::Tokenizer => Vec::new(),
    };
    if found.is_empty() {
        let (what, looked_for) = match wanted {
            Wanted::First(formats) | Wanted::Every(formats) => {
                ("weights", formats.iter().flat_map(|&format| format.places()).collect())
            }
            Wanted::Tokenizer => ("tokenizer", TOKENIZER.map(str::to_owned).to_vec()),
        };
        return Err(Error::new(Kind::Hub, format!("no {what}: looked for {}", looked_for.join(", "))));
    }
    Ok(found)
}

/// The files that hold the tensors of an ONNX model outside of it: `model.onnx_data`, `model.onnx_data_1`,
/// `model.onnx.data`.
///
/// # Errors
/// A name that starts like one of these and leaves the folder.
pub(super) fn external_data<'f>(files: &'f BTreeSet<String>, weights: &str) -> Result<Vec<&'f str>> {
    if !weights.ends_with(".onnx") {
        return Ok(Vec::new());
    }
    let rest = |name: &'f str| name.strip_prefix(weights);
    let found = files.iter().map(String::as_str);
    let found =
        found.filter(|name| rest(name).is_some_and(|rest| rest == ".data" || rest.starts_with("_data")));
    found.map(|name| check_file_name(name).map(|()| name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn one_format_or_every_one() {
        let files = files(&[
            "tf_model.h5",
            "pytorch_model.bin.index.json",
            "config.json",
            "vocab.json",
            "dict.txt",
            "generation_config.json",
            "rust_model.ot",
        ]);
        assert_eq!(weights(&files, &Wanted::any()).unwrap(), ["pytorch_model.bin.index.json"]);
        assert_eq!(
            weights(&files, &Wanted::as_located(Some(Format::TensorFlow), None)).unwrap(),
            ["tf_model.h5"]
        );
        assert_eq!(
            weights(&files, &Wanted::as_located(None, Some(Format::PyTorch))).unwrap(),
            ["tf_model.h5"]
        );
        let every = weights(&files, &Wanted::Every(Format::ALL.to_vec())).unwrap();
        assert_eq!(every, ["pytorch_model.bin.index.json", "tf_model.h5"]);
        let error = weights(&files, &Wanted::First(vec![Format::Safetensors])).unwrap_err().to_string();
        assert!(error.contains("model.safetensors.index.json"), "{error}");
        let along = ["config.json", "vocab.json", "dict.txt", "generation_config.json"];
        assert_eq!(accompanying(&files).collect::<Vec<_>>(), along);
    }

    #[test]
    fn a_tokenizer_needs_no_weights() {
        let tokenizer = files(&["config.json", "spm.model", "model.safetensors"]);
        assert!(weights(&tokenizer, &Wanted::Tokenizer).unwrap().is_empty());
        let error = weights(&files(&["config.json"]), &Wanted::Tokenizer).unwrap_err().to_string();
        assert!(error.starts_with("no tokenizer: looked for tokenizer.json, "), "{error}");
    }

    #[test]
    fn onnx_models_have_data_beside_them() {
        assert_eq!(Format::Onnx.places(), ["model.onnx", "onnx/model.onnx"]);
        let names = [
            "onnx/model.onnx",
            "onnx/model.onnx_data",
            "onnx/model.onnx_data_1",
            "onnx/model_quantized.onnx",
        ];
        let found = files(&names);
        assert_eq!(external_data(&found, "onnx/model.onnx").unwrap(), [names[1], names[2]]);
        assert!(external_data(&found, "model.safetensors").unwrap().is_empty());
        assert!(external_data(&files(&["model.onnx_data/../../../x"]), "model.onnx").is_err());
    }
}
