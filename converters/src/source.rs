//! Where a model comes from: a file, a shard index, or a folder.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::confinement::require_inside;
use crate::containers::instead_of_weights;
use crate::error::{Error, Kind, Result};
use crate::format::{Format, TensorFile, open_file};
use crate::json::{not_json, read_text, unique_keys};
use crate::mapped::Mapped;
use crate::output::left_in;

/// The files of a checkpoint, found but not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What messages call the checkpoint: the single file, or the index of the shards.
    pub path: PathBuf,
    /// The weight files.
    pub files: Vec<PathBuf>,
    /// For a sharded checkpoint, which shard holds which tensor.
    pub weight_map: Option<BTreeMap<String, String>>,
    /// What the index says besides: further names of tensors, each with the name that a shard has it under. So
    /// `huggingface_hub.save_torch_model` notes tensors that share their elements.
    pub second_names: Vec<(String, String)>,
}

impl Source {
    /// A checkpoint of these files, which no index lists.
    pub fn of_files(path: PathBuf, files: Vec<PathBuf>) -> Source {
        Source { path, files, weight_map: None, second_names: Vec::new() }
    }

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
            // A folder of that name holds no weights for transformers, either.
            let found =
                names.iter().map(|name| input.join(name)).find(|path| path.exists() && !path.is_dir());
            return match found {
                Some(path) => {
                    if is_index(&path.to_string_lossy()) {
                        require_inside(input, &path)?;
                    }
                    Source::locate(&path, None, None)
                }
                None => {
                    let (looked_for, there) = (names.join(", "), instead_of_weights(input));
                    let why = format!(
                        "no weights in this folder: looked for {looked_for}{there}{}",
                        left_in(input)
                    );
                    Err(Error::new(Kind::Io, why).in_file(input))
                }
            };
        }
        if is_index(&input.to_string_lossy()) {
            return Source::from_index(input);
        }
        Ok(Source::of_files(input.to_owned(), vec![input.to_owned()]))
    }

    fn from_index(index: &Path) -> Result<Source> {
        #[derive(Deserialize)]
        struct Index {
            #[serde(deserialize_with = "unique_keys")]
            weight_map: BTreeMap<String, String>,
            #[serde(default)]
            metadata: Value,
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
        let told = parsed.metadata.as_object().into_iter().flatten();
        let second_names = told
            .filter_map(|(second, stored)| Some((second.clone(), stored.as_str()?.to_owned())))
            .filter(|(second, stored)| {
                parsed.weight_map.contains_key(stored) && !parsed.weight_map.contains_key(second)
            })
            .collect();
        Ok(Source { path: index.to_owned(), files, weight_map: Some(parsed.weight_map), second_names })
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
            if self.weight_map.is_some() && !path.exists() {
                let there = self.files.iter().filter(|path| path.exists()).count();
                let why = format!(
                    "cannot open: no such file, although the index names it; {there} of {} shards are there: download the others",
                    self.files.len()
                );
                return Err(Error::new(Kind::Io, why).in_file(path));
            }
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
        // transformers' TensorFlow classes list variables with the scope of the model and store them without.
        let without_scope: HashMap<&str, &str> = weight_map
            .keys()
            .filter(|listed| listed.ends_with(":0"))
            .filter_map(|listed| Some((listed.split_once('/')?.1, listed.as_str())))
            .collect();
        let listed = |name: &str| match weight_map.get_key_value(name) {
            Some((listed, _)) => Some(listed.as_str()),
            None => without_scope.get(name).copied(),
        };
        let mut found = HashSet::new();
        for (path, file) in self.files.iter().zip(files) {
            let here = path.file_name().unwrap_or_default().to_string_lossy();
            for tensor in file.tensors() {
                let listed = listed(&tensor.name);
                let why = match listed.and_then(|listed| weight_map.get(listed)) {
                    Some(shard) if *shard == here => {
                        if found.insert(listed) {
                            continue;
                        }
                        "a shard holds two tensors of this name".to_owned()
                    }
                    Some(shard) => format!("the index says that it is in {shard}"),
                    None => "the index does not list it".to_owned(),
                };
                return Err(Error::new(Kind::Model, why).in_tensor(&tensor.name).in_file(path));
            }
        }
        match weight_map.iter().find(|(name, _)| !found.contains(&Some(name.as_str()))) {
            None => Ok(()),
            Some((name, shard)) => {
                let why = format!("not in {shard}, where the index says that it is");
                Err(Error::new(Kind::Model, why).in_tensor(name).in_file(&self.path))
            }
        }
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

/// The index beside a shard that lists it, whatever the index is called.
pub(crate) fn index_of(shard: &Path) -> Option<PathBuf> {
    const MOST: usize = 2_000;
    let folder = shard.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let names = fs::read_dir(folder).ok()?.flatten().take(MOST).map(|entry| entry.file_name());
    let mut indices: Vec<_> = names.filter(|name| is_index(&name.to_string_lossy())).collect();
    indices.sort();
    let lists = |path: &PathBuf| {
        Source::from_index(path)
            .is_ok_and(|source| source.files.iter().any(|file| file.file_name() == shard.file_name()))
    };
    indices.into_iter().map(|name| shard.with_file_name(name)).find(lists)
}

/// Whether the file of this name is a part of a model, and not a shard that is all of it.
pub fn is_one_of_several(path: &str) -> bool {
    is_shard(path) && !path.contains("-of-00001.")
}

/// Whether the file of this name is a shard: `model-00001-of-00003.safetensors`.
pub fn is_shard(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let digits = |text: Option<&str>| {
        text.is_some_and(|text| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    name.split_once("-of-").is_some_and(|(before, after)| {
        digits(before.rsplit_once('-').map(|(_, number)| number)) && digits(after.get(..5))
    })
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
    fn shards_are_told_by_their_names() {
        assert!(is_shard("a/model-00001-of-00003.safetensors") && is_shard("tf_model-00002-of-00002.h5"));
        assert!(!is_shard("model-of-00001.bin") && !is_shard("part-1-of-2.bin"));
        assert!(
            is_one_of_several("model-00001-of-00003.bin") && !is_one_of_several("model-00001-of-00001.bin")
        );
    }
}
