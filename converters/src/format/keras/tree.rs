//! The groups and datasets of a file that is about to be written.

use std::collections::BTreeMap;

use super::DEEPEST;
use crate::error::{Error, Kind, Result};

/// Something that a link of a group leads to.
#[derive(Debug)]
pub(super) enum Node {
    Group(Group),
    /// The dataset of the tensor with this index.
    Dataset(usize),
}

/// A group: its links by name, and the lists of names that are its attributes.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) children: BTreeMap<String, Node>,
    /// The list that Keras reads: the layers of the root, the weights of a layer.
    pub(super) names: Option<Names>,
}

/// A list of names and the attribute that holds it.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) attribute: &'static str,
    pub(super) names: Vec<String>,
}

/// Longest component of a path: what a link message can hold.
const LONGEST_COMPONENT: usize = 65_000;

impl Group {
    /// An empty group in which `attribute` lists `names`.
    pub(super) fn listing(attribute: &'static str, names: Vec<String>) -> Self {
        Group { children: BTreeMap::new(), names: Some(Names { attribute, names }) }
    }

    /// Adds the dataset of tensor `index` at `path`, with the groups that lead to it.
    pub(super) fn insert(&mut self, path: &str, index: usize) -> Result<()> {
        check_path(path)?;
        let (parents, leaf) = path.rsplit_once('/').unwrap_or(("", path));
        let mut group = self;
        for component in parents.split('/').filter(|component| !component.is_empty()) {
            let child = group.children.entry(component.to_owned()).or_insert(Node::Group(Group::default()));
            match child {
                Node::Group(child) => group = child,
                Node::Dataset(_) => {
                    return Err(refusal(format!("\"{component}\" in its path is another tensor")));
                }
            }
        }
        match group.children.insert(leaf.to_owned(), Node::Dataset(index)) {
            None => Ok(()),
            Some(Node::Dataset(_)) => Err(refusal("another tensor has the same name")),
            Some(Node::Group(_)) => Err(refusal("its name is the path of a group of other tensors")),
        }
    }
}

/// Refuses names that are no path of an HDF5 dataset.
fn check_path(path: &str) -> Result<()> {
    let depth = path.split('/').count();
    if depth > DEEPEST {
        return Err(refusal(format!("{depth} components in its name, a Keras file holds {DEEPEST}")));
    }
    for component in path.split('/') {
        if component.is_empty() || component == "." || component.contains('\0') {
            return Err(refusal(format!(
                "\"{}\" cannot be a component of an HDF5 path",
                component.escape_debug()
            )));
        }
        if component.len() > LONGEST_COMPONENT {
            return Err(refusal(format!(
                "{} bytes in one component of its name, an HDF5 link holds {LONGEST_COMPONENT}",
                component.len()
            )));
        }
    }
    Ok(())
}

/// What a Keras file cannot hold.
pub(super) fn refusal(message: impl Into<String>) -> Error {
    Error::new(Kind::Request, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_on_the_way_are_made_once() {
        let mut root = Group::default();
        root.insert("a/b/c", 0).unwrap();
        root.insert("a/b/d", 1).unwrap();
        root.insert("e", 2).unwrap();
        let Some(Node::Group(a)) = root.children.get("a") else { panic!("no group a") };
        let Some(Node::Group(b)) = a.children.get("b") else { panic!("no group a/b") };
        assert_eq!(b.children.keys().collect::<Vec<_>>(), ["c", "d"]);
        assert!(matches!(root.children.get("e"), Some(Node::Dataset(2))));
    }
}
