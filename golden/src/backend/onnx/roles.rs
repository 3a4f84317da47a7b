//! Which input of a graph is which: by its name, or by where its numbers go.

use std::collections::{BTreeSet, HashMap};

use deberta_converters::format::onnx::proto::{GraphProto, NodeProto};
use deberta_converters::tensor::TensorInfo;

/// What an input gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Ids,
    Mask,
    TokenTypes,
}

impl Role {
    pub(super) const ALL: [Role; 3] = [Role::Ids, Role::Mask, Role::TokenTypes];

    /// The name that transformers gives it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Ids => "input_ids",
            Role::Mask => "attention_mask",
            Role::TokenTypes => "token_type_ids",
        }
    }

    pub(super) fn of(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// The roles of inputs whose names tell none, by where their numbers go: ids look up the rows of the largest table, token
/// types those of another one, and the one that looks up nothing is the mask. Nothing for what this does not tell.
pub(super) fn by_use(graph: &GraphProto, tensors: &[TensorInfo], inputs: &[&str]) -> HashMap<String, Role> {
    let uses = Uses::of(graph, tensors);
    let rows: Vec<(&str, Option<usize>)> =
        inputs.iter().filter(|name| Role::of(name).is_none()).map(|&name| (name, uses.rows(name))).collect();
    let named = |role: Role| inputs.contains(&role.name());
    let mut roles = HashMap::new();
    let mut lookups: Vec<(&str, usize)> =
        rows.iter().filter_map(|&(name, rows)| Some((name, rows?))).collect();
    lookups.sort_by_key(|&(_, rows)| std::cmp::Reverse(rows));
    let free = [Role::Ids, Role::TokenTypes].into_iter().filter(|&role| !named(role));
    // Two inputs that look up equally many rows may be either.
    let clear = lookups.iter().zip(lookups.iter().skip(1)).all(|(one, other)| one.1 != other.1);
    if clear {
        roles.extend(lookups.iter().zip(free).map(|(&(name, _), role)| (name.to_owned(), role)));
    }
    let mut others = rows.iter().filter(|(_, rows)| rows.is_none());
    if let (Some((name, _)), None) = (others.next(), others.next())
        && !named(Role::Mask)
    {
        roles.insert((*name).to_owned(), Role::Mask);
    }
    roles
}

struct Uses<'g> {
    consumers: HashMap<&'g str, Vec<(&'g NodeProto, usize)>>,
    producers: HashMap<&'g str, &'g NodeProto>,
    /// The rows of every matrix among the tensors.
    rows: HashMap<&'g str, usize>,
}

impl<'g> Uses<'g> {
    fn of(graph: &'g GraphProto, tensors: &'g [TensorInfo]) -> Uses<'g> {
        let mut uses = Uses { consumers: HashMap::new(), producers: HashMap::new(), rows: HashMap::new() };
        for node in &graph.node {
            for (at, name) in node.input.iter().enumerate() {
                uses.consumers.entry(name).or_default().push((node, at));
            }
            uses.producers.extend(node.output.iter().map(|name| (name.as_str(), node)));
        }
        uses.rows = tensors
            .iter()
            .filter(|info| info.shape.len() == 2)
            .filter_map(|info| Some((info.name.as_str(), *info.shape.first()?)))
            .collect();
        uses
    }

    /// The rows of the largest table that a value looks up.
    fn rows(&self, value: &'g str) -> Option<usize> {
        let (mut ahead, mut seen, mut most) = (vec![value], BTreeSet::new(), None);
        while let Some(value) = ahead.pop() {
            if !seen.insert(value) {
                continue;
            }
            for (node, at) in self.consumers.get(value).into_iter().flatten() {
                match (node.op_type(), at) {
                    ("Gather", 1) => {
                        most = most.max(node.input.first().and_then(|table| self.table(table)));
                    }
                    ("Cast" | "Identity" | "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten", 0) => {
                        ahead.extend(node.output.first().map(String::as_str));
                    }
                    _ => {}
                }
            }
        }
        most
    }

    /// The rows of a table, which may be stored in another dtype.
    fn table(&self, value: &'g str) -> Option<usize> {
        let known = |value: &str| self.rows.get(value).copied();
        known(value).or_else(|| {
            let node = self.producers.get(value)?;
            let stored = matches!(node.op_type(), "Cast" | "DequantizeLinear" | "Identity");
            node.input.first().filter(|_| stored).and_then(|value| known(value))
        })
    }
}
