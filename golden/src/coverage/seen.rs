//! What is seen in the inputs of runs: tokens, types, positions, distances, lengths, padding.

use std::collections::BTreeSet;

use deberta_reference::{Head, Inputs, Stage};
use ndarray::{Array2, ArrayViewD, Axis};

use crate::trace::inputs::{dims, for_loss};
use crate::trace::padding::Padding;
use crate::trace::points::Named;

/// What was seen in some inputs.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) ids: BTreeSet<i64>,
    pub(super) token_types: BTreeSet<i64>,
    /// Absolute positions, and whether any class computed with them.
    pub(super) positions: BTreeSet<i64>,
    pub(super) positions_used: bool,
    /// i - j of queries i and keys j that they may attend to.
    pub(super) distances: BTreeSet<isize>,
    /// The most keys that a query had.
    pub(super) most_keys: usize,
    /// Tokens of a text, without padding.
    pub(super) shortest: Option<usize>,
    pub(super) longest: usize,
    /// The most sequences at once.
    pub(super) sequences: usize,
    pub(super) pair_masks: usize,
    pub(super) losses: usize,
    pub(super) layers: BTreeSet<usize>,
    pub(super) published: usize,
    right: bool,
    left: bool,
    inside: bool,
}

impl Seen {
    /// Adds the inputs of a class with this head, which may compute with absolute positions.
    pub(super) fn add(&mut self, inputs: &Inputs, head: Head, uses_positions: bool) {
        let Some((b, n)) = dims(inputs) else { return };
        let padding = Padding::of(inputs, head);
        self.sequences = self.sequences.max(b);
        self.losses += usize::from(for_loss(inputs).next().is_some());
        self.positions_used |= uses_positions;
        let pairs = inputs.attention_mask.as_ref().filter(|mask| mask.ndim() == 3);
        self.pair_masks += usize::from(pairs.is_some());
        for (sequence, real) in padding.tokens().chunks(n.max(1)).enumerate() {
            let tokens: Vec<usize> = (0..n).filter(|&at| real.get(at) == Some(&true)).collect();
            self.add_length(&tokens, n);
            for &at in &tokens {
                let of =
                    |ids: &Option<Array2<i64>>| ids.as_ref().and_then(|ids| ids.get((sequence, at))).copied();
                self.ids.extend(of(&inputs.input_ids));
                self.token_types.insert(of(&inputs.token_type_ids).unwrap_or(0));
                if uses_positions {
                    // [1, n] for all sequences, or [b, n].
                    let given = inputs.position_ids.as_ref();
                    let row = if given.is_some_and(|ids| ids.nrows() == 1) { 0 } else { sequence };
                    let given = given.and_then(|ids| ids.get((row, at))).copied();
                    self.positions.insert(given.unwrap_or(at as i64));
                }
            }
            match pairs {
                Some(mask) if sequence < mask.len_of(Axis(0)) => {
                    self.add_pairs(&tokens, &mask.index_axis(Axis(0), sequence));
                }
                _ => self.add_distances(&tokens),
            }
        }
    }

    /// Adds the places of the tokens of a text of n.
    fn add_length(&mut self, tokens: &[usize], n: usize) {
        let length = tokens.len();
        self.shortest = Some(self.shortest.map_or(length, |shortest| shortest.min(length)));
        self.longest = self.longest.max(length);
        let (Some(&first), Some(&last)) = (tokens.first(), tokens.last()) else { return };
        self.left |= first > 0;
        self.right |= last + 1 < n;
        self.inside |= last + 1 - first > length;
    }

    /// Adds the distances between all tokens of a text.
    fn add_distances(&mut self, tokens: &[usize]) {
        self.most_keys = self.most_keys.max(tokens.len());
        let Some((&first, &last)) = tokens.first().zip(tokens.last()) else { return };
        let mut found = vec![false; last - first + 1];
        for (at, &i) in tokens.iter().enumerate() {
            // Tokens without padding between them have all distances from the first one.
            if found.iter().all(|&found| found) {
                break;
            }
            for &j in tokens.iter().skip(at) {
                if let Some(found) = found.get_mut(j - i) {
                    *found = true;
                }
            }
        }
        let found = found.iter().enumerate().filter(|(_, found)| **found);
        self.distances.extend(found.flat_map(|(far, _)| [far as isize, -(far as isize)]));
    }

    /// Adds the distances of the pairs that a mask [n, n] allows.
    fn add_pairs(&mut self, tokens: &[usize], mask: &ArrayViewD<'_, f32>) {
        for &i in tokens {
            let Some(row) = (i < mask.len_of(Axis(0))).then(|| mask.index_axis(Axis(0), i)) else { continue };
            let keys = row.iter().enumerate().filter(|(_, allowed)| **allowed != 0.0);
            let distances: Vec<isize> = keys.map(|(j, _)| i as isize - j as isize).collect();
            self.most_keys = self.most_keys.max(distances.len());
            self.distances.extend(distances);
        }
    }

    /// Adds the names of what was recorded.
    pub(super) fn add_points<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        for name in names {
            if let Some(Stage::Layer(layer)) = Named::of(name).map(Named::stage) {
                self.layers.insert(layer);
            }
        }
    }

    /// Where there was padding.
    pub(super) fn sides(&self) -> Vec<&'static str> {
        let sides = [(self.right, "right"), (self.left, "left"), (self.inside, "between tokens")];
        sides.into_iter().filter(|(there, _)| *there).map(|(_, side)| side).collect()
    }
}
