//! Attributes of nodes, read and made.

use crate::format::onnx::proto::attribute_proto::AttributeType;
use crate::format::onnx::proto::{AttributeProto, NodeProto};

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
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int.into()),
        i: Some(value),
        ..AttributeProto::default()
    }
}

/// An attribute that is a list of integers.
pub(super) fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints.into()),
        ints: values,
        ..AttributeProto::default()
    }
}

/// An attribute that is a number.
pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Float.into()),
        f: Some(value),
        ..AttributeProto::default()
    }
}
