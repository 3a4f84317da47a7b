//! The nodes of a graph around a tensor, and what they say of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use deberta_reference::Module;

use crate::format::TensorFile;
use crate::format::onnx::proto::{GraphProto, NodeProto};
use crate::tensor::{Dtype, TensorInfo};

/// What a tensor of a graph is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recovered {
    /// The canonical name, without the prefix of the base model; or the name that a module path suggests, which may
    /// be no parameter's.
    pub name: String,
    /// How a matrix is stored.
    pub layout: Layout,
    /// The shape, without the axes of length 1 that an exporter put around a bias.
    pub shape: Vec<usize>,
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

/// An operand that a tensor becomes.
pub(super) struct Use<'g> {
    pub(super) node: &'g NodeProto,
    pub(super) operand: usize,
    /// Whether it is the transpose of what is stored.
    pub(super) turned: bool,
}

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

    pub(super) fn recover(&self, info: &TensorInfo) -> Vec<Recovered> {
        let (mut uses, mut names) = (Vec::new(), vec![info.name.as_str()]);
        self.follow(info, &mut uses, &mut names);

        let layouts: Vec<Option<Layout>> = uses.iter().map(layout).collect();
        let agreed = layouts.iter().flatten().copied().reduce(|one, other| one.and(Some(other)));
        let (mut found, mut known) = (BTreeSet::new(), BTreeSet::new());
        for name in names.into_iter().filter_map(local) {
            known.insert(name.clone());
            let layout = agreed.unwrap_or(Layout::Unknown);
            found.insert(Recovered { name, layout, shape: unpadded(&info.shape) });
        }
        for (operand, layout) in uses.iter().zip(layouts) {
            let Some(name) = self.name(operand, info) else { continue };
            let layout = layout.unwrap_or(Layout::Unknown);
            if known.insert(name.clone()) {
                found.insert(Recovered { name, layout, shape: unpadded(&info.shape) });
            }
        }
        found.into_iter().collect()
    }

    /// Collects what the tensor is an operand of, through nodes that do not change its elements, and the names that
    /// it has on the way.
    pub(super) fn follow(&self, info: &'g TensorInfo, uses: &mut Vec<Use<'g>>, names: &mut Vec<&'g str>) {
        let mut seen: BTreeSet<(&str, bool)> = BTreeSet::new();
        let mut ahead: Vec<(&str, bool)> = vec![(&info.name, false)];
        while let Some((value, turned)) = ahead.pop() {
            if !seen.insert((value, turned)) {
                continue;
            }
            for &(index, operand) in self.consumers.get(value).into_iter().flatten() {
                let Some(node) = self.graph.node.get(index) else { continue };
                let next = match node.op_type() {
                    "Identity" | "Cast" => Some(turned),
                    "Transpose" if info.shape.len() == 2 && turns(node) => Some(!turned),
                    "Reshape" | "Unsqueeze" | "Squeeze" if info.shape.len() == 1 && operand == 0 => {
                        Some(turned)
                    }
                    _ => None,
                };
                match (next, node.output.first()) {
                    (Some(turned), Some(output)) => {
                        if node.op_type() == "Identity" {
                            names.push(output);
                        }
                        ahead.push((output, turned));
                    }
                    _ => uses.push(Use { node, operand, turned }),
                }
            }
        }
    }

    /// The name that the module path and the place of the operand suggest.
    fn name(&self, operand: &Use<'_>, info: &TensorInfo) -> Option<String> {
        // Tied to the decoder, the word embeddings may have the decoder's name.
        if let ("Gather", 0, [_, ids]) = (operand.node.op_type(), operand.operand, &operand.node.input[..])
            && ids == "input_ids"
        {
            return Some("embeddings.word_embeddings.weight".to_owned());
        }
        let module = local(&module_path(operand.node)?)?;
        let leaf = match (operand.node.op_type(), operand.operand, info.shape.len()) {
            ("MatMul" | "Gemm", 1, 2) | ("Gather", 0, 2) => "weight",
            ("LayerNormalization", 1, 1) | ("Mul", _, 1) => "weight",
            ("LayerNormalization", 2, 1) | ("Gemm", 2, 1) | ("Add", _, 1) => "bias",
            ("Slice", 0, 2) if module.starts_with("encoder.") && module.ends_with(".attention.self") => {
                return Some("encoder.rel_embeddings.weight".to_owned());
            }
            ("Add", this, 4) => {
                match self.part_of_projection(operand.node, 1 - this.min(1), *info.shape.last()?)? {
                    0 => "q_bias",
                    2 => "v_bias",
                    _ => return None,
                }
            }
            _ => return None,
        };
        Some(format!("{module}.{leaf}"))
    }

    /// Which third of the projection to queries, keys and values an operand is, if it is one whose last axis has
    /// `size` elements: the number of an output of `Split`, or where `Slice` starts.
    pub(super) fn part_of_projection(&self, node: &NodeProto, operand: usize, size: usize) -> Option<i64> {
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
        ("Gemm", 1) => integer(node, "transB") == 0,
        ("Gemm", 0) => integer(node, "transA") != 0,
        ("Gather", 0) => integer(node, "axis") != 0,
        ("Slice", 0) => false,
        _ => return None,
    };
    Some(Layout::of(transposed != operand.turned))
}

/// Whether a `Transpose` of a matrix swaps its axes.
fn turns(node: &NodeProto) -> bool {
    let perm = node.attribute.iter().find(|attribute| attribute.name() == "perm");
    perm.is_none_or(|perm| perm.ints == [1, 0])
}

fn integer(node: &NodeProto, name: &str) -> i64 {
    node.attribute.iter().find(|attribute| attribute.name() == name).map_or(0, |attribute| attribute.i())
}

/// The path of the module that a node belongs to, with dots.
fn module_path(node: &NodeProto) -> Option<String> {
    // ['', 'm', 'm.deberta', …, 'm.deberta.encoder.layer.0.intermediate.dense', 'linear_4']
    const SCOPES: &str = "pkg.torch.onnx.name_scopes";
    if let Some(scopes) = node.metadata_props.iter().find(|entry| entry.key() == SCOPES) {
        let mut scopes = scopes.value().trim_matches(['[', ']']).rsplit(", ");
        let module = scopes.nth(1)?;
        return Some(module.trim_matches(['\'', '"']).to_owned());
    }
    // /m/deberta/encoder/layer.0/intermediate/dense/MatMul
    let (module, _) = node.name().strip_prefix('/')?.rsplit_once('/')?;
    Some(module.replace('/', "."))
}

/// The parts of a model: how the paths of modules begin that are in no layer.
static PARTS: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
    let modules = Module::ALL.iter().filter(|module| !module.in_layers());
    modules.filter_map(|module| module.path().split('.').next()).collect()
});

/// The name from the model's own parts on, without whatever was put before it.
fn local(name: &str) -> Option<String> {
    let mut rest = name;
    loop {
        let first = rest.split('.').next()?;
        if PARTS.contains(first) {
            return Some(rest.to_owned());
        }
        (_, rest) = rest.split_once('.')?;
    }
}

/// `[1, h, 1, d]` is a bias of length h d.
pub(super) fn unpadded(shape: &[usize]) -> Vec<usize> {
    match shape {
        &[1, heads, 1, size] => vec![heads.saturating_mul(size)],
        other => other.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_before_a_name_is_taken_off() {
        for prefix in ["", "deberta.", "m.deberta.", "a.b.c."] {
            let name = format!("{prefix}encoder.layer.0.output.dense.bias");
            assert_eq!(local(&name).as_deref(), Some("encoder.layer.0.output.dense.bias"));
        }
        assert_eq!(local("onnx::MatMul_1431"), None);
        assert_eq!(local(""), None);
    }

    #[test]
    fn module_paths_are_in_names_or_in_metadata() {
        let named =
            NodeProto { name: Some("/m/encoder/layer.0/output/dense/MatMul".into()), ..Default::default() };
        assert_eq!(module_path(&named).as_deref(), Some("m.encoder.layer.0.output.dense"));
        let mut scoped = NodeProto { name: Some("node_linear_4".into()), ..Default::default() };
        assert_eq!(module_path(&scoped), None);
        scoped.metadata_props = vec![crate::format::onnx::proto::StringStringEntryProto {
            key: Some("pkg.torch.onnx.name_scopes".into()),
            value: Some("['', 'm', 'm.pooler', 'm.pooler.dense', 'linear']".into()),
        }];
        assert_eq!(module_path(&scoped).as_deref(), Some("m.pooler.dense"));
    }

    #[test]
    fn nodes_that_disagree_about_a_layout_leave_it_unknown() {
        assert_eq!(Layout::Canonical.and(Some(Layout::Transposed)), Layout::Unknown);
        assert_eq!(Layout::Canonical.and(None), Layout::Canonical);
    }
}
