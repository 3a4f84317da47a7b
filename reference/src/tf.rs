//! The TensorFlow twins of all classes. They compute the same, but for three named behaviours: attention rows whose every
//! key is masked are zero, the losses are TensorFlow's, and so is the rounding of buckets.

use crate::config::DebertaConfig;
use crate::conventions::Conventions;
use crate::error::Result;
use crate::heads::{
    DebertaForMaskedLM, DebertaForMultipleChoice, DebertaForQuestionAnswering,
    DebertaForSequenceClassification, DebertaForTokenClassification,
};
use crate::inputs::Inputs;
use crate::losses::tensorflow;
use crate::model::{DebertaModel, DebertaPreTrainedModel};
use crate::obstacles::unless;
use crate::ops::MaskedRows;
use crate::probe::Probe;
use crate::real::Real;
use crate::weights::{LoadReport, TensorSource};

/// `TFDebertaModel`.
pub type TFDebertaModel = TFDebertaPreTrainedModel<DebertaModel>;
/// `TFDebertaForMaskedLM`: always the legacy head, decoding by the word embeddings.
pub type TFDebertaForMaskedLM = TFDebertaPreTrainedModel<DebertaForMaskedLM>;
/// `TFDebertaForSequenceClassification`.
pub type TFDebertaForSequenceClassification = TFDebertaPreTrainedModel<DebertaForSequenceClassification>;
/// `TFDebertaForTokenClassification`.
pub type TFDebertaForTokenClassification = TFDebertaPreTrainedModel<DebertaForTokenClassification>;
/// `TFDebertaForQuestionAnswering`.
pub type TFDebertaForQuestionAnswering = TFDebertaPreTrainedModel<DebertaForQuestionAnswering>;
/// `TFDebertaV2ForMultipleChoice`.
pub type TFDebertaForMultipleChoice = TFDebertaPreTrainedModel<DebertaForMultipleChoice>;

/// The TensorFlow twin of a class. Source: `modeling_tf_deberta.py`, `modeling_tf_deberta_v2.py`.
pub struct TFDebertaPreTrainedModel<M>(M);

impl<M: TFLoss> TFDebertaPreTrainedModel<M> {
    /// Loads the model from a checkpoint, whatever framework wrote it.
    ///
    /// # Errors
    /// A configuration for which the TensorFlow class cannot be built, and what the PyTorch class reports.
    pub fn from_pretrained(config: DebertaConfig, source: &dyn TensorSource) -> Result<(Self, LoadReport)> {
        unless(config.obstacle_in_tensorflow())?;
        let (model, report) = M::from_pretrained(config.as_in_tensorflow(), source)?;
        Ok((Self(model.with_conventions(Conventions::TENSORFLOW)), report))
    }

    /// The configuration.
    pub fn config(&self) -> &DebertaConfig {
        self.0.config()
    }

    /// Chooses what becomes of attention rows whose every key is masked; zero if not chosen.
    pub fn with_masked_rows(self, masked_rows: MaskedRows) -> Self {
        Self(self.0.with_masked_rows(masked_rows))
    }

    /// Chooses everything in which frameworks differ; [`Conventions::TENSORFLOW`] if not chosen.
    pub fn with_conventions(self, conventions: Conventions) -> Self {
        Self(self.0.with_conventions(conventions))
    }

    /// Computes the output, and the loss if `inputs` has labels, as TensorFlow does.
    ///
    /// # Errors
    /// Inputs or labels that do not fit the model or each other.
    pub fn call(&self, inputs: &Inputs, probe: &mut Probe<'_>) -> Result<M::Output<f32>> {
        self.call_in(inputs, probe)
    }

    /// The same in f32 or f64, as in [`DebertaPreTrainedModel::forward_in`].
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_in<F: Real>(&self, inputs: &Inputs, probe: &mut Probe<'_, F>) -> Result<M::Output<F>> {
        let mut output = self.0.predict(inputs, probe)?;
        M::loss(inputs, &mut output)?;
        Ok(output)
    }
}

/// A class that TensorFlow has, with a loss of its own.
pub trait TFLoss: DebertaPreTrainedModel {
    /// Adds the loss to `output` if `inputs` has labels.
    ///
    /// # Errors
    /// Labels that do not fit the output.
    fn loss<F: Real>(inputs: &Inputs, output: &mut Self::Output<F>) -> Result<()>;
}

impl TFLoss for DebertaModel {
    fn loss<F: Real>(_: &Inputs, _: &mut Self::Output<F>) -> Result<()> {
        Ok(())
    }
}

impl TFLoss for DebertaForMaskedLM {
    fn loss<F: Real>(inputs: &Inputs, output: &mut Self::Output<F>) -> Result<()> {
        if let Some(labels) = &inputs.labels {
            output.loss = Some(tensorflow::masked_lm(&output.logits, labels)?);
        }
        Ok(())
    }
}

impl TFLoss for DebertaForSequenceClassification {
    fn loss<F: Real>(inputs: &Inputs, output: &mut Self::Output<F>) -> Result<()> {
        if let Some(labels) = &inputs.labels {
            output.loss = Some(tensorflow::sequence_classification(&output.logits, labels)?);
        }
        Ok(())
    }
}

impl TFLoss for DebertaForTokenClassification {
    fn loss<F: Real>(inputs: &Inputs, output: &mut Self::Output<F>) -> Result<()> {
        if let Some(labels) = &inputs.labels {
            output.loss = Some(tensorflow::token_classification(&output.logits, labels)?);
        }
        Ok(())
    }
}

impl TFLoss for DebertaForQuestionAnswering {
    fn loss<F: Real>(inputs: &Inputs, output: &mut Self::Output<F>) -> Result<()> {
        if let (Some(start), Some(end)) = (&inputs.start_positions, &inputs.end_positions) {
            let (starts, ends) = (&output.start_logits, &output.end_logits);
            output.loss = Some(tensorflow::question_answering(starts, ends, start, end)?);
        }
        Ok(())
    }
}

impl TFLoss for DebertaForMultipleChoice {
    fn loss<F: Real>(inputs: &Inputs, output: &mut Self::Output<F>) -> Result<()> {
        if let Some(labels) = &inputs.labels {
            output.loss = Some(tensorflow::multiple_choice(&output.logits, labels)?);
        }
        Ok(())
    }
}
