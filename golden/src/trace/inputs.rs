//! The inputs that a trace records, as the arguments of a model.

use std::borrow::Cow;

use deberta_converters::error::{Error, Result};
use deberta_converters::tensor::Dtype;
use deberta_reference::{Inputs, Labels};
use ndarray::{Array, Array2, ArrayD, Dimension};

use crate::trace::file::Trace;

use crate::trace::tensor::{Data, Tensor};

/// The `inputs.*` of a trace.
///
/// # Errors
/// An input that no class has, of the wrong type, or with the wrong number of axes.
pub fn inputs(trace: &Trace) -> Result<Inputs> {
    let mut inputs = Inputs { choices: choices(trace), ..Inputs::default() };
    for tensor in &trace.tensors {
        let Some(argument) = tensor.name.strip_prefix("inputs.") else { continue };
        let tensor = &*by_sequence(tensor, argument, inputs.choices)?;
        match argument {
            "input_ids" => inputs.input_ids = Some(integers(tensor)?),
            "inputs_embeds" => inputs.inputs_embeds = Some(axes(tensor, numbers(tensor)?)?),
            "attention_mask" => inputs.attention_mask = Some(numbers(tensor)?),
            "token_type_ids" => inputs.token_type_ids = Some(integers(tensor)?),
            "position_ids" => inputs.position_ids = Some(integers(tensor)?),
            "start_positions" => inputs.start_positions = Some(integers(tensor)?),
            "end_positions" => inputs.end_positions = Some(integers(tensor)?),
            "labels" => {
                inputs.labels = Some(match &tensor.data {
                    Data::Integers(_) => Labels::Classes(integers(tensor)?),
                    _ => Labels::Values(numbers(tensor)?),
                });
            }
            _ => return Err(Error::malformed("no class has such an input").in_tensor(&tensor.name)),
        }
    }
    Ok(inputs)
}

/// The tensors of a trace that record token ids, masks, segments and positions as integers. Those of multiple choice are
/// [1, c, n]: one question.
pub(crate) fn tensors(inputs: &Inputs) -> Vec<Tensor> {
    let integers =
        |name: &str, ids: &Array2<i64>| (name.to_owned(), ids.shape().to_vec(), flat(ids.iter().copied()));
    let mask = |mask: &ArrayD<f32>| {
        ("attention_mask".to_owned(), mask.shape().to_vec(), flat(mask.iter().map(|&token| token as i64)))
    };
    let given = [
        inputs.input_ids.as_ref().map(|ids| integers("input_ids", ids)),
        inputs.attention_mask.as_ref().map(mask),
        inputs.token_type_ids.as_ref().map(|ids| integers("token_type_ids", ids)),
        inputs.position_ids.as_ref().map(|ids| integers("position_ids", ids)),
    ];
    let tensor = |(name, mut shape, data): (String, Vec<usize>, Data)| {
        if inputs.choices.is_some() {
            shape.insert(0, 1);
        }
        Tensor { name: format!("inputs.{name}"), shape, data }
    };
    given.into_iter().flatten().map(tensor).collect()
}

fn flat(numbers: impl Iterator<Item = i64>) -> Data {
    Data::Integers(numbers.collect())
}

/// c, if the tokens have the axes [b, c, n] of multiple choice, or embeddings [b, c, n, E].
fn choices(trace: &Trace) -> Option<usize> {
    trace.tensors.iter().find_map(|tensor| match (tensor.name.as_str(), &tensor.shape[..]) {
        ("inputs.input_ids", &[_, choices, _]) | ("inputs.inputs_embeds", &[_, choices, _, _]) => {
            Some(choices)
        }
        _ => None,
    })
}

/// An argument [b, c, …] of multiple choice as [b c, …], any other one as it is: labels are for questions.
fn by_sequence<'t>(tensor: &'t Tensor, argument: &str, choices: Option<usize>) -> Result<Cow<'t, Tensor>> {
    let Some(choices) = choices.filter(|_| argument != "labels") else { return Ok(Cow::Borrowed(tensor)) };
    match &tensor.shape[..] {
        &[b, c, ref rest @ ..] if c == choices => {
            let sequences = b.checked_mul(c).ok_or_else(|| Error::malformed("too many sequences"))?;
            let shape = [&[sequences], rest].concat();
            Ok(Cow::Owned(Tensor { shape, ..tensor.clone() }))
        }
        shape => {
            let message =
                format!("shape {shape:?}, the tokens have {choices} choices: expected [b, {choices}, …]");
            let want = format!("[b, {choices}, …]");
            Err(Error::malformed(message).wanting(want, format_args!("{shape:?}")).in_tensor(&tensor.name))
        }
    }
}

/// How many sequences there are and how long they are; nothing without tokens.
pub fn dims(inputs: &Inputs) -> Option<(usize, usize)> {
    let of_embeddings = || inputs.inputs_embeds.as_ref().map(|embeddings| embeddings.dim());
    let ids = inputs.input_ids.as_ref().map(Array::dim);
    ids.or_else(|| of_embeddings().map(|(b, n, _)| (b, n)))
}

/// The names of what is given for a loss.
pub fn for_loss(inputs: &Inputs) -> impl Iterator<Item = &'static str> + use<> {
    let given = [
        inputs.labels.is_some().then_some("labels"),
        inputs.start_positions.is_some().then_some("start_positions"),
        inputs.end_positions.is_some().then_some("end_positions"),
    ];
    given.into_iter().flatten()
}

/// Integers with as many axes as are asked for.
fn integers<D: Dimension>(tensor: &Tensor) -> Result<Array<i64, D>> {
    match &tensor.data {
        Data::Integers(values) => axes(tensor, array(tensor, values.clone())?),
        other => {
            let dtype = other.dtype();
            let error = Error::malformed(format!("dtype {dtype}, this input is i64"));
            Err(error.wanting(Dtype::I64, dtype).in_tensor(&tensor.name))
        }
    }
}

/// Real numbers, or integers taken as such.
fn numbers(tensor: &Tensor) -> Result<ArrayD<f32>> {
    match (&tensor.data, tensor.data.floats()) {
        (Data::Integers(values), _) => array(tensor, values.iter().map(|&value| value as f32).collect()),
        (_, values) => array(tensor, values.unwrap_or_default().into_owned()),
    }
}

fn array<T>(tensor: &Tensor, values: Vec<T>) -> Result<ArrayD<T>> {
    let count = values.len();
    ArrayD::from_shape_vec(tensor.shape.clone(), values).map_err(|_| {
        let error = Error::malformed(format!("shape {:?} with {count} elements", tensor.shape));
        error.wanting(tensor.shape.iter().product::<usize>(), count).in_tensor(&tensor.name)
    })
}

fn axes<T, D: Dimension>(tensor: &Tensor, array: ArrayD<T>) -> Result<Array<T, D>> {
    array.into_dimensionality().map_err(|_| {
        let expected = D::NDIM.unwrap_or_default();
        Error::malformed(format!("shape {:?}, this input has {expected} axes", tensor.shape))
            .wanting(format_args!("{expected} axes"), format_args!("{:?}", tensor.shape))
            .in_tensor(&tensor.name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(name: &str, shape: &[usize], data: Data) -> Trace {
        Trace { metadata: vec![], tensors: vec![Tensor { name: name.into(), shape: shape.into(), data }] }
    }

    #[test]
    fn masks_may_be_integers_and_ids_may_not_be_floats() {
        let mask = inputs(&trace("inputs.attention_mask", &[1, 2], Data::Integers(vec![1, 0]))).unwrap();
        assert_eq!(mask.attention_mask.unwrap().into_raw_vec_and_offset().0, [1.0, 0.0]);
        let error = inputs(&trace("inputs.input_ids", &[1, 1], Data::Floats(vec![1.0]))).unwrap_err();
        assert_eq!(error.to_string(), "tensor \"inputs.input_ids\": dtype f32, this input is i64");
    }

    #[test]
    fn choices_are_sequences() {
        let ids = trace("inputs.input_ids", &[1, 2, 3], Data::Integers(vec![1, 2, 3, 4, 5, 6]));
        let read = inputs(&ids).unwrap();
        assert_eq!((read.choices, dims(&read)), (Some(2), Some((2, 3))));
        let mut tensors = ids.tensors;
        tensors.extend(trace("inputs.attention_mask", &[2, 3], Data::Integers(vec![1; 6])).tensors);
        let error = inputs(&Trace { metadata: vec![], tensors }).unwrap_err().to_string();
        assert!(error.ends_with("shape [2, 3], the tokens have 2 choices: expected [b, 2, …]"), "{error}");
    }

    #[test]
    fn unknown_inputs_and_wrong_axes_are_refused() {
        let error = inputs(&trace("inputs.pixels", &[1], Data::Integers(vec![1]))).unwrap_err();
        assert_eq!(error.to_string(), "tensor \"inputs.pixels\": no class has such an input");
        let error = inputs(&trace("inputs.input_ids", &[2], Data::Integers(vec![1, 2]))).unwrap_err();
        assert_eq!(error.to_string(), "tensor \"inputs.input_ids\": shape [2], this input has 2 axes");
    }
}
