//! Rows of the word embeddings, where the golden shows them summed up and normalised.

use std::collections::{BTreeMap, BTreeSet};

use deberta_reference::{Inputs, Module, Stage};
use ndarray::{Array2, Axis};

use super::Hidden;
use crate::diagnose::Hypothesis;
use crate::diagnose::divergence::Divergence;
use crate::diagnose::lookup::{Moved, reordered};
use crate::diagnose::section::{Section, floats};

/// The most tokens that are embedded at once.
const AT_ONCE: usize = 1024;
/// The most sequences that are looked at.
const SEQUENCES: usize = 4;

impl Hidden<'_, '_> {
    /// Words whose row of the table is elsewhere: every row is embedded at every position, and compared.
    pub(super) fn embedded(&self) -> Vec<Hypothesis> {
        if self.section.stage != Some(Stage::Embeddings) {
            return Vec::new();
        }
        let table = self.model.weight(Module::WordEmbeddings, 0);
        let words = |moved: &Moved| moved_words(&table, moved, self.model.shape(&table)?.first().copied()?);
        // Of words that stand in padding alone nothing is known.
        let known = |moved: &Moved| {
            let ids = self.section.inputs().input_ids.iter().flatten();
            let mut ids = ids.filter_map(|&id| usize::try_from(id).ok());
            ids.all(|id| moved.kept.contains(&id) || moved.to.contains_key(&id))
        };
        let found = self.moved().and_then(|moved| Some(words(&moved)?.says_what(known(&moved))));
        found.into_iter().collect()
    }

    /// Where the rows are that the golden's words should have.
    fn moved(&self) -> Option<Moved> {
        let (section, model) = (self.section, self.model);
        let inputs = section.inputs();
        let ids = inputs.input_ids.as_ref()?;
        let (b, n) = ids.dim();
        let vocabulary = model.shape(&model.weight(Module::WordEmbeddings, 0))?.first().copied()?;
        let want = section.wanted_from(self.at).next()?;
        let width = *want.shape.last()?;
        if want.shape != [b, n, width] {
            return None;
        }
        let real = section.real_of(want);
        let (wanted, own) = (floats(want)?, section.run(model, false).ok()?);
        let own = own.get(&want.name).and_then(floats)?;
        let allowed = section.allowed(want, wanted);
        let same =
            |want: &[f32], got: &[f32]| want.iter().zip(got).all(|(&want, &got)| allowed.allows(want, got));
        let mut moved = Moved::default();
        // The words that differ, and where they stand.
        let mut places: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for (at, &id) in ids.iter().enumerate().take(SEQUENCES * n) {
            let id = usize::try_from(id).ok()?;
            let row = at * width..(at + 1) * width;
            if real.as_ref().is_some_and(|real| real.get(row.start) != Some(&true)) {
                continue;
            }
            if same(wanted.get(row.clone())?, own.get(row)?) {
                moved.kept.insert(id);
            } else {
                places.entry(id).or_insert((at / n, at % n));
            }
        }
        moved.off = places.keys().copied().collect();
        let sequences: BTreeSet<usize> = places.values().map(|(sequence, _)| *sequence).collect();
        for sequence in sequences {
            for first in (0..vocabulary).step_by(AT_ONCE) {
                if !self.in_time() {
                    return None;
                }
                let count = AT_ONCE.min(vocabulary - first);
                let given = repeated(inputs, sequence, first..first + count, n)?;
                let divergence = Divergence { inputs: &given, ..*section.divergence() };
                let trace = Section::of(&divergence, model, &want.name).run(model, false).ok()?;
                let embedded = trace.get(&want.name).and_then(floats)?;
                for (&id, &(_, position)) in places.iter().filter(|(_, (known, _))| *known == sequence) {
                    let wanted = wanted.get((sequence * n + position) * width..)?.get(..width)?;
                    let mut rows = embedded.chunks_exact(n * width).enumerate();
                    let found = rows.find(|(_, row)| {
                        row.get(position * width..(position + 1) * width).is_some_and(|row| same(wanted, row))
                    });
                    if let Some((row, _)) = found {
                        moved.to.entry(id).or_insert(first + row);
                    }
                }
            }
        }
        Some(moved)
    }
}

/// The inputs of one sequence, as often as there are tokens to stand at all of its positions.
fn repeated(inputs: &Inputs, sequence: usize, tokens: std::ops::Range<usize>, n: usize) -> Option<Inputs> {
    let count = tokens.len();
    let first = i64::try_from(tokens.start).ok()?;
    let input_ids = Array2::from_shape_fn((count, n), |(row, _)| first + row as i64);
    let of_sequence = |ids: &Array2<i64>| {
        let row = ids.index_axis(Axis(0), sequence.min(ids.nrows().saturating_sub(1)));
        row.broadcast((count, n)).map(|rows| rows.to_owned())
    };
    Some(Inputs {
        input_ids: Some(input_ids),
        token_type_ids: inputs.token_type_ids.as_ref().and_then(of_sequence),
        position_ids: inputs.position_ids.as_ref().and_then(of_sequence),
        output_hidden_states: true,
        ..Inputs::default()
    })
}

fn moved_words(table: &str, moved: &Moved, len: usize) -> Option<Hypothesis> {
    // Most of them: a row that is found by chance moved nothing.
    if moved.to.is_empty() || 2 * moved.to.len() < moved.off.len() {
        return None;
    }
    let (row, elsewhere) = moved.to.iter().next().map(|(row, at)| (*row, *at))?;
    let cause = format!("the rows of {table} are in another order");
    let repair =
        "use the tokenizer that belongs to these weights, or put the rows in the order of its vocabulary";
    let evidence = format!(
        "{} of {} words that differ are what other rows of the table make: {row} is {elsewhere}",
        moved.to.len(),
        moved.off.len()
    );
    let hypothesis = Hypothesis::new("wrong-token-ids", cause, repair).because(evidence);
    // What was pushed out of the table is lost.
    let lost = moved.to.len() < moved.off.len();
    let order = crate::fault::Change::Rows { name: table.to_owned(), order: reordered(moved, len) };
    Some(if lost { hypothesis } else { hypothesis.undone_by([order]).fitting(moved.to.len()) })
}
