//! Factors of channels that tools move from what a product takes into its weights, so that activations round better (SmoothQuant,
//! AWQ): `x · f` times `W / f`, for a factor of every row of W. They are put into the weights again, which are then the model's.

use std::collections::HashMap;

use super::Stored;
use super::attributes::integer;
use super::pass::{Lowering, little_endian};
use crate::format::onnx::proto::{NodeProto, TensorProto};
use crate::format::onnx::put_floats;

impl Lowering<'_> {
    /// Puts the factors of what dequantized weights are multiplied with into these.
    pub(super) fn gather_factors(&mut self) {
        let mut producers: HashMap<String, usize> = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            producers.extend(node.output.iter().map(|name| (name.clone(), index)));
        }
        let uses = uses_of(self.nodes.iter());
        for index in 0..self.nodes.len() {
            let values = self.move_into_weights(index, &producers, &uses);
            let node = self.nodes.get_mut(index);
            if let (Some(values), Some(input)) = (values, node.and_then(|node| node.input.first_mut())) {
                *input = values;
            }
        }
    }

    /// Multiplies the weights of a product by the factors of what it takes, and returns what it takes without them.
    fn move_into_weights(
        &mut self,
        index: usize,
        producers: &HashMap<String, usize>,
        uses: &Uses,
    ) -> Option<String> {
        let (values, weights, is_turned) = product_with(self.nodes.get(index)?)?;
        let weights = weights.to_owned();
        let multiplied_by = self.nodes.get(*producers.get(values)?)?;
        let (values, factors) = self.factors_of_channels(multiplied_by)?;
        let place = self.constants.iter().position(|tensor| *tensor.name() == *weights)?;
        let stored =
            self.stored.get(&weights).filter(|_| uses.get(&weights).is_some_and(|of| of.len() == 1))?.clone();
        let stored = multiplied(self.constants.get_mut(place)?, stored, factors, is_turned)?;
        self.stored.insert(weights, stored);
        Some(values)
    }

    /// What a node multiplies with constant factors along the last axis, and these.
    fn factors_of_channels(&self, node: &NodeProto) -> Option<(String, Vec<f32>)> {
        let [one, other] = node.input.as_slice() else { return None };
        if node.op_type() != "Mul" {
            return None;
        }
        let along_the_last = |name: &String| {
            let constant = self.constant(name)?;
            let count = *constant.shape.last()?;
            let is_row = count > 1 && constant.shape.iter().product::<usize>() == count;
            let factors = constant.floats().filter(|_| is_row)?;
            factors.iter().all(|factor| factor.is_normal()).then_some(factors)
        };
        let found = along_the_last(other).map(|factors| (one.clone(), factors));
        found.or_else(|| along_the_last(one).map(|factors| (other.clone(), factors)))
    }
}

/// The nodes that take each value, once for every time that they do.
pub(crate) type Uses = HashMap<String, Vec<usize>>;

pub(crate) fn uses_of<'n>(nodes: impl Iterator<Item = &'n NodeProto>) -> Uses {
    let mut uses = Uses::new();
    for (index, node) in nodes.enumerate() {
        node.input.iter().for_each(|name| uses.entry(name.clone()).or_default().push(index));
    }
    uses
}

/// What a product takes, its weights, and whether these are turned: [out, in]. Nothing if the node is something else.
pub(crate) fn product_with(node: &NodeProto) -> Option<(&str, &str, bool)> {
    let is_product = matches!(node.op_type(), "MatMul" | "Gemm") && integer(node, "transA", 0) == 0;
    let alpha = node.attribute.iter().find(|attribute| attribute.name() == "alpha");
    if !is_product || !node.domain().is_empty() || alpha.is_some_and(|alpha| alpha.f() != 1.0) {
        return None;
    }
    let is_turned = node.op_type() == "Gemm" && integer(node, "transB", 0) != 0;
    Some((node.input.first()?, node.input.get(1)?, is_turned))
}

/// Multiplies a matrix by a factor for each row, or for each column if it is turned, and returns how it is stored then. Nothing, and
/// nothing done, if there are not as many.
pub(crate) fn multiplied(
    tensor: &mut TensorProto,
    stored: Stored,
    factors: Vec<f32>,
    is_turned: bool,
) -> Option<Stored> {
    let [rows, columns] = <[i64; 2]>::try_from(tensor.dims.as_slice()).ok()?.map(usize::try_from);
    let (rows, columns) = (rows.ok()?, columns.ok()?);
    if factors.len() != if is_turned { columns } else { rows } {
        return None;
    }
    let numbers = tensor.raw_data.as_ref()?.as_chunks::<4>().0.iter().map(|&of| f32::from_le_bytes(of));
    let factor = |at: usize| if is_turned { at % columns } else { at / columns };
    let scaled = numbers.enumerate().map(|(at, number)| Some(number * factors.get(factor(at))?));
    let scaled: Vec<f32> = scaled.collect::<Option<_>>()?;
    let stored = stored.with_factors(factors, &[rows, columns], usize::from(is_turned))?;
    put_floats(tensor, little_endian(scaled));
    Some(stored)
}
