//! What is computed once for all layers: the inputs, the mask, relative positions.

use deberta_reference::{Conventions, MaskedRows};

use super::graph::{Graph, Module, Value};
use super::relative::{Positions, positions};
use crate::error::Result;
use crate::format::onnx::Attribute;
use crate::tensor::Dtype;

/// What the layers need besides hidden states.
pub(super) struct Around {
    /// [b, n], as `input_ids` of the graph
    pub(super) attention_mask: Value,
    /// [b, n], if T > 0
    pub(super) token_type_ids: Option<Value>,
    /// n
    pub(super) n: Value,
    /// What is added to the scores [b, 1, n, n].
    pub(super) mask: Value,
    /// What the probabilities are multiplied by [b, 1, n, 1], if rows without keys are to be zero.
    pub(super) rows: Option<Value>,
    /// With relative attention.
    pub(super) positions: Option<Positions>,
}

/// The inputs of the graph, and what is computed from them once for all layers.
pub(super) fn around(g: &mut Graph<'_>, deberta: &Module, conventions: Conventions) -> Result<Around> {
    let at = Module::new("inputs");
    g.input_ids = g.input("input_ids");
    let attention_mask = g.input("attention_mask");
    let token_type_ids = (g.config.type_vocab_size > 0).then(|| g.input("token_type_ids"));
    let shape = g.node(&Module::new("input_ids"), "Shape", &[&g.input_ids.clone()], &[]);
    let one = g.integer(1);
    let n = g.node(&at, "Gather", &[&shape, &one], &[Attribute::Int("axis", 0)]);
    let mask = mask(g, &at, &attention_mask);
    let rows = (conventions.masked_rows == MaskedRows::Zero).then(|| rows(g, &at, &attention_mask));
    let is_relative = g.config.c2p() || g.config.p2c();
    let positions = is_relative.then(|| positions(g, &deberta.at("encoder"), &n, conventions)).transpose()?;
    Ok(Around { attention_mask, token_type_ids, n, mask, rows, positions })
}

/// What is added to the scores [b, 1, n, n]: 0 where query i may attend to key j, the lowest number elsewhere. The sum
/// is the lowest number in every place of a row without keys, which makes its softmax uniform.
fn mask(g: &mut Graph<'_>, at: &Module, attention_mask: &Value) -> Value {
    let allowed = g.cast(at, attention_mask, Dtype::Bool); //                            [b, n]
    let (queries, keys) = (g.integers(&[1, 3]), g.integers(&[1, 2]));
    let queries = g.node(at, "Unsqueeze", &[&allowed, &queries], &[]); //                [b, 1, n, 1]
    let keys = g.node(at, "Unsqueeze", &[&allowed, &keys], &[]); //                      [b, 1, 1, n]
    let pairs = g.node(at, "And", &[&queries, &keys], &[]);
    let (zero, lowest) = (g.number(0.0, Dtype::F32), g.number(f32::MIN, Dtype::F32));
    g.node(at, "Where", &[&pairs, &zero, &lowest], &[])
}

/// What the probabilities are multiplied by if rows without keys are to be zero [b, 1, n, 1].
fn rows(g: &mut Graph<'_>, at: &Module, attention_mask: &Value) -> Value {
    let allowed = g.cast(at, attention_mask, Dtype::Bool);
    let axes = g.integers(&[1, 3]);
    let rows = g.node(at, "Unsqueeze", &[&allowed, &axes], &[]);
    g.cast(at, &rows, g.dtype)
}
