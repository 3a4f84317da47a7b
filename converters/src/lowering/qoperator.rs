//! Operators of integers with a scale for everything that they take and make, as ONNX and ONNX Runtime have them.

use super::attributes::{flag, float, int, integer, ints, number};
use super::pass::Lowering;
use super::reals::Scale;
use crate::format::onnx::proto::{AttributeProto, NodeProto};

impl Lowering<'_> {
    pub(super) fn q_linear_mat_mul(&mut self, node: &NodeProto) -> Option<()> {
        let (left, right) = (self.operand(node, 0, -1)?, self.operand(node, 3, -1)?);
        let product = self.emit(node, "MatMul", &[&left, &right], Vec::new());
        self.makes(node, &product, 6)
    }

    /// Its bias is of integers whose scale is the product of both others. Without a scale of its own it makes numbers.
    pub(super) fn q_gemm(&mut self, node: &NodeProto) -> Option<()> {
        let (turn_left, turn_right) = (flag(node, "transA"), flag(node, "transB"));
        let left = self.operand(node, 0, -1)?;
        let right = self.operand(node, 3, if turn_right { 0 } else { -1 })?;
        let alpha = number(node, "alpha", 1.0);
        let attributes =
            vec![float("alpha", alpha), int("transA", turn_left.into()), int("transB", turn_right.into())];
        let mut taken = vec![left, right];
        if node.input.get(6).is_some_and(|bias| !bias.is_empty()) {
            taken.push(self.bias_of(node, 1, 4, 6, alpha)?);
        }
        let taken: Vec<&str> = taken.iter().map(String::as_str).collect();
        let output = node.output.first()?;
        if node.input.get(7).is_some_and(|scale| !scale.is_empty()) {
            let product = self.emit(node, "Gemm", &taken, attributes);
            return self.makes(node, &product, 7);
        }
        self.emit_as(node, "Gemm", &taken, attributes, output);
        Some(())
    }

    pub(super) fn q_linear_conv(&mut self, node: &NodeProto) -> Option<()> {
        let (values, kernel) = (self.operand(node, 0, -1)?, self.operand(node, 3, 0)?);
        let mut taken = vec![values, kernel];
        if node.input.get(8).is_some_and(|bias| !bias.is_empty()) {
            taken.push(self.bias_of(node, 1, 4, 8, 1.0)?);
        }
        // ONNX Runtime's own has the channels behind the places: [b, n, C] in the place of [b, C, n].
        let is_turned = integer(node, "channels_last", 0) != 0;
        let rank = self.constant(node.input.get(3)?)?.shape.len() as i64;
        let turned = |axes: Vec<i64>| vec![ints("perm", &axes)];
        if let Some(values) = taken.first_mut().filter(|_| is_turned) {
            let channels_ahead = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
            *values = self.emit(node, "Transpose", &[values], turned(channels_ahead));
        }
        let taken: Vec<&str> = taken.iter().map(String::as_str).collect();
        let attributes = node.attribute.iter().filter(|attribute| attribute.name() != "channels_last");
        let mut made = self.emit(node, "Conv", &taken, attributes.cloned().collect());
        if is_turned {
            let channels_behind = [0].into_iter().chain(2..rank).chain([1]).collect();
            made = self.emit(node, "Transpose", &[&made], turned(channels_behind));
        }
        self.makes(node, &made, 6)
    }

    pub(super) fn q_linear_binary(&mut self, node: &NodeProto) -> Option<()> {
        let operator = node.op_type().strip_prefix("QLinear")?;
        let (left, right) = (self.operand(node, 0, -1)?, self.operand(node, 3, -1)?);
        let made = self.emit(node, operator, &[&left, &right], Vec::new());
        self.makes(node, &made, 6)
    }

    /// `QLinearSigmoid`, `QLinearLeakyRelu`, `QLinearSoftmax`, `QLinearReduceMean`.
    pub(super) fn q_linear_unary(&mut self, node: &NodeProto) -> Option<()> {
        let operator = node.op_type().strip_prefix("QLinear")?;
        // The softmax says which version of ONNX's operators it follows, and has the axis as they do from 13 on.
        let attributes: Vec<AttributeProto> =
            node.attribute.iter().filter(|attribute| attribute.name() != "opset").cloned().collect();
        if operator == "Softmax" && integer(node, "opset", 13) < 13 {
            return None;
        }
        let value = self.operand(node, 0, -1)?;
        let made = self.emit(node, operator, &[&value], attributes);
        self.makes(node, &made, 3)
    }

    /// First the scale of what it makes, then every part with its own.
    pub(super) fn q_linear_concat(&mut self, node: &NodeProto) -> Option<()> {
        let parts = (2..node.input.len()).step_by(3).map(|at| self.operand(node, at, -1));
        let parts = parts.collect::<Option<Vec<String>>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let made = self.emit(node, "Concat", &parts, node.attribute.clone());
        self.makes(node, &made, 0)
    }

    /// The condition, then both choices with their scales.
    pub(super) fn q_linear_where(&mut self, node: &NodeProto) -> Option<()> {
        let (one, other) = (self.operand(node, 1, -1)?, self.operand(node, 4, -1)?);
        let made = self.emit(node, "Where", &[node.input.first()?, &one, &other], Vec::new());
        self.makes(node, &made, 7)
    }

    /// An operand, whose scale and zero point follow it.
    fn operand(&mut self, node: &NodeProto, at: usize, axis: i64) -> Option<String> {
        let by = Scale { axis, ..Scale::at(node, at + 1, at + 2)? };
        self.real(node.input.get(at)?, &by)
    }

    /// Notes what a node makes, whose scale is input `scale`, and rounds it.
    fn makes(&mut self, node: &NodeProto, value: &str, scale: usize) -> Option<()> {
        let own = Scale::at(node, scale, scale + 1)?;
        let of = self.type_of_zero(&own);
        let mut users = self.neighbours(node.output.first()?);
        users.extend(&self.users);
        users.sort_unstable();
        let before = self.round_for(users);
        let rounded = self.rounded(node, value, &own, of);
        self.round_for(before);
        let rounded = rounded?;
        self.made.insert(node.output.first()?.clone(), (rounded, own));
        Some(())
    }

    /// A bias of integers whose scale is the product of those of the operands, for one or each of the rows.
    fn bias_of(
        &mut self,
        node: &NodeProto,
        left: usize,
        right: usize,
        bias: usize,
        alpha: f32,
    ) -> Option<String> {
        let numbers = |name: Option<&String>| self.constant(name?)?.floats();
        let (left, right) = (numbers(node.input.get(left))?, numbers(node.input.get(right))?);
        let [left] = left.as_slice() else { return None };
        let scales: Vec<f32> = right.iter().map(|right| alpha * left * right).collect();
        self.dequantized_by(node.input.get(bias)?, scales)
    }
}
