//! What the difference of rows that were looked up says about their table.

use std::collections::{BTreeMap, BTreeSet};

use deberta_reference::Module;

use super::factors;
use super::hypothesis::Hypothesis;
use super::residual::Residual;
use crate::fault::{Change, Model};

/// Rows of a table that are elsewhere in it.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Where each row is that should stand at a place.
    pub(super) to: BTreeMap<usize, usize>,
    /// The rows that were read and differ.
    pub(super) off: BTreeSet<usize>,
    /// The rows that were read and are right.
    pub(super) kept: BTreeSet<usize>,
}

impl Moved {
    /// By how many places rows moved, in a table of `len`.
    fn shifts(&self, len: usize) -> BTreeSet<usize> {
        self.to.iter().map(|(row, at)| (at + len - row) % len.max(1)).collect()
    }
}

/// The order of all rows: if those that are known moved by as many places, the others behind them did, too.
pub(super) fn reordered(moved: &Moved, len: usize) -> Vec<usize> {
    match moved.shifts(len).iter().collect::<Vec<_>>().as_slice() {
        [shift] if moved.to.len() > 1 => {
            // All rows, or those from some row on where tokens before it are as they were.
            let kept = moved.kept.iter().max();
            let from = kept.map_or(0, |row| row + 1).min(moved.to.keys().next().copied().unwrap_or(0));
            let elsewhere = |row: usize| (row + **shift) % len;
            (0..len).map(|row| if row < from { row } else { elsewhere(row) }).collect()
        }
        _ => (0..len).map(|row| moved.to.get(&row).copied().unwrap_or(row)).collect(),
    }
}

/// What can be read from the difference of a table lookup. `rows` is the row that each position reads.
pub(super) fn table(model: &Model, name: &str, rows: &[usize], residual: &Residual<'_>) -> Vec<Hypothesis> {
    let width = residual.pair.width;
    let Some(values) = model.values(name) else { return Vec::new() };
    let table: Vec<&[f32]> = values.chunks_exact(width).collect();
    let mut wanted: BTreeMap<usize, &[f32]> = BTreeMap::new();
    let mut off: BTreeMap<usize, Vec<(usize, f32)>> = BTreeMap::new();
    for (&row, want) in rows.iter().zip(residual.pair.want.chunks_exact(width)) {
        wanted.insert(row, want);
        let own = table.get(row).copied().unwrap_or_default();
        let differs = own
            .iter()
            .zip(want)
            .enumerate()
            .filter(|(_, (own, want))| !residual.pair.allowed.allows(**want, **own));
        let differs: Vec<(usize, f32)> = differs.map(|(at, (own, want))| (at, want - own)).collect();
        if !differs.is_empty() {
            off.insert(row, differs);
        }
    }
    let mut found = Vec::new();
    let single: Vec<_> = off.iter().collect();
    if let [(row, channels)] = single.as_slice()
        && let [(channel, by)] = channels.as_slice()
    {
        let at = **row * width + *channel;
        let changed = Hypothesis::changed_number(name, at, &[table.len(), width], f64::from(*by));
        return vec![changed.because(format!("row {row} differs in this number alone")).shown_by(true)];
    }
    if let Some(factor) = residual.factor(|_| true, |_| 0.0) {
        let change = Change::Scale { name: name.to_owned(), rows: None, factor: factor as f32 };
        found.push(factors::by(name, factor).undone_by([change]));
    }
    // The golden's rows, at other places of the table.
    let at = |want: &[f32]| {
        table
            .iter()
            .position(|row| row.iter().zip(want).all(|(&own, &want)| residual.pair.allowed.allows(want, own)))
    };
    let moved = Moved {
        to: off.keys().filter_map(|row| Some((*row, at(wanted.get(row)?)?))).collect(),
        off: off.keys().copied().collect(),
        kept: wanted.keys().copied().filter(|row| !off.contains_key(row)).collect(),
    };
    // The last row is gone where others moved behind it.
    let lost: Vec<usize> = off.keys().copied().filter(|row| !moved.to.contains_key(row)).collect();
    let pushed_out = moved.shifts(table.len()).len() == 1 && lost.len() == 1 && moved.to.len() > 2;
    if !moved.to.is_empty() && (lost.is_empty() || pushed_out) {
        let order = reordered(&moved, table.len());
        let moved = &moved.to;
        let (row, elsewhere) = moved.iter().next().map_or((0, 0), |(row, at)| (*row, *at));
        let words = name == model.weight(Module::WordEmbeddings, 0);
        let again = lost.iter().filter_map(|row| {
            let (want, own) = (wanted.get(row)?, table.get(*order.get(*row)?)?);
            let numbers = want.iter().zip(*own).enumerate();
            Some(numbers.map(|(at, (want, own))| (row * width + at, want - own)).collect::<Vec<_>>())
        });
        let again: Vec<(usize, f32)> = again.flatten().collect();
        let fitted = moved.len() + again.len();
        let kind = if words { "wrong-token-ids" } else { "permuted-rows" };
        found.push(
            Hypothesis::new(
                kind,
                format!("the rows of {name} are in another order"),
                "use the tokenizer that belongs to these weights, or put the rows in the order of its vocabulary",
            )
            .because(format!(
                "{} of {} rows that differ are elsewhere in the table: row {row} at {elsewhere}",
                moved.len(),
                off.len()
            ))
            .undone_by([Change::Rows { name: name.to_owned(), order }, Change::Add(name.to_owned(), again)])
            .fitting(fitted),
        );
    }
    let numbers: Vec<(usize, f32)> = off
        .iter()
        .flat_map(|(row, channels)| channels.iter().map(move |(channel, by)| (row * width + channel, *by)))
        .collect();
    let fitted = numbers.len();
    let first: Vec<String> = off.keys().take(4).map(usize::to_string).collect();
    found.push(
        Hypothesis::new(
            "changed-rows",
            format!("{} rows of {name} are not the golden's: {}", off.len(), first.join(", ")),
            format!("restore {name} from the original model"),
        )
        .because(format!("{} of {} rows that were read differ", off.len(), wanted.len()))
        .undone_by([Change::Add(name.to_owned(), numbers)])
        .fitting(fitted)
        // The golden shows the table itself: what is to be explained is why some rows alone are others. Rows that are elsewhere
        // in the table were moved.
        .shown_by(moved.to.is_empty() && 4 * off.len() <= wanted.len()),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_behind_those_that_moved_together_moved_too() {
        let rows = |rows: &[usize]| rows.iter().copied().collect();
        let moved = |to: &[(usize, usize)], kept: &[usize]| Moved {
            to: to.iter().copied().collect(),
            off: to.iter().map(|(row, _)| *row).collect(),
            kept: rows(kept),
        };
        assert_eq!(reordered(&moved(&[(3, 4), (4, 5)], &[1]), 6), [0, 1, 3, 4, 5, 0]);
        assert_eq!(reordered(&moved(&[(1, 4), (4, 1)], &[0]), 7), [0, 4, 2, 3, 1, 5, 6]);
    }
}
