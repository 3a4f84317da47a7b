//! Keras HDF5 checkpoints: `tf_model.h5` as tf-keras and transformers write it. See `docs/formats/keras.md`.
//!
//! ```text
//! reader                      the tensors that Keras lists, and those that were kept aside
//!    contents  source           groups, datasets and lists of names, parsed by hdf5-pure behind a meter
//!    dataset                    what a dataset declares, checked against the file
//!    stored  chunked  filters   where its bytes are in the memory map, and unpacking them
//!    disjoint                   no two tensors have the same bytes
//! plan                        the small part of HDF5 that Keras needs
//!    tree                       the groups of the new file
//!    header  attributes         objects, byte by byte
//!    lookup3                    the checksum of all metadata
//! ```

mod attributes;
mod chunked;
mod contents;
mod dataset;
mod disjoint;
mod filters;
mod header;
mod lookup3;
mod plan;
mod reader;
mod source;
mod stored;
mod tree;

pub use plan::{KerasPlan, plan};
pub use reader::{KerasFile, open, sniff};

/// The top-level group in which this toolkit keeps tensors that Keras cannot hold: no attribute lists them, so TensorFlow
/// never sees them, and [`open`] returns them all the same.
pub const KEPT_ASIDE: &str = "deberta_kept_aside";

/// The attribute of the root that lists the layers.
const LAYER_NAMES: &str = "layer_names";

/// The attribute of a layer that lists its weights.
const WEIGHT_NAMES: &str = "weight_names";

/// The group for weights that belong to no layer. Keras always writes it, nearly always empty.
const TOP_LEVEL: &str = "top_level_model_weights";

/// Most bytes that Keras puts into one attribute (`HDF5_OBJECT_HEADER_LIMIT` in tf-keras); longer lists of
/// names are split over `layer_names0`, `layer_names1`, ….
const LONGEST_ATTRIBUTE: usize = 64_512;

/// Deepest path of a dataset, in components.
const DEEPEST: usize = 32;
