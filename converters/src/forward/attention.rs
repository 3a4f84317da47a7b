//! Disentangled self-attention: `reference/src/attention.rs` as nodes.
//!
//! ```text
//! scores[i, j] = qᵢ · kⱼ  +  qᵢ · pos_key[δ(i, j)]  +  kⱼ · pos_query[δ(i, j)]
//!                  c2c               c2p                        p2c
//! context[i]   = Σⱼ softmaxⱼ(scores[i, j]) vⱼ
//! ```

use super::around::Around;
use super::graph::{Dim, Graph, Module, Value};
use super::projections::projections;
use super::relative;
use crate::format::onnx::Attribute;

/// Keys and values from `hidden` [b n, H], queries from `queries` [b n, H] or from `hidden` too: the context [b n, H].
pub(super) fn attention(
    g: &mut Graph<'_>,
    at: &Module,
    hidden: &Value,
    queries: Option<&Value>,
    around: &Around,
) -> Value {
    let config = g.config;
    let (h, width) = (config.num_attention_heads, config.hidden_size);
    let tokens = |width| [Dim::Batch, Dim::Sequence, Dim::Of(width)];
    let pairs = [Dim::Batch, Dim::Of(h), Dim::Sequence, Dim::Sequence];

    let [q, k, v] = projections(g, at, hidden, queries); //                              [b, h, n, d]
    let k_transposed = g.transpose(at, &k, &[0, 1, 3, 2]); //                            [b, h, d, n]

    let mut scores = g.node(at, "MatMul", &[&q, &k_transposed], &[]); //                 [b, h, n, n]
    g.keep(at, "c2c", &scores, &pairs);
    if let Some(positions) = around.positions.as_ref().filter(|_| config.c2p()) {
        // c2p[i, j] = (q pos_keyᵀ)[i, δ(i, j)]
        let key = relative::keys(g, at, positions); //                                   [h, d, r]
        let all = g.node(at, "MatMul", &[&q, &key], &[]); //                             [b, h, n, r]
        let c2p = g.node(at, "GatherElements", &[&all, &positions.delta], &[Attribute::Int("axis", 3)]);
        g.keep(at, "c2p", &c2p, &pairs);
        scores = g.node(at, "Add", &[&scores, &c2p], &[]);
    }
    if let Some(positions) = around.positions.as_ref().filter(|_| config.p2c()) {
        // p2c[i, j] = (pos_query kᵀ)[δ(i, j), j]
        let query = relative::queries(g, at, positions); //                              [h, r, d]
        let all = g.node(at, "MatMul", &[&query, &k_transposed], &[]); //                [b, h, r, n]
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

/// Talking heads: W [h, h] times the heads of x [b, h, n, n].
fn mix_heads(g: &mut Graph<'_>, at: &Module, x: &Value) -> Value {
    let h = g.config.num_attention_heads;
    let shape = g.node(at, "Shape", &[x], &[]);
    let flat = g.reshape(at, x, &[0, 0, -1]); //                                         [b, h, n n]
    let mixed = g.node(at, "MatMul", &[&at.parameter("weight"), &flat], &[]);
    let mixed = g.node(at, "Reshape", &[&mixed, &shape], &[]);
    if g.wants_at(at) {
        let last = g.transpose(at, &mixed, &[0, 2, 3, 1]);
        g.keep(at, "", &last, &[Dim::Batch, Dim::Sequence, Dim::Sequence, Dim::Of(h)]);
    }
    mixed
}
