//! What a folder has in the place of weights under their usual names.

use std::collections::VecDeque;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::{by_bytes, by_folder, by_name};
use crate::confinement::require_inside;
use crate::error::Printable;
use crate::format::{Format, sniff};
use crate::opening::open;
use crate::source::{is_index, is_one_of_several};

/// The deepest folder that is looked into for weights, the named one being 0.
const DEEPEST: usize = 3;

/// The most entries that are looked at, and the most that are named.
const MOST: usize = 2_000;
const NAMED: usize = 6;

/// What weights may be called.
const WEIGHTS: [&str; 8] = ["safetensors", "bin", "pt", "pth", "ckpt", "h5", "hdf5", "onnx"];

/// What there is in a folder, in words that follow a semicolon; nothing if there is nothing to name.
pub(crate) fn instead_of_weights(folder: &Path) -> String {
    let files = files_of(folder, DEEPEST, MOST);
    let within = folder.file_name().map_or(String::new(), |name| format!("{}/", name.to_string_lossy()));
    let mut found: Vec<String> = Vec::new();
    let mut leads: Vec<(&str, &str)> = Vec::new();
    // Folders of shards without an index.
    let mut lost: Vec<&str> = Vec::new();
    for name in &files {
        let foreign = by_folder(&format!("{within}{name}")).or_else(|| by_name(name));
        if foreign.is_none() && is_index(name) {
            found.push(format!("{} (the index of shards: name it)", Printable(name)));
            continue;
        }
        if foreign.is_none() && is_one_of_several(name) {
            let folder = folder_of(name);
            let has_index = files.iter().any(|file| is_index(file) && folder_of(file) == folder);
            if !has_index && !lost.contains(&folder) {
                let what =
                    "one of several shards, whose index (*.index.json) is not beside them: download it, too";
                found.push(format!("{} ({what})", Printable(name)));
                lost.push(folder);
            }
            continue;
        }
        let by_bytes_of = || by_bytes(&start(&folder.join(name)));
        let readable = readable(folder, name);
        match (readable, foreign.or_else(|| is_weights(name).then(by_bytes_of).flatten())) {
            (_, Some(container)) => {
                if !leads.contains(&(container.name, container.lead)) {
                    found.push(format!("{} ({})", Printable(name), container.name));
                    leads.push((container.name, container.lead));
                }
            }
            (Some(format), None) => found.push(format!("{} ({format}: name it)", Printable(name))),
            (None, None) if is_weights(name) && !is_of_training(name) => {
                let is_empty = fs::metadata(folder.join(name)).is_ok_and(|metadata| metadata.len() == 0);
                let what = if is_empty { "empty" } else { "of no format that is read here" };
                found.push(format!("{} ({what})", Printable(name)));
            }
            (None, None) => {}
        }
    }
    if found.is_empty() {
        found = files.iter().map(|name| Printable(name).to_string()).collect();
    }
    if found.is_empty() {
        return "; there is no file in it".to_owned();
    }
    let more = found.len().saturating_sub(NAMED);
    found.truncate(NAMED);
    let mut text = format!("; there is {}", found.join(", "));
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    for (name, lead) in leads.iter().take(NAMED) {
        text.push_str(&format!("; {name}: {lead}"));
    }
    text
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The format of a weight file, if it is one that is read here, by its name and its bytes.
fn readable(folder: &Path, name: &str) -> Option<Format> {
    if is_of_training(name) || !(is_weights(name) || has_no_extension(name)) {
        return None;
    }
    let format = sniff(&start(&folder.join(name))).ok()?;
    // Many files start as a graph may.
    (is_weights(name) || format != Format::Onnx).then_some(format)
}

/// Whether a file is what a training leaves beside a model, which is PyTorch's, too.
fn is_of_training(name: &str) -> bool {
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    let others =
        ["optimizer", "scheduler", "scaler", "rng_state", "random_states", "training_args", "adapter_"];
    others.iter().any(|other| file.starts_with(other))
}

fn is_weights(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| WEIGHTS.contains(&extension.to_lowercase().as_str()))
}

/// `state_dict`, `pytorch_model.bin.1`.
fn has_no_extension(name: &str) -> bool {
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    file.rsplit_once('.').is_none_or(|(_, extension)| extension.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The first kilobyte of a regular file.
fn start(path: &Path) -> Vec<u8> {
    let mut start = Vec::new();
    let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    if let Some(file) = is_file.then(|| open(path).ok()).flatten() {
        // What cannot be read has no start.
        let _ = file.take(1024).read_to_end(&mut start);
    }
    start
}

/// The files in a folder and in folders of it, the nearest first, in the order of names. Links are
/// followed to files of the folder alone, and none to a folder.
pub(crate) fn files_of(root: &Path, deepest: usize, most: usize) -> Vec<String> {
    let mut files = Vec::new();
    let mut ahead = VecDeque::from([(String::new(), 0)]);
    let mut left = most;
    while let Some((prefix, depth)) = ahead.pop_front() {
        let Ok(entries) = fs::read_dir(root.join(&prefix)) else { continue };
        let mut entries: Vec<_> = entries.flatten().take(left).collect();
        left -= entries.len();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < deepest => {
                    ahead.push_back((format!("{name}/"), depth + 1))
                }
                Ok(kind) if kind.is_file() => files.push(name),
                Ok(kind) if kind.is_symlink() && is_file_inside(root, &entry.path()) => files.push(name),
                _ => {}
            }
        }
    }
    files
}

fn is_file_inside(root: &Path, path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) && require_inside(root, path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_under_other_names_and_containers_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        assert_eq!(instead_of_weights(folder.path()), "; there is no file in it");
        write("config.json", b"{}");
        write("optimizer.pt", b"PK\x03\x04");
        assert_eq!(instead_of_weights(folder.path()), "; there is config.json, optimizer.pt");
        write("a/state_dict", b"PK\x03\x04");
        write("a/spm.model", b"\x08\x07");
        write("a/weights.bin", b"text");
        write("a/empty.onnx", b"");
        assert_eq!(
            instead_of_weights(&folder.path().join("a")),
            "; there is empty.onnx (empty), state_dict (PyTorch: name it), weights.bin (of no format that is read here)"
        );
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        write("model.pt", b"PK\x03\x04");
        write("0_Transformer/model.safetensors", b"\x10\0\0\0\0\0\0\0{\"a\":");
        write("flax_model.msgpack", b"x");
        write("download.bin", b"<html>");
        let text = instead_of_weights(folder.path());
        assert!(
            text.starts_with(
                "; there is download.bin (a web page, not a model), flax_model.msgpack (Flax), model.pt (PyTorch: name it), \
                 0_Transformer/model.safetensors (safetensors: name it); a web page, not a model: the download went wrong"
            ),
            "{text}"
        );
    }

    #[test]
    fn checkpoints_of_tensorflow_are_told_by_their_data_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("variables")).unwrap();
        fs::write(folder.path().join("variables/variables.data-00000-of-00001"), b"x").unwrap();
        let text = instead_of_weights(folder.path());
        assert!(text.contains("data-00000-of-00001 (TensorFlow (SavedModel"), "{text}");
        let text = instead_of_weights(&folder.path().join("variables"));
        assert!(text.contains("data-00000-of-00001 (TensorFlow (SavedModel"), "{text}");
        fs::remove_dir_all(folder.path().join("variables")).unwrap();
        fs::write(folder.path().join("tf_model.data-00000-of-00001"), b"x").unwrap();
        let text = instead_of_weights(folder.path());
        assert!(text.contains("there is tf_model.data-00000-of-00001 (TensorFlow's checkpoints)"), "{text}");
    }

    #[test]
    fn shards_without_their_index_are_named_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        let text = instead_of_weights(folder.path());
        let why = "model-00001-of-00002.safetensors (one of several shards, whose index (*.index.json) is not beside them";
        assert!(text.contains(why) && !text.contains("model-00002"), "{text}");
        fs::write(folder.path().join("model.safetensors.index.fp16.json"), b"x").unwrap();
        let text = instead_of_weights(folder.path());
        assert_eq!(text, "; there is model.safetensors.index.fp16.json (the index of shards: name it)");
    }
}
