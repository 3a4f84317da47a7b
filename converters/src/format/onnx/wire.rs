//! Protobuf as a tree of lengths: what is checked before any of it is decoded.
//!
//! A message of two bytes becomes a structure of some hundred, and a nested one takes stack. So everything is counted
//! first, without allocating: after that, decoding takes memory in proportion to the file.

use crate::error::{Error, Result};

/// An export of the large model has about 30,000 messages, one with an annotation at every value ten times as many.
const MOST_MESSAGES: usize = 1 << 19;
/// Names, and other text and bytes.
const MOST_STRINGS: usize = 1 << 21;
/// Graphs in graphs, and everything else that nests. An export has a depth of about ten.
const DEEPEST: usize = 32;

/// The messages of `onnx.proto` that hold others.
#[derive(Clone, Copy, Debug)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    Function,
    ValueInfo,
    Type,
    /// The type of a sequence or an optional: of what.
    TypeOf,
    MapType,
    TensorType,
    Shape,
    Training,
    Annotation,
    NodeDevice,
    Sharding,
    ShardedDim,
    /// Messages that hold numbers and text alone.
    Leaf,
}

impl Message {
    /// What the field holds, if it holds a message.
    fn child(self, field: u64) -> Option<Message> {
        use Message::*;
        Some(match (self, field) {
            (Model, 7) | (Training, 1 | 2) => Graph,
            (Model, 20) => Training,
            (Model, 25) => Function,
            (Graph, 1) | (Function, 7) => Node,
            (Graph, 5) | (Attribute, 5 | 10) | (SparseTensor, 1 | 2) => Tensor,
            (Graph, 11..=13) | (Function, 12) => ValueInfo,
            (Graph, 14) => Annotation,
            (Graph, 15) | (Attribute, 22 | 23) => SparseTensor,
            (Node, 5) | (Function, 11) => Attribute,
            (Node, 10) => NodeDevice,
            (NodeDevice, 2) => Sharding,
            (Sharding, 4) => ShardedDim,
            (Attribute, 6 | 11) => Graph,
            (Attribute, 14 | 15) | (ValueInfo, 2) | (TypeOf, 1) | (MapType, 2) => Type,
            (Type, 1 | 8) => TensorType,
            (Type, 4 | 9) => TypeOf,
            (Type, 5) => MapType,
            (TensorType, 2) => Shape,
            (Model, 8 | 14 | 26)
            | (Training, 3 | 4)
            | (Function, 9 | 14)
            | (Graph, 16)
            | (Annotation, 2)
            | (Node, 9)
            | (Sharding, 3)
            | (ShardedDim, 2)
            | (Tensor, 3 | 13 | 16)
            | (ValueInfo, 4)
            | (Shape, 1) => Leaf,
            _ => return None,
        })
    }
}

/// Counts what a model consists of.
///
/// # Errors
/// A length that leaves its message; nesting, messages or text beyond what a model needs.
pub(super) fn survey(bytes: &[u8]) -> Result<()> {
    let mut counts = Counts::default();
    counts.message(Message::Model, bytes, 0, 0)
}

#[derive(Default)]
struct Counts {
    messages: usize,
    strings: usize,
}

impl Counts {
    /// `start` is where `bytes` are in the file.
    fn message(&mut self, message: Message, bytes: &[u8], start: usize, depth: usize) -> Result<()> {
        self.messages += 1;
        if self.messages > MOST_MESSAGES {
            return Err(Error::malformed(format!("more than {MOST_MESSAGES} nodes, attributes and values")));
        }
        if depth > DEEPEST {
            return Err(Error::malformed(format!(
                "byte {start}: messages are nested deeper than {DEEPEST} levels"
            )));
        }
        let mut rest = Reader { bytes, at: 0, start };
        while !rest.is_empty() {
            let place = rest.place();
            let key = rest.varint()?;
            let (field, wire_type) = (key >> 3, key & 7);
            match wire_type {
                0 => drop(rest.varint()?),
                1 => drop(rest.take(8)?),
                5 => drop(rest.take(4)?),
                2 => {
                    let len = rest.varint()?;
                    let start = rest.place();
                    let bytes = rest.take(len)?;
                    match message.child(field) {
                        Some(child) => self.message(child, bytes, start, depth + 1)?,
                        None => self.strings += 1,
                    }
                }
                other => {
                    return Err(Error::malformed(format!(
                        "byte {place}: protobuf field {field} has wire type {other}, which ONNX does not use"
                    )));
                }
            }
            if self.strings > MOST_STRINGS {
                return Err(Error::malformed(format!("more than {MOST_STRINGS} pieces of text")));
            }
        }
        Ok(())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    start: usize,
}

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The place in the file.
    fn place(&self) -> usize {
        self.start + self.at
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len)).ok_or_else(|| {
            Error::malformed(format!(
                "byte {}: a field needs {len} bytes, {} are left (truncated?)",
                self.place(),
                rest.len()
            ))
            .wanting(len, rest.len())
        })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let &[byte] = self.take(1)? else { break };
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::malformed(format!("byte {}: a number has more than ten bytes", self.place())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `inner` as field `field`.
    fn field(field: u8, inner: &[u8]) -> Vec<u8> {
        let mut bytes = vec![field << 3 | 2];
        let mut len = inner.len();
        while len >= 0x80 {
            bytes.push(len as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
        bytes.extend_from_slice(inner);
        bytes
    }

    fn message(bytes: &[u8]) -> String {
        survey(bytes).unwrap_err().to_string()
    }

    #[test]
    fn lengths_must_fit_their_message() {
        // A graph of 3 bytes, in which a node claims 100.
        assert_eq!(
            message(&field(7, &[1 << 3 | 2, 100, 0])),
            "byte 4: a field needs 100 bytes, 1 are left (truncated?)"
        );
        assert!(
            message(&[7 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).contains("left")
        );
        assert!(message(&[0x80; 11]).contains("more than ten bytes"));
        assert!(message(&[8]).contains("0 are left"));
        assert!(message(&[7 << 3 | 3]).contains("wire type 3"));
    }

    #[test]
    fn graphs_in_graphs_end_somewhere() {
        let mut graph = Vec::new();
        for _ in 0..20 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        assert!(message(&field(7, &graph)).contains("deeper than 32"), "{}", message(&field(7, &graph)));
    }

    #[test]
    fn more_messages_than_any_model_has_are_refused() {
        let nodes: Vec<u8> = [1 << 3 | 2, 0].repeat(MOST_MESSAGES);
        assert!(message(&field(7, &nodes)).contains("524288"));
        let names: Vec<u8> = [2 << 3 | 2, 0].repeat(MOST_STRINGS + 1);
        assert!(message(&field(7, &names)).contains("text"));
    }

    #[test]
    fn bytes_of_tensors_are_not_looked_into() {
        survey(&field(7, &field(5, &field(9, &[0xff; 300])))).unwrap();
    }
}
