//! `DequantizeLinear`. `QuantizeLinear` and `DynamicQuantizeLinear` go where nothing takes their integers any more.

use super::attributes::integer;
use super::pass::Lowering;
use super::reals::Scale;
use crate::format::onnx::proto::NodeProto;

impl Lowering<'_> {
    /// `(x - zero point) · scale`.
    pub(super) fn dequantize_linear(&mut self, node: &NodeProto) -> Option<()> {
        let block = usize::try_from(integer(node, "block_size", 0)).ok()?;
        let by = Scale { axis: integer(node, "axis", 1), block, ..Scale::at(node, 1, 2)? };
        if self.is_switched() {
            self.round_for(self.takers(node.output.first()?));
        }
        let real = self.real(node.input.first()?, &by)?;
        self.replace(node, node.output.first()?, &real);
        Some(())
    }
}
