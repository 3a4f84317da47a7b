//! The enhanced mask decoder: how DeBERTa was pre-trained. Absent from transformers.
//!
//! The relative attention knows no absolute positions; they come in here, just before the masked tokens are predicted.
//! With h the input of the last layer, p the absolute position embeddings, and layer(q, kv) the last layer with queries
//! from q and keys and values from kv:
//!
//! ```text
//! q₀ = p + h     q₁ = layer(q₀, h)     q₂ = layer(q₁, h)     logits = lm_head(q₂) Eᵀ + b
//! ```
//!
//! Source: Microsoft's `masked_language_model.py` and `bert.py`; the paper, section 3.2.

use crate::config::DebertaConfig;
use crate::embeddings::position_embeddings;
use crate::error::Result;
use crate::heads::PredictionHead;
use crate::inputs::{Inputs, Mask};
use crate::losses;
use crate::model::{DebertaModel, DebertaPreTrainedModel};
use crate::ops::MaskedRows;
use crate::outputs::LogitsOutput;
use crate::params::{Head, params};
use crate::probe::Probe;
use crate::real::Real;
use crate::tensor::Matrix;
use crate::weights::{LoadReport, TensorSource, Weights};

/// Masked language modelling as DeBERTa was trained for, for checkpoints with `lm_predictions` and
/// `position_embeddings`: those that Microsoft publishes.
pub struct EnhancedMaskDecoder {
    deberta: DebertaModel,
    head: PredictionHead,
    /// [P, H]; absent if the positions are part of the input: then the last layer is applied once, as usual
    position_embeddings: Option<Matrix>,
}

impl EnhancedMaskDecoder {
    /// How many times the last layer is applied.
    const STEPS: usize = 2;

    /// Loads the model from a checkpoint; `legacy` does not matter. Masked attention rows are zero, as in Microsoft's
    /// code.
    ///
    /// # Errors
    /// Missing parameters and parameters of the wrong shape, all of them listed.
    pub fn from_pretrained(config: DebertaConfig, source: &dyn TensorSource) -> Result<(Self, LoadReport)> {
        let config = DebertaConfig { legacy: false, ..config };
        let mut params = params(&config, Head::MaskedLm);
        params.iter_mut().for_each(|param| param.required = true);
        let (weights, report) = Weights::read(Head::MaskedLm, &params, source)?;
        let decoder = EnhancedMaskDecoder {
            head: PredictionHead::lm_predictions(&config, &weights)?,
            position_embeddings: (!config.position_biased_input)
                .then(|| weights.at("deberta.embeddings.position_embeddings").matrix("weight"))
                .transpose()?,
            deberta: DebertaModel::at(config, &weights.at("deberta"))?.with_masked_rows(MaskedRows::Zero),
        };
        Ok((decoder, report))
    }

    /// Chooses what becomes of attention rows whose every key is masked; zero if not chosen.
    pub fn with_masked_rows(mut self, masked_rows: MaskedRows) -> Self {
        self.deberta = self.deberta.with_masked_rows(masked_rows);
        self
    }

    /// The configuration.
    pub fn config(&self) -> &DebertaConfig {
        self.deberta.config()
    }

    /// Predicts the token of every position: `logits` [b, n, V]. The hidden states are those of the base model. The
    /// loss is the mean cross-entropy over the labels that are not -100.
    ///
    /// # Errors
    /// Inputs that do not fit the model or each other; more than P tokens.
    pub fn forward(&self, inputs: &Inputs, probe: &mut Probe<'_>) -> Result<LogitsOutput> {
        self.forward_in(inputs, probe)
    }

    /// The same in f32 or f64, as in [`DebertaPreTrainedModel::forward_in`].
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_in<F: Real>(&self, inputs: &Inputs, probe: &mut Probe<'_, F>) -> Result<LogitsOutput<F>> {
        let states = Inputs { output_hidden_states: true, ..inputs.clone() };
        let base = self.deberta.predict(&states, &mut probe.at("deberta"))?;
        let hidden_states = base.hidden_states.unwrap_or_default();

        let mut q = base.last_hidden_state;
        if let (Some(table), [.., h, _], Some(layer)) =
            (&self.position_embeddings, &hidden_states[..], self.deberta.encoder.layers.last())
        {
            let (b, n, _) = h.dim();
            let mask = Mask::new(inputs.attention_mask.as_ref(), b, n)?;
            let around =
                self.deberta.surroundings(&Inputs { output_attentions: false, ..inputs.clone() }, &mask);
            q = h + &position_embeddings::<F>(table, inputs, b, n)?;
            for step in 0..Self::STEPS {
                q = layer.forward(h, Some(&q), &around, &mut probe.at(format_args!("emd.{step}")))?.0;
            }
        }

        let mut at = probe.at("lm_predictions.lm_head");
        let x = self.head.transform(&q, &mut at)?;
        let logits = at.keep("", self.head.decode(&x, &self.deberta.embeddings.word_embeddings))?;
        let logits = probe.keep("lm_predictions", logits)?.into_dyn();
        let loss = match &inputs.labels {
            Some(labels) => Some(losses::token_classification(&logits, labels)?),
            None => None,
        };
        let hidden_states = inputs.output_hidden_states.then_some(hidden_states);
        Ok(LogitsOutput { loss, logits, hidden_states, attentions: base.attentions })
    }
}
