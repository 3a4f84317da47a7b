//! Between arrays and libtorch's tensors.

use deberta_reference::{self as reference, Probe};
use ndarray::{Array, ArrayD, Dimension};
use tch::{Kind, Tensor};

use super::failure::Result;

/// A tensor of those numbers.
pub(super) fn tensor<T: tch::kind::Element + Clone, D: Dimension>(values: &Array<T, D>) -> Result<Tensor> {
    let rows = values.as_standard_layout();
    of_slice(values.shape(), rows.as_slice().unwrap_or_default())
}

/// A parameter, copied.
pub(super) fn parameter(parameter: &reference::Tensor) -> Result<Tensor> {
    of_slice(&parameter.shape, (*parameter.values).as_ref())
}

fn of_slice<T: tch::kind::Element>(shape: &[usize], values: &[T]) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_reshape(lengths(shape))?)
}

/// The numbers of a tensor, as f32.
pub(super) fn array(tensor: &Tensor) -> Result<ArrayD<f32>> {
    let mut values = ArrayD::zeros(shape(tensor));
    let count = values.len();
    if let Some(values) = values.as_slice_mut() {
        tensor.f_to_kind(Kind::Float)?.f_copy_data(values, count)?;
    }
    Ok(values)
}

/// The length of each axis.
pub(super) fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor.size().into_iter().map(|length| usize::try_from(length).unwrap_or_default()).collect()
}

/// The length of each axis as libtorch takes it.
pub(super) fn lengths(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&axis| length(axis)).collect()
}

/// A length as libtorch takes it.
pub(super) fn length(length: usize) -> i64 {
    // No array in memory is as long as that.
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// [`Probe::keep`] for a tensor: records the activation `name` of this place and returns it, or its replacement.
pub(super) fn keep(probe: &mut Probe<'_>, name: &str, x: Tensor) -> Result<Tensor> {
    match probe.wants(name) {
        true => tensor(&probe.keep(name, array(&x)?)?),
        false => Ok(x),
    }
}

/// Part `part` of the `parts` parts of each of `h` heads: features [b, n, h parts d] to heads [b, h, n, d].
pub(super) fn heads(x: &Tensor, h: i64, (part, parts): (i64, i64)) -> Result<Tensor> {
    let (b, n, _) = x.size3()?;
    let heads = x.f_reshape([b, n, h, parts, -1])?; //                                    [b, n, h, parts, d]
    Ok(heads.f_select(3, part)?.f_transpose(1, 2)?)
}
