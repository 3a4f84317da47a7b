//! Activations: left as they are, or rounded as a graph says.

use super::Activations;
use super::attributes::{int, integer};
use super::constants::range;
use super::pass::Lowering;
use super::reals::{Scale, limits};
use crate::format::onnx::Float8;
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
        let left_out = self.left_out_relu(node, value, by, of);
        let value = left_out.as_deref().unwrap_or(value);
        if self.options.activations == Activations::Exact {
            return Some(value.to_owned());
        }
        let key = (format!("{value} rounded"), by.clone(), self.users.clone());
        if let Some(known) = self.reals.get(&key) {
            return Some(known.clone());
        }
        let scale = by.scale.as_ref()?;
        if self.constant(scale).is_some_and(|scale| scale.shape.iter().product::<usize>() != 1) {
            return None;
        }
        let number = match Float8::of(of) {
            Some(of) => self.rounded_to_floats(node, value, by, of)?,
            None => self.rounded_to_integers(node, value, by, of)?,
        };
        let number = self.switched(node, value, number);
        self.reals.insert(key, number.clone());
        Some(number)
    }

    /// clip(round(x / s) + z) - z, times s.
    fn rounded_to_integers(
        &mut self,
        node: &NodeProto,
        value: &str,
        by: &Scale,
        of: DataType,
    ) -> Option<String> {
        let (first, last) = limits(of)?;
        let scale = by.scale.as_ref()?;
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
        Some(self.emit(node, "Mul", &[&number, scale], Vec::new()))
    }

    /// x / s as a floating-point number of 8 bits, times s. With m bits of mantissa, of q = clip(x / s)
    ///
    /// ```text
    /// t - (t - q)   t = (2²³⁻ᵐ + 1) q                 as many bits as a number has (Dekker, 1971)
    /// (q + c) - c   c = 1.5 · 2²³ · the least number  where it has fewer, because it is smaller than all that are normal
    /// ```
    ///
    /// What is beyond the largest number is none at all where the node says so (`saturate` 0).
    fn rounded_to_floats(&mut self, node: &NodeProto, value: &str, by: &Scale, of: Float8) -> Option<String> {
        self.require_no_zero(by)?;
        let scale = by.scale.as_ref()?;
        let exponent = of.least_exponent();
        let [first, last] = [-of.largest(), of.largest()].map(|number| self.scalar(number));
        let factor = self.scalar(((23 - of.mantissa()) as f32).exp2() + 1.0);
        let magnitude = self.scalar(1.5 * ((23 + exponent - of.mantissa()) as f32).exp2());
        let normal = self.scalar((exponent as f32).exp2());
        let exact = self.emit(node, "Div", &[value, scale], Vec::new());
        let scaled = self.emit(node, "Clip", &[&exact, &first, &last], Vec::new());
        let large = self.emit(node, "Mul", &[&scaled, &factor], Vec::new());
        let rest = self.emit(node, "Sub", &[&large, &scaled], Vec::new());
        let large = self.emit(node, "Sub", &[&large, &rest], Vec::new());
        let small = self.emit(node, "Add", &[&scaled, &magnitude], Vec::new());
        let small = self.emit(node, "Sub", &[&small, &magnitude], Vec::new());
        let size = self.emit(node, "Abs", &[&scaled], Vec::new());
        let is_small = self.emit(node, "Less", &[&size, &normal], Vec::new());
        let mut number = self.emit(node, "Where", &[&is_small, &small, &large], Vec::new());
        if integer(node, "saturate", 1) == 0 {
            let beyond = self.scalar(of.largest() + of.step_at(of.largest()) / 2.0);
            let none = self.scalar(f32::NAN);
            let size = self.emit(node, "Abs", &[&exact], Vec::new());
            let is_beyond = self.emit(node, "Greater", &[&size, &beyond], Vec::new());
            number = self.emit(node, "Where", &[&is_beyond, &none, &number], Vec::new());
        }
        Some(self.emit(node, "Mul", &[&number, scale], Vec::new()))
    }

    /// The `Relu` in front of integers that start at zero: what is below becomes that, so that tools leave it out.
    fn left_out_relu(&mut self, node: &NodeProto, value: &str, by: &Scale, of: DataType) -> Option<String> {
        if !self.lacks_relu {
            return None;
        }
        let (first, _) = range(of)?;
        let zero = by.zero.as_ref().map_or(Some(vec![0]), |zero| self.constant(zero)?.integers())?;
        zero.iter().all(|&zero| zero == first).then(|| self.emit(node, "Relu", &[value], Vec::new()))
    }

    /// What values of [.., `columns`] are once ONNX Runtime has rounded them in front of a product with blocks (MLAS,
    /// `QuantizeARow_CompInt8`): to ±127, with a scale for every `block` numbers of a row.
    pub(super) fn rounded_in_blocks(
        &mut self,
        node: &NodeProto,
        value: &str,
        columns: usize,
        block: usize,
    ) -> String {
        if self.options.activations == Activations::Exact {
            return value.to_owned();
        }
        let (blocks, padding) = (columns.div_ceil(block), columns.next_multiple_of(block) - columns);
        let [columns, block, blocks, padding] = [columns, block, blocks, padding].map(|size| size as i64);
        let shape = self.emit(node, "Shape", &[value], Vec::new());
        let mut exact = value.to_owned();
        if padding > 0 {
            let rows = self.integers("rows", &[2], &[-1, columns]);
            let pads = self.integers("pads", &[4], &[0, 0, 0, padding]);
            exact = self.emit(node, "Reshape", &[&exact, &rows], Vec::new());
            exact = self.emit(node, "Pad", &[&exact, &pads], Vec::new());
        }
        let of_blocks = self.integers("blocks", &[3], &[-1, blocks, block]);
        exact = self.emit(node, "Reshape", &[&exact, &of_blocks], Vec::new());
        let magnitudes = self.emit(node, "Abs", &[&exact], Vec::new());
        // Of all operators that find the largest, this one takes the same inputs in every version.
        let one = self.integers("1", &[1], &[1]);
        let (largest, place) = (self.fresh("largest"), self.fresh("place of the largest"));
        self.push(NodeProto {
            name: Some(format!("{} TopK", node.name())),
            op_type: Some("TopK".to_owned()),
            input: vec![magnitudes, one],
            output: vec![largest.clone(), place],
            attribute: vec![int("axis", -1)],
            ..NodeProto::default()
        });
        let [steps, tiny] = [127.0, 128.0 * f32::MIN_POSITIVE].map(|number| self.scalar(number));
        let scale = self.emit(node, "Div", &[&largest, &steps], Vec::new());
        let above_zero = self.emit(node, "Max", &[&largest, &tiny], Vec::new());
        // Not the inverse of the scale: numbers in f16 are often half-way between two integers, where the last bit decides.
        let factor = self.emit(node, "Div", &[&steps, &above_zero], Vec::new());
        let mut number = self.emit(node, "Mul", &[&exact, &factor], Vec::new());
        number = self.emit(node, "Round", &[&number], Vec::new());
        number = self.emit(node, "Mul", &[&number, &scale], Vec::new());
        if padding > 0 {
            let padded = self.integers("padded", &[2], &[-1, columns + padding]);
            let [first, last, axis] =
                [0, columns, 1].map(|number| self.integers(&number.to_string(), &[1], &[number]));
            number = self.emit(node, "Reshape", &[&number, &padded], Vec::new());
            number = self.emit(node, "Slice", &[&number, &first, &last, &axis], Vec::new());
        }
        number = self.emit(node, "Reshape", &[&number, &shape], Vec::new());
        self.switched(node, value, number)
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
