//! Changes of a model.

use std::ops::Range;

use deberta_reference::{Param, Part, Tensor};

use super::{Mistake, Model, Setting};
use crate::judge::tolerance::Precision;

/// A change of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Transposes a square matrix.
    Transpose(String),
    /// Puts rows (entries of a vector) into another order: row `i` becomes the old row `order[i]`.
    Rows {
        /// The parameter.
        name: String,
        /// The old row of every new one; as many as there will be.
        order: Vec<usize>,
    },
    /// Puts the columns of a matrix into another order.
    Columns {
        /// The parameter.
        name: String,
        /// The old column of every new one.
        order: Vec<usize>,
    },
    /// Takes the numbers of a matrix `[out, in]`, as they follow each other, for another order of its axes.
    Reshape {
        /// The parameter.
        name: String,
        /// Whether the numbers are those of `[in, out]`, read as if they were `[out, in]`; or the other way round, which undoes
        /// it.
        back: bool,
    },
    /// Takes the kernel of a convolution for one that is stored in another order.
    Kernel(String, KernelOrder),
    /// Exchanges two parameters of one shape.
    Swap(String, String),
    /// Overwrites a parameter with another one of its shape, or adds it.
    Copy {
        /// Where the numbers come from.
        from: String,
        /// Where they go.
        to: String,
    },
    /// Multiplies numbers of a parameter.
    Scale {
        /// The parameter.
        name: String,
        /// The rows; all if absent.
        rows: Option<Vec<Range<usize>>>,
        /// By what.
        factor: f32,
    },
    /// Sets all numbers of a parameter to one.
    Fill(String, f32),
    /// Adds to single numbers of a parameter, which are counted row by row.
    Add(String, Vec<(usize, f32)>),
    /// Replaces all numbers of a parameter.
    Replace(String, Vec<f32>),
    /// Adds a parameter.
    Insert {
        /// Its name.
        name: String,
        /// The length of each axis.
        shape: Vec<usize>,
        /// Its numbers.
        values: Vec<f32>,
    },
    /// Rounds all numbers of a parameter to a lower precision.
    Round(String, Precision),
    /// Rounds all numbers of a parameter to whole steps from -127 to 127 of its largest, or of the largest of each row.
    Quantize {
        /// The parameter.
        name: String,
        /// Whether every row has a step of its own.
        by_row: bool,
    },
    /// Takes old layers for the new ones: layer `i` becomes the old layer `order[i]`, and there are as many as in `order`.
    Layers(Vec<usize>),
    /// Removes the parameters that the class does not have with its configuration, as if a file had never had them.
    Forget,
    /// Changes the configuration.
    Config(Setting),
    /// Computes a formula wrongly.
    Mistake(Mistake),
}

/// How the numbers of a kernel `[out, in, k]` may be stored by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelOrder {
    /// The last of the k taps first.
    Reversed,
    /// `[in, out, k]`, where both are as long.
    InOut,
    /// `[k, in, out]`, as in Keras, read as if it were `[out, in, k]`.
    Keras,
    /// `[out, in, k]` read as if it were `[k, in, out]` and turned: what undoes [`KernelOrder::Keras`].
    PyTorch,
}

impl Change {
    /// Changes the model; nothing if it has no such parameter, or one of another shape.
    pub(super) fn apply(&self, model: &mut Model) -> Option<()> {
        match self {
            Change::Transpose(name) => {
                let &[rows, columns] = model.shape(name)? else { return None };
                let old = model.values(name)?;
                let value = |at: usize| old.get(at % rows * columns + at / rows).copied();
                let new = (rows == columns).then(|| (0..old.len()).map(value).collect::<Option<_>>())??;
                model.replace(name, new)
            }
            Change::Rows { name, order } => {
                let old = model.parameter(name)?.clone();
                let width = old.shape.iter().skip(1).product::<usize>();
                let values = (*old.values).as_ref();
                let mut new = Vec::with_capacity(order.len() * width);
                for &row in order {
                    new.extend_from_slice(values.get(row * width..(row + 1) * width)?);
                }
                let mut shape = old.shape.clone();
                *shape.first_mut()? = order.len();
                model.insert(name.as_str(), Tensor::new(shape, new));
                Some(())
            }
            Change::Columns { name, order } => {
                let &[_, width] = model.shape(name)? else { return None };
                let rows = model.values(name)?.chunks_exact(width);
                let new = rows.flat_map(|row| order.iter().map(|&column| row.get(column).copied()));
                model.replace(name, new.collect::<Option<_>>()?)
            }
            Change::Reshape { name, back } => {
                let &[rows, columns] = model.shape(name)? else { return None };
                let old = model.values(name)?;
                let from = |at: usize| match back {
                    true => at % columns * rows + at / columns,
                    false => at % rows * columns + at / rows,
                };
                let new = (0..old.len()).map(|at| old.get(from(at)).copied()).collect::<Option<_>>()?;
                model.replace(name, new)
            }
            Change::Kernel(name, order) => {
                let &[out, input, taps] = model.shape(name)? else { return None };
                let old = model.values(name)?;
                (*order != KernelOrder::InOut || out == input).then_some(())?;
                let from = |at: usize| {
                    let (o, i, k) = (at / taps / input, at / taps % input, at % taps);
                    match order {
                        KernelOrder::Reversed => (o * input + i) * taps + taps - 1 - k,
                        KernelOrder::InOut => (i * input + o) * taps + k,
                        KernelOrder::Keras => {
                            let (k, i, o) = (at / out / input, at / out % input, at % out);
                            (o * input + i) * taps + k
                        }
                        KernelOrder::PyTorch => (k * input + i) * out + o,
                    }
                };
                let new = (0..old.len()).map(|at| old.get(from(at)).copied()).collect::<Option<_>>()?;
                model.replace(name, new)
            }
            Change::Swap(a, b) => {
                let (first, second) = (model.parameter(a)?.clone(), model.parameter(b)?.clone());
                (first.shape == second.shape).then_some(())?;
                model.insert(a.as_str(), second);
                model.insert(b.as_str(), first);
                Some(())
            }
            Change::Copy { from, to } => {
                let tensor = model.parameter(from)?.clone();
                model.shape(to).is_none_or(|shape| shape == tensor.shape).then_some(())?;
                model.insert(to.as_str(), tensor);
                Some(())
            }
            Change::Scale { name, rows, factor } => {
                let width = model.shape(name)?.iter().skip(1).product::<usize>();
                let concerned =
                    |row: usize| rows.as_ref().is_none_or(|rows| rows.iter().any(|rows| rows.contains(&row)));
                let old = model.values(name)?.iter().enumerate();
                let new = old
                    .map(|(at, &value)| if concerned(at / width.max(1)) { value * factor } else { value })
                    .collect();
                model.replace(name, new)
            }
            Change::Fill(name, value) => {
                let len = model.values(name)?.len();
                model.replace(name, vec![*value; len])
            }
            Change::Add(name, at) => {
                let mut new = model.values(name)?.to_vec();
                for &(at, value) in at {
                    *new.get_mut(at)? += value;
                }
                model.replace(name, new)
            }
            Change::Replace(name, values) => model.replace(name, values.clone()),
            Change::Insert { name, shape, values } => {
                (shape.iter().product::<usize>() == values.len()).then_some(())?;
                model.insert(name.as_str(), Tensor::new(shape.clone(), values.clone()));
                Some(())
            }
            Change::Round(name, precision) => {
                let new = model.values(name)?.iter().map(|&value| precision.round(value)).collect();
                model.replace(name, new)
            }
            Change::Quantize { name, by_row } => {
                let values = model.values(name)?;
                let width = model.shape(name)?.last().copied().filter(|_| *by_row).unwrap_or(values.len());
                let rows = values.chunks(width.max(1)).flat_map(|row| {
                    let step = row.iter().fold(0.0_f32, |most, value| most.max(value.abs())) / 127.0;
                    row.iter()
                        .map(move |&value| if step > 0.0 { (value / step).round() * step } else { value })
                });
                let new = rows.collect();
                model.replace(name, new)
            }
            Change::Layers(order) => model.take_layers(order),
            Change::Forget => {
                model.forget_unused();
                Some(())
            }
            Change::Config(setting) => {
                setting.apply(model);
                Some(())
            }
            Change::Mistake(mistake) => {
                model.mistake = Some(*mistake);
                Some(())
            }
        }
    }
}

impl Precision {
    /// The nearest number of this precision.
    pub(crate) fn round(self, value: f32) -> f32 {
        match self {
            Precision::F32 | Precision::Quantized => value,
            Precision::F16 => half::f16::from_f32(value).to_f32(),
            Precision::Bf16 => half::bf16::from_f32(value).to_f32(),
        }
    }
}

impl Model {
    /// The model with some changes; nothing if one of them is of a parameter that it does not have, or has in another
    /// shape, or if buckets could not be computed then.
    pub fn with(&self, changes: &[Change]) -> Option<Model> {
        let mut model = self.clone();
        changes.iter().try_for_each(|change| change.apply(&mut model))?;
        model.config.has_sound_buckets().then_some(model)
    }

    /// Replaces the numbers of a parameter, if they are as many.
    fn replace(&mut self, name: &str, values: Vec<f32>) -> Option<()> {
        let shape = self.shape(name)?.to_vec();
        (shape.iter().product::<usize>() == values.len()).then_some(())?;
        self.insert(name, Tensor::new(shape, values));
        Some(())
    }
}

/// What multiplies all scores of a layer by a factor: queries and their biases, of tokens and of positions.
pub(crate) fn scaled_queries(model: &Model, layer: usize, factor: f32) -> Vec<Change> {
    scaled_part(model, layer, Part::Query, factor)
}

/// What multiplies queries, keys or values by a factor, with their biases, those of positions included: those of queries with
/// queries.
pub(crate) fn scaled_part(model: &Model, layer: usize, part: Part, factor: f32) -> Vec<Change> {
    let (h, d) = (model.config.num_attention_heads, model.config.head_size());
    let scaled = |(param, parts): (Param, &[Part])| {
        let positions = |known: &Part| part == Part::Query && *known == Part::PositionQuery;
        let at = parts.iter().position(|known| *known == part || positions(known))?;
        let rows = |head: usize| (head * parts.len() + at) * d..(head * parts.len() + at + 1) * d;
        Some(Change::Scale { name: param.name, rows: Some((0..h).map(rows).collect()), factor })
    };
    model.of_heads(layer).filter_map(scaled).collect()
}

/// What exchanges two layers.
pub(crate) fn swapped_layers(model: &Model, a: usize, b: usize) -> Vec<Change> {
    let of = |layer| model.params().into_iter().filter(move |param| param.layer == Some(layer));
    of(a).zip(of(b)).map(|(one, other)| Change::Swap(one.name, other.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use deberta_reference::{DebertaConfig, Family, Head, MaskedRows};

    use crate::trace::class::Class;

    fn model() -> Model {
        let config = DebertaConfig::from_json("{}").unwrap();
        let mut model = Model::empty(config, Class::of_head(Family::V1, Head::Base), MaskedRows::Uniform);
        model.insert("square", Tensor::new(vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]));
        model.insert("wide", Tensor::new(vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        model
    }

    fn after(change: Change, name: &str) -> Vec<f32> {
        model().with(&[change]).unwrap().values(name).unwrap().to_vec()
    }

    #[test]
    fn parameters_change_as_they_are_told() {
        let name = |name: &str| name.to_owned();
        assert_eq!(after(Change::Transpose(name("square")), "square"), [1.0, 3.0, 2.0, 4.0]);
        let rows = Change::Rows { name: name("wide"), order: vec![1, 0, 1] };
        assert_eq!(after(rows, "wide"), [4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let columns = Change::Columns { name: name("wide"), order: vec![2, 1, 0] };
        assert_eq!(after(columns, "wide"), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
        let scale =
            Change::Scale { name: name("square"), rows: Some(std::iter::once(1..2).collect()), factor: 2.0 };
        assert_eq!(after(scale, "square"), [1.0, 2.0, 6.0, 8.0]);
        assert_eq!(after(Change::Add(name("square"), vec![(2, 0.5)]), "square"), [1.0, 2.0, 3.5, 4.0]);
        let eps = model().with(&[Change::Config(Setting::Eps(1e-12))]).unwrap();
        assert_eq!(eps.config.layer_norm_eps, 1e-12);
    }

    #[test]
    fn buckets_that_are_not_used_are_in_nobodys_way() {
        let relative = |on: bool, max: usize| {
            [Setting::Relative(on), Setting::Buckets(Some(8)), Setting::MaxRelative(max)].map(Change::Config)
        };
        assert!(model().with(&relative(false, 4)).is_some());
        assert!(model().with(&relative(true, 4)).is_none());
        assert!(model().with(&relative(true, 5)).is_none());
        assert!(model().with(&relative(true, 6)).is_some());
    }

    #[test]
    fn what_does_not_fit_is_not_done() {
        let name = |name: &str| name.to_owned();
        assert!(model().with(&[Change::Transpose(name("wide"))]).is_none());
        assert!(model().with(&[Change::Swap(name("wide"), name("square"))]).is_none());
        assert!(model().with(&[Change::Fill(name("absent"), 0.0)]).is_none());
        assert!(model().with(&[Change::Add(name("square"), vec![(4, 1.0)])]).is_none());
        assert!(model().with(&[Change::Replace(name("square"), vec![1.0])]).is_none());
    }
}
