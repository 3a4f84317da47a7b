//! What the difference of rows that were looked up says about their table.

use std::collections::{BTreeMap, BTreeSet};

use deberta_reference::Module;

use super::factors;
use super::hypothesis::Hypothesis;
use super::residual::Residual;
use crate::fault::{Change, Model};

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
    let moved: BTreeMap<usize, usize> =
        off.keys().filter_map(|row| Some((*row, at(wanted.get(row)?)?))).collect();
    let len = table.len();
    let shifts: BTreeSet<usize> = moved.iter().map(|(row, at)| (at + len - row) % len.max(1)).collect();
    // The last row is gone where others moved behind it.
    let lost: Vec<usize> = off.keys().copied().filter(|row| !moved.contains_key(row)).collect();
    let pushed_out = shifts.len() == 1 && lost.len() == 1 && moved.len() > 2;
    if !moved.is_empty() && (lost.is_empty() || pushed_out) {
        let order: Vec<usize> = match shifts.iter().collect::<Vec<_>>().as_slice() {
            [shift] if moved.len() > 1 => {
                // All rows, or those from some row on where tokens before it are as they were.
                let kept = wanted.keys().filter(|row| !off.contains_key(row)).max();
                let from = kept.map_or(0, |row| row + 1).min(moved.keys().next().copied().unwrap_or(0));
                let elsewhere = |row: usize| (row + **shift) % len;
                (0..len).map(|row| if row < from { row } else { elsewhere(row) }).collect()
            }
            _ => {
                let order = |row| moved.get(&row).copied().unwrap_or(row);
                (0..len).map(order).collect()
            }
        };
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
        .shown_by(moved.is_empty() && 4 * off.len() <= wanted.len()),
    );
    found
}
