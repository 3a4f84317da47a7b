//! Attributes of nodes, read and made.

use crate::format::onnx::proto::{AttributeProto, NodeProto};
use crate::format::onnx::{Attribute, attribute};

fn named<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name() == name)
}

pub(super) fn integer(node: &NodeProto, name: &str, otherwise: i64) -> i64 {
    named(node, name).map_or(otherwise, |attribute| attribute.i())
}

pub(super) fn number(node: &NodeProto, name: &str, otherwise: f32) -> f32 {
    named(node, name).map_or(otherwise, |attribute| attribute.f())
}

pub(super) fn flag(node: &NodeProto, name: &str) -> bool {
    integer(node, name, 0) != 0
}

pub(super) fn text(node: &NodeProto, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(named(node, name)?.s()).into_owned())
}

/// An attribute that is an integer.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    attribute(&Attribute::Int(name, value))
}

/// An attribute that is a list of integers.
pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    attribute(&Attribute::Ints(name, values))
}

/// An attribute that is a number.
pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    attribute(&Attribute::Float(name, value))
}
