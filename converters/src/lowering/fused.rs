//! Products that ONNX Runtime puts transpositions, factors and activations into.

use super::attributes::{flag, float, ints, number, text};
use super::pass::Lowering;
use crate::format::onnx::proto::NodeProto;

impl Lowering<'_> {
    /// `alpha · A B`, with operands whose last two axes are exchanged, or whose first one goes before the last. It stays where
    /// the rank of an operand that is turned is not known.
    pub(super) fn fused_mat_mul(&mut self, node: &NodeProto) -> Option<()> {
        let ([left, right], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return None };
        let left = self.turned(node, left, flag(node, "transA"), flag(node, "transBatchA"))?;
        let right = self.turned(node, right, flag(node, "transB"), flag(node, "transBatchB"))?;
        let alpha = number(node, "alpha", 1.0);
        if alpha == 1.0 {
            self.emit_as(node, "MatMul", &[&left, &right], Vec::new(), output);
        } else {
            let factor = self.scalar(alpha);
            let product = self.emit(node, "MatMul", &[&left, &right], Vec::new());
            self.emit_as(node, "Mul", &[&product, &factor], Vec::new(), output);
        }
        Some(())
    }

    fn turned(&mut self, node: &NodeProto, operand: &str, turn: bool, batch: bool) -> Option<String> {
        if !turn && !batch {
            return Some(operand.to_owned());
        }
        let rank = i64::try_from(*self.ranks.get(operand)?).ok().filter(|&rank| rank >= 2)?;
        let mut axes: Vec<i64> =
            if batch { (1..rank - 1).chain([0, rank - 1]).collect() } else { (0..rank).collect() };
        if turn {
            let last = axes.len().checked_sub(1)?;
            axes.swap(last - 1, last);
        }
        Some(self.emit(node, "Transpose", &[operand], vec![ints("perm", &axes)]))
    }

    /// `Gemm`, and an activation without parameters.
    pub(super) fn fused_gemm(&mut self, node: &NodeProto) -> Option<()> {
        let activation = text(node, "activation")?;
        let attributes: Vec<_> = node
            .attribute
            .iter()
            .filter(|attribute| !attribute.name().starts_with("activation"))
            .cloned()
            .collect();
        let taken: Vec<&str> = node.input.iter().map(String::as_str).collect();
        let product = self.emit(node, "Gemm", &taken, attributes);
        let alpha = if activation == "LeakyRelu" {
            vec![float("alpha", number(node, "activation_alpha", 0.01))]
        } else {
            Vec::new()
        };
        self.emit_as(node, &activation, &[&product], alpha, node.output.first()?);
        Some(())
    }

    /// Nothing is dropped outside of training.
    pub(super) fn dropout(&mut self, node: &NodeProto) -> Option<()> {
        if node.input.get(2).is_some_and(|training| !training.is_empty()) || node.output.len() > 1 {
            return None;
        }
        self.emit_as(node, "Identity", &[node.input.first()?], Vec::new(), node.output.first()?);
        Some(())
    }
}
