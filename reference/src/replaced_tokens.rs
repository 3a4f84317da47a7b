//! Replaced token detection: how DeBERTa v3 was pre-trained. Absent from transformers.
//!
//! A small generator fills masked tokens; this model says of every token whether it is still the original one. With h the
//! last hidden states and h₀ that of the first token:
//!
//! ```text
//! z = act(W LayerNorm(h₀ + hᵢ) + b)     logitᵢ = classifier z
//! ```
//!
//! Source: Microsoft's `replaced_token_detection_model.py`, class `ReplacedTokenDetectionModel`; the head is `MaskPredictionHead`
//! there and `mask_predictions` in checkpoints.

use ndarray::{Axis, s};

use crate::config::{Activation, DebertaConfig};
use crate::conventions::Conventions;
use crate::error::Result;
use crate::inputs::Inputs;
use crate::losses;
use crate::model::{DebertaModel, DebertaPreTrainedModel};
use crate::obstacles::unless;
use crate::ops::{LayerNorm, Linear, activate};
use crate::outputs::LogitsOutput;
use crate::params::Head;
use crate::probe::Probe;
use crate::real::Real;
use crate::weights::Weights;

/// The discriminator as which DeBERTa v3 was trained, for checkpoints with `mask_predictions`. Masked attention rows are
/// zero, far positions clamped and buckets rounded as in Microsoft's code, if not chosen otherwise.
pub struct ReplacedTokenDetectionModel {
    deberta: DebertaModel,
    layer_norm: LayerNorm,
    /// [H, H]
    dense: Linear,
    act: Activation,
    /// [1, H]
    classifier: Linear,
}

impl DebertaPreTrainedModel for ReplacedTokenDetectionModel {
    /// `logits` [b, n]: above 0 for tokens that were replaced.
    type Output<F: Real> = LogitsOutput<F>;

    const HEAD: Head = Head::ReplacedTokens;

    fn new(config: DebertaConfig, weights: &Weights) -> Result<Self> {
        unless(config.obstacle(Self::HEAD))?;
        let head = weights.at("mask_predictions");
        Ok(ReplacedTokenDetectionModel {
            layer_norm: head.layer_norm("LayerNorm", config.layer_norm_eps)?,
            dense: head.linear("dense")?,
            act: config.hidden_act,
            classifier: head.linear("classifier")?,
            deberta: DebertaModel::at(config, &weights.at("deberta"))?
                .with_conventions(Conventions::MICROSOFT),
        })
    }

    fn base(&self) -> &DebertaModel {
        &self.deberta
    }

    fn base_mut(&mut self) -> &mut DebertaModel {
        &mut self.deberta
    }

    fn predict<F: Real>(&self, inputs: &Inputs, probe: &mut Probe<'_, F>) -> Result<LogitsOutput<F>> {
        let base = self.deberta.predict(inputs, &mut probe.at("deberta"))?;
        let h = &base.last_hidden_state;
        let mut at = probe.at("mask_predictions");
        // z = act(W LayerNorm(h₀ + hᵢ) + b)                                             [b, n, H]
        let x = h + &h.slice(s![.., 0..1, ..]);
        let x = at.keep("LayerNorm", self.layer_norm.forward(x))?;
        let z = activate(self.act, at.keep("dense", self.dense.forward(&x))?);
        // logit = classifier z                                                          [b, n, 1]
        let logits = at.keep("classifier", self.classifier.forward(&z))?;
        let logits = at.keep("", logits.index_axis_move(Axis(2), 0))?.into_dyn(); //     [b, n]
        Ok(LogitsOutput {
            loss: None,
            logits,
            hidden_states: base.hidden_states,
            attentions: base.attentions,
        })
    }

    /// The mean binary cross-entropy over the tokens of the mask. Labels [b, n] are the original tokens where the generator
    /// chose one, and 0 elsewhere.
    fn add_loss<F: Real>(&self, inputs: &Inputs, output: &mut LogitsOutput<F>) -> Result<()> {
        if let Some(labels) = &inputs.labels {
            output.loss = Some(losses::replaced_tokens(&output.logits, labels, inputs)?);
        }
        Ok(())
    }
}
