//! The convolution after the first layer: `reference/src/convolution.rs` as nodes.
//!
//! ```text
//! o[t] = Σₖ W[:, :, k] x[t + k - (K-1)/2] + b      x the embeddings
//! o    = act(o), or act(0) where the mask is not 1
//! y    = m LayerNorm(layer₀ + o)                    m the mask
//! ```

use deberta_reference::ConvConfig;

use super::around::Around;
use super::embeddings::times_mask;
use super::functions::activate;
use super::graph::{Dim, Graph, Module, Value};
use crate::format::onnx::Attribute;

/// y [b n, H] from the embeddings [b n, H] and the output of layer 0 [b n, H].
pub(super) fn convolution(
    g: &mut Graph<'_>,
    at: &Module,
    config: ConvConfig,
    embeddings: &Value,
    layer: &Value,
    around: &Around,
) -> Value {
    let hidden = g.config.hidden_size;
    let tokens = [Dim::Batch, Dim::Sequence, Dim::Of(hidden)];
    let shape = g.tokens_shape(&[hidden]);
    let x = g.node(at, "Reshape", &[embeddings, &shape], &[]); //                        [b, n, H]
    let x = g.transpose(at, &x, &[0, 2, 1]); //                                          [b, H, n]
    let o = convolve(g, &at.at("conv"), config, &x);
    g.keep(&at.at("conv"), "", &o, &[Dim::Batch, Dim::Of(hidden), Dim::Sequence]);
    let o = g.transpose(at, &o, &[0, 2, 1]);
    let o = g.reshape(at, &o, &[-1, hidden as i64]); //                                  [b n, H]

    let (one, zero) = (g.integer(1), g.number(0.0, g.dtype));
    let is_token = g.node(at, "Equal", &[&around.attention_mask, &one], &[]); //         [b, n]
    let is_token = g.reshape(at, &is_token, &[-1, 1]); //                                [b n, 1]
    let o = g.node(at, "Where", &[&is_token, &o, &zero], &[]);
    let o = activate(g, at, config.act, &o);

    let norm = at.at("LayerNorm");
    let y = g.node(at, "Add", &[layer, &o], &[]);
    let y = g.layer_norm(&norm, &y);
    g.keep(&norm, "", &y, &tokens);
    let y = times_mask(g, at, &y, around);
    g.keep(at, "", &y, &tokens);
    y
}

/// o = W * x + b, [b, H, n]; in f32, because ONNX Runtime has no other kernel for it.
fn convolve(g: &mut Graph<'_>, at: &Module, config: ConvConfig, x: &Value) -> Value {
    let [weight, bias] = ["weight", "bias"].map(|name| g.widened(at, &at.parameter(name)));
    let around = (config.kernel / 2) as i64;
    g.in_f32(at, x, |g, x| {
        let attributes = [
            Attribute::Ints("kernel_shape", &[config.kernel as i64]),
            Attribute::Ints("pads", &[around, around]),
            Attribute::Int("group", config.groups as i64),
        ];
        g.node(at, "Conv", &[x, &weight, &bias], &attributes)
    })
}
