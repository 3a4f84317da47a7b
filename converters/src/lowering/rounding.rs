//! Activations: left as they are, or rounded as a graph says.

use super::Activations;
use super::pass::Lowering;
use super::reals::{Scale, limits};
use crate::format::onnx::proto::NodeProto;
use crate::format::onnx::proto::tensor_proto::DataType;

impl Lowering<'_> {
    /// What a value is once it was rounded to integers of type `of` and made numbers again: the value itself, if activations are
    /// not to be rounded. Nothing for several scales that are not along the last axis.
    pub(super) fn rounded(
        &mut self,
        node: &NodeProto,
        value: &str,
        by: &Scale,
        of: DataType,
    ) -> Option<String> {
        if self.options.activations == Activations::Exact {
            return Some(value.to_owned());
        }
        let key = (format!("{value} rounded"), by.clone(), self.users.clone());
        if let Some(known) = self.reals.get(&key) {
            return Some(known.clone());
        }
        let (first, last) = limits(of)?;
        let scale = by.scale.as_ref()?;
        if self.constant(scale).is_some_and(|scale| scale.shape.iter().product::<usize>() != 1) {
            return None;
        }
        let mut number = self.emit(node, "Div", &[value, scale], Vec::new());
        number = self.emit(node, "Round", &[&number], Vec::new());
        let zero = match &by.zero {
            Some(zero) => Some(self.zero_point(node, zero)?),
            None => None,
        };
        if let Some(zero) = &zero {
            number = self.emit(node, "Add", &[&number, zero], Vec::new());
        }
        let (first, last) = (self.scalar(first), self.scalar(last));
        number = self.emit(node, "Clip", &[&number, &first, &last], Vec::new());
        if let Some(zero) = &zero {
            number = self.emit(node, "Sub", &[&number, zero], Vec::new());
        }
        number = self.emit(node, "Mul", &[&number, scale], Vec::new());
        number = self.switched(node, value, number);
        self.reals.insert(key, number.clone());
        Some(number)
    }

    /// The scale and the zero point that `DynamicQuantizeLinear` computes of a value, as ONNX defines them.
    pub(super) fn dynamic_scale(&mut self, node: &NodeProto, value: &str) -> Scale {
        let quantized = self.fresh(&format!("{value} quantized"));
        let (scale, zero) =
            (self.fresh(&format!("{value} scale")), self.fresh(&format!("{value} zero point")));
        self.push(NodeProto {
            name: Some(format!("{} DynamicQuantizeLinear", node.name())),
            op_type: Some("DynamicQuantizeLinear".to_owned()),
            input: vec![value.to_owned()],
            output: vec![quantized, scale.clone(), zero.clone()],
            ..NodeProto::default()
        });
        Scale::new(&scale, &zero)
    }
}
