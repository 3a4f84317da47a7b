//! Formulas that other code computes otherwise: a good model differs from what that code recorded.

use deberta_reference::{Inputs, Module};

use super::{List, scores_of};
use crate::fault::formulas::{Formula, convolutions, position_biases_dropped, rows, scales};
use crate::fault::{Culprit, Fault};

impl List<'_> {
    pub(super) fn formulas(&mut self, inputs: &Inputs) {
        let model = self.model;
        let scores = scores_of(model, 0);
        for formula in scales(model).into_iter().take(4) {
            self.formula(formula, scores.clone());
        }
        // Of those that look up the same rows, the first.
        let mut known = Vec::new();
        for (rows, formula) in rows(model, inputs) {
            if !known.contains(&rows) {
                known.push(rows);
                self.formula(formula, scores.clone());
            }
        }
        if let Some(formula) = position_biases_dropped(model) {
            let places = self.table_places();
            self.formula(formula, places);
        }
        let points = [Module::Conv, Module::ConvLayerNorm].map(|module| vec![self.first(module)]);
        for (formula, places) in convolutions(model).into_iter().zip(points) {
            self.formula(formula, places);
        }
    }

    fn formula(&mut self, formula: Formula, places: Vec<String>) {
        let Formula { kind, words, changes, .. } = formula;
        let description = format!("computed elsewhere: {words}");
        self.listed.faults.push(Fault { kind, description, places, changes, of: Culprit::Golden });
    }
}
