//! The nodes of a graph around a tensor, and what they say of it.

use std::collections::{BTreeSet, HashMap};

use super::models::Models;
use super::path::{TABLE_OF_LAYERS, local, module_of, parameter, scope, scope_of};
use crate::format::TensorFile;
use crate::format::onnx::data_type;
use crate::format::onnx::proto::{GraphProto, NodeProto};
use crate::tensor::{Dtype, TensorInfo};

/// What a tensor of a graph is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recovered {
    /// The canonical name, without the prefix of the base model; or the name that a module path suggests, which may
    /// be no parameter's. Where models are told apart, what is before the names of its model comes first.
    pub name: String,
    /// How a matrix is stored.
    pub layout: Layout,
    /// The shape, without the axes of length 1 that an exporter put around a bias or the table of relative positions.
    pub shape: Vec<usize>,
    /// The node that makes other numbers of the tensor before they are used: `/encoder/conv/Transpose (Transpose)`.
    pub altered: Option<String>,
}

impl Recovered {
    pub(super) fn new(
        name: String,
        layout: Option<Layout>,
        info: &TensorInfo,
        uses: &[Use<'_>],
    ) -> Recovered {
        let shape = match info.shape[..] {
            // A bias with axes of length 1 around its heads.
            [1, heads, 1, size] => vec![heads.saturating_mul(size)],
            [heads, 1, size] if name.ends_with("_bias") => vec![heads.saturating_mul(size)],
            // The table of relative positions as one batch.
            [1, rows, size] if name.starts_with(TABLE_OF_LAYERS) => vec![rows, size],
            _ => info.shape.clone(),
        };
        let altering = uses.iter().find(|operand| operand.alters(info.shape.len()));
        let altered = altering.map(|Use { node, .. }| format!("{} ({})", node.name(), node.op_type()));
        Recovered { name, layout: layout.unwrap_or(Layout::Unknown), shape, altered }
    }
}

/// How a graph stores a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// In the canonical layout, `[out, in]` for a linear layer.
    Canonical,
    /// Transposed.
    Transposed,
    /// No node says it, or two nodes disagree.
    Unknown,
}

impl Layout {
    fn of(transposed: bool) -> Layout {
        if transposed { Layout::Transposed } else { Layout::Canonical }
    }

    /// What both say; what one says if the other says nothing.
    fn and(self, other: Option<Layout>) -> Layout {
        if other.is_none_or(|other| other == self) { self } else { Layout::Unknown }
    }
}

/// The nodes by the values that they take and make.
pub(super) struct Walk<'g> {
    pub(super) graph: &'g GraphProto,
    pub(super) consumers: HashMap<&'g str, Vec<(usize, usize)>>,
    pub(super) producers: HashMap<&'g str, (usize, usize)>,
    /// The integers among the tensors.
    integers: HashMap<&'g str, i64>,
}

/// Where a tensor goes.
pub(super) struct Followed<'g> {
    /// What it is an operand of.
    pub(super) uses: Vec<Use<'g>>,
    /// The values that have its elements, itself first.
    pub(super) values: Vec<&'g str>,
}

/// An operand that a tensor becomes.
pub(super) struct Use<'g> {
    pub(super) node: &'g NodeProto,
    pub(super) operand: usize,
    /// Whether it is the transpose of what is stored.
    pub(super) turned: bool,
}

impl Use<'_> {
    /// Whether the node computes with other numbers than those of the tensor, which has `rank` axes: a class has its parameters
    /// multiplied, added, normalised with and looked up in, and a bias put into heads, and nothing else.
    fn alters(&self, rank: usize) -> bool {
        match self.node.op_type() {
            "Transpose" | "Mul" => rank > 1,
            "Sub" => rank == 1,
            // What widens is followed, and is no use.
            "Cast" => true,
            "Gemm" | "FusedMatMul" => float(self.node, "alpha", 1.0) != 1.0,
            operation => ELEMENTWISE.contains(&operation),
        }
    }
}

/// Operations that make other numbers of an operand, or leave some out.
const ELEMENTWISE: [&str; 17] = [
    "Abs",
    "Ceil",
    "Clip",
    "Concat",
    "Div",
    "Exp",
    "Floor",
    "GatherElements",
    "Neg",
    "Pad",
    "Pow",
    "Reciprocal",
    "Round",
    "Sign",
    "Sqrt",
    "Tile",
    "Where",
];

impl<'g> Walk<'g> {
    pub(super) fn new(graph: &'g GraphProto, file: &'g dyn TensorFile) -> Self {
        let mut walk =
            Walk { graph, consumers: HashMap::new(), producers: HashMap::new(), integers: HashMap::new() };
        for (index, info) in file.tensors().iter().enumerate() {
            if info.dtype == Dtype::I64
                && let Ok(bytes) = file.read(index)
                && let Some(integer) = single(&bytes)
            {
                walk.integers.insert(&info.name, integer);
            }
        }
        for (index, node) in graph.node.iter().enumerate() {
            for (operand, name) in node.input.iter().enumerate() {
                walk.consumers.entry(name).or_default().push((index, operand));
            }
            for (result, name) in node.output.iter().enumerate() {
                walk.producers.insert(name, (index, result));
            }
        }
        walk
    }

    pub(super) fn recover(&self, info: &'g TensorInfo, models: &Models) -> Vec<Recovered> {
        let Followed { uses, values } = self.follow(info);
        let layouts: Vec<Option<Layout>> = uses.iter().map(layout).collect();
        let agreed = layouts.iter().flatten().copied().reduce(|one, other| one.and(Some(other)));
        // What no node takes has its name from PyTorch, as it was there: a discriminator's `lm_predictions`.
        let agreed = agreed.or(uses.is_empty().then_some(Layout::Canonical));
        let (mut found, mut known) = (BTreeSet::new(), BTreeSet::new());
        for value in values {
            let Some(name) = local(value) else { continue };
            let named = models.name(&scope(value), Recovered::new(name, agreed, info, &uses));
            known.insert(named.name.clone());
            found.insert(named);
        }
        for (operand, layout) in uses.iter().zip(layouts) {
            let Some(name) = self.name(operand, info) else { continue };
            let scope = scope_of(operand.node).unwrap_or_default();
            let named = models.name(&scope, Recovered::new(name, layout, info, &uses));
            if known.insert(named.name.clone()) {
                found.insert(named);
            }
        }
        found.into_iter().collect()
    }

    /// What a tensor is an operand of, directly or through nodes that do not change its elements.
    pub(super) fn follow(&self, info: &'g TensorInfo) -> Followed<'g> {
        let mut followed = Followed { uses: Vec::new(), values: Vec::new() };
        let mut seen: BTreeSet<(&str, bool)> = BTreeSet::new();
        let mut ahead: Vec<(&str, bool)> = vec![(&info.name, false)];
        while let Some((value, turned)) = ahead.pop() {
            if !seen.insert((value, turned)) {
                continue;
            }
            followed.values.push(value);
            for &(index, operand) in self.consumers.get(value).into_iter().flatten() {
                let Some(node) = self.graph.node.get(index) else { continue };
                let next = match (node.op_type(), info.shape.len()) {
                    _ if operand > 0 => None,
                    ("Identity", _) => Some(turned),
                    ("Cast", _) if widens(node, info.dtype) => Some(turned),
                    ("Transpose", 2) if turns(node) => Some(!turned),
                    ("Reshape", 1) | ("Unsqueeze" | "Squeeze", 1..=3) => Some(turned),
                    _ => None,
                };
                match (next, node.output.first()) {
                    (Some(turned), Some(output)) => ahead.push((output, turned)),
                    _ => followed.uses.push(Use { node, operand, turned }),
                }
            }
        }
        followed
    }

    /// Whether nothing but integers is made of a tensor, as of distances that an exporter for one length has sorted into buckets:
    /// no parameter.
    pub(super) fn makes_integers(&self, info: &'g TensorInfo) -> bool {
        const MOST: usize = 100;
        let (mut ahead, mut seen, mut made) = (vec![info.name.as_str()], BTreeSet::new(), false);
        while let Some(value) = ahead.pop() {
            if !seen.insert(value) {
                continue;
            }
            for &(index, _) in self.consumers.get(value).into_iter().flatten() {
                let Some(node) = self.graph.node.get(index).filter(|_| seen.len() < MOST) else {
                    return false;
                };
                match node.op_type() {
                    "Cast" if INTEGERS.iter().any(|&to| casts_to(node, to)) => made = true,
                    "Cast" | "Identity" | "Where" | "Mul" | "Add" | "Sub" | "Ceil" | "Sign" => {
                        ahead.extend(node.output.iter().map(String::as_str));
                    }
                    _ => return false,
                }
            }
        }
        made
    }

    /// The name that the module path and the place of the operand suggest.
    fn name(&self, operand: &Use<'_>, info: &TensorInfo) -> Option<String> {
        // Tied to the decoder, the word embeddings may have the decoder's name.
        if let ("Gather", 0, [_, ids]) = (operand.node.op_type(), operand.operand, &operand.node.input[..])
            && ids == "input_ids"
        {
            return Some("embeddings.word_embeddings.weight".to_owned());
        }
        // No operation takes a parameter further behind.
        let module = if operand.operand < 3 { module_of(operand.node)? } else { return None };
        if let ("Add", this, 3 | 4) = (operand.node.op_type(), operand.operand, info.shape.len()) {
            let bias = self.bias_of_projection(operand.node, this, info)?;
            return Some(format!("{module}.{bias}"));
        }
        parameter(&module, operand.node, operand.operand, info.shape.len())
    }

    /// Which bias is added to a part of version 1's projection to queries, keys and values, as operand `this`.
    pub(super) fn bias_of_projection(
        &self,
        sum: &NodeProto,
        this: usize,
        info: &TensorInfo,
    ) -> Option<&'static str> {
        match self.part_of_projection(sum, 1 - this.min(1), *info.shape.last()?)? {
            0 => Some("q_bias"),
            2 => Some("v_bias"),
            _ => None,
        }
    }

    /// Which third of the projection to queries, keys and values an operand is, if it is one whose last axis has
    /// `size` elements: the number of an output of `Split`, or where `Slice` starts.
    fn part_of_projection(&self, node: &NodeProto, operand: usize, size: usize) -> Option<i64> {
        let &(index, result) = self.producers.get(node.input.get(operand)?.as_str())?;
        let part = self.graph.node.get(index)?;
        match (part.op_type(), part.input.as_slice()) {
            ("Split", _) if part.output.len() == 3 => i64::try_from(result).ok(),
            ("Slice", [_, start, end, ..]) => {
                let (start, end) = (self.multiple(start, 0)?, self.multiple(end, 0)?);
                let size = i64::try_from(size).ok().filter(|&size| size > 0)?;
                match (start, end) {
                    ((None, start), (None, end))
                        if start % size == 0 && end >= start.checked_add(size)? =>
                    {
                        Some(start / size)
                    }
                    ((None, 0), (Some(_), 1)) => Some(0),
                    ((Some(of), start), (Some(same), end))
                        if of == same && end == start.checked_add(1)? =>
                    {
                        Some(start)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// A value as a multiple of another value, or as a number.
    fn multiple(&self, value: &'g str, depth: usize) -> Option<(Option<&'g str>, i64)> {
        if let Some(&integer) = self.integers.get(value) {
            return Some((None, integer));
        }
        let node = self.producers.get(value).and_then(|&(index, _)| self.graph.node.get(index));
        match node.map(|node| (node.op_type(), node)) {
            Some(("Constant", node)) => {
                let tensor = node.attribute.iter().find_map(|attribute| attribute.t.as_ref())?;
                let integer = match &tensor.raw_data {
                    Some(bytes) => single(bytes)?,
                    None => *tensor.int64_data.first().filter(|_| tensor.int64_data.len() == 1)?,
                };
                Some((None, integer))
            }
            Some(("Mul", node)) if depth == 0 => match node.input.as_slice() {
                [one, other] => match (self.multiple(one, 1)?, self.multiple(other, 1)?) {
                    ((Some(of), 1), (None, times)) | ((None, times), (Some(of), 1)) => {
                        Some((Some(of), times))
                    }
                    _ => None,
                },
                _ => None,
            },
            _ => Some((Some(value), 1)),
        }
    }
}

/// The integer that is a tensor's only element.
fn single(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_le_bytes)
}

/// How the operand is stored, if the operation tells rows from columns.
pub(super) fn layout(operand: &Use<'_>) -> Option<Layout> {
    let node = operand.node;
    // What the layout would be if the tensor had not been transposed on the way.
    let transposed = match (node.op_type(), operand.operand) {
        // y = x W, where W has an input in every row; y = W x the other way round.
        ("MatMul", 1) => true,
        ("MatMul", 0) => false,
        ("Gemm" | "FusedMatMul", 1) => integer(node, "transB") == 0,
        ("Gemm" | "FusedMatMul", 0) => integer(node, "transA") != 0,
        ("Gather", 0) => integer(node, "axis") != 0,
        ("Slice", 0) => false,
        _ => return None,
    };
    Some(Layout::of(transposed != operand.turned))
}

const INTEGERS: [Dtype; 2] = [Dtype::I64, Dtype::I32];

/// Whether a `Cast` is one to that dtype.
fn casts_to(node: &NodeProto, dtype: Dtype) -> bool {
    integer(node, "to") == i64::from(i32::from(data_type(dtype)))
}

/// Whether a `Cast` leaves every number of `dtype` as it is.
fn widens(node: &NodeProto, dtype: Dtype) -> bool {
    let to = |to| casts_to(node, to);
    match dtype {
        Dtype::F16 => to(Dtype::F16) || to(Dtype::F32) || to(Dtype::F64),
        Dtype::BF16 => to(Dtype::BF16) || to(Dtype::F32) || to(Dtype::F64),
        Dtype::F32 => to(Dtype::F32) || to(Dtype::F64),
        other => to(other),
    }
}

/// Whether a `Transpose` of a matrix swaps its axes.
fn turns(node: &NodeProto) -> bool {
    let perm = node.attribute.iter().find(|attribute| attribute.name() == "perm");
    perm.is_none_or(|perm| perm.ints == [1, 0])
}

fn integer(node: &NodeProto, name: &str) -> i64 {
    node.attribute.iter().find(|attribute| attribute.name() == name).map_or(0, |attribute| attribute.i())
}

fn float(node: &NodeProto, name: &str, otherwise: f32) -> f32 {
    let attribute = node.attribute.iter().find(|attribute| attribute.name() == name);
    attribute.map_or(otherwise, |attribute| attribute.f())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_disagree_about_a_layout_leave_it_unknown() {
        assert_eq!(Layout::Canonical.and(Some(Layout::Transposed)), Layout::Unknown);
        assert_eq!(Layout::Canonical.and(None), Layout::Canonical);
    }
}
