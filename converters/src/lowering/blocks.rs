//! Weights in blocks of integers with few bits, each with a scale of its own: `MatMulNBits`, `GatherBlockQuantized`.

use super::Stored;
use super::attributes::{int, integer};
use super::pass::Lowering;
use super::reals::Scale;
use super::stored::Table;
use crate::format::onnx::packed::unpack;
use crate::format::onnx::proto::NodeProto;

impl Lowering<'_> {
    /// The product with a matrix [K, N] that is stored as [N, blocks of K, bytes]. The last block may have more places than K
    /// needs. A zero point is the middle, or packed as the numbers are, or not rounded at all.
    pub(super) fn mat_mul_n_bits(&mut self, node: &NodeProto) -> Option<()> {
        let given = |at: usize| node.input.get(at).filter(|name| !name.is_empty());
        if given(4).is_some() {
            // An order of columns, which no quantizer of ONNX Runtime writes.
            return None;
        }
        let size = |name: &str| usize::try_from(integer(node, name, 0)).ok().filter(|&size| size > 0);
        let (rows, columns, block) = (size("K")?, size("N")?, size("block_size")?);
        let bits = u32::try_from(integer(node, "bits", 4)).ok().filter(|bits| matches!(bits, 2 | 4 | 8))?;
        let (name, scale) = (node.input.get(1)?, node.input.get(2)?);
        let blocks = rows.div_ceil(block);
        let per_column = blocks.checked_mul(block)?;
        let packed = self.constant(name)?;
        let stored: Vec<u8> = unpack(&packed.bytes, bits, false).collect();
        if stored.len() < columns.checked_mul(per_column)? {
            return None;
        }
        let axes = || vec![(rows, block, 1), (columns, 1, blocks)];
        let scales = Table::of_axes(self.constant(scale)?.floats()?, axes())?;
        let last = (1_i32 << bits) - 1;
        let mut offsets = None;
        let zeros = match given(3) {
            None => Table::one((last + 1) / 2),
            Some(zero) => {
                let zero = self.constant(zero)?;
                match zero.floats() {
                    Some(numbers) => {
                        offsets = Some(Table::of_axes(numbers, axes())?);
                        Table::one(0)
                    }
                    None => {
                        // Every column starts with a byte of its own.
                        let bytes = (blocks * bits as usize).div_ceil(8);
                        let columns = zero.bytes.chunks(bytes);
                        let columns = columns.flat_map(|column| unpack(column, bits, false).take(blocks));
                        Table::of_axes(columns.map(i32::from).collect(), axes())?
                    }
                }
            }
        };
        let codes: Vec<i32> = (0..rows)
            .flat_map(|row| (0..columns).map(move |column| column * per_column + row))
            .map(|place| stored.get(place).map_or(0, |&code| i32::from(code)))
            .collect();
        let error = self.constant(scale)?.rounding();
        let stored = Stored::integers((0, last), name, Some(scale), scales, zeros).with_scale_error(error);
        let shape = [rows, columns];
        let weights = match offsets {
            None => self.add_dequantized(&shape, &codes, stored),
            Some(offsets) => {
                let number = |(index, code): (usize, &i32)| {
                    (*code as f32 - offsets.at(index)) * stored.scale_at(index)
                };
                let numbers = codes.iter().enumerate().map(number).collect();
                self.add_stored(&shape, numbers, stored)
            }
        };
        self.multiply(node, node.input.first()?, &weights, 5)
    }

    /// The product of values and weights, with a bias that may be input `bias`.
    pub(super) fn multiply(
        &mut self,
        node: &NodeProto,
        values: &str,
        weights: &str,
        bias: usize,
    ) -> Option<()> {
        let output = node.output.first()?;
        match node.input.get(bias).filter(|bias| !bias.is_empty()) {
            None => self.emit_as(node, "MatMul", &[values, weights], Vec::new(), output),
            Some(bias) => {
                let product = self.emit(node, "MatMul", &[values, weights], Vec::new());
                self.emit_as(node, "Add", &[&product, bias], Vec::new(), output);
            }
        }
        Some(())
    }

    /// `Gather` from a table in blocks. Of bytes the last axis is packed.
    pub(super) fn gather_block_quantized(&mut self, node: &NodeProto) -> Option<()> {
        let (name, indices, scale) = (node.input.first()?, node.input.get(1)?, node.input.get(2)?);
        let zero = node.input.get(3).filter(|zero| !zero.is_empty());
        let table = self.constant(name)?;
        let block = usize::try_from(integer(node, "block_size", 128)).ok()?;
        let axis = integer(node, "quantize_axis", 1);
        let gather = vec![int("axis", integer(node, "gather_axis", 0))];
        let is_packed = table.range()? == (0, 255);
        let weights = if is_packed {
            let bits =
                u32::try_from(integer(node, "bits", 4)).ok().filter(|bits| matches!(bits, 2 | 4 | 8))?;
            let mut shape = table.shape.clone();
            let last = shape.last_mut()?;
            *last = last.checked_mul(8 / bits as usize)?;
            let codes: Vec<i32> = unpack(&table.bytes, bits, false).map(i32::from).collect();
            let scales = self.constant(scale)?;
            let scales_of = scales.shape.clone();
            let blocks = *scales_of.last()?;
            let scales = Table::new(scales.floats()?, &scales_of, &shape, axis, block)?;
            let last = (1_i32 << bits) - 1;
            let zeros = match zero {
                None => Table::one((last + 1) / 2),
                Some(zero) => {
                    let zero = self.constant(zero)?;
                    let rows = zero.bytes.chunks((blocks * bits as usize).div_ceil(8).max(1));
                    let zeros =
                        rows.flat_map(|row| unpack(row, bits, false).take(blocks)).map(i32::from).collect();
                    Table::new(zeros, &scales_of, &shape, axis, block)?
                }
            };
            self.add_dequantized(
                &shape,
                &codes,
                Stored::integers((0, last), name, Some(scale), scales, zeros),
            )
        } else {
            let by = Scale { axis, block, ..Scale::new(scale, zero.map_or("", String::as_str)) };
            self.real(name, &by)?
        };
        self.emit_as(node, "Gather", &[&weights, indices], gather, node.output.first()?);
        Some(())
    }
}
