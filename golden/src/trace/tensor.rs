//! A recorded tensor and its numbers.

use std::borrow::Cow;

use deberta_converters::tensor::Dtype;

/// A recorded tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// `inputs.input_ids`, `activations.deberta.encoder.layer.0`, `outputs.logits`.
    pub name: String,
    /// Row-major.
    pub shape: Vec<usize>,
    /// The elements.
    pub data: Data,
}

/// The elements of a recorded tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Token ids, positions, labels.
    Integers(Vec<i64>),
    /// Everything that was computed, and masks.
    Floats(Vec<f32>),
    /// The same, computed in f64.
    Doubles(Vec<f64>),
}

impl Data {
    /// Real numbers as f32, rounded if they are f64. Nothing if they are integers.
    pub fn floats(&self) -> Option<Cow<'_, [f32]>> {
        match self {
            Data::Integers(_) => None,
            Data::Floats(values) => Some(Cow::Borrowed(values)),
            Data::Doubles(values) => Some(values.iter().map(|&value| value as f32).collect()),
        }
    }

    /// All of them as f64.
    pub(crate) fn numbers(&self) -> Cow<'_, [f64]> {
        match self {
            Data::Integers(values) => values.iter().map(|&value| value as f64).collect(),
            Data::Floats(values) => values.iter().map(|&value| f64::from(value)).collect(),
            Data::Doubles(values) => Cow::Borrowed(values),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Data::Integers(values) => values.len(),
            Data::Floats(values) => values.len(),
            Data::Doubles(values) => values.len(),
        }
    }

    /// Their dtype in a file.
    pub(super) fn dtype(&self) -> Dtype {
        match self {
            Data::Integers(_) => Dtype::I64,
            Data::Floats(_) => Dtype::F32,
            Data::Doubles(_) => Dtype::F64,
        }
    }

    /// Their bytes in a file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Data::Integers(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Data::Floats(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Data::Doubles(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}
