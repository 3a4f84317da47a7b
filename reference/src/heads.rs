//! The classes of transformers with a head on the base model.

use ndarray::{Array2, Array3, Axis, s};

use crate::config::{Activation, DebertaConfig};
use crate::error::Result;
use crate::inputs::Inputs;
use crate::losses;
use crate::model::{DebertaModel, DebertaPreTrainedModel};
use crate::obstacles::unless;
use crate::ops::{LayerNorm, Linear, activate, linear};
use crate::outputs::{LogitsOutput, QuestionAnsweringOutput};
use crate::params::Head;
use crate::probe::Probe;
use crate::real::Real;
use crate::tensor::Matrix;
use crate::weights::{Scope, Weights};

/// Predicts the masked tokens.
///
/// With `legacy`, the head is `cls.predictions`; without, `lm_predictions.lm_head`, the form in which Microsoft
/// publishes it. transformers cannot load the latter if `tie_word_embeddings` is true: it overwrites the head's dense
/// layer. Here both decode by the word embeddings, except for an untied legacy head, which has its own decoder.
#[doc(alias = "DebertaV2ForMaskedLM")]
pub struct DebertaForMaskedLM {
    deberta: DebertaModel,
    head: PredictionHead,
    /// [V, E], where it is not the word embeddings
    decoder: Option<Matrix>,
}

/// Source: `LegacyDebertaLMPredictionHead`, `DebertaLMPredictionHead`: they differ in their names alone.
pub(crate) struct PredictionHead {
    dense: Linear,
    act: Activation,
    layer_norm: LayerNorm,
    /// [V]
    bias: Vec<f32>,
}

impl PredictionHead {
    /// The head whose `bias` is in `weights`, and whose dense layer and normalisation are in its part `transform`.
    fn new(config: &DebertaConfig, weights: &Scope<'_>, transform: &Scope<'_>) -> Result<Self> {
        Ok(PredictionHead {
            dense: transform.linear("dense")?,
            act: config.hidden_act,
            layer_norm: transform.layer_norm("LayerNorm", config.layer_norm_eps)?,
            bias: weights.vector("bias")?,
        })
    }

    /// `lm_predictions.lm_head`.
    pub(crate) fn lm_predictions(config: &DebertaConfig, weights: &Weights) -> Result<Self> {
        unless(config.obstacle(Head::MaskDecoder))?;
        let weights = weights.at("lm_predictions.lm_head");
        PredictionHead::new(config, &weights, &weights)
    }

    /// LayerNorm(act(W x + b)): [b, n, H] to [b, n, E].
    pub(crate) fn transform<F: Real>(&self, x: &Array3<F>, probe: &mut Probe<'_, F>) -> Result<Array3<F>> {
        let x = probe.keep("dense", self.dense.forward(x))?;
        probe.keep("LayerNorm", self.layer_norm.forward(activate(self.act, x)))
    }

    /// logits = x Eᵀ + b, E being the word embeddings: [b, n, E] to [b, n, V].
    pub(crate) fn decode<F: Real>(&self, x: &Array3<F>, decoder: &Matrix) -> Array3<F> {
        linear(x, decoder, Some(&self.bias))
    }
}

impl DebertaPreTrainedModel for DebertaForMaskedLM {
    type Output<F: Real> = LogitsOutput<F>;

    const HEAD: Head = Head::MaskedLm;

    fn new(config: DebertaConfig, weights: &Weights) -> Result<Self> {
        let head = if config.legacy {
            let cls = weights.at("cls.predictions");
            PredictionHead::new(&config, &cls, &cls.at("transform"))?
        } else {
            PredictionHead::lm_predictions(&config, weights)?
        };
        let decoder = (config.legacy && !config.tie_word_embeddings)
            .then(|| weights.at("cls.predictions.decoder").matrix("weight"))
            .transpose()?;
        Ok(DebertaForMaskedLM { deberta: DebertaModel::at(config, &weights.at("deberta"))?, head, decoder })
    }

    fn base(&self) -> &DebertaModel {
        &self.deberta
    }

    fn base_mut(&mut self) -> &mut DebertaModel {
        &mut self.deberta
    }

    fn predict<F: Real>(&self, inputs: &Inputs, probe: &mut Probe<'_, F>) -> Result<Self::Output<F>> {
        let base = self.deberta.predict(inputs, &mut probe.at("deberta"))?;
        let decoder = self.decoder.as_ref().unwrap_or(&self.deberta.embeddings.word_embeddings);
        let logits = if self.config().legacy {
            let mut at = probe.at("cls.predictions");
            let x = self.head.transform(&base.last_hidden_state, &mut at.at("transform"))?;
            let x = at.keep("transform", x)?;
            let logits = at.keep("decoder", self.head.decode(&x, decoder))?;
            let logits = at.keep("", logits)?;
            probe.keep("cls", logits)?
        } else {
            let mut at = probe.at("lm_predictions.lm_head");
            let x = self.head.transform(&base.last_hidden_state, &mut at)?;
            let logits = at.keep("", self.head.decode(&x, decoder))?;
            probe.keep("lm_predictions", logits)?
        };
        let (hidden_states, attentions) = (base.hidden_states, base.attentions);
        Ok(LogitsOutput { loss: None, logits: logits.into_dyn(), hidden_states, attentions })
    }

    fn add_loss<F: Real>(&self, inputs: &Inputs, output: &mut Self::Output<F>) -> Result<()> {
        if let Some(labels) = &inputs.labels {
            output.loss = Some(losses::token_classification(&output.logits, labels)?);
        }
        Ok(())
    }
}

/// The inputs of a class that looks at the first token of the last layer alone.
fn first_tokens(inputs: &Inputs) -> Inputs {
    Inputs { skip_padding: true, ..inputs.clone() }
}

/// What the first token says of the whole sequence. Source: `ContextPooler`.
struct Pooler {
    /// [H, H]
    dense: Linear,
    act: Activation,
}

impl Pooler {
    fn new(config: &DebertaConfig, weights: &Weights) -> Result<Self> {
        Ok(Pooler { dense: weights.at("pooler").linear("dense")?, act: config.pooler_hidden_act })
    }

    /// pooled = act(W x₀ + b), x₀ being the hidden state of the first token: [b, n, H] to [b, H].
    fn forward<F: Real>(&self, hidden: &Array3<F>, probe: &mut Probe<'_, F>) -> Result<Array2<F>> {
        let first = hidden.index_axis(Axis(1), 0).to_owned();
        let pooled = probe.keep("pooler.dense", self.dense.forward(&first))?;
        probe.keep("pooler", activate(self.act, pooled))
    }
}

/// Classifies sequences, or predicts a number for each.
#[doc(alias = "DebertaV2ForSequenceClassification")]
pub struct DebertaForSequenceClassification {
    deberta: DebertaModel,
    pooler: Pooler,
    /// [labels, H]
    classifier: Linear,
}

impl DebertaPreTrainedModel for DebertaForSequenceClassification {
    type Output<F: Real> = LogitsOutput<F>;

    const HEAD: Head = Head::SequenceClassification;

    fn new(config: DebertaConfig, weights: &Weights) -> Result<Self> {
        unless(config.obstacle(Self::HEAD))?;
        Ok(DebertaForSequenceClassification {
            pooler: Pooler::new(&config, weights)?,
            classifier: weights.at("").linear("classifier")?,
            deberta: DebertaModel::at(config, &weights.at("deberta"))?,
        })
    }

    fn base(&self) -> &DebertaModel {
        &self.deberta
    }

    fn base_mut(&mut self) -> &mut DebertaModel {
        &mut self.deberta
    }

    fn predict<F: Real>(&self, inputs: &Inputs, probe: &mut Probe<'_, F>) -> Result<Self::Output<F>> {
        let base = self.deberta.predict(&first_tokens(inputs), &mut probe.at("deberta"))?;
        let pooled = self.pooler.forward(&base.last_hidden_state, probe)?; // [b, H]
        let logits = probe.keep("classifier", self.classifier.forward(&pooled))?; // [b, labels]
        let (hidden_states, attentions) = (base.hidden_states, base.attentions);
        Ok(LogitsOutput { loss: None, logits: logits.into_dyn(), hidden_states, attentions })
    }

    fn add_loss<F: Real>(&self, inputs: &Inputs, output: &mut Self::Output<F>) -> Result<()> {
        if let Some(labels) = &inputs.labels {
            let problem_type = self.config().problem_type;
            output.loss = Some(losses::sequence_classification(&output.logits, labels, problem_type)?);
            if problem_type.is_none() && self.config().num_labels == 1 {
                // transformers returns the logits as its loss sees them                         [b]
                output.logits = output.logits.index_axis(Axis(1), 0).to_owned();
            }
        }
        Ok(())
    }
}

/// Classifies every token.
#[doc(alias = "DebertaV2ForTokenClassification")]
pub struct DebertaForTokenClassification {
    deberta: DebertaModel,
    /// [labels, H]
    classifier: Linear,
}

impl DebertaPreTrainedModel for DebertaForTokenClassification {
    type Output<F: Real> = LogitsOutput<F>;

    const HEAD: Head = Head::TokenClassification;

    fn new(config: DebertaConfig, weights: &Weights) -> Result<Self> {
        let classifier = weights.at("").linear("classifier")?;
        let deberta = DebertaModel::at(config, &weights.at("deberta"))?;
        Ok(DebertaForTokenClassification { deberta, classifier })
    }

    fn base(&self) -> &DebertaModel {
        &self.deberta
    }

    fn base_mut(&mut self) -> &mut DebertaModel {
        &mut self.deberta
    }

    fn predict<F: Real>(&self, inputs: &Inputs, probe: &mut Probe<'_, F>) -> Result<Self::Output<F>> {
        let base = self.deberta.predict(inputs, &mut probe.at("deberta"))?;
        let logits = probe.keep("classifier", self.classifier.forward(&base.last_hidden_state))?; // [b, n, labels]
        let (hidden_states, attentions) = (base.hidden_states, base.attentions);
        Ok(LogitsOutput { loss: None, logits: logits.into_dyn(), hidden_states, attentions })
    }

    fn add_loss<F: Real>(&self, inputs: &Inputs, output: &mut Self::Output<F>) -> Result<()> {
        if let Some(labels) = &inputs.labels {
            output.loss = Some(losses::token_classification(&output.logits, labels)?);
        }
        Ok(())
    }
}

/// Finds the answer to a question in a text: the tokens where it starts and ends.
#[doc(alias = "DebertaV2ForQuestionAnswering")]
pub struct DebertaForQuestionAnswering {
    deberta: DebertaModel,
    /// [2, H]
    qa_outputs: Linear,
}

impl DebertaPreTrainedModel for DebertaForQuestionAnswering {
    type Output<F: Real> = QuestionAnsweringOutput<F>;

    const HEAD: Head = Head::QuestionAnswering;

    fn new(config: DebertaConfig, weights: &Weights) -> Result<Self> {
        let qa_outputs = weights.at("").linear("qa_outputs")?;
        let deberta = DebertaModel::at(config, &weights.at("deberta"))?;
        Ok(DebertaForQuestionAnswering { deberta, qa_outputs })
    }

    fn base(&self) -> &DebertaModel {
        &self.deberta
    }

    fn base_mut(&mut self) -> &mut DebertaModel {
        &mut self.deberta
    }

    fn predict<F: Real>(&self, inputs: &Inputs, probe: &mut Probe<'_, F>) -> Result<Self::Output<F>> {
        let base = self.deberta.predict(inputs, &mut probe.at("deberta"))?;
        let logits = probe.keep("qa_outputs", self.qa_outputs.forward(&base.last_hidden_state))?; // [b, n, 2]
        let side =
            |side: usize| -> Array2<F> { logits.slice(s![.., .., side]).as_standard_layout().into_owned() };
        Ok(QuestionAnsweringOutput {
            loss: None,
            start_logits: side(0),
            end_logits: side(1),
            hidden_states: base.hidden_states,
            attentions: base.attentions,
        })
    }

    fn add_loss<F: Real>(&self, inputs: &Inputs, output: &mut Self::Output<F>) -> Result<()> {
        if let (Some(start), Some(end)) = (&inputs.start_positions, &inputs.end_positions) {
            let loss = losses::question_answering(&output.start_logits, &output.end_logits, start, end)?;
            output.loss = Some(loss);
        }
        Ok(())
    }
}

/// Chooses among the answers to a question: [`Inputs::choices`] says how many sequences belong to a question.
#[doc(alias = "DebertaV2ForMultipleChoice")]
pub struct DebertaForMultipleChoice {
    deberta: DebertaModel,
    pooler: Pooler,
    /// [1, H]
    classifier: Linear,
}

impl DebertaPreTrainedModel for DebertaForMultipleChoice {
    /// `logits` [b, c]; the hidden states and attentions are those of the b c sequences.
    type Output<F: Real> = LogitsOutput<F>;

    const HEAD: Head = Head::MultipleChoice;

    fn new(config: DebertaConfig, weights: &Weights) -> Result<Self> {
        unless(config.obstacle(Self::HEAD))?;
        Ok(DebertaForMultipleChoice {
            pooler: Pooler::new(&config, weights)?,
            classifier: weights.at("").linear("classifier")?,
            deberta: DebertaModel::at(config, &weights.at("deberta"))?,
        })
    }

    fn base(&self) -> &DebertaModel {
        &self.deberta
    }

    fn base_mut(&mut self) -> &mut DebertaModel {
        &mut self.deberta
    }

    fn predict<F: Real>(&self, inputs: &Inputs, probe: &mut Probe<'_, F>) -> Result<Self::Output<F>> {
        let choices = inputs.check_choices()?;
        let base = self.deberta.predict(&first_tokens(inputs), &mut probe.at("deberta"))?;
        let pooled = self.pooler.forward(&base.last_hidden_state, probe)?; // [b c, H]
        let scores = probe.keep("classifier", self.classifier.forward(&pooled))?; // [b c, 1]
        let by_question = |(b, c)| scores[[b * choices + c, 0]]; // [b, c]
        let logits = Array2::from_shape_fn((scores.len() / choices, choices), by_question).into_dyn();
        Ok(LogitsOutput {
            loss: None,
            logits,
            hidden_states: base.hidden_states,
            attentions: base.attentions,
        })
    }

    /// The mean cross-entropy over the choices; labels `[b]`.
    fn add_loss<F: Real>(&self, inputs: &Inputs, output: &mut Self::Output<F>) -> Result<()> {
        if let Some(labels) = &inputs.labels {
            output.loss = Some(losses::token_classification(&output.logits, labels)?);
        }
        Ok(())
    }
}
