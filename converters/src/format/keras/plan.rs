//! Where everything goes in a Keras file that is about to be written.

use std::collections::HashMap;

use super::header::{self, SUPERBLOCK_LEN};
use super::tree::{Group, Node, refusal};
use super::{LAYER_NAMES, TOP_LEVEL, WEIGHT_NAMES, attributes};
use crate::error::Result;
use crate::format::{FilePlan, Span};
use crate::tensor::TensorInfo;

/// What tf-keras 2.19 writes into `keras_version`.
const KERAS_VERSION: &str = "2.19.0";

/// Data starts at multiples of this, so that a reader that maps the file finds it aligned.
const ALIGNMENT: u64 = 64;

/// The layout of a Keras file: all metadata, then the data of every tensor.
#[derive(Debug)]
pub struct KerasPlan {
    root: Group,
    tensors: Vec<TensorInfo>,
    offsets: Vec<u64>,
    file_len: u64,
}

/// Plans a file of `tensors`, whose names are paths of datasets: `deberta/…/embeddings/weight:0`.
///
/// The first component of a name is a layer of `layers`, whose `weight_names` then lists the tensor, or the name
/// of a group that no attribute lists, such as [`KEPT_ASIDE`](super::KEPT_ASIDE).
///
/// # Errors
///
/// A name that cannot be a path, that is there twice, or that leads through another tensor; a dtype that Keras
/// cannot hold.
pub fn plan(layers: &[String], tensors: &[TensorInfo]) -> Result<KerasPlan> {
    let root = tree(layers, tensors)?;
    // The length of the metadata does not depend on the addresses in it.
    let metadata_len = metadata(&root, tensors, &vec![0; tensors.len()], 0)?.len() as u64;
    let mut end = metadata_len;
    let mut offsets = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let start = end.checked_next_multiple_of(ALIGNMENT);
        let after = start.and_then(|start| start.checked_add(tensor.byte_len().ok()? as u64));
        let (Some(start), Some(after)) = (start, after) else {
            return Err(refusal("the file would be longer than 2^64 bytes").in_tensor(&tensor.name));
        };
        offsets.push(start);
        end = after;
    }
    Ok(KerasPlan { root, tensors: tensors.to_vec(), offsets, file_len: end })
}

impl FilePlan for KerasPlan {
    fn file_len(&self) -> u64 {
        self.file_len
    }

    fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    fn seal(&self, _crc32: &[u32]) -> Result<Vec<Span>> {
        let bytes = metadata(&self.root, &self.tensors, &self.offsets, self.file_len)?;
        Ok(vec![Span { offset: 0, bytes }])
    }
}

/// The groups of the file, with every tensor in its place.
fn tree(layers: &[String], tensors: &[TensorInfo]) -> Result<Group> {
    let mut weights: HashMap<&str, Vec<String>> = HashMap::new();
    for layer in layers {
        if layer == TOP_LEVEL || layer.contains('/') || weights.insert(layer, Vec::new()).is_some() {
            return Err(refusal(format!("\"{layer}\" cannot be the name of one layer among others")));
        }
    }
    weights.insert(TOP_LEVEL, Vec::new());
    for tensor in tensors {
        if let Some((layer, weight)) = tensor.name.split_once('/')
            && let Some(weights) = weights.get_mut(layer)
        {
            weights.push(weight.to_owned());
        }
    }
    let mut root = Group::listing(LAYER_NAMES, layers.to_vec());
    for (layer, weights) in weights {
        root.children.insert(layer.to_owned(), Node::Group(Group::listing(WEIGHT_NAMES, weights)));
    }
    for (index, tensor) in tensors.iter().enumerate() {
        root.insert(&tensor.name, index).map_err(|error| error.in_tensor(&tensor.name))?;
    }
    Ok(root)
}

/// The superblock and the headers of all groups and datasets: the first bytes of the file.
fn metadata(root: &Group, tensors: &[TensorInfo], offsets: &[u64], file_len: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; SUPERBLOCK_LEN];
    let mut attributes = vec![
        header::text_attribute("backend", "tensorflow")?,
        header::text_attribute("keras_version", KERAS_VERSION)?,
    ];
    attributes.extend(names(root)?);
    let root = write_group(root, attributes, tensors, offsets, &mut bytes)?;
    let superblock = header::superblock(file_len, root);
    bytes.splice(..SUPERBLOCK_LEN, superblock);
    Ok(bytes)
}

/// Appends the headers of everything in `group`, then its own. Returns the address of the latter.
fn write_group(
    group: &Group,
    attributes: Vec<header::Message>,
    tensors: &[TensorInfo],
    offsets: &[u64],
    bytes: &mut Vec<u8>,
) -> Result<u64> {
    let mut messages = Vec::from(header::group());
    for (name, node) in &group.children {
        let address = match node {
            Node::Group(child) => write_group(child, names(child)?, tensors, offsets, bytes)?,
            Node::Dataset(index) => {
                append(bytes, &header::object_header(&header::dataset(&tensors[*index], offsets[*index])?)?)
            }
        };
        messages.push(header::link(name, address));
    }
    messages.extend(attributes);
    Ok(append(bytes, &header::object_header(&messages)?))
}

/// The attributes that hold the names that `group` lists.
fn names(group: &Group) -> Result<Vec<header::Message>> {
    let Some(list) = &group.names else { return Ok(Vec::new()) };
    let names: Vec<&str> = list.names.iter().map(String::as_str).collect();
    attributes::list(list.attribute, &names)
}

/// Appends `header`, and returns where it starts.
fn append(bytes: &mut Vec<u8>, header: &[u8]) -> u64 {
    let address = bytes.len() as u64;
    bytes.extend(header);
    address
}
