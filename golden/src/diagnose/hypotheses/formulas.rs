//! Formulas that the golden was computed with and that are not those of the model's class.

use super::Search;
use crate::diagnose::Hypothesis;
use crate::fault::{Formula, Model, RowsOfTerms, convolutions, other_rows, position_biases_dropped, scales};

impl Search<'_> {
    /// Other rows of the table for distances, by a formula or by a line of the configuration, and other scales.
    pub(super) fn formulas(&self) -> Vec<Hypothesis> {
        let mut found: Vec<(RowsOfTerms, Hypothesis)> = Vec::new();
        let rows = other_rows(self.model, self.divergence.inputs).into_iter();
        let rows = rows.map(|(rows, formula)| (rows, hypothesis(formula)));
        for (rows, hypothesis) in rows.chain(self.buckets()) {
            match found.iter_mut().find(|(known, _)| *known == rows) {
                Some((_, first)) => first.alike.push(hypothesis),
                None => found.push((rows, hypothesis)),
            }
        }
        let found = found.into_iter().map(|(_, hypothesis)| hypothesis);
        found.chain(scales(self.model).into_iter().map(hypothesis)).collect()
    }

    /// Projections of positions whose biases are left out.
    pub(super) fn without_position_biases(&self) -> Option<Hypothesis> {
        position_biases_dropped(self.model).map(hypothesis)
    }
}

/// Another convolution.
pub(super) fn of_convolution(model: &Model) -> Vec<Hypothesis> {
    convolutions(model).into_iter().map(hypothesis).collect()
}

fn hypothesis(formula: Formula) -> Hypothesis {
    let Formula { kind, words, right, changes } = formula;
    let cause = format!("the golden was computed otherwise: {words}");
    let (cause, repair) = match right {
        Some(right) => (
            format!("{cause}; right: {right}"),
            "record the golden again, with code that computes the model as it is defined",
        ),
        None => (cause, "judge by a golden of the model's own class"),
    };
    Hypothesis::new(kind, cause, repair).assuming(changes)
}
