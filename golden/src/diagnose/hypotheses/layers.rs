//! Layers that are exchanged, or more than the golden's.

use deberta_reference::Stage;

use super::Search;
use crate::diagnose::Hypothesis;
use crate::diagnose::layers::layers_of;
use crate::fault::{Change, swapped_layers};

impl Search<'_> {
    pub(super) fn swapped(&self, layer: usize, other: usize) -> Hypothesis {
        Hypothesis::new(
            "permuted-layers",
            format!("layers {layer} and {other} are exchanged"),
            "restore the order of the layers: names are sorted as text somewhere, 10 before 2",
        )
        .undone_by(swapped_layers(self.model, layer, other))
    }

    /// Layers more than the golden has, from the one on that differs first.
    pub(super) fn more_layers(&self) -> Vec<Hypothesis> {
        let layers = self.model.config.num_hidden_layers;
        let Some(more) = layers_of(self.divergence.golden)
            .and_then(|known| layers.checked_sub(known))
            .filter(|&more| more > 0)
        else {
            return Vec::new();
        };
        let places = match self.section.stage {
            Some(Stage::Layer(layer)) => layer..layer + 1,
            Some(Stage::Head) => layers - more..layers - more + 1,
            _ => 0..layers - more + 1,
        };
        places
            .map(|at| {
                let order: Vec<usize> = (0..at).chain(at + more..layers).collect();
                let which = match more {
                    1 => format!("layer {at} is one"),
                    _ => format!("layers {at} to {} are {more}", at + more - 1),
                };
                let cause = format!("{which} more than the golden's {}{}", layers - more, self.equal_to(at));
                let repair = "restore num_hidden_layers and the layers of the original model";
                Hypothesis::new("inserted-layer", cause, repair).undone_by([Change::Layers(order)])
            })
            .collect()
    }

    /// One layer more than the golden has, where it does not show how many those are.
    pub(super) fn one_layer_more(&self) -> Vec<Hypothesis> {
        let layers = self.model.config.num_hidden_layers;
        if layers < 2 || layers_of(self.divergence.golden).is_some() {
            return Vec::new();
        }
        let without = |at: usize| {
            let cause = format!("layer {at} is one more than the golden's{}", self.equal_to(at));
            let repair = "restore num_hidden_layers and the layers of the original model";
            let order = (0..at).chain(at + 1..layers).collect();
            Hypothesis::new("inserted-layer", cause, repair).undone_by([Change::Layers(order)])
        };
        (0..layers.min(48)).map(without).collect()
    }

    /// Which other layer has the same numbers, in words.
    fn equal_to(&self, layer: usize) -> String {
        let numbers = |layer: usize| {
            let params = self.params.iter().filter(move |param| param.layer == Some(layer));
            params.map(|param| self.model.values(&param.name)).collect::<Vec<_>>()
        };
        let others = (0..self.model.config.num_hidden_layers).filter(|&other| other != layer);
        let equal = others.into_iter().find(|&other| numbers(other) == numbers(layer));
        equal.map_or_else(String::new, |other| format!(", and the same as layer {other}"))
    }
}
