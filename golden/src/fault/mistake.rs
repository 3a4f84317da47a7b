//! Formulas that are computed wrongly.
//!
//! The reference implementation has no code for them. What a wrong formula computes is found by running models that are
//! right, with other weights or inputs, and put in the place of what the right formula computes.

use deberta_converters::error::{Error, Result};
use deberta_reference::{Inputs, Module, Tensor as Parameter, locate};
use ndarray::{ArrayD, Axis};

use super::{Model, RowRule, scaled_queries};
use crate::backend::Backend as _;
use crate::trace::file::Trace;
use crate::trace::inputs::dims;
use crate::trace::tensor::{Data, Tensor};

/// A formula that is computed wrongly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mistake {
    /// Scores are divided by another number: they are this many times what they should be.
    Scale(f32),
    /// The rows of the relative position table are found otherwise, for each of the two terms.
    Rows {
        /// For keys of positions.
        c2p: RowRule,
        /// For queries of positions.
        p2c: RowRule,
    },
    /// The convolution is one of the output of layer 0, not of the embeddings.
    ConvolutionInput,
    /// The convolution does not look at the mask.
    UnmaskedConvolution,
}

/// Values of points that are given to a run instead of what it would compute.
type Given = Vec<(String, ArrayD<f32>)>;

impl Model {
    /// Runs the model, with its mistake if it makes one. Arguments as in [`Backend::run`](crate::backend::Backend::run).
    ///
    /// # Errors
    /// A model that cannot be built; inputs that it does not take.
    pub(crate) fn run(&self, inputs: &Inputs, points: &[&str], given: Given) -> Result<Trace> {
        let mut right = self.clone();
        right.mistake = None;
        match self.mistake {
            None => self.build()?.run(inputs, points, given),
            Some(Mistake::Scale(factor)) => right.run_scaled(factor, inputs, points, given),
            Some(Mistake::Rows { c2p, p2c }) => right.run_with_rows([c2p, p2c], inputs, points, given),
            Some(Mistake::ConvolutionInput) => right.run_with_other_convolution(inputs, points, given),
            Some(Mistake::UnmaskedConvolution) => right.run_unmasked(inputs, points, given),
        }
    }

    /// Queries a factor too large compute the scores; what is recorded of them is not.
    ///
    /// # Errors
    /// Queries that cannot be scaled, besides those of [`Model::run`].
    fn run_scaled(&self, factor: f32, inputs: &Inputs, points: &[&str], mut given: Given) -> Result<Trace> {
        let layers = 0..self.config.num_hidden_layers;
        let changes: Vec<_> = layers.flat_map(|layer| scaled_queries(self, layer, factor)).collect();
        let scaled = self.with(&changes).ok_or_else(|| {
            Error::malformed("the scores cannot be scaled: a weight or a bias of the queries is missing or has another shape")
        })?;
        for (path, values) in &mut given {
            if let Some(in_channel) = self.queries_at(path) {
                let channels = values.shape().last().copied().unwrap_or(1).max(1);
                let numbers = values.iter_mut().enumerate();
                numbers.filter(|(at, _)| in_channel(at % channels)).for_each(|(_, value)| *value *= factor);
            }
        }
        let mut trace = scaled.build()?.run(inputs, points, given)?;
        for tensor in &mut trace.tensors {
            let Some(in_channel) = self.queries_at(path_of(tensor)) else { continue };
            let channels = tensor.shape.last().copied().unwrap_or(1).max(1);
            if let Data::Floats(values) = &mut tensor.data {
                let numbers = values.iter_mut().enumerate();
                numbers.filter(|(at, _)| in_channel(at % channels)).for_each(|(_, value)| *value /= factor);
            }
        }
        Ok(trace)
    }

    /// Which channels of a point are queries, if any are.
    fn queries_at(&self, path: &str) -> Option<impl Fn(usize) -> bool + use<>> {
        use Module::{InProj, PosQProj, PosQueryProj, QueryProj};
        let (_, module) = locate(path)?;
        let (d, parts) = (self.config.head_size(), if module == InProj { 3 } else { 1 });
        let has_queries = matches!(module, InProj | QueryProj | PosQProj | PosQueryProj);
        has_queries.then_some(move |channel: usize| (channel / d).is_multiple_of(parts))
    }

    /// A model with a row for every distance computes with the rows that the rules name. What is recorded of the table is
    /// that of the right one, which does not depend on the tokens.
    fn run_with_rows(
        &self,
        rules: [RowRule; 2],
        inputs: &Inputs,
        points: &[&str],
        given: Given,
    ) -> Result<Trace> {
        use Module::{PosKeyProj, PosProj, PosQProj, PosQueryProj, TableLayerNorm};
        let n = dims(inputs).map_or(1, |(_, n)| n.max(1));
        let of_table = |path: &str| match locate(path).map(|(_, module)| module) {
            Some(PosProj | PosKeyProj) => Some(rules.first().copied()),
            Some(PosQProj | PosQueryProj) => Some(rules.last().copied()),
            Some(TableLayerNorm) => Some(None),
            _ => None,
        };
        let projections =
            [PosProj, PosKeyProj, PosQProj, PosQueryProj].map(|module| format!("*{}", module.path()));
        let watched: Vec<&str> =
            points.iter().copied().chain(projections.iter().map(String::as_str)).collect();
        let right = self.build()?.run(inputs, &watched, given.clone())?;

        let mut wide = self.clone();
        wide.config.position_buckets = None;
        wide.config.max_relative_positions = i64::try_from(n).unwrap_or(i64::MAX);
        let hidden = self.config.hidden_size;
        let table = Parameter::new(vec![2 * n, hidden], vec![0.0; 2 * n * hidden]);
        wide.insert(self.weight(Module::RelEmbeddings, 0), table);
        let (of_positions, mut kept): (Given, Given) =
            given.into_iter().partition(|(path, _)| of_table(path).is_some());
        for tensor in &right.tensors {
            let path = path_of(tensor);
            let Some(Some(rule)) = of_table(path) else { continue };
            let own = || array(tensor);
            let rows = of_positions.iter().find(|(known, _)| known == path).map(|(_, rows)| rows.clone());
            let Some(rows) = rows.or_else(own) else { continue };
            kept.push((path.to_owned(), self.gathered(&rows, rule, n)?));
        }
        let recorded = |tensor: &Tensor| of_table(path_of(tensor)).is_some();
        let asked = |path: &str| points.iter().any(|point| deberta_reference::probe::matches(point, path));
        let mut trace = wide.build()?.run(inputs, points, kept)?;
        trace.tensors.retain(|tensor| !recorded(tensor));
        trace
            .tensors
            .extend(right.tensors.into_iter().filter(|tensor| recorded(tensor) && asked(path_of(tensor))));
        Ok(trace)
    }

    /// Rows [1, 2n, H] for the distances from -n to n - 1, of those that the right model projects [1, 2s, H].
    fn gathered(&self, projected: &ArrayD<f32>, rule: RowRule, n: usize) -> Result<ArrayD<f32>> {
        let start = self.config.distances().projected(n).start;
        let known = projected.shape().get(1).copied().unwrap_or(0);
        let n = n.cast_signed();
        let rows: Vec<usize> = (-n..n)
            .map(|distance| rule.row(self, distance.max(1 - n)).saturating_sub(start))
            .map(|row| row.min(known.saturating_sub(1)))
            .collect();
        if projected.ndim() != 3 || known == 0 {
            return Err(Error::malformed("the projected positions are not [1, rows, H]"));
        }
        Ok(projected.select(Axis(1), &rows))
    }

    /// The convolution of the output of layer 0 is that of embeddings that are this output.
    fn run_with_other_convolution(&self, inputs: &Inputs, points: &[&str], given: Given) -> Result<Trace> {
        let [layer, conv, embeddings] =
            [Module::Layer, Module::Conv, Module::Embeddings].map(|module| self.path(module, 0));
        let model = self.build()?;
        let first = model.run(inputs, &[&layer], given.clone())?;
        let Some(output) = value(&given, &layer).or_else(|| recorded(&first, &layer)) else {
            return model.run(inputs, points, given);
        };
        let mut instead = given.clone();
        instead.retain(|(path, _)| *path != embeddings);
        instead.push((embeddings, output));
        let second = model.run(inputs, &[&conv], instead)?;
        self.run_replacing(&[(conv.clone(), recorded(&second, &conv))], inputs, points, given)
    }

    /// The convolution of inputs without a mask, after a layer 0 with one.
    fn run_unmasked(&self, inputs: &Inputs, points: &[&str], given: Given) -> Result<Trace> {
        let [layer, conv, norm, output] =
            [Module::Layer, Module::Conv, Module::ConvLayerNorm, Module::Convolution]
                .map(|module| self.path(module, 0));
        let model = self.build()?;
        let first = model.run(inputs, &[&layer, &conv], given.clone())?;
        let mut instead = given.clone();
        for path in [&layer, &conv] {
            if value(&given, path).is_none() {
                instead.extend(recorded(&first, path).map(|values| (path.clone(), values)));
            }
        }
        let unmasked = Inputs { attention_mask: None, labels: None, ..inputs.clone() };
        let second = model.run(&unmasked, &[&norm, &output], instead)?;
        let wrong = [&norm, &output].map(|path| (path.clone(), recorded(&second, path)));
        self.run_replacing(&wrong, inputs, points, given)
    }

    /// A run in which some points have other values, which are what is recorded there.
    fn run_replacing(
        &self,
        wrong: &[(String, Option<ArrayD<f32>>)],
        inputs: &Inputs,
        points: &[&str],
        mut given: Given,
    ) -> Result<Trace> {
        for (path, values) in wrong {
            if value(&given, path).is_none() {
                given.extend(values.clone().map(|values| (path.clone(), values)));
            }
        }
        let mut trace = self.build()?.run(inputs, points, given)?;
        for (path, values) in wrong {
            let known = trace.tensors.iter_mut().find(|tensor| path_of(tensor) == path);
            if let (Some(tensor), Some(values)) = (known, values) {
                tensor.data = Data::Floats(values.iter().copied().collect());
            }
        }
        Ok(trace)
    }

    /// Whether the mistake is one of the convolution, which is part of layer 0 alone.
    pub(crate) fn mistakes_convolution(&self) -> bool {
        matches!(self.mistake, Some(Mistake::ConvolutionInput | Mistake::UnmaskedConvolution))
    }
}

/// The path of a point of a trace; its whole name where it is none.
fn path_of(tensor: &Tensor) -> &str {
    tensor.name.strip_prefix("activations.").unwrap_or(&tensor.name)
}

fn value(given: &Given, path: &str) -> Option<ArrayD<f32>> {
    given.iter().find(|(known, _)| known == path).map(|(_, values)| values.clone())
}

fn recorded(trace: &Trace, path: &str) -> Option<ArrayD<f32>> {
    array(trace.get(&format!("activations.{path}"))?)
}

fn array(tensor: &Tensor) -> Option<ArrayD<f32>> {
    let values = tensor.data.floats()?.into_owned();
    ArrayD::from_shape_vec(tensor.shape.clone(), values).ok()
}
