//! What a graph is given: its inputs, from those of a model.

use deberta_converters::error::{Error, Kind as ErrorKind, Result};
use deberta_reference::Inputs;
use ndarray::{Array2, ArrayD, Ix2};

use crate::trace::inputs::for_loss;

/// An input of a graph.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The declared lengths, nothing for free ones; nothing at all if the graph does not say.
    pub(super) shape: Option<Vec<Option<usize>>>,
}

/// What an input's numbers are.
#[derive(Clone, Copy, PartialEq, Eq)]
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

/// The inputs of a graph.
pub(super) struct Feed {
    inputs: Vec<Input>,
}

impl Feed {
    /// The inputs without the initializers, which older files list among them.
    ///
    /// # Errors
    /// An input that no model of this architecture has.
    pub(super) fn of(mut inputs: Vec<Input>, initializers: &[String]) -> Result<Feed> {
        inputs.retain(|input| !initializers.contains(&input.name));
        let known = ["input_ids", "attention_mask", "token_type_ids"];
        match inputs.iter().find(|input| !known.contains(&input.name.as_str())) {
            Some(Input { name, .. }) => Err(Error::unsupported(format!(
                "the graph has an input {name:?}: this model has no such input"
            ))),
            None => Ok(Feed { inputs }),
        }
    }

    /// The values for all inputs: a mask of ones and token types of zero where none are given.
    ///
    /// # Errors
    /// Inputs that the graph does not have or that do not fit it, by name.
    pub(super) fn given(&self, inputs: &Inputs) -> Result<Vec<Given>> {
        let refused = |name: &str, why: &str| Err(Error::new(ErrorKind::Request, format!("{name}: {why}")));
        let Inputs { input_ids, inputs_embeds, attention_mask, token_type_ids, position_ids, .. } = inputs;
        let embeds = inputs_embeds.is_some().then_some("inputs_embeds");
        let positions = position_ids.is_some().then_some("position_ids");
        if let Some(name) = embeds.into_iter().chain(positions).chain(for_loss(inputs)).next() {
            return refused(name, "the graph has no such input");
        }
        let Some(ids) = input_ids else { return refused("input_ids", "not given") };
        let mask = attention_mask.as_ref().map(mask).transpose()?;
        let has = |name: &str| self.inputs.iter().any(|input| input.name == name);
        let given = |values: Option<&Array2<i64>>, unless| {
            values.is_some_and(|values| values.iter().any(|&value| value != unless))
        };
        if given(mask.as_ref(), 1) && !has("attention_mask") {
            return refused("attention_mask", "the graph has no such input");
        }
        if given(token_type_ids.as_ref(), 0) && !has("token_type_ids") {
            return refused("token_type_ids", "the graph has no such input");
        }
        let value = |input: &Input| {
            let values = match input.name.as_str() {
                "input_ids" => ids.clone(),
                "attention_mask" => mask.clone().unwrap_or_else(|| Array2::ones(ids.dim())),
                _ => token_type_ids.clone().unwrap_or_else(|| Array2::zeros(ids.dim())),
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
            return Err(Error::new(ErrorKind::Model, why));
        }
        let narrow = |&value: &i64| {
            i32::try_from(value).map_err(|_| {
                Error::new(
                    ErrorKind::Request,
                    format!("{}: the runtime has no numbers as large as {value}", self.name),
                )
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
    let refused = |why: String| Error::new(ErrorKind::Request, format!("attention_mask: {why}"));
    if let Some(value) = mask.iter().find(|value| value.fract() != 0.0 || value.abs() > 1e6) {
        return Err(refused(format!("the graph takes integers, this has {value}")));
    }
    let integers = mask.mapv(|value| value as i64);
    let shape = mask.shape().to_vec();
    integers
        .into_dimensionality::<Ix2>()
        .map_err(|_| refused(format!("the graph takes [batch, sequence], this has shape {shape:?}")))
}
