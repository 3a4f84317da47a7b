//! The stack of layers, and the mask decoder's use of the last one: `reference/src/encoder.rs` and `mask_decoder.rs` as nodes.

use super::around::Around;
use super::attention::attention;
use super::convolution::convolution;
use super::embeddings::position_embeddings;
use super::functions::activate;
use super::graph::{Dim, Graph, Module, Value};

/// x₀ = embeddings, xᵢ₊₁ = layerᵢ(xᵢ), but x₁ = convolution(x₀, layer₀(x₀)) if there is one: the input and the output of the
/// last layer, [b n, H].
pub(super) fn encoder(g: &mut Graph<'_>, at: &Module, embeddings: Value, around: &Around) -> [Value; 2] {
    let (mut before, mut x) = (embeddings.clone(), embeddings);
    for i in 0..g.config.num_hidden_layers {
        let mut next = layer(g, &at.at(&format!("layer.{i}")), &x, None, around);
        if let Some(config) = g.config.convolution.filter(|_| i == 0) {
            next = convolution(g, &at.at("conv"), config, &x, &next, around);
        }
        before = std::mem::replace(&mut x, next);
    }
    [before, x]
}

/// The enhanced mask decoder: q₀ = p + h, q₁ = layer(q₀, h), q₂ = layer(q₁, h), from the input `h` [b n, H] of the last layer,
/// with p the absolute positions. Keys, values and relative positions are the same in all steps, and computed once.
pub(super) fn mask_decoder(
    g: &mut Graph<'_>,
    deberta: &Module,
    h: &Value,
    steps: usize,
    around: &Around,
) -> Value {
    let last = deberta.at(&format!("encoder.layer.{}", g.config.num_hidden_layers.saturating_sub(1)));
    let at = Module::new("emd");
    let shape = g.tokens_shape(&[g.config.hidden_size]);
    let tokens = g.node(&at, "Reshape", &[h, &shape], &[]); //                           [b, n, H]
    let positions = position_embeddings(g, &deberta.at("embeddings"), around); //        [1, n, H]
    let q = g.node(&at, "Add", &[&tokens, &positions], &[]);
    let mut q = g.reshape(&at, &q, &[-1, g.config.hidden_size as i64]); //               [b n, H]
    for step in 0..steps {
        q = layer(g, &Module::new(&format!("emd.{step}")).with_weights_of(&last), h, Some(&q), around);
    }
    q
}

/// The layer for the tokens of `queries` [b n, H], which attend to those of `hidden` [b n, H]; both are the same if
/// `queries` is absent.
fn layer(g: &mut Graph<'_>, at: &Module, hidden: &Value, queries: Option<&Value>, around: &Around) -> Value {
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
