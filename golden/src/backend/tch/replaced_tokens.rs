//! Replaced token detection. Source: Microsoft's `replaced_token_detection_model.py`, class `ReplacedTokenDetectionModel`; the
//! head is `MaskPredictionHead` there and `mask_predictions` in checkpoints.

use deberta_reference::activation::Activation;
use deberta_reference::{DebertaConfig, Probe};
use tch::Tensor;

use super::encoder::activate;
use super::failure::Result;
use super::tensors::keep;
use super::weights::{LayerNorm, Linear, Scope};

/// Says of every token whether it was replaced.
pub(super) struct MaskPredictions {
    layer_norm: LayerNorm,
    /// [H, H]
    dense: Linear,
    act: Activation,
    /// [1, H]
    classifier: Linear,
}

impl MaskPredictions {
    pub(super) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<MaskPredictions> {
        let head = weights.at("mask_predictions");
        Ok(MaskPredictions {
            layer_norm: head.layer_norm("LayerNorm", config.layer_norm_eps)?,
            dense: head.linear("dense")?,
            act: config.hidden_act,
            classifier: head.linear("classifier")?,
        })
    }

    /// z = act(W LayerNorm(h₀ + hᵢ) + b), logitᵢ = classifier z, h₀ being the hidden state of the first token: [b, n, H] to
    /// [b, n].
    pub(super) fn forward(&self, h: &Tensor, probe: &mut Probe<'_>) -> Result<Tensor> {
        let mut at = probe.at("mask_predictions");
        let x = h.f_add(&h.f_narrow(1, 0, 1)?)?; //                                      [b, n, H]
        let x = keep(&mut at, "LayerNorm", self.layer_norm.forward(&x)?)?;
        let z = activate(self.act, &keep(&mut at, "dense", self.dense.forward(&x)?)?)?;
        let logits = keep(&mut at, "classifier", self.classifier.forward(&z)?)?; //      [b, n, 1]
        keep(&mut at, "", logits.f_squeeze_dim(2)?) //                                   [b, n]
    }
}
