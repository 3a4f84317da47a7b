//! The Gaussian error linear units of ONNX Runtime (Hendrycks and Gimpel 2016), and Mish (Misra 2019).

use super::attributes::number;
use super::pass::Lowering;
use crate::format::onnx::proto::NodeProto;

impl Lowering<'_> {
    /// `x / 2 · (1 + erf(x / √2))`.
    pub(super) fn gelu(&mut self, node: &NodeProto) -> Option<()> {
        self.exactly(node, node.input.first()?.clone())
    }

    /// The same of the sum of both operands.
    pub(super) fn bias_gelu(&mut self, node: &NodeProto) -> Option<()> {
        let [value, bias] = node.input.as_slice() else { return None };
        let sum = self.emit(node, "Add", &[value, bias], Vec::new());
        self.exactly(node, sum)
    }

    fn exactly(&mut self, node: &NodeProto, value: String) -> Option<()> {
        let root = self.scalar(std::f32::consts::SQRT_2);
        let shrunk = self.emit(node, "Div", &[&value, &root], Vec::new());
        let erf = self.emit(node, "Erf", &[&shrunk], Vec::new());
        self.gated(node, &value, &erf)
    }

    /// `x / 2 · (1 + gate)`, the output of the node.
    fn gated(&mut self, node: &NodeProto, value: &str, gate: &str) -> Option<()> {
        let (one, half) = (self.scalar(1.0), self.scalar(0.5));
        let share = self.emit(node, "Add", &[gate, &one], Vec::new());
        let twice = self.emit(node, "Mul", &[value, &share], Vec::new());
        self.emit_as(node, "Mul", &[&twice, &half], Vec::new(), node.output.first()?);
        Some(())
    }

    /// `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))` of the sum of the operands: transformers' `gelu_new`.
    pub(super) fn fast_gelu(&mut self, node: &NodeProto) -> Option<()> {
        let mut value = node.input.first()?.clone();
        if let Some(bias) = node.input.get(1).filter(|bias| !bias.is_empty()) {
            value = self.emit(node, "Add", &[&value, bias], Vec::new());
        }
        if self.options.exact_gelu {
            return self.exactly(node, value);
        }
        let root = (2.0 / std::f32::consts::PI).sqrt();
        let (root, cubic) = (self.scalar(root), self.scalar(0.044_715));
        let square = self.emit(node, "Mul", &[&value, &value], Vec::new());
        let cube = self.emit(node, "Mul", &[&square, &value], Vec::new());
        let cube = self.emit(node, "Mul", &[&cube, &cubic], Vec::new());
        let sum = self.emit(node, "Add", &[&value, &cube], Vec::new());
        let scaled = self.emit(node, "Mul", &[&sum, &root], Vec::new());
        let tanh = self.emit(node, "Tanh", &[&scaled], Vec::new());
        self.gated(node, &value, &tanh)
    }

    /// `x · σ(α x)`.
    pub(super) fn quick_gelu(&mut self, node: &NodeProto) -> Option<()> {
        let value = node.input.first()?;
        let alpha = self.scalar(number(node, "alpha", 1.702));
        let scaled = self.emit(node, "Mul", &[value, &alpha], Vec::new());
        let share = self.emit(node, "Sigmoid", &[&scaled], Vec::new());
        self.emit_as(node, "Mul", &[value, &share], Vec::new(), node.output.first()?);
        Some(())
    }

    /// `x · tanh(ln(1 + eˣ))`: a standard operator, which runtimes lack.
    pub(super) fn mish(&mut self, node: &NodeProto) -> Option<()> {
        let value = node.input.first()?;
        let soft = self.emit(node, "Softplus", &[value], Vec::new());
        let share = self.emit(node, "Tanh", &[&soft], Vec::new());
        self.emit_as(node, "Mul", &[value, &share], Vec::new(), node.output.first()?);
        Some(())
    }
}
