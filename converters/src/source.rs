//! Where a model comes from: a file, a shard index, or a folder.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::confinement::require_inside;
use crate::error::{Error, Kind, Result};
use crate::format::{Format, TensorFile, open_file};
use crate::json::{not_json, read_text, unique_keys};
use crate::mapped::Mapped;

/// The files of a checkpoint, found but not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What messages call the checkpoint: the single file, or the index of the shards.
    pub path: PathBuf,
    /// The weight files.
    pub files: Vec<PathBuf>,
    /// For a sharded checkpoint, which shard holds which tensor.
    pub weight_map: Option<BTreeMap<String, String>>,
}

impl Source {
    /// Finds the weight files that `input` names: a file, a shard index, or a folder, in which `wanted` is looked
    /// for, or else the formats in the order of [`Format::ALL`] without `unwanted`.
    ///
    /// # Errors
    /// Nothing there; a folder without weights; a shard index that names files outside its folder.
    pub fn locate(input: &Path, wanted: Option<Format>, unwanted: Option<Format>) -> Result<Source> {
        let metadata = fs::metadata(input).map_err(|error| Error::io(input, "open", error))?;
        if metadata.is_dir() {
            let formats = Format::ALL.into_iter().filter(|&format| match wanted {
                Some(wanted) => format == wanted,
                None => Some(format) != unwanted,
            });
            let names: Vec<String> = formats.flat_map(Format::places).collect();
            let found = names.iter().map(|name| input.join(name)).find(|path| path.exists());
            return match found {
                Some(path) => Source::locate(&path, None, None),
                None => Err(Error::new(Kind::Io, nothing_there(input, &names, unwanted)).in_file(input)),
            };
        }
        if is_index(&input.to_string_lossy()) {
            return Source::from_index(input);
        }
        Ok(Source { path: input.to_owned(), files: vec![input.to_owned()], weight_map: None })
    }

    fn from_index(index: &Path) -> Result<Source> {
        #[derive(Deserialize)]
        struct Index {
            #[serde(deserialize_with = "unique_keys")]
            weight_map: BTreeMap<String, String>,
        }
        let text = read_text(index)?;
        let parsed: Index = serde_json::from_str(&text).map_err(|error| {
            not_json(&text, || Error::malformed(format!("not a shard index: {error}"))).in_file(index)
        })?;
        let folder = index.parent().unwrap_or(Path::new(""));
        let mut names: Vec<&String> = parsed.weight_map.values().collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Err(Error::malformed("the shard index names no tensor").in_file(index));
        }
        for name in &names {
            let plain = Path::new(name).file_name().is_some_and(|file| file == name.as_str());
            if !plain || name.contains(['/', '\\']) {
                let why = format!("shard \"{name}\" is not a file name in the model's own folder");
                return Err(Error::refused(why).in_file(index));
            }
        }
        let files: Vec<PathBuf> = names.into_iter().map(|name| folder.join(name)).collect();
        for file in files.iter().filter(|file| file.exists()) {
            require_inside(folder, file)?;
        }
        Ok(Source { path: index.to_owned(), files, weight_map: Some(parsed.weight_map) })
    }

    /// The folder of the checkpoint.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Opens every weight file. All must be of one format.
    pub fn open(&self) -> Result<(Format, Vec<Box<dyn TensorFile>>)> {
        let mut format = None;
        let mut files = Vec::with_capacity(self.files.len());
        for path in &self.files {
            let (this, file) = open_file(Mapped::open(path)?)?;
            if *format.get_or_insert(this) != this {
                let other = format.unwrap_or(this);
                return Err(
                    Error::malformed(format!("is {this}, the shards before it are {other}")).in_file(path)
                );
            }
            files.push(file);
        }
        let format = format.ok_or_else(|| Error::malformed("no weight files").in_file(&self.path))?;
        self.check_weight_map(&files)?;
        Ok((format, files))
    }

    /// Every tensor must be in the shard that the index says, and in no other.
    fn check_weight_map(&self, files: &[Box<dyn TensorFile>]) -> Result<()> {
        let Some(weight_map) = &self.weight_map else { return Ok(()) };
        let mut found = 0;
        for (path, file) in self.files.iter().zip(files) {
            for tensor in file.tensors() {
                let here = path.file_name().unwrap_or_default().to_string_lossy();
                let why = match weight_map.get(&tensor.name) {
                    Some(shard) if *shard == here => {
                        found += 1;
                        continue;
                    }
                    Some(shard) => format!("the index says that it is in {shard}"),
                    None => "the index does not list it".to_owned(),
                };
                return Err(Error::new(Kind::Model, why).in_tensor(&tensor.name).in_file(path));
            }
        }
        if found == weight_map.len() {
            return Ok(());
        }
        let all: HashSet<&str> =
            files.iter().flat_map(|file| file.tensors()).map(|tensor| tensor.name.as_str()).collect();
        let missing = weight_map.iter().find(|(name, _)| !all.contains(name.as_str()));
        Err(match missing {
            Some((name, shard)) => {
                Error::new(Kind::Model, format!("not in {shard}, where the index says that it is"))
                    .in_tensor(name)
            }
            None => Error::malformed("a shard holds two tensors of one name"),
        }
        .in_file(&self.path))
    }
}

/// Whether a file is an index of shards by its name: `model.safetensors.index.json`, and of a variant
/// `model.safetensors.index.fp16.json`.
pub fn is_index(name: &str) -> bool {
    let stem = name.strip_suffix(".json");
    stem.is_some_and(|stem| {
        let variant = stem.rsplit_once(".index.").map_or("/", |(_, variant)| variant);
        stem.ends_with(".index") || !variant.contains(['.', '/'])
    })
}

/// What a folder lacks, and what it has of a format that was not to be taken.
fn nothing_there(folder: &Path, names: &[String], unwanted: Option<Format>) -> String {
    let left_out = unwanted.into_iter().flat_map(Format::places).find(|name| folder.join(name).exists());
    let looked_for = names.join(", ");
    match left_out {
        Some(name) => format!(
            "no weights in this folder but {name}, which has the format of the output: name that file to write it \
             anew; looked for {looked_for}"
        ),
        None => format!("no weights in this folder: looked for {looked_for}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_file::ConfigFile;

    fn index(text: &str) -> Result<Source> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors.index.json");
        fs::write(&path, text).unwrap();
        Source::locate(&path, None, None)
    }

    #[test]
    fn shards_must_be_in_the_models_own_folder() {
        for name in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "a\\b"] {
            let error = index(&format!("{{\"weight_map\": {{\"t\": {name:?}}}}}")).unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{error}");
        }
        let source =
            index(r#"{"weight_map": {"t": "b.safetensors", "u": "a.safetensors", "v": "b.safetensors"}}"#)
                .unwrap();
        assert_eq!(source.files.len(), 2);
    }

    #[test]
    fn shards_must_not_be_links_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (model, commit) = (folder.path().join("model"), folder.path().join("models--a--b/snapshots/c"));
        let blobs = folder.path().join("models--a--b/blobs");
        for path in [&model, &commit, &blobs] {
            fs::create_dir_all(path).unwrap();
        }
        for path in [folder.path(), &model, &blobs] {
            fs::write(path.join("tensors"), "x").unwrap();
        }
        let locate = |folder: &Path, target: &str| {
            let (index, link) = (folder.join("model.safetensors.index.json"), folder.join("shard"));
            fs::write(&index, r#"{"weight_map": {"t": "shard"}}"#).unwrap();
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(target, &link).unwrap();
            Source::locate(&index, None, None)
        };
        locate(&model, "tensors").unwrap();
        locate(&commit, "../../blobs/tensors").unwrap();
        for (folder, target) in
            [(&model, "../tensors"), (&model, "../models--a--b/blobs/tensors"), (&commit, "../../../tensors")]
        {
            let error = locate(folder, target).unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{target}: {error}");
        }
    }

    #[test]
    fn an_index_is_told_by_its_name() {
        let name = |variant: &str| format!("model.safetensors.index{variant}.json");
        assert!(is_index(&name("")) && is_index(&name(".fp16")));
        assert!(!is_index("config.json") && !is_index("model.index.d/x.json") && !is_index("index.json"));
    }

    #[test]
    fn a_shard_index_that_is_none_is_refused() {
        assert!(index("{}").unwrap_err().to_string().contains("weight_map"));
        assert!(index(r#"{"weight_map": {}}"#).unwrap_err().to_string().contains("no tensor"));
        let twice = index(r#"{"weight_map": {"t": "a", "t": "b"}}"#).unwrap_err().to_string();
        assert!(twice.contains("tensor \"t\" is listed twice"), "{twice}");
        assert!(index(&"[".repeat(1 << 20)).is_err());
    }

    #[test]
    fn exports_are_found_where_optimum_puts_them() {
        let folder = tempfile::tempdir().unwrap();
        let onnx = folder.path().join("onnx");
        fs::create_dir(&onnx).unwrap();
        fs::write(onnx.join("model.onnx"), "x").unwrap();
        fs::write(folder.path().join("config.json"), r#"{"model_type": "deberta"}"#).unwrap();
        let source = Source::locate(folder.path(), None, None).unwrap();
        assert_eq!(source.path, onnx.join("model.onnx"));
        assert!(ConfigFile::find(None, source.folder(), None).unwrap().is_hugging_face());
    }

    #[test]
    fn a_folder_that_has_the_format_of_the_output_alone_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let error =
            || Source::locate(folder.path(), None, Some(Format::Safetensors)).unwrap_err().to_string();
        assert!(error().contains("no weights in this folder: looked for pytorch_model.bin"), "{}", error());
        fs::write(folder.path().join("model.safetensors"), "").unwrap();
        assert!(error().contains("but model.safetensors, which has the format of the output"), "{}", error());
    }
}
