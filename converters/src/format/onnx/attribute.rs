//! Attributes of nodes, made.

use super::proto::AttributeProto;
use super::proto::attribute_proto::AttributeType;

/// An attribute of a node.
#[derive(Clone, Debug)]
pub(crate) enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Float(&'a str, f32),
}

/// An attribute as a node holds it.
pub(crate) fn attribute(attribute: &Attribute<'_>) -> AttributeProto {
    let named = |name: &str, kind: AttributeType| AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind.into()),
        ..AttributeProto::default()
    };
    match *attribute {
        Attribute::Int(name, value) => AttributeProto { i: Some(value), ..named(name, AttributeType::Int) },
        Attribute::Ints(name, values) => {
            AttributeProto { ints: values.to_vec(), ..named(name, AttributeType::Ints) }
        }
        Attribute::Float(name, value) => {
            AttributeProto { f: Some(value), ..named(name, AttributeType::Float) }
        }
    }
}
