//! Changes of a model.

use std::ops::Range;

use deberta_reference::config::Activation;
use deberta_reference::{ConvConfig, Param, Part, Tensor};

use super::{Mistake, Model};
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

/// A line of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// `hidden_act`
    HiddenAct(Activation),
    /// `pooler_hidden_act`
    PoolerAct(Activation),
    /// `layer_norm_eps`
    Eps(f64),
    /// `pos_att_type`
    Terms(Vec<String>),
    /// `relative_attention`
    Relative(bool),
    /// `max_relative_positions`
    MaxRelative(usize),
    /// `position_biased_input`
    PositionBiased(bool),
    /// `type_vocab_size`
    TokenTypes(usize),
    /// `position_buckets`
    Buckets(Option<usize>),
    /// `share_att_key`
    ShareKeys(bool),
    /// `norm_rel_ebd`
    NormTable(bool),
    /// `conv_kernel_size` and `conv_groups`
    Convolution(Option<ConvConfig>),
    /// `conv_act`
    ConvAct(Activation),
    /// `tie_word_embeddings`
    Tie(bool),
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

impl Setting {
    fn apply(&self, model: &mut Model) {
        let config = &mut model.config;
        match self {
            Setting::HiddenAct(activation) => config.hidden_act = *activation,
            Setting::PoolerAct(activation) => config.pooler_hidden_act = *activation,
            Setting::Eps(eps) => config.layer_norm_eps = *eps,
            Setting::Terms(terms) => config.pos_att_type = terms.clone(),
            Setting::Relative(relative) => config.relative_attention = *relative,
            Setting::MaxRelative(max) => {
                config.max_relative_positions = i64::try_from(*max).unwrap_or(i64::MAX);
            }
            Setting::PositionBiased(biased) => config.position_biased_input = *biased,
            Setting::TokenTypes(types) => config.type_vocab_size = *types,
            Setting::Buckets(buckets) => config.position_buckets = *buckets,
            Setting::ShareKeys(share) => config.share_att_key = *share,
            Setting::NormTable(norm) => config.norm_rel_ebd = *norm,
            Setting::Convolution(convolution) => config.convolution = *convolution,
            Setting::ConvAct(act) => config.convolution.iter_mut().for_each(|conv| conv.act = *act),
            Setting::Tie(tie) => config.tie_word_embeddings = *tie,
        }
    }

    /// The line of `config.json`.
    pub fn line(&self) -> String {
        match self {
            Setting::HiddenAct(activation) => format!("\"hidden_act\": \"{}\"", activation_name(*activation)),
            Setting::PoolerAct(activation) => {
                format!("\"pooler_hidden_act\": \"{}\"", activation_name(*activation))
            }
            Setting::Eps(eps) => format!("\"layer_norm_eps\": {eps:e}"),
            Setting::Terms(terms) => format!("\"pos_att_type\": \"{}\"", terms.join("|")),
            Setting::Relative(relative) => format!("\"relative_attention\": {relative}"),
            Setting::MaxRelative(max) => format!("\"max_relative_positions\": {max}"),
            Setting::PositionBiased(biased) => format!("\"position_biased_input\": {biased}"),
            Setting::TokenTypes(types) => format!("\"type_vocab_size\": {types}"),
            Setting::Buckets(Some(buckets)) => format!("\"position_buckets\": {buckets}"),
            Setting::Buckets(None) => "\"position_buckets\": -1".to_owned(),
            Setting::ShareKeys(share) => format!("\"share_att_key\": {share}"),
            Setting::NormTable(norm) => {
                format!("\"norm_rel_ebd\": \"{}\"", if *norm { "layer_norm" } else { "none" })
            }
            Setting::Convolution(None) => "\"conv_kernel_size\": 0".to_owned(),
            Setting::Convolution(Some(ConvConfig { kernel, groups, act })) => format!(
                "\"conv_kernel_size\": {kernel}, \"conv_groups\": {groups}, \"conv_act\": \"{}\"",
                activation_name(*act)
            ),
            Setting::ConvAct(act) => format!("\"conv_act\": \"{}\"", activation_name(*act)),
            Setting::Tie(tie) => format!("\"tie_word_embeddings\": {tie}"),
        }
    }
}

/// The name in configuration files.
pub(crate) fn activation_name(activation: Activation) -> &'static str {
    let named = |name: &&&str| Activation::from_name(name) == Some(activation);
    Activation::NAMES.iter().find(named).copied().unwrap_or("gelu")
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
    let (h, d) = (model.config.num_attention_heads, model.config.head_size());
    let scaled = |(param, parts): (Param, &[Part])| {
        let of_queries = |part: &Part| matches!(part, Part::Query | Part::PositionQuery);
        let at = parts.iter().position(of_queries)?;
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
