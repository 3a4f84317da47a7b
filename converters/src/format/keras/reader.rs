//! The tensors of a Keras file.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::hdf5::{self, Contents};
use super::stored::Stored;
use super::{KEPT_ASIDE, LAYER_NAMES, TOP_LEVEL, WEIGHT_NAMES};
use crate::error::{Error, Result};
use crate::format::{Extra, TensorFile};
use crate::mapped::Mapped;
use crate::tensor::TensorInfo;

/// A Keras HDF5 file, opened for reading.
#[derive(Debug)]
pub struct KerasFile {
    file: Arc<Mapped>,
    tensors: Vec<TensorInfo>,
    stored: Vec<Stored>,
    extras: Vec<Extra>,
}

/// Opens a Keras HDF5 file: every dataset that its `layer_names` and `weight_names` list, in that order, then those
/// that were kept aside under [`KEPT_ASIDE`]. A tensor's name is the path of its dataset.
///
/// # Errors
///
/// A file that is not HDF5, or HDF5 but not the weights of a Keras 2 model; names without datasets; data that is
/// outside the file, was never written, or is of a type that is no number.
pub fn open(file: Mapped) -> Result<KerasFile> {
    let file = Arc::new(file);
    read(&file).map_err(|error| error.in_file(file.path()))
}

impl TensorFile for KerasFile {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let (Some(tensor), Some(stored)) = (self.tensors.get(index), self.stored.get(index)) else {
            return Err(Error::malformed(format!("no tensor {index} of {}", self.tensors.len())));
        };
        stored.read(&self.file).map_err(|error| error.in_tensor(&tensor.name).in_file(self.file.path()))
    }

    fn extras(&self) -> &[Extra] {
        &self.extras
    }
}

fn read(file: &Arc<Mapped>) -> Result<KerasFile> {
    const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
    let starts =
        std::iter::once(0).chain(std::iter::successors(Some(512_usize), |start| start.checked_mul(2)));
    if !starts.take_while(|&start| start < file.len()).any(|start| file[start..].starts_with(SIGNATURE)) {
        return Err(Error::unsupported("not an HDF5 file"));
    }
    let contents = Contents::read(file)?;
    let (base, layers) = layers(&contents)?;
    let mut tensors = Vec::new();
    let mut stored = Vec::new();
    let mut seen = HashSet::new();
    for name in listed(&contents, &base, &layers)?.into_iter().chain(kept_aside(&contents)) {
        let path = if name.starts_with(KEPT_ASIDE) { name.clone() } else { format!("{base}{name}") };
        let dataset = contents.datasets.get(&path).ok_or_else(|| {
            Error::malformed(
                "listed, but there is no such dataset (soft and external links are not followed)",
            )
            .in_tensor(&name)
        })?;
        let (dtype, shape, bytes) = hdf5::describe(dataset, file).map_err(|error| error.in_tensor(&name))?;
        if !seen.insert(path) {
            return Err(Error::malformed("listed twice").in_tensor(&name));
        }
        tensors.push(TensorInfo { name, dtype, shape });
        stored.push(bytes);
    }
    let extras = contents
        .datasets
        .into_keys()
        .filter(|path| !seen.contains(path))
        .map(|name| Extra { name, what: "dataset not listed in weight_names".to_owned() })
        .collect();
    Ok(KerasFile { file: Arc::clone(file), tensors, stored, extras })
}

/// Where the layers are, as the start of a path, and their names.
fn layers(contents: &Contents) -> Result<(String, Vec<String>)> {
    // A model that was saved whole keeps its weights in a group of that name.
    for base in ["", "model_weights"] {
        if let Some(group) = contents.groups.get(base)
            && let Some(layers) = hdf5::names(group, LAYER_NAMES)?
        {
            return Ok((if base.is_empty() { String::new() } else { format!("{base}/") }, layers));
        }
    }
    let keras_3 = ["layers", "_layer_checkpoint_dependencies", "vars"];
    if keras_3.iter().any(|group| contents.groups.contains_key(*group)) {
        return Err(Error::unsupported(
            "a Keras 3 weights file (no layer_names): save it from Keras 2 (tf-keras) as tf_model.h5",
        ));
    }
    Err(Error::unsupported(format!(
        "an HDF5 file without the attribute {LAYER_NAMES} ({} datasets): not the weights of a Keras model",
        contents.datasets.len()
    )))
}

/// The names that the file lists, without the start of the path.
fn listed(contents: &Contents, base: &str, layers: &[String]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for layer in layers.iter().map(String::as_str) {
        let path = format!("{base}{layer}");
        if let Some(group) = contents.groups.get(&path) {
            names.extend(weights(group, layer)?);
        } else if contents.datasets.contains_key(&path) {
            // A shard of a large model lists its datasets where a whole file lists its layers.
            names.push(layer.to_owned());
        } else {
            return Err(Error::malformed(format!(
                "layer \"{}\" is listed, but there is no such group",
                layer.escape_debug()
            )));
        }
    }
    if let Some(group) = contents.groups.get(&format!("{base}{TOP_LEVEL}")) {
        names.extend(weights(group, TOP_LEVEL)?);
    }
    Ok(names)
}

fn weights(group: &hdf5_pure::Group, layer: &str) -> Result<impl Iterator<Item = String>> {
    let names = hdf5::names(group, WEIGHT_NAMES)?.ok_or_else(|| {
        Error::malformed(format!("layer \"{}\" has no attribute {WEIGHT_NAMES}", layer.escape_debug()))
    })?;
    Ok(names.into_iter().map(move |name| format!("{layer}/{name}")))
}

/// The paths of the tensors that Keras does not know about.
fn kept_aside(contents: &Contents) -> Vec<String> {
    let inside = |path: &&String| path.strip_prefix(KEPT_ASIDE).is_some_and(|rest| rest.starts_with('/'));
    contents.datasets.keys().filter(inside).cloned().collect()
}
