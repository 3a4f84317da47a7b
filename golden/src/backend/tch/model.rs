//! A model of any class. Source: `DebertaModel`, `DebertaV2Model` and the classes with a head on it; the mask decoder and
//! replaced token detection are Microsoft's.

use deberta_reference::distances::Distances;
use deberta_reference::weights::Weights;
use deberta_reference::{
    self as reference, DebertaConfig, Inputs, LoadReport, MaskedRows, Probe, TensorSource,
};
use tch::Tensor;

use super::attention::Surroundings;
use super::embeddings::{DebertaEmbeddings, position_embeddings};
use super::encoder::DebertaEncoder;
use super::failure::Result;
use super::heads::Head;
use super::inputs::{Mask, tokens};
use super::losses;
use super::weights::Scope;
use crate::trace::class::{Class, Code};

/// The base model and what stands on it.
pub(super) struct Model {
    config: DebertaConfig,
    class: Class,
    masked_rows: MaskedRows,
    distances: Distances,
    embeddings: DebertaEmbeddings,
    encoder: DebertaEncoder,
    head: Head,
    /// [P, H], of a mask decoder to whose input positions were not added
    positions: Option<Tensor>,
}

/// Outputs by their names in transformers.
pub(super) type Named = Vec<(String, Tensor)>;

impl Model {
    /// Loads a class. The report lists what the source has that the class has not, and the parameters with NaN or infinity.
    ///
    /// # Errors
    /// A configuration that the class cannot be built from; missing parameters and parameters of the wrong shape.
    pub(super) fn load(
        config: DebertaConfig,
        source: &dyn TensorSource,
        class: Class,
        masked_rows: MaskedRows,
    ) -> Result<(Model, LoadReport)> {
        let config = if class.code == Code::TensorFlow {
            unless(config.obstacle_in_tensorflow())?;
            config.as_in_tensorflow()
        } else {
            config
        };
        let (weights, report) = Weights::read(&config, class.head, source)?;
        unless(config.obstacle(class.head))?;
        let all = Scope::of(&weights);
        let base = all.at(class.head.base_prefix().trim_end_matches('.'));
        let decodes = config.decoder_steps(class.head) > 0;
        let positions = || base.at("embeddings.position_embeddings").tensor("weight");
        let model = Model {
            embeddings: DebertaEmbeddings::new(&config, &base.at("embeddings"))?,
            encoder: DebertaEncoder::new(&config, &base.at("encoder"))?,
            head: Head::new(&config, class.head, &all)?,
            positions: decodes.then(positions).transpose()?,
            distances: config.distances().under(class.conventions()),
            config,
            class,
            masked_rows,
        };
        Ok((model, report))
    }

    /// Computes all outputs, and the loss if `inputs` has labels.
    ///
    /// # Errors
    /// Inputs or labels that do not fit the model or each other.
    pub(super) fn forward(&self, inputs: &Inputs, probe: &mut Probe<'_>) -> Result<Named> {
        tch::no_grad(|| self.forward_without_grad(inputs, probe))
    }

    fn forward_without_grad(&self, inputs: &Inputs, probe: &mut Probe<'_>) -> Result<Named> {
        let choices =
            if self.class.head == reference::Head::MultipleChoice { inputs.check_choices()? } else { 1 };
        let (tokens, b, n) = tokens(inputs, &self.config)?;
        let mask = Mask::new(inputs.attention_mask.as_ref(), b, n)?;

        let prefix = self.class.head.base_prefix().trim_end_matches('.');
        let mut base = probe.at(prefix);
        let tokens = (&tokens, b, n);
        let embeddings = self.embeddings.forward(inputs, tokens, &mask, &mut base.at("embeddings"))?;
        let mut encoder = base.at("encoder");
        let table = self.encoder.table.as_ref();
        let relative = table.map(|table| table.relative(self.distances, n, &mut encoder)).transpose()?;
        let around = Surroundings { mask: &mask, masked_rows: self.masked_rows, relative };
        let attentions = inputs.output_attentions;
        let (last, states, attentions) =
            self.encoder.forward(embeddings, &around, attentions, &mut encoder)?;

        let x = match (&self.positions, states.last()) {
            (Some(table), Some(h)) => self.decode(table, inputs, h, &around, probe)?,
            _ => last.shallow_clone(),
        };
        let mut outputs = self.head.forward(&x, &self.embeddings.word_embeddings, choices, probe)?;
        losses::add(&mut outputs, inputs, self.class, &self.config)?;

        let mut named: Named = outputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        let states = states.into_iter().chain([last]).filter(|_| inputs.output_hidden_states).enumerate();
        named.extend(states.map(|(i, state)| (format!("hidden_states.{i}"), state)));
        let attentions = attentions.into_iter().enumerate();
        named.extend(attentions.map(|(i, probs)| (format!("attentions.{i}"), probs)));
        Ok(named)
    }

    /// The enhanced mask decoder: with h the input of the last layer and p the absolute position embeddings,
    /// q₀ = p + h, q₁ = layer(q₀, h), q₂ = layer(q₁, h), queries first: [b, n, H].
    fn decode(
        &self,
        table: &Tensor,
        inputs: &Inputs,
        h: &Tensor,
        around: &Surroundings<'_>,
        probe: &mut Probe<'_>,
    ) -> Result<Tensor> {
        let (b, n, _) = h.size3()?;
        let (b, n) = (usize::try_from(b).unwrap_or_default(), usize::try_from(n).unwrap_or_default());
        let mut q = h.f_add(&position_embeddings(table, inputs, b, n)?)?;
        let Some(layer) = self.encoder.layers.last() else { return Ok(q) };
        for step in 0..self.config.decoder_steps(self.class.head) {
            q = layer.forward(h, Some(&q), around, &mut probe.at(format_args!("emd.{step}")))?.0;
        }
        Ok(q)
    }
}

/// Turns an obstacle into an error.
fn unless(obstacle: Option<String>) -> Result<()> {
    obstacle.map_or(Ok(()), |reason| Err(reference::Error::Unsupported(reason).into()))
}
