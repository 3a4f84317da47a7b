//! Products of integers: `MatMulInteger` and `ConvInteger`, whose sums are made numbers by a `Cast` and a `Mul` with both scales,
//! and what ONNX Runtime makes of these.

use super::pass::Lowering;
use super::reals::Scale;
use crate::format::onnx::proto::NodeProto;
use crate::format::onnx::proto::tensor_proto::DataType;

/// Both scales of a product, and what is left to multiply with.
struct Factors {
    left: Option<String>,
    right: Option<String>,
    rest: Option<String>,
}

impl Lowering<'_> {
    /// A `Mul` of a sum of products of integers with their scales.
    pub(super) fn scaled_product(&mut self, node: &NodeProto) -> Option<()> {
        let [one, other] = node.input.as_slice() else { return None };
        let (product, scales) = match (self.product(one), self.product(other)) {
            (Some(product), None) => (product, other),
            (None, Some(product)) => (product, one),
            _ => return None,
        };
        let [left, right, ..] = product.input.as_slice() else { return None };
        self.round_for(self.producer_at(product.output.first()?).into_iter().collect());
        let Factors { left: left_scale, right: right_scale, rest } = self.factors(&product, scales)?;
        let scale = |scale: Option<String>, zero: usize| Scale {
            scale,
            zero: product.input.get(zero).filter(|zero| !zero.is_empty()).cloned(),
            axis: -1,
            block: 0,
        };
        let is_product = product.op_type() == "MatMulInteger";
        let axis = if is_product { -1 } else { 0 };
        let (left, right) = (
            self.real(left, &scale(left_scale, 2))?,
            self.real(right, &Scale { axis, ..scale(right_scale, 3) })?,
        );
        let (operator, attributes) =
            if is_product { ("MatMul", Vec::new()) } else { ("Conv", product.attribute.clone()) };
        let output = node.output.first()?;
        match rest {
            None => self.emit_as(&product, operator, &[&left, &right], attributes, output),
            Some(rest) => {
                let made = self.emit(&product, operator, &[&left, &right], attributes);
                self.emit_as(&product, "Mul", &[&made, &rest], Vec::new(), output);
            }
        }
        Some(())
    }

    /// The product of integers that a value is the sum of.
    fn product(&self, value: &str) -> Option<NodeProto> {
        let mut node = self.producer(value)?;
        if node.op_type() == "Cast" {
            node = self.producer(node.input.first()?)?;
        }
        matches!(node.op_type(), "MatMulInteger" | "ConvInteger").then(|| node.clone())
    }

    /// What of the factor of a product is the scale of which operand.
    fn factors(&mut self, product: &NodeProto, scales: &str) -> Option<Factors> {
        let of_left = self.own_scale(product.input.first()?);
        let of_right = self.own_scale(product.input.get(1)?);
        if let Some(node) = self.producer(scales).filter(|node| node.op_type() == "Mul")
            && let [one, other] = node.input.as_slice()
        {
            let (one, other) = (Some(one.clone()), Some(other.clone()));
            let is_turned = (of_left.is_some() && of_left == other && of_left != one)
                || (of_left.is_none() && of_right.is_some() && of_right == one);
            let (left, right) = if is_turned { (other, one) } else { (one, other) };
            if of_left.is_none() || of_left == left {
                return Some(Factors { left, right, rest: None });
            }
        }
        // Somebody has put another scale there: it counts, and not the one that the integers were made with.
        let left = of_left?;
        let rest = self.emit(product, "Div", &[scales, &left], Vec::new());
        Some(Factors { left: Some(left), right: None, rest: Some(rest) })
    }

    /// `MatMulInteger` with its `Cast`, its `Mul` and a bias.
    pub(super) fn mat_mul_integer_to_float(&mut self, node: &NodeProto) -> Option<()> {
        let [left, right, ..] = node.input.as_slice() else { return None };
        let left = self.real(left, &Scale::at(node, 2, 4)?)?;
        let right = self.real(right, &Scale::at(node, 3, 5)?)?;
        self.multiply(node, &left, &right, 6)
    }

    /// `MatMulIntegerToFloat` of what `DynamicQuantizeLinear` makes of the left operand.
    pub(super) fn dynamic_quantize_mat_mul(&mut self, node: &NodeProto) -> Option<()> {
        let [left, right, ..] = node.input.as_slice() else { return None };
        let right = self.real(right, &Scale::at(node, 2, 3)?)?;
        let by = self.dynamic_scale(node, left);
        let left = self.rounded(node, left, &by, DataType::Uint8)?;
        self.multiply(node, &left, &right, 4)
    }
}
