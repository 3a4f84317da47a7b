//! The stack of layers: `reference/src/encoder.rs` as nodes.

use super::Around;
use super::attention::attention;
use super::functions::activate;
use super::graph::{Dim, Graph, Module, Value};

/// x₀ = embeddings, xᵢ₊₁ = layerᵢ(xᵢ): the input and the output of the last layer, [b n, H].
pub(super) fn encoder(g: &mut Graph<'_>, at: &Module, embeddings: Value, around: &Around) -> [Value; 2] {
    let (mut before, mut x) = (embeddings.clone(), embeddings);
    for i in 0..g.config.num_hidden_layers {
        let next = layer(g, &at.at(&format!("layer.{i}")), &x, None, around);
        before = std::mem::replace(&mut x, next);
    }
    [before, x]
}

/// The layer for the tokens of `queries` [b n, H], which attend to those of `hidden` [b n, H]; both are the same if
/// `queries` is absent.
pub(super) fn layer(
    g: &mut Graph<'_>,
    at: &Module,
    hidden: &Value,
    queries: Option<&Value>,
    around: &Around,
) -> Value {
    let (hidden_size, inner) = (g.config.hidden_size, g.config.intermediate_size);
    let tokens = |width| [Dim::Batch, Dim::Sequence, Dim::Of(width)];

    // a = LayerNorm(W attention(x) + b + x)
    let module = at.at("attention");
    let context = attention(g, &module.at("self"), hidden, queries, around);
    let a = output(g, &module.at("output"), &context, queries.unwrap_or(hidden));
    g.keep(&module, "", &a, &tokens(hidden_size));

    // u = act(W a + b)                                                                  [b n, I]
    let module = at.at("intermediate");
    let u = g.linear(&module.at("dense"), &a);
    g.keep(&module, "dense", &u, &tokens(inner));
    let u = activate(g, &module, g.config.hidden_act, &u);
    g.keep(&module, "", &u, &tokens(inner));

    // y = LayerNorm(W u + b + a)
    let y = output(g, &at.at("output"), &u, &a);
    g.keep(at, "", &y, &tokens(hidden_size));
    y
}

/// LayerNorm(W x + b + residual): [b n, H].
fn output(g: &mut Graph<'_>, at: &Module, x: &Value, residual: &Value) -> Value {
    let tokens = [Dim::Batch, Dim::Sequence, Dim::Of(g.config.hidden_size)];
    let x = g.linear(&at.at("dense"), x);
    g.keep(at, "dense", &x, &tokens);
    let x = g.node(at, "Add", &[&x, residual], &[]);
    let x = g.layer_norm(&at.at("LayerNorm"), &x);
    g.keep(at, "LayerNorm", &x, &tokens);
    g.keep(at, "", &x, &tokens);
    x
}
