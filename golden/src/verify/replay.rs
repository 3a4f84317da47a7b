//! A golden trace played again: a model on its inputs, compared with what it has.

use std::collections::HashSet;

use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{DebertaConfig, Stage};
use ndarray::ArrayD;

use super::asked::Asked;
use crate::backend::{Backend, Magnitudes};
use crate::judge::arbiter::Arbiter;
use crate::judge::compare::Comparison;
use crate::judge::verdict::PointReport;
use crate::trace::file::{Trace, TraceFile};
use crate::trace::points::rank;
use crate::trace::tensor::Tensor;

/// A golden trace, and what is needed to compare a model with it.
pub(super) struct Replay<'v> {
    pub(super) file: &'v TraceFile,
    pub(super) config: &'v DebertaConfig,
    pub(super) asked: &'v Asked,
    pub(super) comparison: Comparison<'v>,
}

impl Replay<'_> {
    /// Runs the model and compares it, in the order of execution. The arbiter, if there is one, says whose errors are larger.
    /// Returns how large the numbers of the model's activations get, too; nothing if every module was given the golden's
    /// input.
    pub(super) fn compare(
        &self,
        model: &dyn Backend,
        isolate: bool,
        arbiter: Option<&Arbiter>,
    ) -> Result<(Vec<PointReport>, Magnitudes)> {
        if isolate {
            let points = self.comparison.traces(self.file, self.computed(model, isolate)?, arbiter)?;
            return Ok((points, Vec::new()));
        }
        self.compare_in_groups(model, arbiter)
    }

    /// What the model computes at the points of the golden. If `isolate`, every module gets the golden's input, so that it
    /// is judged alone.
    pub(super) fn computed(&self, model: &dyn Backend, isolate: bool) -> Result<Trace> {
        let (names, _) = self.file.points();
        let names: Vec<&str> =
            names.into_iter().filter_map(|name| name.strip_prefix("activations.")).collect();
        if !isolate {
            return model.run(&self.asked.inputs, &names, Vec::new());
        }
        if self.file.is_sampled() {
            let message =
                "the trace has samples alone: --isolate needs whole activations, to give them to the modules";
            return Err(Error::new(Kind::Request, message));
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
        let mut candidate = model.run(&self.asked.inputs, &watched, replaced)?;
        // The hidden states of the output were replaced: what was computed is recorded at the points.
        for (output, point) in &states {
            let computed = candidate.get(&format!("activations.{point}")).cloned();
            if let (Some(computed), Some(tensor)) =
                (computed, candidate.tensors.iter_mut().find(|tensor| tensor.name == *output))
            {
                *tensor = Tensor { name: output.clone(), ..computed };
            }
        }
        Ok(candidate)
    }

    /// Runs the model once for every group of points that fit into memory together, and compares them.
    fn compare_in_groups(
        &self,
        model: &dyn Backend,
        arbiter: Option<&Arbiter>,
    ) -> Result<(Vec<PointReport>, Magnitudes)> {
        let (mut points, mut magnitudes) = (Vec::new(), Magnitudes::new());
        for names in self.groups() {
            let activations: Vec<&str> =
                names.iter().filter_map(|name| name.strip_prefix("activations.")).collect();
            let (candidate, measured) = model.run_and_measure(&self.asked.inputs, &activations)?;
            // A backend that sees all activations measures them in every run.
            let known: HashSet<&str> = magnitudes.iter().map(|(name, _)| name.as_str()).collect();
            let new: Vec<_> =
                measured.into_iter().filter(|(name, _)| !known.contains(name.as_str())).collect();
            magnitudes.extend(new);
            points.extend(self.comparison.points(self.file, &names, candidate, arbiter)?);
        }
        points.sort_by_cached_key(|point| (rank(&point.name), point.name.clone()));
        Ok((points, magnitudes))
    }

    /// The points of the golden in groups. Outputs, which every run returns, are in the first.
    fn groups(&self) -> Vec<Vec<&str>> {
        /// A gigabyte.
        const MOST: usize = 1 << 28;
        let all = self.file.points().0.into_iter();
        let (mut outputs, mut activations): (Vec<&str>, Vec<&str>) =
            all.partition(|name| name.starts_with("outputs."));
        for names in [&mut outputs, &mut activations] {
            names.sort_by_key(|name| (rank(name), *name));
        }
        let (mut groups, mut numbers) = (vec![outputs], 0_usize);
        for name in activations {
            let count = self.file.shape(name).map_or(0, |shape| shape.iter().product::<usize>());
            numbers = numbers.saturating_add(count);
            if numbers > MOST {
                numbers = count;
                groups.push(Vec::new());
            }
            if let Some(group) = groups.last_mut() {
                group.push(name);
            }
        }
        groups
    }

    /// The hidden states that the golden has, and the points that are the same.
    fn hidden_states(&self) -> Vec<(String, String)> {
        let base = self.asked.class.head.base_prefix();
        let layers = (0..=self.config.num_hidden_layers)
            .map(|i| (format!("outputs.hidden_states.{i}"), Stage::state_path(base, i, self.config)));
        layers.filter(|(output, _)| self.file.names().any(|name| name == output)).collect()
    }

    fn replacement(&self, tensor: &str, point: &str) -> Result<Option<(String, ArrayD<f32>)>> {
        let Some(Tensor { shape, data, .. }) = self.file.tensor(tensor)? else { return Ok(None) };
        let Some(values) = data.floats() else { return Ok(None) };
        let array = ArrayD::from_shape_vec(shape, values.into_owned())
            .map_err(|error| Error::malformed(error.to_string()).in_tensor(tensor))?;
        Ok(Some((point.to_owned(), array)))
    }
}
