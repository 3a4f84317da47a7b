//! One run: a model on the inputs of a trace, compared with what the trace has.

use deberta_converters::error::{Error, Result};
use deberta_reference::{DebertaConfig, Inputs};
use ndarray::ArrayD;

use crate::backend::Backend;
use crate::class::Class;
use crate::compare::{Comparison, PointReport};
use crate::trace_file::{Data, Tensor, TraceFile};

/// A golden trace, and what is needed to compare a model with it.
pub(super) struct Run<'v> {
    pub(super) file: &'v TraceFile,
    pub(super) config: &'v DebertaConfig,
    pub(super) class: Class,
    pub(super) inputs: &'v Inputs,
    pub(super) comparison: Comparison<'v>,
}

impl Run<'_> {
    /// Runs the model and compares it, in the order of execution. If `isolate`, every module gets the golden's input, so
    /// that it is judged alone.
    pub(super) fn compare(&self, model: &dyn Backend, isolate: bool) -> Result<Vec<PointReport>> {
        let names: Vec<&str> =
            self.file.names().filter_map(|name| name.strip_prefix("activations.")).collect();
        if !isolate {
            let candidate = model.run(self.inputs, &names, Vec::new())?;
            return self.comparison.traces(self.file, candidate);
        }
        let states = self.hidden_states();
        let mut replaced = Vec::new();
        for name in &names {
            replaced.extend(self.replacement(&format!("activations.{name}"), name)?);
        }
        for (output, point) in &states {
            if !names.contains(&point.as_str()) {
                replaced.extend(self.replacement(output, point)?);
            }
        }
        let watched: Vec<&str> =
            names.iter().copied().chain(states.iter().map(|(_, point)| point.as_str())).collect();
        let mut candidate = model.run(self.inputs, &watched, replaced)?;
        // The hidden states of the output were replaced: what was computed is recorded at the points.
        for (output, point) in &states {
            let computed = candidate.get(&format!("activations.{point}")).cloned();
            if let (Some(computed), Some(tensor)) =
                (computed, candidate.tensors.iter_mut().find(|tensor| tensor.name == *output))
            {
                *tensor = Tensor { name: output.clone(), ..computed };
            }
        }
        self.comparison.traces(self.file, candidate)
    }

    /// The hidden states that the golden has, and the points that are the same.
    fn hidden_states(&self) -> Vec<(String, String)> {
        let base = self.class.head().base_prefix();
        let layers = (0..=self.config.num_hidden_layers).map(|i| {
            let point = match i.checked_sub(1) {
                None => format!("{base}embeddings"),
                Some(layer) => format!("{base}encoder.layer.{layer}"),
            };
            (format!("outputs.hidden_states.{i}"), point)
        });
        layers.filter(|(output, _)| self.file.names().any(|name| name == output)).collect()
    }

    fn replacement(&self, tensor: &str, point: &str) -> Result<Option<(String, ArrayD<f32>)>> {
        let Some(Tensor { shape, data: Data::Floats(values), .. }) = self.file.tensor(tensor)? else {
            return Ok(None);
        };
        let array = ArrayD::from_shape_vec(shape, values)
            .map_err(|error| Error::malformed(error.to_string()).in_tensor(tensor))?;
        Ok(Some((point.to_owned(), array)))
    }
}
