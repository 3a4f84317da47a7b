//! The enhanced mask decoder: `reference/src/mask_decoder.rs` as nodes.
//!
//! ```text
//! q₀ = p + h     q₁ = layer(q₀, h)     q₂ = layer(q₁, h)
//! ```

use deberta_reference::MASK_DECODER_STEPS;

use super::Around;
use super::embeddings::position_embeddings;
use super::encoder::layer;
use super::graph::{Graph, Module, Value};

/// What the masked-LM head decodes, from the input `h` [b n, H] of the last layer. Keys, values and positions are the
/// same in all steps, and computed once.
pub(super) fn mask_decoder(g: &mut Graph<'_>, deberta: &Module, h: &Value, around: &Around) -> Value {
    let last = deberta.at(&format!("encoder.layer.{}", g.config.num_hidden_layers.saturating_sub(1)));
    let at = Module::new("emd");
    let shape = g.tokens_shape(&[g.config.hidden_size]);
    let tokens = g.node(&at, "Reshape", &[h, &shape], &[]); //                           [b, n, H]
    let positions = position_embeddings(g, &deberta.at("embeddings"), around); //        [1, n, H]
    let q = g.node(&at, "Add", &[&tokens, &positions], &[]);
    let mut q = g.reshape(&at, &q, &[-1, g.config.hidden_size as i64]); //               [b n, H]
    for step in 0..MASK_DECODER_STEPS {
        q = layer(g, &last.applied_at(&format!("emd.{step}")), h, Some(&q), around);
    }
    q
}
