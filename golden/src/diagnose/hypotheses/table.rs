//! Causes in the rows of the relative position table.

use std::collections::BTreeSet;

use deberta_reference::Module;

use super::Search;
use super::known::negated;
use crate::diagnose::Hypothesis;
use crate::diagnose::residual::Residual;
use crate::fault::Change;
use crate::trace::points::Point;

/// The most rows of the words of which one is taken for the first that moved.
const MOST_WORDS: usize = 32;

impl Search<'_> {
    /// Rows of the table in another order: what is made of each of them is there, elsewhere.
    pub(super) fn moved_rows(&self, point: &Point, table: &str) -> Option<Hypothesis> {
        let pair = self.section.pair(self.isolated, &point.name)?;
        let &[rows, _] = self.model.shape(table)? else { return None };
        let (want, got): (Vec<&[f32]>, Vec<&[f32]>) =
            (pair.want.chunks_exact(pair.width).collect(), pair.got.chunks_exact(pair.width).collect());
        // A point may have the rows around the middle of the table alone.
        let start = (rows / 2).checked_sub(want.len() / 2)?;
        let same = |want: &[f32], got: &[f32]| {
            want.iter().zip(got).all(|(&want, &got)| pair.allowed.allows(want, got))
        };
        let mut taken = vec![false; got.len()];
        let mut order: Vec<usize> = (0..rows).collect();
        for (at, row) in want.iter().enumerate() {
            let free = |other: &usize| taken.get(*other) == Some(&false);
            let found = std::iter::once(at).chain(0..got.len()).filter(free);
            let found = found.into_iter().find(|&other| got.get(other).is_some_and(|got| same(row, got)))?;
            *taken.get_mut(found)? = true;
            *order.get_mut(start + at)? = start + found;
        }
        let moved: Vec<(usize, usize)> =
            order.iter().copied().enumerate().filter(|(row, other)| row != other).collect();
        let (row, other) = *moved.first()?;
        let cause = format!("{} rows of {table} are in another order: row {row} is row {other}", moved.len());
        let hypothesis = Hypothesis::new("permuted-rows", cause, "restore it from the original model");
        let evidence = format!("all rows of {} are there, in other places", point.name);
        Some(hypothesis.because(evidence).undone_by([Change::Rows { name: table.to_owned(), order }]))
    }

    /// The table with the other sign, or its γ where that has the unlikely one: their normalised products are the same.
    pub(super) fn negated_table(&self, gamma: &str) -> Option<Hypothesis> {
        let sum: f32 = self.model.values(gamma)?.iter().sum();
        let table = self.model.weight(Module::RelEmbeddings, 0);
        Some(negated(if sum > 0.0 { &table } else { gamma }))
    }

    /// Rows of the words from some row on that are one further up or down: a token was inserted, or left out. Where the golden
    /// does not show the words, every row that its tokens tell apart may be the first.
    pub(super) fn moved_words(&self, table: &str) -> Vec<Hypothesis> {
        let Some(ids) = &self.divergence.inputs.input_ids else { return Vec::new() };
        let Some(&[rows, _]) = self.model.shape(table) else { return Vec::new() };
        let read: BTreeSet<usize> = ids.iter().filter_map(|&id| usize::try_from(id).ok()).collect();
        let mut found = Vec::new();
        for first in read.into_iter().take(MOST_WORDS) {
            for (back, how) in [(false, "one further up"), (true, "one further down")] {
                let elsewhere =
                    |row: usize| if back { row.saturating_sub(1) } else { (row + 1).min(rows - 1) };
                let order = (0..rows).map(|row| if row < first { row } else { elsewhere(row) }).collect();
                let cause = format!("the rows of {table} from about {first} on are {how}");
                let repair = "use the tokenizer that belongs to these weights";
                let change = Change::Rows { name: table.to_owned(), order };
                found.push(Hypothesis::new("wrong-token-ids", cause, repair).undone_by([change]));
            }
        }
        found
    }

    /// Rows of the table whose normalisation differs. A normalised row x̂ shows the row r itself but for its mean and its
    /// size: r = a x̂ + c, where a number of r that was changed is the only one off the line.
    pub(super) fn normed_rows(&self, residual: &Residual<'_>) -> Option<Hypothesis> {
        let model = self.model;
        let (table, norm) = (model.weight(Module::RelEmbeddings, 0), model.path(Module::TableLayerNorm, 0));
        let (own, gamma, beta) = (
            model.values(&table)?,
            model.values(&format!("{norm}.weight"))?,
            model.values(&format!("{norm}.bias"))?,
        );
        let [row] = residual.differing_rows()[..] else { return None };
        let width = gamma.len();
        let own = own.get(row * width..(row + 1) * width)?;
        let want = residual.want(row)?;
        let normal: Vec<f64> = (want.iter().zip(gamma).zip(beta))
            .map(|((&want, &gamma), &beta)| (f64::from(want) - f64::from(beta)) / f64::from(gamma))
            .collect();
        let pairs: Vec<(f64, f64)> = normal.iter().zip(own).map(|(&x, &r)| (x, f64::from(r))).collect();
        // The line through all numbers but one, for each in turn: the one left out that makes the rest fit best.
        let fits = (0..width).map(|at| (at, line_without(&pairs, at)));
        let (column, (slope, shift, _)) = fits.min_by(|(_, one), (_, other)| one.2.total_cmp(&other.2))?;
        let (x, r) = *pairs.get(column)?;
        let at = row * width + column;
        let changed = Hypothesis::changed_number(&table, at, model.shape(&table)?, slope * x + shift - r);
        Some(changed.because(format!("only row {row} of {norm} differs")))
    }
}

/// The least-squares line r = slope x + shift through all pairs but one, and the squares that are left.
fn line_without(pairs: &[(f64, f64)], without: usize) -> (f64, f64, f64) {
    let others = || pairs.iter().enumerate().filter(|(at, _)| *at != without).map(|(_, pair)| pair);
    let n = pairs.len().saturating_sub(1) as f64;
    let (sx, sr) = others().fold((0.0, 0.0), |(sx, sr), (x, r)| (sx + x / n, sr + r / n));
    let (sxx, sxr) = others()
        .fold((0.0, 0.0), |(sxx, sxr), (x, r)| (sxx + (x - sx) * (x - sx), sxr + (x - sx) * (r - sr)));
    let slope = if sxx > 0.0 { sxr / sxx } else { 0.0 };
    let left = others().map(|(x, r)| (r - sr - slope * (x - sx)).powi(2)).sum();
    (slope, sr - slope * sx, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_off_the_line_is_left_out() {
        let pairs = [(0.0, 1.0), (1.0, 3.0), (2.0, 9.0), (3.0, 7.0)];
        let (slope, shift, left) = line_without(&pairs, 2);
        assert!((slope - 2.0).abs() < 1e-12 && (shift - 1.0).abs() < 1e-12 && left < 1e-20);
        assert!(line_without(&pairs, 1).2 > 1.0);
    }
}
