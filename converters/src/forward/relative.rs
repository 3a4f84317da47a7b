//! Keys and queries of relative positions: `reference/src/relative.rs` as nodes.
//!
//! The relative position table is projected as a whole, in f32. That depends on the weights alone, so that a runtime does
//! it when it loads the model (in f32, because ONNX Runtime has no other kernels for it); what is left for every run is to
//! take the rows within reach.

use super::graph::{Attribute, Dim, Graph, Module, Value};
use crate::tensor::Dtype;

/// Relative positions.
pub(super) struct Positions {
    /// [2K, H]
    table: Value,
    /// δ: the row of the distance between query and key, counted from `first` [b, h, n, n]
    pub(super) delta: Value,
    /// The first row within reach [1].
    first: Value,
    /// The row after the last one within reach [1].
    end: Value,
}

/// Relative positions, for all layers at once: s = min(n, K), δ(i, j) = clamp(i - j + s, 0, 2s - 1).
pub(super) fn positions(g: &mut Graph<'_>, at: &Module, n: &Value) -> Positions {
    let (h, max) = (g.config.num_attention_heads, g.config.max_relative() as i64);
    let (zero, one, two, max) = (g.integer(0), g.integer(1), g.integer(2), g.integer(max));
    let first_axis = g.integers(&[0]);
    let span = g.node(at, "Min", &[n, &max], &[]);

    let ids = g.node(at, "Range", &[&zero, n, &one], &[]);
    let second_axis = g.integers(&[1]);
    let queries = g.node(at, "Unsqueeze", &[&ids, &second_axis], &[]); //                [n, 1]
    let distance = g.node(at, "Sub", &[&queries, &ids], &[]); //                         [n, n]
    let delta = g.node(at, "Add", &[&distance, &span], &[]);
    let all = g.node(at, "Mul", &[&span, &two], &[]);
    let last = g.node(at, "Sub", &[&all, &one], &[]);
    let delta = g.node(at, "Clip", &[&delta, &zero, &last], &[]);
    // For every sequence and head, as GatherElements wants it                           [b, h, n, n]
    let tokens = g.tokens_shape(&[h]);
    let order = g.integers(&[0, 2, 1, 1]);
    let shape = g.node(at, "Gather", &[&tokens, &order], &[]);
    let delta = g.node(at, "Expand", &[&delta, &shape], &[]);

    let first = g.node(at, "Sub", &[&max, &span], &[]);
    let end = g.node(at, "Add", &[&max, &span], &[]);
    let [first, end] = [first, end].map(|place| g.node(at, "Unsqueeze", &[&place, &first_axis], &[]));
    Positions { table: at.parameter("rel_embeddings.weight"), delta, first, end }
}

/// pos_key = pos_proj R, for the rows R within reach [h, 2s, d].
pub(super) fn keys(g: &mut Graph<'_>, proj: &Module, positions: &Positions) -> Value {
    let (table, weight) = (g.widened(proj, &positions.table), g.widened(proj, &proj.parameter("weight")));
    let table = g.node(proj, "Gemm", &[&table, &weight], &[Attribute::Int("transB", 1)]); //   [2K, H]
    keep_rows(g, proj, &table, positions);
    rows_by_head(g, proj, &table, positions)
}

/// pos_query = (pos_q_proj R + b) / scale, for the rows R within reach [h, 2s, d].
pub(super) fn queries(g: &mut Graph<'_>, proj: &Module, positions: &Positions) -> Value {
    let operands = [positions.table.clone(), proj.parameter("weight"), proj.parameter("bias")];
    let [table, weight, bias] = operands.map(|operand| g.widened(proj, &operand));
    let table = g.node(proj, "Gemm", &[&table, &weight, &bias], &[Attribute::Int("transB", 1)]);
    keep_rows(g, proj, &table, positions);
    let divisor = g.number(g.config.attention_scale() as f32, Dtype::F32);
    let table = g.node(proj, "Div", &[&table, &divisor], &[]);
    rows_by_head(g, proj, &table, positions)
}

/// The rows of the projected table [2K, H] for the distances -s .. s, by heads: [h, 2s, d].
fn rows_by_head(g: &mut Graph<'_>, at: &Module, table: &Value, positions: &Positions) -> Value {
    let (h, d) = (g.config.num_attention_heads as i64, g.config.head_size() as i64);
    let table = g.narrowed(at, table);
    let table = g.reshape(at, &table, &[-1, h, d]);
    let table = g.transpose(at, &table, &[1, 0, 2]); //                                  [h, 2K, d]
    let axis = g.integers(&[1]);
    g.node(at, "Slice", &[&table, &positions.first, &positions.end, &axis], &[])
}

/// The activation of a position projection: [1, 2s, H].
fn keep_rows(g: &mut Graph<'_>, at: &Module, table: &Value, positions: &Positions) {
    if g.wants_at(at, "") {
        let axis = g.integers(&[0]);
        let table = g.narrowed(at, table);
        let rows = g.node(at, "Slice", &[&table, &positions.first, &positions.end, &axis], &[]);
        let rows = g.node(at, "Unsqueeze", &[&rows, &axis], &[]);
        g.keep(at, "", &rows, &[Dim::Of(1), Dim::Positions, Dim::Of(g.config.hidden_size)]);
    }
}
