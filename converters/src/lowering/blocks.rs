//! Weights in blocks of integers with few bits, each with a scale of its own: `MatMulNBits`, `GatherBlockQuantized`.

use super::Stored;
use super::attributes::{flag, int, integer};
use super::pass::Lowering;
use super::reals::Scale;
use super::stored::Table;
use crate::format::onnx::packed::unpack;
use crate::format::onnx::proto::NodeProto;
use crate::format::onnx::rounds_in_blocks;

impl Lowering<'_> {
    /// The product with a matrix [K, N] that is stored as [N, blocks of K, bytes]. The last block may have more places than K
    /// needs. A zero point is the middle, or packed as the numbers are, or not rounded at all. An input may say which block
    /// a row has its scale from (`g_idx`). Activations are rounded where ONNX Runtime does.
    pub(super) fn mat_mul_n_bits(&mut self, node: &NodeProto) -> Option<()> {
        // In the order that CUDA's kernels take.
        if flag(node, "weight_prepacked") {
            return None;
        }
        let given = |at: usize| node.input.get(at).filter(|name| !name.is_empty());
        let size = |name: &str| usize::try_from(integer(node, name, 0)).ok().filter(|&size| size > 0);
        let (rows, columns, block) = (size("K")?, size("N")?, size("block_size")?);
        let bits = u32::try_from(integer(node, "bits", 4)).ok().filter(|bits| matches!(bits, 2 | 4 | 8))?;
        let (name, scale) = (node.input.get(1)?, node.input.get(2)?);
        let blocks = rows.div_ceil(block);
        let order = match given(4) {
            Some(order) => Some(self.order_of_rows(order, rows, blocks, bits)?),
            None => None,
        };
        let per_column = blocks.checked_mul(block)?;
        let packed = self.constant(name)?;
        let stored: Vec<u8> = unpack(&packed.bytes, bits, false).collect();
        if stored.len() < columns.checked_mul(per_column)? {
            return None;
        }
        let axes = || vec![(rows, block, 1), (columns, 1, blocks)];
        let scales = Table::of_axes(self.constant(scale)?.floats()?, axes())?.in_order(order.clone());
        let last = (1_i32 << bits) - 1;
        let mut real_zeros = None;
        let zeros = match given(3) {
            None => Table::one((last + 1) / 2),
            Some(zero) => {
                let zero = self.constant(zero)?;
                match zero.floats() {
                    Some(numbers) => {
                        real_zeros = Some(Table::of_axes(numbers, axes())?.in_order(order.clone()));
                        Table::one(0)
                    }
                    // ONNX Runtime takes the middle in their place.
                    None if order.is_some() => return None,
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
        let rounds = order.is_none() && real_zeros.is_none() && rounds_in_blocks(node);
        let stored = Stored::integers((0, last), name, Some(scale), scales, zeros);
        let stored = stored.with_scale_error(error).with_real_zeros(real_zeros);
        let weights = self.add_dequantized(&[rows, columns], &codes, stored);
        let mut values = node.input.first()?.clone();
        if rounds {
            values = self.rounded_in_blocks(node, &values, rows, block);
        }
        self.multiply(node, &values, &weights, 5)
    }

    /// The block that every row of a matrix has its scale from, if ONNX Runtime computes it: of other bits than 4 it does
    /// not, or makes something else of it.
    fn order_of_rows(&self, order: &str, rows: usize, blocks: usize, bits: u32) -> Option<Vec<usize>> {
        let order = self.constant(order).filter(|_| bits == 4)?.integers()?;
        let block = |&block: &i32| usize::try_from(block).ok().filter(|&block| block < blocks);
        let order = order.get(..rows)?.iter().map(block);
        order.collect()
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
