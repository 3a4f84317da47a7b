//! ONNX: a protobuf message that holds a computation and its weights, or says in which files beside it they are.
//!
//! `prost` decodes the message over the memory map without copying tensor data; `wire.rs` has counted before what
//! there is to decode. Graphs in attributes (branches, loops) are decoded and not looked into: their initializers are
//! no parameters.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::{Extra, TensorFile};
use crate::confinement::require_inside;
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::tensor::TensorInfo;
use external::Externals;
use tensor::Data;

mod attribute;
mod external;
mod float8;
mod kind;
mod order;
pub(crate) mod packed;
mod plan;
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod proto;
mod rewrite;
mod tensor;
mod types;
mod wire;

pub(crate) use attribute::{Attribute, attribute};
pub use float8::Float8;
pub use kind::{GraphKind, Half, Numbers, moves};
pub(crate) use kind::{has_few_bits, is_matrix, rounds_in_blocks};
pub(crate) use order::put_in_order;
pub use plan::{LARGEST_MESSAGE, OnnxPlan, plan};
pub(crate) use plan::{data_type, plan_external, small_tensor};
use proto::attribute_proto::AttributeType;
use proto::tensor_proto::DataType;
use proto::{GraphProto, ModelProto, NodeProto, TensorProto};
pub use rewrite::{encoded, put_floats};
pub use types::Types;

/// An ONNX file opened for reading.
pub struct OnnxFile {
    path: PathBuf,
    tensors: Vec<TensorInfo>,
    data: Vec<Data>,
    /// What the file declares the tensors as, which may be read as a wider dtype.
    declared: Vec<DataType>,
    graph: GraphProto,
    opset: i64,
    metadata: Vec<(String, String)>,
    extras: Vec<Extra>,
    external: Vec<(String, Arc<Mapped>)>,
}

impl OnnxFile {
    /// The files beside the model that hold tensors of it, as the model names them.
    pub fn external_files(&self) -> impl Iterator<Item = &str> {
        self.external.iter().map(|(name, _)| name.as_str())
    }
}

/// Opens an ONNX file, and the files beside it that hold its tensors.
///
/// The tensors are the initializers and the floating-point constants of more than one element, in this order.
///
/// # Errors
/// What is no protobuf message or has no graph; nesting and numbers beyond any model's; two tensors of one name; a
/// value that is used before it is made, as in every cycle; data that does not fit its shape; external data outside
/// the model's folder.
pub fn open(file: Mapped) -> Result<OnnxFile> {
    let folder = file.path().parent().unwrap_or(Path::new("")).to_owned();
    open_with(file, &|location| {
        let path = folder.join(location);
        require_inside(&folder, &path)?;
        Mapped::open(&path)
    })
}

/// As [`open`], with the external files from `external`, which is given locations that do not leave the folder.
///
/// # Errors
/// As [`open`].
pub fn open_with(file: Mapped, external: &dyn Fn(&Path) -> Result<Mapped>) -> Result<OnnxFile> {
    let path = file.path().to_owned();
    read(file, external).map_err(|error| error.in_file(&path))
}

/// Whether the bytes start as a model does: with its version, or with its graph.
///
/// Every exporter writes `ir_version` first: a small number as field 1. What follows must be a field of a model.
/// TensorFlow's `saved_model.pb` starts in the same way; where a model has the name of its producer it has a message.
pub fn sniff(bytes: &[u8]) -> bool {
    const PRODUCER: u8 = 0x12;
    const DOMAIN_TO_METADATA: [u8; 6] = [0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42];
    match bytes {
        [0x08, 1..=99, PRODUCER, 0, ..] => true,
        [0x08, 1..=99, PRODUCER, length_and_name @ ..] => {
            let name = length_and_name.iter().skip_while(|byte| **byte >= 0x80).nth(1);
            name.is_none_or(|first| *first >= b' ')
        }
        [0x08, 1..=99, next, ..] => DOMAIN_TO_METADATA.contains(next),
        _ => false,
    }
}

fn read(file: Mapped, external: &dyn Fn(&Path) -> Result<Mapped>) -> Result<OnnxFile> {
    wire::survey(&file)?;
    let path = file.path().to_owned();
    let model = ModelProto::decode(Bytes::from_owner(file))
        .map_err(|error| Error::malformed(format!("not an ONNX model: {error}")).caused_by(error))?;
    of_model(model, path, external)
}

/// A model in memory as the file at `path`, in whose folder its external data are, that it was made of.
///
/// # Errors
/// As [`open`].
pub fn from_model(model: ModelProto, path: &Path) -> Result<OnnxFile> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let external = |location: &Path| {
        let path = folder.join(location);
        require_inside(folder, &path)?;
        Mapped::open(&path)
    };
    of_model(model, path.to_owned(), &external).map_err(|error| error.in_file(path))
}

fn of_model(
    model: ModelProto,
    path: PathBuf,
    external: &dyn Fn(&Path) -> Result<Mapped>,
) -> Result<OnnxFile> {
    let mut graph = model.graph.ok_or_else(|| Error::malformed("an ONNX model without a graph"))?;
    if let Some(sparse) = graph.sparse_initializer.first() {
        let name = sparse.values.as_ref().map(TensorProto::name).unwrap_or_default();
        return Err(Error::unsupported("sparse tensors are no parameters of this model").in_tensor(name));
    }
    put_in_order(&mut graph)?;
    let mut declared = std::mem::take(&mut graph.initializer);
    let initializers = declared.len();
    declared.extend(graph.node.iter_mut().filter_map(constant));
    check_names(&graph, declared.iter().take(initializers))?;

    let mut externals = Externals::new(external);
    let (mut tensors, mut data) = (Vec::with_capacity(declared.len()), Vec::with_capacity(declared.len()));
    let types =
        declared.iter().map(|tensor| DataType::try_from(tensor.data_type()).unwrap_or_default()).collect();
    for tensor in declared {
        let name = tensor.name().to_owned();
        let (info, bytes) = tensor::read(tensor, &mut externals).map_err(|error| error.in_tensor(&name))?;
        tensors.push(info);
        data.push(bytes);
    }
    let metadata: Vec<(String, String)> =
        model.metadata_props.iter().map(|entry| (entry.key().to_owned(), entry.value().to_owned())).collect();
    let own = model.opset_import.iter().find(|entry| matches!(entry.domain(), "" | "ai.onnx"));
    let opset = own.map_or(0, |entry| entry.version());
    let extras = metadata
        .iter()
        .map(|(key, value)| Extra {
            name: format!("metadata_props.{key}"),
            what: format!("text of {} bytes", value.len()),
        })
        .collect();
    Ok(OnnxFile {
        path,
        tensors,
        data,
        declared: types,
        graph,
        opset,
        metadata,
        extras,
        external: externals.into_files(),
    })
}

impl OnnxFile {
    /// The files that tensors are in, by the names that the model gives them.
    pub fn external(&self) -> &[(String, Arc<Mapped>)] {
        &self.external
    }

    /// What the file declares its tensors as, in their order. Those of few bits and the unsigned ones that no checkpoint has
    /// are read as the next wider dtype.
    pub fn declared(&self) -> &[DataType] {
        &self.declared
    }

    /// The version of ONNX's own operators.
    pub fn opset(&self) -> i64 {
        self.opset
    }
}

/// Takes the tensor out of a constant node, under the name of its output, if it may be a parameter.
fn constant(node: &mut NodeProto) -> Option<TensorProto> {
    if node.op_type() != "Constant" {
        return None;
    }
    let name = node.output.first()?.clone();
    let attribute =
        node.attribute.iter_mut().find(|attribute| attribute.r#type() == AttributeType::Tensor)?;
    let tensor = attribute.t.as_ref()?;
    let elements: i64 = tensor.dims.iter().fold(1, |product: i64, &dim| product.saturating_mul(dim));
    if !tensor::is_float(tensor) || elements == 1 {
        return None;
    }
    let mut tensor = attribute.t.take()?;
    tensor.name = Some(name);
    Some(tensor)
}

/// Every value must be made once.
fn check_names<'a>(graph: &'a GraphProto, initializers: impl Iterator<Item = &'a TensorProto>) -> Result<()> {
    let mut known: HashSet<&str> = HashSet::new();
    for tensor in initializers {
        if !known.insert(tensor.name()) {
            return Err(Error::malformed("two tensors of this name").in_tensor(tensor.name()));
        }
    }
    // Before version 4 of the format, initializers are inputs, too.
    let mut inputs = HashSet::new();
    if let Some(input) = graph.input.iter().find(|input| !inputs.insert(input.name())) {
        return Err(Error::malformed(format!("two inputs \"{}\"", input.name())));
    }
    known.extend(inputs);
    for node in &graph.node {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if !known.insert(name) {
                return Err(Error::malformed(format!(
                    "node \"{}\" ({}) makes \"{name}\", which exists already",
                    node.name(),
                    node.op_type()
                )));
            }
        }
    }
    let mut outputs = HashSet::new();
    for output in graph.output.iter().map(|output| output.name()) {
        if !known.contains(output) {
            return Err(Error::malformed(format!("nothing makes the output \"{output}\"")));
        }
        if !outputs.insert(output) {
            return Err(Error::malformed(format!("two outputs \"{output}\"")));
        }
    }
    Ok(())
}

impl TensorFile for OnnxFile {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let data = self.data.get(index).map(Data::bytes);
        data.ok_or_else(|| Error::malformed(format!("no tensor number {index}")).in_file(&self.path))
    }

    fn extras(&self) -> &[Extra] {
        &self.extras
    }

    fn graph(&self) -> Option<&GraphProto> {
        Some(&self.graph)
    }

    fn graph_kind(&self) -> Option<GraphKind> {
        Types::infer(self).ok().map(|types| GraphKind::of(self, &types))
    }

    fn metadata(&self) -> &[(String, String)] {
        &self.metadata
    }
}

#[cfg(test)]
mod lies;
