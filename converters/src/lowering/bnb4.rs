//! `MatMulBnb4`: weights as codes of 16 numbers, as bitsandbytes has them.

use super::Stored;
use super::attributes::{integer, ints};
use super::pass::Lowering;
use super::stored::{Codes, Table};
use crate::format::onnx::proto::NodeProto;

/// Quantiles of the normal distribution (Dettmers et al. 2023, QLoRA, appendix E).
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Floating-point numbers with a sign, two bits of exponent and one of significand, divided by the largest; the smallest is
/// that of bitsandbytes.
const FP4: [f32; 16] = [
    0.0,
    5.208_333_3e-3,
    2.0 / 3.0,
    1.0,
    1.0 / 3.0,
    0.5,
    1.0 / 6.0,
    0.25,
    -0.0,
    -5.208_333_3e-3,
    -2.0 / 3.0,
    -1.0,
    -1.0 / 3.0,
    -0.5,
    -1.0 / 6.0,
    -0.25,
];

/// The 16 numbers of codes; none of integers and halves.
pub fn codebook(codes: Codes) -> &'static [f32] {
    match codes {
        Codes::Nf4 => &NF4,
        Codes::Fp4 => &FP4,
        Codes::Integers(..) | Codes::Float8(_) | Codes::Halves(_) => &[],
    }
}

impl Lowering<'_> {
    /// The product with a matrix whose transpose [N, K] is stored, a code after the other, the first one in the upper half of a
    /// byte. Blocks run on over the ends of rows.
    pub(super) fn mat_mul_bnb4(&mut self, node: &NodeProto) -> Option<()> {
        let size = |name: &str| usize::try_from(integer(node, name, 0)).ok().filter(|&size| size > 0);
        let (rows, columns, block) = (size("K")?, size("N")?, size("block_size")?);
        let (name, scale) = (node.input.get(1)?, node.input.get(2)?);
        let (codes, table) =
            if integer(node, "quant_type", 1) == 0 { (Codes::Fp4, FP4) } else { (Codes::Nf4, NF4) };
        let count = rows.checked_mul(columns)?;
        let scales = Table::of_axes(self.constant(scale)?.floats()?, vec![(count, block, 1)])?;
        let packed = self.constant(name)?;
        let places = packed.bytes.iter().flat_map(|&byte| [byte >> 4, byte & 15]).take(count);
        let number = |(index, code): (usize, u8)| {
            table.get(usize::from(code)).map_or(0.0, |number| number * scales.at(index))
        };
        let numbers: Vec<f32> = places.enumerate().map(number).collect();
        if numbers.len() != count {
            return None;
        }
        let stored = Stored::codes(codes, name, scale, scales);
        let weights = self.add_stored(&[columns, rows], numbers, stored);
        let turned = self.emit(node, "Transpose", &[&weights], vec![ints("perm", &[1, 0])]);
        self.multiply(node, node.input.first()?, &turned, usize::MAX)
    }
}
