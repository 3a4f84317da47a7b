//! From tokens to the input of the first layer: `reference/src/embeddings.rs` as nodes.

use super::around::Around;
use super::graph::{Dim, Graph, Module, Value};
use crate::format::onnx::Attribute;

/// x = m LayerNorm(P (word + position + token type)), m being the mask: [b n, H].
pub(super) fn embeddings(g: &mut Graph<'_>, at: &Module, around: &Around) -> Value {
    let config = g.config;
    let (e, h) = (config.embedding_size, config.hidden_size);
    let wide = |width| [Dim::Batch, Dim::Sequence, Dim::Of(width)];

    let mut x = gather(g, &at.at("word_embeddings"), &g.input_ids.clone()); //              [b, n, E]
    g.keep(at, "word_embeddings", &x, &wide(e));
    if config.position_biased_input {
        let positions = position_embeddings(g, at, around); //                           [1, n, E]
        g.keep(at, "position_embeddings", &positions, &[Dim::Of(1), Dim::Sequence, Dim::Of(e)]);
        x = g.node(at, "Add", &[&x, &positions], &[]);
    }
    if let Some(token_type_ids) = &around.token_type_ids {
        let types = gather(g, &at.at("token_type_embeddings"), token_type_ids);
        g.keep(at, "token_type_embeddings", &types, &wide(e));
        x = g.node(at, "Add", &[&x, &types], &[]);
    }

    let mut x = g.reshape(at, &x, &[-1, e as i64]); //                                   [b n, E]
    if e != h {
        let proj = at.at("embed_proj");
        x = g.linear_without_bias(&proj, &x); //                                         [b n, H]
        g.keep(&proj, "", &x, &wide(h));
    }
    let norm = at.at("LayerNorm");
    let x = g.layer_norm(&norm, &x);
    g.keep(&norm, "", &x, &wide(h));
    let x = times_mask(g, at, &x, around);
    g.keep(at, "", &x, &wide(h));
    x
}

/// m x, m being the mask: [b n, H].
pub(super) fn times_mask(g: &mut Graph<'_>, at: &Module, x: &Value, around: &Around) -> Value {
    let mask = g.cast(at, &around.attention_mask, g.dtype);
    let mask = g.reshape(at, &mask, &[-1, 1]); //                                        [b n, 1]
    g.node(at, "Mul", &[x, &mask], &[])
}

/// The rows of the table [P, E] for positions 0, 1, …, n - 1: [1, n, E]. More than P tokens are an error of the runtime.
pub(super) fn position_embeddings(g: &mut Graph<'_>, at: &Module, around: &Around) -> Value {
    let table = at.at("position_embeddings");
    let (zero, one) = (g.integer(0), g.integer(1));
    let positions = g.node(&table, "Range", &[&zero, &around.n, &one], &[]); //          [n]
    let rows = gather(g, &table, &positions); //                                         [n, E]
    let axis = g.integers(&[0]);
    g.node(&table, "Unsqueeze", &[&rows, &axis], &[])
}

/// The rows of a table that `ids` name.
fn gather(g: &mut Graph<'_>, table: &Module, ids: &Value) -> Value {
    g.node(table, "Gather", &[&table.parameter("weight"), ids], &[Attribute::Int("axis", 0)])
}
