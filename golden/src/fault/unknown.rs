//! How many numbers it takes to undo a fault.

use std::collections::BTreeSet;

use super::{Change, Model};

/// How many numbers of a good model cannot be known from the one that these changes make of it: a kernel transposed has none,
/// a bias with noise all of its own, a layer that is gone all of the layer's.
pub(crate) fn unknowns(good: &Model, changes: &[Change]) -> usize {
    let len = |name: &str| good.values(name).map_or(0, <[f32]>::len);
    let of = |change: &Change| match change {
        Change::Add(_, numbers) => numbers.len(),
        Change::Scale { factor, .. } => usize::from(*factor != -1.0),
        Change::Fill(name, _) | Change::Replace(name, _) | Change::Round(name, _) => len(name),
        Change::Quantize { name, .. } | Change::Copy { to: name, .. } => len(name),
        Change::Rows { name, order } => {
            let rows = good.shape(name).and_then(|shape| shape.first().copied()).unwrap_or(0);
            let kept: BTreeSet<&usize> = order.iter().collect();
            (0..rows).filter(|row| !kept.contains(row)).count() * len(name) / rows.max(1)
        }
        Change::Layers(order) => {
            let gone = |layer: &usize| !order.contains(layer);
            let params = good.params().into_iter().filter(|param| param.layer.as_ref().is_some_and(gone));
            params.map(|param| len(&param.name)).sum()
        }
        Change::Forget => {
            let left = good.with(changes);
            let gone = |name: &&str| left.as_ref().is_some_and(|left| left.shape(name).is_none());
            good.names().filter(gone).map(len).sum()
        }
        Change::Transpose(_)
        | Change::Columns { .. }
        | Change::Reshape { .. }
        | Change::Kernel(..)
        | Change::Swap(..)
        | Change::Insert { .. }
        | Change::Config(_)
        | Change::Mistake(_) => 0,
    };
    changes.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use deberta_reference::{DebertaConfig, Family, Head, MaskedRows, Tensor};

    use crate::trace::class::Class;

    #[test]
    fn what_is_moved_is_known_and_what_is_lost_is_not() {
        let config = DebertaConfig::from_json("{}").unwrap();
        let mut model = Model::empty(config, Class::of_head(Family::V1, Head::Base), MaskedRows::Uniform);
        model.insert("table", Tensor::new(vec![3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let name = || "table".to_owned();
        let rows = |order: &[usize]| Change::Rows { name: name(), order: order.to_vec() };
        let scale = |factor| Change::Scale { name: name(), rows: None, factor };
        assert_eq!(unknowns(&model, &[rows(&[2, 0, 1])]), 0);
        assert_eq!(unknowns(&model, &[rows(&[1, 2, 2]), scale(-1.0), scale(0.5)]), 3);
        assert_eq!(unknowns(&model, &[Change::Fill(name(), 0.0), Change::Add(name(), vec![(1, 0.1)])]), 7);
    }
}
