//! What a graph is given: its inputs, from those of a model.

use std::collections::HashMap;

use deberta_converters::error::{Error, Kind as ErrorKind, Result};
use deberta_converters::lowering::SWITCHES;
use deberta_reference::Inputs;
use ndarray::{Array2, ArrayD, Ix2};
use serde::{Deserialize, Serialize};

use super::roles::Role;
use crate::trace::inputs::for_loss;

/// An input of a graph.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The declared lengths, nothing for free ones; nothing at all if the graph does not say.
    pub(super) shape: Option<Vec<Option<usize>>>,
}

/// What an input's numbers are.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// `rten` has no others.
    I32,
    #[cfg(feature = "onnxruntime")]
    I64,
    F32,
}

/// What an input gets.
pub(super) struct Given {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) numbers: Numbers,
}

/// Numbers in row-major order.
pub(super) enum Numbers {
    I32(Vec<i32>),
    #[cfg(feature = "onnxruntime")]
    I64(Vec<i64>),
    F32(Vec<f32>),
}

/// What models of this architecture may take besides, and no graph is given.
const FOREIGN: [&str; 5] = ["position_ids", "inputs_embeds", "head_mask", "labels", "past_key_values"];

/// The inputs of a graph, and what each of them gets.
#[derive(Clone)]
pub(super) struct Feed {
    inputs: Vec<(Input, Role)>,
    /// The inputs that another one could be, because neither name nor use tells.
    open: Vec<usize>,
}

impl Feed {
    /// The inputs without the initializers, which older files list among them. What an input is, its name tells, or else
    /// `by_use`, or else it is the first that is left.
    ///
    /// # Errors
    /// More inputs than a model of this architecture has.
    pub(super) fn of(
        mut inputs: Vec<Input>,
        initializers: &[String],
        by_use: &HashMap<String, Role>,
    ) -> Result<Feed> {
        inputs.retain(|input| !initializers.contains(&input.name) && input.name != SWITCHES);
        if let Some(Input { name, .. }) = inputs.iter().find(|input| FOREIGN.contains(&input.name.as_str())) {
            return Err(Error::unsupported(format!(
                "the graph has an input {name:?}, which is given by no golden"
            )));
        }
        let told = |input: &Input| Role::of(&input.name).or_else(|| by_use.get(&input.name).copied());
        let mut left: Vec<Role> = Role::ALL.into_iter().collect();
        left.retain(|role| !inputs.iter().any(|input| told(input) == Some(*role)));
        let (mut feed, mut left) = (Feed { inputs: Vec::new(), open: Vec::new() }, left.into_iter());
        for input in inputs {
            let role = match told(&input) {
                Some(role) => role,
                None => {
                    feed.open.push(feed.inputs.len());
                    left.next().ok_or_else(|| {
                        let name = &input.name;
                        Error::unsupported(format!(
                            "the graph has an input {name:?}: this model has no such input"
                        ))
                    })?
                }
            };
            feed.inputs.push((input, role));
        }
        Ok(feed)
    }

    /// The other ways to give inputs to a graph some of whose inputs may be others.
    pub(super) fn ways(&self) -> Vec<Feed> {
        let taken = |at: usize| !self.open.contains(&at);
        let fixed: Vec<Role> =
            self.inputs.iter().enumerate().filter(|(at, _)| taken(*at)).map(|(_, (_, role))| *role).collect();
        let free: Vec<Role> = Role::ALL.into_iter().filter(|role| !fixed.contains(role)).collect();
        let mut ways = vec![Vec::new()];
        for _ in &self.open {
            let longer = |way: &Vec<Role>| {
                let more = free.iter().filter(|role| !way.contains(role));
                more.map(|&role| [way.as_slice(), &[role]].concat()).collect::<Vec<_>>()
            };
            ways = ways.iter().flat_map(longer).collect();
        }
        let fed = ways.into_iter().map(|way| {
            let mut feed = self.clone();
            for (&at, role) in self.open.iter().zip(way) {
                feed.inputs.iter_mut().skip(at).take(1).for_each(|(_, known)| *known = role);
            }
            feed
        });
        let own = |feed: &Feed| feed.inputs.iter().zip(&self.inputs).all(|(one, other)| one.1 == other.1);
        fed.filter(|feed| !own(feed)).collect()
    }

    /// The names of inputs that are not called what they are, and what they are.
    pub(super) fn renamed(&self) -> Vec<(&str, &'static str)> {
        let renamed = self.inputs.iter().filter(|(input, role)| input.name != role.name());
        renamed.map(|(input, role)| (input.name.as_str(), role.name())).collect()
    }

    /// The declared lengths of the tokens' axes, nothing for free ones.
    pub(super) fn fixed_lengths(&self) -> &[Option<usize>] {
        let ids = self.inputs.iter().find(|(_, role)| *role == Role::Ids);
        ids.and_then(|(input, _)| input.shape.as_deref()).unwrap_or_default()
    }

    /// The values for all inputs: a mask of ones and token types of zero where none are given.
    ///
    /// # Errors
    /// Inputs that the graph does not have or that do not fit it, by name.
    pub(super) fn given(&self, inputs: &Inputs) -> Result<Vec<Given>> {
        let refused = |name: &str, why: &str| {
            Err(Error::new(ErrorKind::Request, format!("{name}: {why}")).naming(name))
        };
        let Inputs { input_ids, inputs_embeds, attention_mask, token_type_ids, position_ids, .. } = inputs;
        let embeds = inputs_embeds.is_some().then_some("inputs_embeds");
        let positions = position_ids.is_some().then_some("position_ids");
        if let Some(name) = embeds.into_iter().chain(positions).chain(for_loss(inputs)).next() {
            return refused(name, "the graph has no such input");
        }
        let Some(ids) = input_ids else { return refused("input_ids", "not given") };
        let mask = attention_mask.as_ref().map(mask).transpose()?;
        let has = |role: Role| self.inputs.iter().any(|(_, known)| *known == role);
        let given = |values: Option<&Array2<i64>>, unless| {
            values.is_some_and(|values| values.iter().any(|&value| value != unless))
        };
        if given(mask.as_ref(), 1) && !has(Role::Mask) {
            return refused("attention_mask", "the graph has no such input");
        }
        if given(token_type_ids.as_ref(), 0) && !has(Role::TokenTypes) {
            return refused("token_type_ids", "the graph has no such input");
        }
        let value = |(input, role): &(Input, Role)| {
            let values = match role {
                Role::Ids => ids.clone(),
                Role::Mask => mask.clone().unwrap_or_else(|| Array2::ones(ids.dim())),
                Role::TokenTypes => token_type_ids.clone().unwrap_or_else(|| Array2::zeros(ids.dim())),
            };
            input.given(&values, inputs.choices)
        };
        self.inputs.iter().map(value).collect()
    }
}

impl Input {
    /// The values [b, n], or those of a class that chooses, [b c, n] for c choices, as [b, c, n].
    fn given(&self, values: &Array2<i64>, choices: Option<usize>) -> Result<Given> {
        let (rows, n) = values.dim();
        let given = match choices {
            Some(choices) => vec![rows / choices.max(1), choices, n],
            None => vec![rows, n],
        };
        let fits = |(dim, length): (&Option<usize>, &usize)| dim.is_none_or(|dim| dim == *length);
        if let Some(shape) = &self.shape
            && !(shape.len() == given.len() && shape.iter().zip(&given).all(fits))
        {
            let dims = shape.iter().map(|dim| dim.map_or("?".to_owned(), |dim| dim.to_string()));
            let dims = dims.collect::<Vec<_>>().join(", ");
            let why = format!("{} is declared [{dims}]: the graph does not take {given:?}", self.name);
            let error = Error::new(ErrorKind::Model, why).naming(&self.name);
            return Err(error.wanting(format_args!("[{dims}]"), format_args!("{given:?}")));
        }
        let narrow = |&value: &i64| {
            i32::try_from(value).map_err(|_| {
                let why = format!("{}: the runtime has no numbers as large as {value}", self.name);
                Error::new(ErrorKind::Request, why).naming(&self.name).wanting("int32", value)
            })
        };
        let numbers = match self.kind {
            Kind::I32 => Numbers::I32(values.iter().map(narrow).collect::<Result<_>>()?),
            #[cfg(feature = "onnxruntime")]
            Kind::I64 => Numbers::I64(values.iter().copied().collect()),
            Kind::F32 => Numbers::F32(values.iter().map(|&value| value as f32).collect()),
        };
        Ok(Given { name: self.name.clone(), shape: given, numbers })
    }
}

/// A mask as a graph takes it: integers, for every token one.
fn mask(mask: &ArrayD<f32>) -> Result<Array2<i64>> {
    let refused = |why: String| {
        Error::new(ErrorKind::Request, format!("attention_mask: {why}")).naming("attention_mask")
    };
    if let Some(value) = mask.iter().find(|value| value.fract() != 0.0 || value.abs() > 1e6) {
        return Err(refused(format!("the graph takes integers, this has {value}")).wanting("integers", value));
    }
    let integers = mask.mapv(|value| value as i64);
    let shape = mask.shape().to_vec();
    integers.into_dimensionality::<Ix2>().map_err(|_| {
        refused(format!("the graph takes [batch, sequence], this has shape {shape:?}"))
            .wanting("[batch, sequence]", format_args!("{shape:?}"))
    })
}
