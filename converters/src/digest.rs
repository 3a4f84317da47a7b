//! The weight digest: the same model has the same digest in every format.
//!
//! The digest of a tensor is BLAKE3 over the number of dimensions, the dimensions (each a little-endian `u64`), and
//! the values as little-endian `f32` in the canonical layout. The digest of a checkpoint is BLAKE3 over the lines
//! `name SP hex LF` of its parameters, sorted by canonical name. Second names of a parameter, buffers and
//! everything that is not a parameter do not count.

use std::fmt;

use crate::error::Result;
use crate::tensor::Dtype;
use crate::values::Values;

/// 256 bits that stand for a tensor or a checkpoint. Displays as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// What identifies the values of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorDigest {
    /// Over the values as `f32`: what [`checkpoint_digest`] is made of.
    pub values: Digest,
    /// For `f64` only, over the values as they are: two tensors may agree as `f32` and still differ.
    pub exact: Option<Digest>,
}

/// Computes the digest of a tensor from strips of its values.
pub struct TensorHasher {
    values: blake3::Hasher,
    exact: Option<blake3::Hasher>,
    dtype: Dtype,
}

impl TensorHasher {
    /// Starts the digest of a tensor of this canonical shape, whose strips will have this dtype.
    pub fn new(dtype: Dtype, shape: &[usize]) -> Self {
        let mut values = blake3::Hasher::new();
        values.update(&(shape.len() as u64).to_le_bytes());
        for &dimension in shape {
            values.update(&(dimension as u64).to_le_bytes());
        }
        TensorHasher { values, exact: (dtype == Dtype::F64).then(blake3::Hasher::new), dtype }
    }

    /// Adds the next elements, in the canonical layout.
    ///
    /// # Errors
    /// An `f64` value that is finite and no finite `f32`.
    pub fn update(&mut self, strip: &[u8]) -> Result<()> {
        if self.dtype == Dtype::F32 {
            self.values.update(strip);
            return Ok(());
        }
        if let Some(exact) = &mut self.exact {
            exact.update(strip);
        }
        let count = strip.len() / self.dtype.size();
        let strip = Values { bytes: strip.into(), dtype: self.dtype, shape: vec![count], transposed: false };
        strip.strips(Dtype::F32, false, |wide| {
            self.values.update(wide);
            Ok(())
        })?;
        Ok(())
    }

    /// The digest of everything that was added.
    pub fn finish(self) -> TensorDigest {
        let digest = |hasher: blake3::Hasher| Digest(*hasher.finalize().as_bytes());
        TensorDigest { values: digest(self.values), exact: self.exact.map(digest) }
    }
}

/// The digest of a tensor.
///
/// # Errors
/// As [`TensorHasher::update`].
pub fn tensor_digest(values: &Values<'_>) -> Result<TensorDigest> {
    let mut hasher = TensorHasher::new(values.dtype, &values.shape);
    values.strips(values.dtype, false, |strip| hasher.update(strip))?;
    Ok(hasher.finish())
}

/// The digest of a checkpoint from the canonical names and digests of its parameters, in any order.
pub fn checkpoint_digest<'a>(tensors: impl Iterator<Item = (&'a str, TensorDigest)>) -> Digest {
    let mut lines: Vec<String> =
        tensors.map(|(name, digest)| format!("{name} {}\n", digest.values)).collect();
    lines.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    lines.iter().for_each(|line| {
        hasher.update(line.as_bytes());
    });
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(dtype: Dtype, bytes: Vec<u8>, shape: &[usize], transposed: bool) -> Values<'static> {
        Values { bytes: bytes.into(), dtype, shape: shape.to_vec(), transposed }
    }

    #[test]
    fn layout_and_width_do_not_change_the_digest() {
        let numbers = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let f32s =
            |order: [usize; 6]| order.iter().flat_map(|&i| numbers[i].to_le_bytes()).collect::<Vec<u8>>();
        let canonical = tensor_digest(&values(Dtype::F32, f32s([0, 1, 2, 3, 4, 5]), &[2, 3], false)).unwrap();
        let keras = tensor_digest(&values(Dtype::F32, f32s([0, 3, 1, 4, 2, 5]), &[2, 3], true)).unwrap();
        let half = numbers.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
        let half = tensor_digest(&values(Dtype::F16, half, &[2, 3], false)).unwrap();
        assert_eq!(canonical, keras);
        assert_eq!(canonical, half);
        let other_shape =
            tensor_digest(&values(Dtype::F32, f32s([0, 1, 2, 3, 4, 5]), &[3, 2], false)).unwrap();
        assert_ne!(canonical, other_shape);
    }

    #[test]
    fn f64_is_told_apart_beyond_f32() {
        let digest =
            |x: f64| tensor_digest(&values(Dtype::F64, x.to_le_bytes().to_vec(), &[1], false)).unwrap();
        let (a, b) = (digest(1.0), digest(1.0 + 1e-12));
        assert_eq!(a.values, b.values);
        assert_ne!(a, b);
    }

    #[test]
    fn the_definition_is_the_documented_one() {
        let mut expected = blake3::Hasher::new();
        expected.update(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        expected.update(&[0, 0, 128, 63, 0, 0, 0, 64]);
        let one_two = [1.0_f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let digest = tensor_digest(&values(Dtype::F32, one_two, &[2], false)).unwrap();
        assert_eq!(digest.values.to_string(), expected.finalize().to_hex().to_string());
        let whole = checkpoint_digest([("b", digest), ("a", digest)].into_iter());
        let lines = format!("a {0}\nb {0}\n", digest.values);
        assert_eq!(whole.to_string(), blake3::hash(lines.as_bytes()).to_hex().to_string());
    }
}
