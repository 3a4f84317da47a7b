//! Where a model comes from: a file, a shard index, a folder, or the hub; and the configuration beside it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use deberta_reference::DebertaConfig;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::confinement::require_inside;
use crate::error::{Error, Kind, Result};
use crate::format::{TensorFile, keras, onnx, safetensors, torch};
pub use crate::hub::{hub_id, resolve};
use crate::mapped::Mapped;

/// The formats that weights come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `pytorch_model.bin`.
    PyTorch,
    /// `tf_model.h5`.
    TensorFlow,
    /// `model.safetensors`.
    Safetensors,
    /// `model.onnx`.
    Onnx,
}

impl Format {
    /// All formats, the preferred source first.
    pub const ALL: [Format; 4] = [Format::Safetensors, Format::PyTorch, Format::TensorFlow, Format::Onnx];

    /// The file name that transformers looks for.
    pub fn file_name(self) -> &'static str {
        match self {
            Format::PyTorch => "pytorch_model.bin",
            Format::TensorFlow => "tf_model.h5",
            Format::Safetensors => "model.safetensors",
            Format::Onnx => "model.onnx",
        }
    }

    /// The name of the index of a sharded checkpoint.
    pub fn index_name(self) -> String {
        format!("{}.index.json", self.file_name())
    }

    /// Where a folder may have weights of this format, the likeliest place first: the file, the index of its shards,
    /// or for ONNX the folder that Optimum exports to.
    pub fn places(self) -> [String; 2] {
        let file = self.file_name();
        let other = if self == Format::Onnx { format!("onnx/{file}") } else { self.index_name() };
        [file.to_owned(), other]
    }

    /// The name of one of several shards, counted from 1.
    pub fn shard_name(self, number: usize, of: usize) -> String {
        let name = self.file_name();
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        format!("{stem}-{number:05}-of-{of:05}.{extension}")
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::PyTorch => "PyTorch",
            Format::TensorFlow => "TensorFlow",
            Format::Safetensors => "safetensors",
            Format::Onnx => "ONNX",
        })
    }
}

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

/// The largest configuration or shard index that is read.
const LARGEST_JSON: u64 = 4 << 20;

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
        if input.to_string_lossy().ends_with(".index.json") {
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
                match weight_map.get(&tensor.name) {
                    Some(shard) if *shard == here => found += 1,
                    Some(shard) => {
                        let why = format!("the index says that it is in {shard}");
                        return Err(Error::new(Kind::Model, why).in_tensor(&tensor.name).in_file(path));
                    }
                    None => {
                        let why = "the index does not list it";
                        return Err(Error::new(Kind::Model, why).in_tensor(&tensor.name).in_file(path));
                    }
                }
            }
        }
        if found == weight_map.len() {
            return Ok(());
        }
        let all: std::collections::HashSet<&str> =
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

/// Opens a weight file by what its first bytes say it is, whatever its name.
///
/// # Errors
/// What is no weight file, with the name of what it looks like; whatever its reader finds wrong.
pub fn open_file(file: Mapped) -> Result<(Format, Box<dyn TensorFile>)> {
    let path = file.path().to_owned();
    match sniff(&file).map_err(|error| error.in_file(&path))? {
        Format::PyTorch => Ok((Format::PyTorch, Box::new(torch::open(file)?))),
        Format::TensorFlow => Ok((Format::TensorFlow, Box::new(keras::open(file)?))),
        Format::Safetensors => Ok((Format::Safetensors, Box::new(safetensors::open(file)?))),
        Format::Onnx => Ok((Format::Onnx, Box::new(onnx::open(file)?))),
    }
}

/// The format of a file by its first bytes.
pub fn sniff(bytes: &[u8]) -> Result<Format> {
    const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";
    if bytes.is_empty() {
        return Err(Error::malformed("the file is empty"));
    }
    // First, since the length that a safetensors file starts with may look like the start of a pickle.
    if matches!(bytes, [_, _, _, _, _, _, 0, 0, b'{', ..]) {
        return Ok(Format::Safetensors);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") || bytes.starts_with(b"\x80") {
        return Ok(Format::PyTorch);
    }
    // An HDF5 file may start after a user block of 512 bytes or a power of two times that.
    let blocks = std::iter::successors(Some(512_usize), |offset| offset.checked_mul(2)).take(8);
    if std::iter::once(0)
        .chain(blocks)
        .any(|offset| bytes.get(offset..).is_some_and(|rest| rest.starts_with(HDF5)))
    {
        return Ok(Format::TensorFlow);
    }
    if onnx::sniff(bytes) {
        return Ok(Format::Onnx);
    }
    Err(recognise(bytes).unwrap_or_else(|| {
        let start: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Error::unsupported(format!(
            "neither PyTorch, nor HDF5, nor safetensors, nor ONNX: the file starts with {} (truncated, or another format?)",
            start.join(" ")
        ))
    }))
}

/// Names files that are often found where weights should be.
fn recognise(bytes: &[u8]) -> Option<Error> {
    let start = String::from_utf8_lossy(bytes.get(..512).unwrap_or(bytes)).trim_start().to_lowercase();
    let what = if start.starts_with("version https://git-lfs") {
        "a git-LFS pointer, not the file itself: run `git lfs pull`, or download the file"
    } else if start.starts_with("<!doctype html") || start.starts_with("<html") || start.starts_with("<?xml")
    {
        "a web page, not a model: the download went wrong"
    } else if start.starts_with('{') || start.starts_with('[') {
        "JSON text, not weights (a shard index must end in .index.json)"
    } else if bytes.starts_with(&[0x1f, 0x8b]) {
        "gzip data: unpack it first"
    } else if bytes.get(257..262) == Some(b"ustar") {
        "a tar archive: unpack it first (a .tar checkpoint of PyTorch before 0.1.10 must be saved again)"
    } else {
        return None;
    };
    Some(Error::unsupported(what))
}

/// A configuration file, as it was read and as it is understood.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// Where it was found.
    pub path: PathBuf,
    /// Its text, unchanged.
    pub text: String,
    /// Its keys and values.
    pub map: Map<String, Value>,
    /// What they mean.
    pub config: DebertaConfig,
}

impl ConfigFile {
    /// Reads the configuration at `given`, or else the one beside the weights: `config.json`, or Microsoft's
    /// `model_config.json`; for weights in a folder `onnx` also the one beside that folder; or else the one that the
    /// weight file holds, given with its name.
    ///
    /// # Errors
    /// None found; not JSON; not a configuration of DeBERTa v1.
    pub fn find(given: Option<&Path>, folder: &Path, held: Option<(&Path, &str)>) -> Result<ConfigFile> {
        let names = ["config.json", "model_config.json"];
        let candidates = names.map(|name| folder.join(name));
        let above = folder.parent().filter(|_| folder.ends_with("onnx"));
        let above: Vec<PathBuf> =
            above.into_iter().flat_map(|above| names.map(|name| above.join(name))).collect();
        let beside = candidates.iter().chain(&above).find(|path| path.exists()).map(PathBuf::as_path);
        match (given.or(beside), held) {
            (Some(path), _) => ConfigFile::read(path),
            (None, Some((path, text))) => ConfigFile::parse(path, text.to_owned()),
            (None, None) => {
                let [first, _] = candidates;
                let why = "not found: the model's configuration must be beside the weights, or be given by --config";
                Err(Error::new(Kind::Config, why).in_file(&first))
            }
        }
    }

    /// Reads the configuration at `path`.
    pub fn read(path: &Path) -> Result<ConfigFile> {
        ConfigFile::parse(path, read_text(path)?)
    }

    /// A configuration from its text. `path` is for messages.
    pub fn parse(path: &Path, text: String) -> Result<ConfigFile> {
        let wrong = |message: String| Error::new(Kind::Config, message).in_file(path);
        let map: Map<String, Value> = serde_json::from_str(&text).map_err(|error| {
            not_json(&text, || wrong(format!("not a JSON object: {error}"))).in_file(path)
        })?;
        let config = DebertaConfig::from_map(&map).map_err(|error| wrong(error.to_string()))?;
        Ok(ConfigFile { path: path.to_owned(), text, map, config })
    }

    /// Whether the file is in Hugging Face's keys, so that transformers reads it as it is.
    pub fn is_hugging_face(&self) -> bool {
        self.map.get("model_type").is_some_and(|model_type| model_type == "deberta")
    }
}

/// What a text is that should have been JSON: something well known, or else `otherwise`.
fn not_json(text: &str, otherwise: impl FnOnce() -> Error) -> Error {
    if text.trim_start().starts_with(['{', '[']) {
        return otherwise();
    }
    recognise(text.as_bytes()).unwrap_or_else(otherwise)
}

/// Reads a small text file, refusing what is not a regular file or is absurdly large.
fn read_text(path: &Path) -> Result<String> {
    let metadata = fs::metadata(path).map_err(|error| Error::io(path, "open", error))?;
    if !metadata.is_file() {
        return Err(Error::unsupported("not a regular file").in_file(path));
    }
    if metadata.len() > LARGEST_JSON {
        return Err(Error::malformed(format!("{} bytes, at most {LARGEST_JSON} are read", metadata.len()))
            .in_file(path));
    }
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| Error::io(path, "open", error))?;
    file.take(LARGEST_JSON)
        .read_to_string(&mut text)
        .map_err(|error| Error::io(path, "read as text", error))?;
    Ok(text)
}

/// A map in which a repeated key is an error instead of a silent choice.
fn unique_keys<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    struct Unique;
    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object from tensor names to shard names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((name, shard)) = access.next_entry::<String, String>()? {
                if map.contains_key(&name) {
                    return Err(serde::de::Error::custom(format!("tensor \"{name}\" is listed twice")));
                }
                map.insert(name, shard);
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(Unique)
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

    fn index(text: &str) -> Result<Source> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors.index.json");
        fs::write(&path, text).unwrap();
        Source::locate(&path, None, None)
    }

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        assert_eq!(sniff(b"PK\x03\x04....").unwrap(), Format::PyTorch);
        assert_eq!(sniff(b"\x80\x02\x8a\x0a").unwrap(), Format::PyTorch);
        assert_eq!(sniff(b"\x89HDF\r\n\x1a\n....").unwrap(), Format::TensorFlow);
        assert_eq!(
            sniff(&[vec![0; 512], b"\x89HDF\r\n\x1a\n".to_vec()].concat()).unwrap(),
            Format::TensorFlow
        );
        assert_eq!(sniff(b"\x10\0\0\0\0\0\0\0{\"a\":...").unwrap(), Format::Safetensors);
        // A header of 0x280 bytes starts like a pickle of protocol 2.
        assert_eq!(sniff(b"\x80\x02\0\0\0\0\0\0{\"a\":...").unwrap(), Format::Safetensors);
    }

    #[test]
    fn what_is_found_in_the_place_of_weights_is_named() {
        let message = |bytes: &[u8]| sniff(bytes).unwrap_err().to_string();
        assert!(
            message(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n").contains("git lfs pull")
        );
        assert!(message(b"\n<!DOCTYPE html><html>").contains("web page"));
        assert!(message(b"{\"error\": \"not found\"}").contains("JSON"));
        assert!(message(b"").contains("empty"));
        assert!(message(&[0; 100]).contains("00 00"));
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
    fn shards_are_named_as_transformers_names_them() {
        assert_eq!(Format::PyTorch.shard_name(1, 12), "pytorch_model-00001-of-00012.bin");
        assert_eq!(Format::Safetensors.shard_name(12, 12), "model-00012-of-00012.safetensors");
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
