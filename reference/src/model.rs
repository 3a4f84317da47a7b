//! The base model, and what all classes have in common. Source: `DebertaModel`, `DebertaPreTrainedModel`, and the same of
//! version 2.

use std::borrow::Cow;

use crate::attention::Surroundings;
use crate::config::DebertaConfig;
use crate::conventions::Conventions;
use crate::distances::Distances;
use crate::embeddings::DebertaEmbeddings;
use crate::encoder::DebertaEncoder;
use crate::error::Result;
use crate::inputs::{Inputs, Mask};
use crate::ops::MaskedRows;
use crate::outputs::{BaseModelOutput, ModelOutput};
use crate::params::Head;
use crate::probe::Probe;
use crate::real::Real;
use crate::sequences::Sequences;
use crate::weights::{LoadReport, Scope, TensorSource, Weights};

/// What every class can do: be loaded from a checkpoint, and compute.
pub trait DebertaPreTrainedModel: Sized {
    /// What `forward` returns, as numbers of the type that was computed in.
    type Output<F: Real>: ModelOutput<F>;

    /// The class.
    const HEAD: Head;

    /// Makes the model from its parameters.
    ///
    /// # Errors
    /// A configuration that the class cannot work with, an incomplete set of parameters.
    fn new(config: DebertaConfig, weights: &Weights) -> Result<Self>;

    /// Loads the model from a checkpoint. The report lists what the checkpoint has that the model has not, and the
    /// parameters with NaN or infinity.
    ///
    /// # Errors
    /// Missing parameters and parameters of the wrong shape, all of them listed; what [`Self::new`] and the source
    /// report.
    fn from_pretrained(config: DebertaConfig, source: &dyn TensorSource) -> Result<(Self, LoadReport)> {
        let (weights, report) = Weights::read(&config, Self::HEAD, source)?;
        Ok((Self::new(config, &weights)?, report))
    }

    /// The base model.
    fn base(&self) -> &DebertaModel;

    /// The base model.
    fn base_mut(&mut self) -> &mut DebertaModel;

    /// The configuration.
    fn config(&self) -> &DebertaConfig {
        &self.base().config
    }

    /// Chooses what becomes of attention rows whose every key is masked; if not chosen, uniform as in PyTorch, and zero in
    /// [`EnhancedMaskDecoder`](crate::EnhancedMaskDecoder) and
    /// [`ReplacedTokenDetectionModel`](crate::ReplacedTokenDetectionModel).
    fn with_masked_rows(mut self, masked_rows: MaskedRows) -> Self {
        self.base_mut().masked_rows = masked_rows;
        self
    }

    /// Chooses everything in which frameworks differ; if not chosen, [`Conventions::PYTORCH`], and in
    /// [`EnhancedMaskDecoder`](crate::EnhancedMaskDecoder) and
    /// [`ReplacedTokenDetectionModel`](crate::ReplacedTokenDetectionModel) [`Conventions::MICROSOFT`].
    fn with_conventions(mut self, conventions: Conventions) -> Self {
        let base = self.base_mut();
        base.masked_rows = conventions.masked_rows;
        base.distances = base.distances.under(conventions);
        self
    }

    /// Computes the output without the loss.
    ///
    /// # Errors
    /// Inputs that do not fit the model or each other.
    fn predict<F: Real>(&self, inputs: &Inputs, probe: &mut Probe<'_, F>) -> Result<Self::Output<F>>;

    /// Adds the loss to `output` if `inputs` has labels, as PyTorch does.
    ///
    /// # Errors
    /// Labels that do not fit the output.
    fn add_loss<F: Real>(&self, inputs: &Inputs, output: &mut Self::Output<F>) -> Result<()>;

    /// Computes the output, and the loss if `inputs` has labels, as PyTorch does.
    ///
    /// # Errors
    /// Inputs or labels that do not fit the model or each other.
    fn forward(&self, inputs: &Inputs, probe: &mut Probe<'_>) -> Result<Self::Output<f32>> {
        self.forward_in(inputs, probe)
    }

    /// The same in f32 or f64: `model.forward_in::<f64>(…)` is what `model.double()(…)` is in PyTorch. The parameters
    /// are the f32 numbers of the checkpoint either way.
    ///
    /// # Errors
    /// As [`Self::forward`].
    fn forward_in<F: Real>(&self, inputs: &Inputs, probe: &mut Probe<'_, F>) -> Result<Self::Output<F>> {
        let mut output = self.predict(inputs, probe)?;
        self.add_loss(inputs, &mut output)?;
        Ok(output)
    }
}

/// DeBERTa without a head: token ids in, hidden states out.
#[doc(alias = "DebertaV2Model")]
pub struct DebertaModel {
    pub(crate) config: DebertaConfig,
    pub(crate) embeddings: DebertaEmbeddings,
    pub(crate) encoder: DebertaEncoder,
    masked_rows: MaskedRows,
    distances: Distances,
}

impl DebertaModel {
    /// Makes the model from the parameters below `weights`.
    pub(crate) fn at(config: DebertaConfig, weights: &Scope<'_>) -> Result<Self> {
        Ok(DebertaModel {
            embeddings: DebertaEmbeddings::new(&config, &weights.at("embeddings"))?,
            encoder: DebertaEncoder::new(&config, &weights.at("encoder"))?,
            distances: config.distances(),
            config,
            masked_rows: MaskedRows::default(),
        })
    }

    /// The output, and what surrounded the attention of every layer.
    pub(crate) fn run<F: Real>(
        &self,
        inputs: &Inputs,
        probe: &mut Probe<'_, F>,
    ) -> Result<(BaseModelOutput<F>, Surroundings<'_, F>)> {
        // On a thread of the pool from the start: from outside, every product would wake one and sleep until it is done. Not
        // where activations are kept: what a thread of the pool has allocated and freed stays its own.
        if probe.is_off() {
            rayon::scope(|_| self.run_here(inputs, probe))
        } else {
            self.run_here(inputs, probe)
        }
    }

    fn run_here<F: Real>(
        &self,
        inputs: &Inputs,
        probe: &mut Probe<'_, F>,
    ) -> Result<(BaseModelOutput<F>, Surroundings<'_, F>)> {
        let (tokens, b, n) = inputs.tokens(&self.config)?;
        let mask = Mask::new(inputs.attention_mask.as_ref(), b, n)?;
        let embeddings = self.embeddings.forward(inputs, &tokens, &mask, &mut probe.at("embeddings"))?;
        let shows_padding = inputs.output_hidden_states || inputs.output_attentions || !probe.is_off();
        let sequences = if inputs.skip_padding && !shows_padding && !self.config.talking_head {
            Sequences::of_tokens(&mask)
        } else {
            Sequences::whole(b, n)
        };
        let embeddings = sequences.pack(embeddings);
        let mut probe = probe.at("encoder");
        let table = self.encoder.table.as_ref();
        let around = Surroundings {
            mask,
            masked_rows: self.masked_rows,
            relative: table
                .map(|table| table.relative(self.distances, sequences.longest(), &mut probe))
                .transpose()?,
            sequences,
            attentions: inputs.output_attentions,
        };
        let mut output =
            self.encoder.forward(embeddings, &around, inputs.output_hidden_states, &mut probe)?;
        if let Cow::Owned(all) = around.sequences.unpack(&output.last_hidden_state) {
            output.last_hidden_state = all;
        }
        Ok((output, around))
    }
}

impl DebertaPreTrainedModel for DebertaModel {
    type Output<F: Real> = BaseModelOutput<F>;

    const HEAD: Head = Head::Base;

    fn new(config: DebertaConfig, weights: &Weights) -> Result<Self> {
        DebertaModel::at(config, &weights.at(""))
    }

    fn base(&self) -> &DebertaModel {
        self
    }

    fn base_mut(&mut self) -> &mut DebertaModel {
        self
    }

    fn predict<F: Real>(&self, inputs: &Inputs, probe: &mut Probe<'_, F>) -> Result<Self::Output<F>> {
        Ok(self.run(inputs, probe)?.0)
    }

    fn add_loss<F: Real>(&self, _: &Inputs, _: &mut Self::Output<F>) -> Result<()> {
        Ok(())
    }
}
