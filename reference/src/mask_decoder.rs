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
//! A convolution is part of h if it stands before the last layer, and is not applied again.
//!
//! Source: Microsoft's `masked_language_model.py` and `bert.py`; the paper, section 3.2. Every trace names its steps
//! `emd.0` and `emd.1`.

use crate::config::DebertaConfig;
use crate::conventions::Conventions;
use crate::embeddings::position_embeddings;
use crate::error::Result;
use crate::heads::PredictionHead;
use crate::inputs::Inputs;
use crate::losses;
use crate::model::{DebertaModel, DebertaPreTrainedModel};
use crate::outputs::LogitsOutput;
use crate::params::Head;
use crate::probe::Probe;
use crate::real::Real;
use crate::tensor::Matrix;
use crate::weights::Weights;

/// How many times the mask decoder applies the last layer.
const STEPS: usize = 2;

impl DebertaConfig {
    /// How many times the class of `head` applies the last layer once more, as a mask decoder does unless positions are part
    /// of the input already.
    pub fn decoder_steps(&self, head: Head) -> usize {
        let decodes = head == Head::MaskDecoder && !self.position_biased_input && self.num_hidden_layers > 0;
        if decodes { STEPS } else { 0 }
    }

    /// Whether the class of `head` computes with absolute positions: in the input, or in its mask decoder.
    pub fn uses_positions(&self, head: Head) -> bool {
        self.position_biased_input || head == Head::MaskDecoder
    }
}

/// Masked language modelling as DeBERTa was trained for, for checkpoints with `lm_predictions` and
/// `position_embeddings`: those that Microsoft publishes. `legacy` does not matter. Masked attention rows are zero, far
/// positions clamped and buckets rounded as in Microsoft's code, if not chosen otherwise.
pub struct EnhancedMaskDecoder {
    deberta: DebertaModel,
    head: PredictionHead,
    /// [P, H]; absent if the positions are part of the input: then the last layer is applied once, as usual
    position_embeddings: Option<Matrix>,
}

impl DebertaPreTrainedModel for EnhancedMaskDecoder {
    /// `logits` [b, n, V]; the hidden states are those of the base model.
    type Output<F: Real> = LogitsOutput<F>;

    const HEAD: Head = Head::MaskDecoder;

    fn new(config: DebertaConfig, weights: &Weights) -> Result<Self> {
        let config = DebertaConfig { legacy: false, ..config };
        Ok(EnhancedMaskDecoder {
            head: PredictionHead::lm_predictions(&config, weights)?,
            position_embeddings: (!config.position_biased_input)
                .then(|| weights.at("deberta.embeddings.position_embeddings").matrix("weight"))
                .transpose()?,
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
        let states = Inputs { output_hidden_states: true, ..inputs.clone() };
        let (base, mut around) = self.deberta.run(&states, &mut probe.at("deberta"))?;
        let hidden_states = base.hidden_states.unwrap_or_default();

        let mut q = base.last_hidden_state;
        if let (Some(table), [.., h, _], Some(layer)) =
            (&self.position_embeddings, &hidden_states[..], self.deberta.encoder.layers.last())
        {
            let (b, n, _) = h.dim();
            around.attentions = false;
            q = h + &position_embeddings::<F>(table, inputs, b, n)?;
            for step in 0..self.config().decoder_steps(Self::HEAD) {
                q = layer.forward(h, Some(&q), &around, &mut probe.at(format_args!("emd.{step}")))?.0;
            }
        }

        let mut at = probe.at("lm_predictions.lm_head");
        let x = self.head.transform(&q, &mut at)?;
        let logits = at.keep("", self.head.decode(&x, &self.deberta.embeddings.word_embeddings))?;
        let logits = probe.keep("lm_predictions", logits)?.into_dyn();
        let hidden_states = inputs.output_hidden_states.then_some(hidden_states);
        Ok(LogitsOutput { loss: None, logits, hidden_states, attentions: base.attentions })
    }

    /// The mean cross-entropy over the labels that count, [`DebertaConfig::counts_label`].
    fn add_loss<F: Real>(&self, inputs: &Inputs, output: &mut LogitsOutput<F>) -> Result<()> {
        if let Some(labels) = &inputs.labels {
            let counts = |label| self.config().counts_label(Self::HEAD, label);
            output.loss = Some(losses::tokens(&output.logits, labels, counts)?);
        }
        Ok(())
    }
}
