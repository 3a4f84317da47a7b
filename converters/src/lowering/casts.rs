//! `Mul` of a `Cast` of stored integers and their scales: weights that a runtime makes numbers when it loads the model, and rows of
//! a table.

use super::attributes::integer;
use super::pass::Lowering;
use super::reals::Scale;
use crate::format::onnx::proto::NodeProto;

impl Lowering<'_> {
    /// Integers of the file as f32, times a scale for all of them or for each index of an axis; or rows of such a table, times
    /// the same rows of its scales.
    pub(super) fn scaled_cast(&mut self, node: &NodeProto) -> Option<()> {
        let [one, other] = node.input.as_slice() else { return None };
        let (integers, scales) = match (self.cast_of_integers(one), self.cast_of_integers(other)) {
            (Some(integers), None) => (integers, other),
            (None, Some(integers)) => (integers, one),
            _ => return None,
        };
        let output = node.output.first()?;
        if self.places.contains_key(integers.as_str()) {
            let rank = self.constant(&integers)?.shape.len();
            let (scale, axis) = self.scale_along(scales, rank)?;
            let real = self.real(&integers, &Scale { axis, ..Scale::new(&scale, "") })?;
            self.replace(node, output, &real);
            return Some(());
        }
        let rows = self.producer(&integers)?.clone();
        let scales = self.producer(scales).filter(|node| node.op_type() == "Unsqueeze")?;
        let scales = self.producer(scales.input.first()?)?.clone();
        let is_row = |node: &NodeProto| node.op_type() == "Gather" && integer(node, "axis", 0) == 0;
        let ([codes, ids], [scale, same_ids]) = (rows.input.as_slice(), scales.input.as_slice()) else {
            return None;
        };
        if !is_row(&rows) || !is_row(&scales) || ids != same_ids || self.constant(scale)?.shape.len() != 1 {
            return None;
        }
        let real = self.real(codes, &Scale { axis: 0, ..Scale::new(scale, "") })?;
        self.emit_as(&rows, "Gather", &[&real, ids], rows.attribute.clone(), output);
        Some(())
    }

    /// The stored integers, or the rows of them, that a value is as f32.
    fn cast_of_integers(&self, value: &str) -> Option<String> {
        let cast = self.producer(value).filter(|node| node.op_type() == "Cast")?;
        let integers = cast.input.first()?;
        let stored = if self.places.contains_key(integers.as_str()) {
            integers
        } else {
            self.producer(integers).filter(|node| node.op_type() == "Gather")?.input.first()?
        };
        let is_codes = self.places.contains_key(stored.as_str()) && self.constant(stored)?.is_of_8_bits();
        is_codes.then(|| integers.clone())
    }

    /// The stored scales that a value is, and the axis, counted from behind, that they are along, of integers with `rank` axes.
    fn scale_along(&self, value: &str, rank: usize) -> Option<(String, i64)> {
        let (stored, behind) = match self.producer(value) {
            None => (value, 0),
            Some(node) if node.op_type() == "Unsqueeze" => {
                let axes = self.constant(node.input.get(1)?)?.integers()?;
                let behind = i32::try_from(axes.len()).ok()?;
                // The axis of the scales is in front of those that are added.
                if axes.contains(&0) || axes.contains(&(-1 - behind)) {
                    return None;
                }
                (node.input.first()?.as_str(), i64::from(behind))
            }
            Some(_) => return None,
        };
        let is_of_one_axis = self.constant(stored)?.shape.len() <= 1;
        (is_of_one_axis && usize::try_from(behind).ok()? < rank).then(|| (stored.to_owned(), -1 - behind))
    }
}
