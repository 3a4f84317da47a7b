//! What LoRA adds to a weight.

use half::{bf16, f16};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Kind, Result};
use crate::matching::{Bound, Place};
use crate::tensor::Dtype;
use crate::values::Values;

/// Two matrices whose product, times a number, is added to a weight.
#[derive(Clone, Debug)]
pub(crate) struct Delta {
    /// `[rank, in]`; for an embedding `[rank, rows]`.
    pub(super) a: Place,
    /// `[out, rank]`; for an embedding `[columns, rank]`.
    pub(super) b: Place,
    pub(super) rank: usize,
    pub(super) scale: f64,
    pub(super) is_embedding: bool,
}

impl Delta {
    /// Checks the shapes of the two matrices against that of the weight.
    ///
    /// # Errors
    /// They do not fit.
    pub(crate) fn check(&self, checkpoint: &Checkpoint, shape: &[usize]) -> Result<()> {
        let rows = shape.first().copied().unwrap_or(0);
        let columns: usize = shape.iter().skip(1).product();
        let shapes = [self.a, self.b]
            .map(|place| checkpoint.info(place).map(|info| info.shape.clone()).unwrap_or_default());
        let [a, b] = shapes.each_ref().map(|shape| shape.iter().product::<usize>());
        let (in_rows, in_columns) = if self.is_embedding { (a, b) } else { (b, a) };
        if self.rank > 0 && columns > 0 && in_rows == rows * self.rank && in_columns == self.rank * columns {
            return Ok(());
        }
        let [a, b] = shapes;
        Err(Error::new(
            Kind::Model,
            format!("shape {shape:?}, which the adapter's matrices {a:?} and {b:?} do not make"),
        )
        .wanting(format_args!("{shape:?}"), format_args!("{a:?} and {b:?}")))
    }

    /// The two factors of the sum: `[rows, rank]` and `[rank, columns]`.
    fn factors(&self, checkpoint: &Checkpoint, columns: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let (a, b) = (checkpoint.whole(self.a)?, checkpoint.whole(self.b)?);
        Ok(if self.is_embedding { (transpose(&a, self.rank), transpose(&b, columns)) } else { (b, a) })
    }
}

/// The transpose of a matrix with so many rows.
fn transpose(matrix: &[f32], rows: usize) -> Vec<f32> {
    let columns = matrix.len().checked_div(rows).unwrap_or(0);
    (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns).copied()).collect()
}

impl Checkpoint {
    /// `stored` with what the adapter adds to it, in its own dtype and the canonical layout.
    ///
    /// Rounded as PyTorch does on a CPU, whose product of matrices in f32 adds one fused product after the other: the result
    /// is peft's but for the last bit.
    pub(crate) fn merged(
        &self,
        delta: &Delta,
        bound: &Bound,
        stored: &Values<'_>,
    ) -> Result<Values<'static>> {
        let shape = stored.shape.clone();
        let columns: usize = shape.iter().skip(1).product();
        let (left, right) = delta.factors(self, columns)?;
        let scale = delta.scale as f32;
        let mut bytes = Vec::with_capacity(stored.bytes.len());
        let mut row = vec![0.0_f32; columns];
        let mut weights = left.chunks_exact(delta.rank);
        let mut at = columns;
        stored.strips(Dtype::F64, false, |strip| {
            for value in strip.as_chunks::<8>().0 {
                if at == columns {
                    at = 0;
                    row.fill(0.0);
                    let weights = weights.next().unwrap_or_default();
                    for (&weight, values) in weights.iter().zip(right.chunks_exact(columns)) {
                        // The product of two f32 is exact in f64.
                        let fused = |sum: f32, value: f32| {
                            (f64::from(sum) + f64::from(weight) * f64::from(value)) as f32
                        };
                        row.iter_mut().zip(values).for_each(|(sum, &value)| *sum = fused(*sum, value));
                    }
                }
                let added = row.get(at).copied().unwrap_or(0.0) * scale;
                at += 1;
                let value = f64::from_le_bytes(*value);
                let sum = value + f64::from(added);
                if !push(sum, bound.dtype, &mut bytes) && value.is_finite() {
                    let dtype = bound.dtype;
                    let why = format!("{sum:e} with the adapter, which is more than {dtype} can hold");
                    return Err(Error::new(Kind::Model, why));
                }
            }
            Ok(())
        })?;
        Ok(Values { bytes: bytes.into(), dtype: bound.dtype, shape, transposed: false })
    }
}

/// Appends a number in a dtype, and tells whether it is finite there.
fn push(number: f64, dtype: Dtype, bytes: &mut Vec<u8>) -> bool {
    match dtype {
        Dtype::F16 => {
            let half = f16::from_f32(number as f32);
            bytes.extend(half.to_le_bytes());
            half.is_finite()
        }
        Dtype::BF16 => {
            let half = bf16::from_f32(number as f32);
            bytes.extend(half.to_le_bytes());
            half.is_finite()
        }
        Dtype::F64 => {
            bytes.extend(number.to_le_bytes());
            number.is_finite()
        }
        _ => {
            bytes.extend((number as f32).to_le_bytes());
            (number as f32).is_finite()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_are_transposed() {
        assert_eq!(transpose(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert!(transpose(&[1.0], 0).is_empty());
    }
}
