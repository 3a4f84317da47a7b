//! Disentangled self-attention: `reference/src/attention.rs` as nodes.
//!
//! ```text
//! scores[i, j] = qᵢ · kⱼ  +  qᵢ · pos_key[δ(i, j)]  +  kⱼ · pos_query[δ(i, j)]
//!                  c2c               c2p                        p2c
//! context[i]   = Σⱼ softmaxⱼ(scores[i, j]) vⱼ
//! ```
//!
//! The relative position table is projected as a whole, in f32. That depends on the weights alone, so that a runtime does
//! it when it loads the model (in f32, because ONNX Runtime has no other kernels for it); what is left for every run is to
//! take the rows within reach.

use super::graph::{Attribute, Dim, Graph, Module, Value};
use super::{Around, Positions};
use crate::tensor::Dtype;

/// Keys and values from `hidden` [b n, H], queries from `queries` [b n, H] or from `hidden` too: the context [b n, H].
pub(super) fn attention(
    g: &mut Graph<'_>,
    at: &Module,
    hidden: &Value,
    queries: Option<&Value>,
    around: &Around,
) -> Value {
    let config = g.config;
    let (h, d, width) = (config.num_attention_heads, config.head_size(), config.hidden_size);
    let terms = 1 + config.pos_att_type.len(); // whatever they are, and even if none is computed
    let scale = ((d * terms) as f32).sqrt();
    let divisor = g.number(scale, g.dtype);
    let tokens = |width| [Dim::Batch, Dim::Sequence, Dim::Of(width)];
    let pairs = [Dim::Batch, Dim::Of(h), Dim::Sequence, Dim::Sequence];

    // [q; k; v] = in_proj x, interleaved by heads                                       [b n, h 3 d]
    let in_proj = at.at("in_proj");
    let qkv = g.linear_without_bias(&in_proj, hidden);
    g.keep(&in_proj, "", &qkv, &tokens(3 * width));
    let [mut q, k, v] = split_heads(g, at, &qkv); //                                     [b, h, n, d]
    if let Some(queries) = queries {
        let projected = g.linear_without_bias(&in_proj, queries);
        g.keep(at, "query_proj", &projected, &tokens(3 * width));
        [q, _, _] = split_heads(g, at, &projected);
    }
    let q = add_bias(g, at, &q, "q_bias");
    let q = g.node(at, "Div", &[&q, &divisor], &[]);
    let v = add_bias(g, at, &v, "v_bias");
    let k_transposed = g.transpose(at, &k, &[0, 1, 3, 2]); //                            [b, h, d, n]

    let mut scores = g.node(at, "MatMul", &[&q, &k_transposed], &[]); //                 [b, h, n, n]
    g.keep(at, "c2c", &scores, &pairs);
    if let Some(positions) = around.positions.as_ref().filter(|_| config.c2p()) {
        // c2p[i, j] = (q pos_keyᵀ)[i, δ(i, j)]
        let proj = at.at("pos_proj");
        let (table, weight) =
            (g.widened(&proj, &positions.table), g.widened(&proj, &proj.parameter("weight")));
        let table = g.node(&proj, "Gemm", &[&table, &weight], &[Attribute::Int("transB", 1)]); // [2K, H]
        keep_rows(g, &proj, &table, positions);
        let key = rows_by_head(g, &proj, &table, positions); //                          [h, 2s, d]
        let key = g.transpose(&proj, &key, &[0, 2, 1]);
        let all = g.node(at, "MatMul", &[&q, &key], &[]); //                             [b, h, n, 2s]
        let c2p = g.node(at, "GatherElements", &[&all, &positions.delta], &[Attribute::Int("axis", 3)]);
        g.keep(at, "c2p", &c2p, &pairs);
        scores = g.node(at, "Add", &[&scores, &c2p], &[]);
    }
    if let Some(positions) = around.positions.as_ref().filter(|_| config.p2c()) {
        // p2c[i, j] = (pos_query kᵀ)[δ(i, j), j], with pos_query = (pos_q_proj R + b) / scale
        let proj = at.at("pos_q_proj");
        let operands = [positions.table.clone(), proj.parameter("weight"), proj.parameter("bias")];
        let [table, weight, bias] = operands.map(|operand| g.widened(&proj, &operand));
        let table = g.node(&proj, "Gemm", &[&table, &weight, &bias], &[Attribute::Int("transB", 1)]);
        keep_rows(g, &proj, &table, positions);
        let divisor = g.number(scale, Dtype::F32);
        let table = g.node(&proj, "Div", &[&table, &divisor], &[]);
        let query = rows_by_head(g, &proj, &table, positions); //                        [h, 2s, d]
        let all = g.node(at, "MatMul", &[&query, &k_transposed], &[]); //                [b, h, 2s, n]
        let p2c = g.node(at, "GatherElements", &[&all, &positions.delta], &[Attribute::Int("axis", 2)]);
        g.keep(at, "p2c", &p2c, &pairs);
        scores = g.node(at, "Add", &[&scores, &p2c], &[]);
    }
    g.keep(at, "scores", &scores, &pairs);
    if config.talking_head {
        scores = mix_heads(g, &at.at("head_logits_proj"), &scores);
    }

    let mut probs = g.in_f32(at, &scores, |g, scores| {
        let masked = g.node(at, "Add", &[scores, &around.mask], &[]);
        g.node(at, "Softmax", &[&masked], &[Attribute::Int("axis", -1)])
    });
    if let Some(rows) = &around.rows {
        probs = g.node(at, "Mul", &[&probs, rows], &[]);
    }
    g.keep(at, "probs", &probs, &pairs);
    if config.talking_head {
        probs = mix_heads(g, &at.at("head_weights_proj"), &probs);
    }
    let context = g.node(at, "MatMul", &[&probs, &v], &[]); //                           [b, h, n, d]
    let context = g.transpose(at, &context, &[0, 2, 1, 3]);
    let context = g.reshape(at, &context, &[-1, width as i64]); //                       [b n, H]
    g.keep(at, "", &context, &tokens(width));
    context
}

/// [b n, h 3 d] to three times [b, h, n, d].
fn split_heads(g: &mut Graph<'_>, at: &Module, qkv: &Value) -> [Value; 3] {
    let shape = g.tokens_shape(&[g.config.num_attention_heads, 3 * g.config.head_size()]);
    let heads = g.node(at, "Reshape", &[qkv, &shape], &[]); //                           [b, n, h, 3 d]
    let heads = g.transpose(at, &heads, &[0, 2, 1, 3]);
    g.split(at, &heads)
}

/// x + bias, for x [b, h, n, d] and a bias [H].
fn add_bias(g: &mut Graph<'_>, at: &Module, x: &Value, name: &str) -> Value {
    let (h, d) = (g.config.num_attention_heads as i64, g.config.head_size() as i64);
    let bias = g.reshape(at, &at.parameter(name), &[h, 1, d]);
    g.node(at, "Add", &[x, &bias], &[])
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

/// Talking heads: W [h, h] times the heads of x [b, h, n, n].
fn mix_heads(g: &mut Graph<'_>, at: &Module, x: &Value) -> Value {
    let h = g.config.num_attention_heads;
    let shape = g.node(at, "Shape", &[x], &[]);
    let flat = g.reshape(at, x, &[0, 0, -1]); //                                         [b, h, n n]
    let mixed = g.node(at, "MatMul", &[&at.parameter("weight"), &flat], &[]);
    let mixed = g.node(at, "Reshape", &[&mixed, &shape], &[]);
    if g.wants_at(at, "") {
        let last = g.transpose(at, &mixed, &[0, 2, 3, 1]);
        g.keep(at, "", &last, &[Dim::Batch, Dim::Sequence, Dim::Sequence, Dim::Of(h)]);
    }
    mixed
}

/// What is added to the scores [b, 1, n, n]: 0 where query i may attend to key j, the lowest number elsewhere. The sum
/// is the lowest number in every place of a row without keys, which makes its softmax uniform.
pub(super) fn mask(g: &mut Graph<'_>, at: &Module, attention_mask: &Value) -> Value {
    let allowed = g.cast(at, attention_mask, Dtype::Bool); //                            [b, n]
    let (queries, keys) = (g.integers(&[1, 3]), g.integers(&[1, 2]));
    let queries = g.node(at, "Unsqueeze", &[&allowed, &queries], &[]); //                [b, 1, n, 1]
    let keys = g.node(at, "Unsqueeze", &[&allowed, &keys], &[]); //                      [b, 1, 1, n]
    let pairs = g.node(at, "And", &[&queries, &keys], &[]);
    let (zero, lowest) = (g.number(0.0, Dtype::F32), g.number(f32::MIN, Dtype::F32));
    g.node(at, "Where", &[&pairs, &zero, &lowest], &[])
}

/// What the probabilities are multiplied by if rows without keys are to be zero [b, 1, n, 1].
pub(super) fn rows(g: &mut Graph<'_>, at: &Module, attention_mask: &Value) -> Value {
    let allowed = g.cast(at, attention_mask, Dtype::Bool);
    let axes = g.integers(&[1, 3]);
    let rows = g.node(at, "Unsqueeze", &[&allowed, &axes], &[]);
    g.cast(at, &rows, g.dtype)
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
