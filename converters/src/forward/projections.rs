//! Queries, keys and values of the tokens: `reference/src/projections.rs` as nodes.

use super::graph::{Dim, Graph, Module, Value};

/// q, divided by the scale, k and v [b, h, n, d]: keys and values from `hidden` [b n, H], queries from `queries` [b n, H], or
/// from `hidden` too.
pub(super) fn projections(
    g: &mut Graph<'_>,
    at: &Module,
    hidden: &Value,
    queries: Option<&Value>,
) -> [Value; 3] {
    let divisor = g.number(g.config.attention_scale() as f32, g.dtype);
    if g.config.has_in_proj() {
        interleaved(g, at, hidden, queries, &divisor)
    } else {
        separate(g, at, hidden, queries, &divisor)
    }
}

/// One projection for all three, interleaved by heads: version 1.
fn interleaved(
    g: &mut Graph<'_>,
    at: &Module,
    hidden: &Value,
    queries: Option<&Value>,
    divisor: &Value,
) -> [Value; 3] {
    let tokens = [Dim::Batch, Dim::Sequence, Dim::Of(3 * g.config.hidden_size)];
    // [q; k; v] = in_proj x, interleaved by heads                                       [b n, h 3 d]
    let in_proj = at.at("in_proj");
    let qkv = g.linear_without_bias(&in_proj, hidden);
    g.keep(&in_proj, "", &qkv, &tokens);
    let [mut q, k, v] = split_heads(g, at, &qkv); //                                     [b, h, n, d]
    if let Some(queries) = queries {
        let projected = g.linear_without_bias(&in_proj, queries);
        g.keep(at, "query_proj", &projected, &tokens);
        [q, _, _] = split_heads(g, at, &projected);
    }
    let q = add_bias(g, at, &q, "q_bias");
    let q = g.node(at, "Div", &[&q, divisor], &[]);
    let v = add_bias(g, at, &v, "v_bias");
    [q, k, v]
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

/// A projection each, with a bias: version 2.
fn separate(
    g: &mut Graph<'_>,
    at: &Module,
    hidden: &Value,
    queries: Option<&Value>,
    divisor: &Value,
) -> [Value; 3] {
    let tokens = [Dim::Batch, Dim::Sequence, Dim::Of(g.config.hidden_size)];
    let shape = g.tokens_shape(&[g.config.num_attention_heads, g.config.head_size()]);
    let inputs = [("query_proj", queries.unwrap_or(hidden)), ("key_proj", hidden), ("value_proj", hidden)];
    let [q, k, v] = inputs.map(|(name, x)| {
        let proj = at.at(name);
        let x = g.linear(&proj, x); //                                                   [b n, H]
        g.keep(&proj, "", &x, &tokens);
        let heads = g.node(&proj, "Reshape", &[&x, &shape], &[]); //                     [b, n, h, d]
        g.transpose(&proj, &heads, &[0, 2, 1, 3])
    });
    [g.node(at, "Div", &[&q, divisor], &[]), k, v]
}
