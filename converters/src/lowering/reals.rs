//! The numbers that integers stand for: dequantized tensors of the file, and what becomes of activations.

use super::Stored;
use super::constants::range;
use super::pass::Lowering;
use super::stored::Table;
use crate::format::onnx::Float8;
use crate::format::onnx::proto::NodeProto;
use crate::format::onnx::proto::tensor_proto::DataType;

/// What integers are multiplied by, after their zero points are taken off.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scale {
    /// The value; nothing stands for 1.
    pub(super) scale: Option<String>,
    pub(super) zero: Option<String>,
    /// The axis along which there are several.
    pub(super) axis: i64,
    /// How many elements along the axis share one; 0 for 1.
    pub(super) block: usize,
}

impl Scale {
    /// The scale in one input of a node, and the zero point in another; several along the last axis.
    pub(super) fn at(node: &NodeProto, scale: usize, zero: usize) -> Option<Scale> {
        Some(Scale::new(node.input.get(scale)?, node.input.get(zero).map_or("", String::as_str)))
    }

    pub(super) fn new(scale: &str, zero: &str) -> Scale {
        let zero = Some(zero).filter(|zero| !zero.is_empty()).map(str::to_owned);
        Scale { scale: Some(scale.to_owned()), zero, axis: -1, block: 0 }
    }
}

impl Lowering<'_> {
    /// The numbers that a value of integers stands for, as a value of f32. Nothing if it is not known what they are.
    pub(super) fn real(&mut self, value: &str, by: &Scale) -> Option<String> {
        let key = (value.to_owned(), by.clone(), self.users.clone());
        if let Some(known) = self.reals.get(&key) {
            return Some(known.clone());
        }
        let real = self.find(value, by)?;
        self.reals.insert(key, real.clone());
        Some(real)
    }

    fn find(&mut self, value: &str, by: &Scale) -> Option<String> {
        if self.places.contains_key(value) {
            return self.dequantized(value, by);
        }
        if let Some((real, own)) = self.made.get(value).cloned() {
            return self.adapted(&real, &own, by);
        }
        let node = self.producer(value)?.clone();
        match node.op_type() {
            "QuantizeLinear" => {
                let own =
                    Scale { axis: super::attributes::integer(&node, "axis", 1), ..Scale::at(&node, 1, 2)? };
                let (first, of) = (node.input.first()?, self.type_made(&node, &own)?);
                let before = self.round_for(self.neighbours(value));
                let rounded = self.rounded(&node, first, &own, of);
                self.round_for(before);
                self.adapted(&rounded?, &own, by)
            }
            "DynamicQuantizeLinear" if node.output.first()? == value => {
                let own = Scale::new(node.output.get(1)?, node.output.get(2)?);
                let rounded = self.rounded(&node, node.input.first()?, &own, DataType::Uint8)?;
                self.adapted(&rounded, &own, by)
            }
            "Gather" if self.is_switched() && self.is_constant(node.input.first()?) => {
                self.gather_switched(&node, by)
            }
            "Gather" | "GatherElements" | "Reshape" | "Transpose" | "Slice" | "Squeeze" | "Unsqueeze"
            | "Identity" | "Flatten" | "Expand" | "Tile" | "Split" => {
                let stored = Scale { axis: self.axis_before(&node, by)?, ..by.clone() };
                let moved = self.real(node.input.first()?, &stored)?;
                let taken: Vec<&str> = std::iter::once(moved.as_str())
                    .chain(node.input.iter().skip(1).map(String::as_str))
                    .collect();
                self.twin(&node, value, &taken, by)
            }
            "Concat" => {
                let parts =
                    node.input.iter().map(|part| self.real(part, by)).collect::<Option<Vec<String>>>()?;
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                self.twin(&node, value, &parts, by)
            }
            _ => None,
        }
    }

    /// The axis in front of a `Transpose` of a stored tensor that has several scales.
    fn axis_before(&self, node: &NodeProto, by: &Scale) -> Option<i64> {
        let several =
            |scale: &String| self.constant(scale).is_some_and(|scale| scale.shape.iter().any(|&len| len > 1));
        if node.op_type() != "Transpose" || !by.scale.as_ref().is_some_and(several) {
            return Some(by.axis);
        }
        let rank = i64::try_from(self.constant(node.input.first()?)?.shape.len()).ok()?;
        let axis = usize::try_from(if by.axis < 0 { by.axis + rank } else { by.axis }).ok()?;
        let perm = node.attribute.iter().find(|attribute| attribute.name() == "perm");
        perm.map_or_else(
            || i64::try_from(axis).ok().map(|axis| rank - 1 - axis),
            |perm| perm.ints.get(axis).copied(),
        )
    }

    /// The scale that the integers of an activation have, if they have one.
    pub(super) fn own_scale(&self, value: &str) -> Option<String> {
        if let Some((_, own)) = self.made.get(value) {
            return own.scale.clone();
        }
        let node = self.producer(value)?;
        match node.op_type() {
            "QuantizeLinear" => node.input.get(1).cloned(),
            "DynamicQuantizeLinear" => node.output.get(1).cloned(),
            "Reshape" | "Transpose" | "Slice" | "Squeeze" | "Unsqueeze" | "Identity" | "Gather" => {
                self.own_scale(node.input.first()?)
            }
            _ => None,
        }
    }

    /// The type that `QuantizeLinear` makes: what it says, or that of its zero point.
    fn type_made(&self, node: &NodeProto, own: &Scale) -> Option<DataType> {
        match super::attributes::integer(node, "output_dtype", 0) {
            0 => Some(self.type_of_zero(own)),
            of => DataType::try_from(i32::try_from(of).ok()?).ok(),
        }
    }

    /// The type of integers that have a zero point.
    pub(super) fn type_of_zero(&self, scale: &Scale) -> DataType {
        let zero = scale.zero.as_ref().and_then(|zero| self.constant(zero));
        zero.map_or(DataType::Uint8, |zero| zero.declared)
    }

    /// The same nodes on the numbers in the place of the integers. All outputs of a `Split` get one.
    fn twin(&mut self, node: &NodeProto, value: &str, taken: &[&str], by: &Scale) -> Option<String> {
        let names: Vec<String> = node.output.iter().map(|name| self.fresh(&format!("{name} real"))).collect();
        let input = taken.iter().map(|&name| name.to_owned()).collect();
        let name = Some(format!("{} real", node.name()));
        self.push(NodeProto { name, input, output: names.clone(), ..node.clone() });
        for (output, name) in node.output.iter().zip(&names) {
            self.reals.insert((output.clone(), by.clone(), self.users.clone()), name.clone());
        }
        node.output.iter().position(|output| output == value).and_then(|at| names.get(at)).cloned()
    }

    /// Numbers whose integers have a scale, read with another one.
    fn adapted(&mut self, real: &str, own: &Scale, by: &Scale) -> Option<String> {
        let of = NodeProto { output: vec![real.to_owned()], ..NodeProto::default() };
        let same_scale = self.is_same(own.scale.as_ref(), by.scale.as_ref());
        let same_zero = self.is_same(own.zero.as_ref(), by.zero.as_ref());
        if same_scale && same_zero {
            return Some(real.to_owned());
        }
        // (real / own + own zero - zero) · scale
        let mut value = real.to_owned();
        if let Some(own) = &own.scale {
            value = self.emit(&of, "Div", &[&value, own], Vec::new());
        }
        if !same_zero {
            for (zero, operator) in [(&own.zero, "Add"), (&by.zero, "Sub")] {
                if let Some(zero) = zero {
                    let zero = self.zero_point(&of, zero)?;
                    value = self.emit(&of, operator, &[&value, &zero], Vec::new());
                }
            }
        }
        if let Some(scale) = &by.scale {
            value = self.emit(&of, "Mul", &[&value, scale], Vec::new());
        }
        Some(value)
    }

    /// Whether two scales or zero points are the same value or the same constant. None at all is a 1, or a 0.
    fn is_same(&self, one: Option<&String>, other: Option<&String>) -> bool {
        if one == other {
            return true;
        }
        let bytes = |name: Option<&String>| self.constant(name?).map(|constant| constant.bytes.into_owned());
        match (one, other) {
            (Some(_), Some(_)) => bytes(one).is_some_and(|one| Some(one) == bytes(other)),
            (Some(_), None) => bytes(one).is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0)),
            (None, Some(_)) => bytes(other).is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0)),
            (None, None) => true,
        }
    }

    /// A zero point as f32.
    pub(super) fn zero_point(&mut self, of: &NodeProto, zero: &str) -> Option<String> {
        let known = self.constant(zero);
        match known {
            Some(constant) => {
                let numbers = constant.integers()?.into_iter().map(|number| number as f32).collect();
                Some(self.add(&format!("{zero} as f32"), &constant.shape, numbers))
            }
            None => Some(self.emit(
                of,
                "Cast",
                &[zero],
                vec![super::attributes::int("to", DataType::Float as i64)],
            )),
        }
    }

    /// Whether a value is a tensor of the file.
    fn is_constant(&self, value: &str) -> bool {
        self.places.contains_key(value)
    }

    /// A tensor of the file as the numbers that it stands for.
    fn dequantized(&mut self, value: &str, by: &Scale) -> Option<String> {
        let (shape, numbers, stored) = self.dequantize(value, by)?;
        Some(self.add_stored(&shape, numbers, stored))
    }

    /// The shape and the numbers of a tensor of the file, and how it is stored.
    pub(super) fn dequantize(&self, value: &str, by: &Scale) -> Option<(Vec<usize>, Vec<f32>, Stored)> {
        let constant = self.constant(value)?;
        let shape = constant.shape.clone();
        let scales = match &by.scale {
            Some(scale) => {
                let scales = self.constant(scale)?;
                Table::new(scales.floats()?, &scales.shape, &shape, by.axis, by.block)?
            }
            None => Table::one(1.0),
        };
        let error =
            by.scale.as_ref().and_then(|scale| self.constant(scale)).map_or(0.0, |scale| scale.rounding());
        if let Some(of) = Float8::of(constant.declared) {
            self.require_no_zero(by)?;
            let stored = Stored::float8(of, value, by.scale.as_deref(), scales).with_scale_error(error);
            let codes = constant.floats()?.into_iter().enumerate();
            let numbers = codes.map(|(index, code)| code * stored.scale_at(index)).collect();
            return Some((shape, numbers, stored));
        }
        let codes = constant.integers()?;
        let zeros = match &by.zero {
            Some(zero) => {
                let zeros = self.constant(zero)?;
                Table::new(zeros.integers()?, &zeros.shape, &shape, by.axis, by.block)?
            }
            None => Table::one(0),
        };
        let stored = Stored::integers(constant.range()?, value, by.scale.as_deref(), scales, zeros)
            .with_scale_error(error);
        let numbers = numbers_of(&codes, &stored);
        Some((shape, numbers, stored))
    }

    /// A tensor of integers as the numbers that it stands for, given a scale for all of them or for each index of the last axis.
    pub(super) fn dequantized_by(&mut self, value: &str, scales: Vec<f32>) -> Option<String> {
        let constant = self.constant(value)?;
        let count = scales.len();
        let scales = Table::new(scales, &[count], &constant.shape, -1, 0)?;
        let stored = Stored::integers(constant.range()?, value, None, scales, Table::one(0));
        Some(self.add_dequantized(&constant.shape, &constant.integers()?, stored))
    }

    /// Nothing if floating-point numbers have a zero point that is not zero.
    pub(super) fn require_no_zero(&self, by: &Scale) -> Option<()> {
        let zero = by.zero.as_ref().map_or(Some(Vec::new()), |zero| self.constant(zero)?.floats())?;
        zero.iter().all(|&zero| zero == 0.0).then_some(())
    }

    /// Adds the initializer that integers stand for, under the name that the tensor had before it was quantized.
    pub(super) fn add_dequantized(&mut self, shape: &[usize], codes: &[i32], stored: Stored) -> String {
        self.add_stored(shape, numbers_of(codes, &stored), stored)
    }

    /// Adds an initializer of dequantized numbers; where nodes can be switched, those of the model in its place as well.
    pub(super) fn add_stored(&mut self, shape: &[usize], numbers: Vec<f32>, stored: Stored) -> String {
        if !self.is_switched() || self.users.is_empty() {
            return self.add_plain(shape, numbers, stored);
        }
        let of = NodeProto { output: vec![stored.name.clone()], ..NodeProto::default() };
        let (exact, rounded) = self.add_switched(shape, numbers, &stored);
        self.switched(&of, &exact, rounded)
    }

    /// Adds an initializer of dequantized numbers alone.
    pub(super) fn add_plain(&mut self, shape: &[usize], numbers: Vec<f32>, stored: Stored) -> String {
        let name = self.add(stored.plain_name(), shape, numbers);
        self.stored.insert(name.clone(), stored);
        name
    }
}

/// The numbers that integers stand for.
fn numbers_of(codes: &[i32], stored: &Stored) -> Vec<f32> {
    codes.iter().enumerate().map(|(index, &code)| stored.number(index, code)).collect()
}

/// The range of a type, as f32.
pub(super) fn limits(of: DataType) -> Option<(f32, f32)> {
    let (first, last) = range(of)?;
    Some((first as f32, last as f32))
}
