//! The tensors of a Keras file.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::contents::Contents;
use super::dataset::describe;
use super::disjoint;
use super::stored::Stored;
use super::{KEPT_ASIDE, LAYER_NAMES, TOP_LEVEL, WEIGHT_NAMES};
use crate::error::{Error, Printable, Result};
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

/// Whether an HDF5 superblock starts where one may: at 0, 512, 1024, 2048, ….
pub fn sniff(file: &[u8]) -> bool {
    const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
    let doubling = std::iter::successors(Some(512_usize), |place| place.checked_mul(2));
    std::iter::once(0)
        .chain(doubling)
        .map_while(|place| file.get(place..))
        .any(|rest| rest.starts_with(SIGNATURE))
}

/// Opens a Keras HDF5 file: every dataset that its `layer_names` and `weight_names` list, in that order, then
/// those that were kept aside under [`KEPT_ASIDE`]. A tensor's name is the path of its dataset; the weights of a
/// model that was saved whole are named as if they had been saved alone.
///
/// # Errors
///
/// A file that is not HDF5, or HDF5 but not the weights of a Keras 2 model; names without datasets; data that is
/// outside the file, was never written, or does not fit its shape; elements that are no numbers.
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
            return Err(Error::malformed(format!("no tensor {index} among {}", self.tensors.len())));
        };
        stored.read(&self.file).map_err(|error| error.in_tensor(&tensor.name).in_file(self.file.path()))
    }

    fn extras(&self) -> &[Extra] {
        &self.extras
    }
}

fn read(file: &Arc<Mapped>) -> Result<KerasFile> {
    if !sniff(file) {
        return Err(Error::unsupported("not an HDF5 file"));
    }
    let contents = Contents::read(file)?;
    let (base, layers) = layers(&contents)?;
    let mut names = listed(&contents, base, &layers)?;
    names.extend(kept_aside(&contents));
    let mut tensors = Vec::with_capacity(names.len());
    let mut stored = Vec::with_capacity(names.len());
    let mut seen = HashSet::with_capacity(names.len());
    for (name, path) in names {
        let (info, bytes) = tensor(&contents, name, &path, file)?;
        if !seen.insert(path) {
            return Err(Error::malformed("listed twice").in_tensor(&info.name));
        }
        tensors.push(info);
        stored.push(bytes);
    }
    disjoint::check(&tensors, &stored)?;
    let extras = contents
        .datasets
        .into_keys()
        .filter(|path| !seen.contains(path))
        .map(|name| Extra { name, what: "dataset not listed in weight_names".to_owned() })
        .collect();
    Ok(KerasFile { file: Arc::clone(file), tensors, stored, extras })
}

/// The start of all paths, and the names of the layers.
fn layers(contents: &Contents) -> Result<(&'static str, Vec<String>)> {
    // A model that was saved whole keeps its weights in a group.
    for (group, base) in [("", ""), ("model_weights", "model_weights/")] {
        if let Some(layers) = contents.names(group, LAYER_NAMES)? {
            return Ok((base, layers));
        }
    }
    let keras_3 = ["layers", "_layer_checkpoint_dependencies", "vars"];
    if keras_3.iter().any(|group| contents.groups.contains_key(*group)) {
        return Err(Error::unsupported(
            "a Keras 3 weights file (it has no layer_names): save the model with Keras 2 (tf-keras) as tf_model.h5",
        ));
    }
    Err(Error::unsupported(format!(
        "an HDF5 file of {} datasets without the attribute {LAYER_NAMES}: not the weights of a Keras model",
        contents.datasets.len()
    )))
}

/// The name and the path of every dataset that the file lists.
fn listed(contents: &Contents, base: &str, layers: &[String]) -> Result<Vec<(String, String)>> {
    let mut names = Vec::new();
    let top_level = contents.groups.contains_key(&format!("{base}{TOP_LEVEL}")).then_some(TOP_LEVEL);
    for layer in layers.iter().map(String::as_str).chain(top_level) {
        let path = format!("{base}{layer}");
        if contents.datasets.contains_key(&path) {
            // A shard of a large model lists datasets where a whole file lists layers.
            names.push((layer.to_owned(), path));
            continue;
        }
        if !contents.groups.contains_key(&path) {
            return Err(Error::malformed(format!(
                "{LAYER_NAMES} lists \"{}\", but there is no such group{NOT_FOLLOWED}",
                Printable(layer)
            )));
        }
        let weights = contents.names(&path, WEIGHT_NAMES)?.ok_or_else(|| {
            Error::malformed(format!("layer \"{}\" has no attribute {WEIGHT_NAMES}", Printable(layer)))
        })?;
        names.extend(weights.iter().map(|weight| (format!("{layer}/{weight}"), format!("{path}/{weight}"))));
    }
    Ok(names)
}

const NOT_FOLLOWED: &str = " (soft and external links are not followed)";

/// The name and the path of every dataset that was kept aside.
fn kept_aside(contents: &Contents) -> impl Iterator<Item = (String, String)> {
    contents
        .datasets
        .keys()
        .filter(|path| path.strip_prefix(KEPT_ASIDE).is_some_and(|rest| rest.starts_with('/')))
        .map(|path| (path.clone(), path.clone()))
}

fn tensor(contents: &Contents, name: String, path: &str, file: &Mapped) -> Result<(TensorInfo, Stored)> {
    let described = match contents.datasets.get(path) {
        Some(dataset) => describe(dataset, file),
        None if contents.groups.contains_key(path) => {
            Err(Error::malformed("listed as a weight, but it is a group"))
        }
        None => Err(Error::malformed(format!("listed, but there is no such dataset{NOT_FOLLOWED}"))),
    };
    match described {
        Ok((dtype, shape, bytes)) => Ok((TensorInfo { name, dtype, shape }, bytes)),
        Err(error) => Err(error.in_tensor(&name)),
    }
}
