//! Relative distances: which row of the relative position table stands for the distance i - j of a query i and a key j.

use std::ops::Range;

use crate::config::DebertaConfig;

impl DebertaConfig {
    /// How many terms the scores are the sum of, as far as their scale is concerned: content to content and every entry of
    /// `pos_att_type`, whatever it is, and even if it is not computed. Source: `DisentangledSelfAttention.forward`.
    pub fn scale_terms(&self) -> usize {
        1 + self.pos_att_type.len()
    }

    /// √(d (1 + position terms)), by which queries are divided.
    pub fn attention_scale(&self) -> f64 {
        ((self.head_size() * self.scale_terms()) as f64).sqrt()
    }

    /// The distances that the relative position table [2K, H] has rows for.
    pub fn distances(&self) -> Distances {
        Distances { max: self.max_relative() }
    }
}

/// The distances -K .. K, one row of the table each; all that are farther have the first or the last row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distances {
    /// K
    max: usize,
}

/// The rows of the table that n tokens need: those for the distances -s .. s with s = min(n, K).
///
/// ```
/// use deberta_reference::DebertaConfig;
/// let config = DebertaConfig::from_json(r#"{"max_relative_positions": 4}"#).unwrap();
/// let window = config.distances().window(3);
/// assert_eq!(window.rows(), 1..7);
/// assert_eq!((window.row(0, 2), window.row(1, 1), window.row(2, 0)), (1, 3, 5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// s
    span: usize,
    /// K - s
    first: usize,
}

impl Distances {
    /// The distances of so many rows, 2K of a table or 2s of a window.
    pub fn of_table(rows: usize) -> Distances {
        Distances { max: rows / 2 }
    }

    /// The rows for n tokens.
    pub fn window(self, n: usize) -> Window {
        let span = n.min(self.max);
        Window { span, first: self.max - span }
    }
}

impl Window {
    /// The rows of the table, K - s .. K + s.
    pub fn rows(self) -> Range<usize> {
        self.first..self.first + self.len()
    }

    /// How many they are, 2s.
    #[allow(clippy::len_without_is_empty)]
    #[inline(always)]
    pub fn len(self) -> usize {
        2 * self.span
    }

    /// δ(i, j) = clamp(i - j + s, 0, 2s - 1), counted from the first row of the window. As j goes up, it goes down.
    #[inline(always)]
    pub fn row(self, i: usize, j: usize) -> usize {
        (i + self.span).saturating_sub(j).min(self.len().saturating_sub(1))
    }

    /// The keys j whose row, for some of n queries, is among `rows`: i - j = row - s for a query i.
    pub(crate) fn keys(self, rows: Range<usize>, n: usize) -> Range<usize> {
        let (first, last) = (rows.start, rows.end.saturating_sub(1));
        self.span.saturating_sub(last)..n.min((n + self.span).saturating_sub(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_the_clamped_distance() {
        for (k, n) in [(4, 3), (4, 4), (4, 9), (1, 5), (3, 1)] {
            let window = Distances { max: k }.window(n);
            let s = n.min(k) as isize;
            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let row = (i as isize - j as isize + s).clamp(0, 2 * s - 1) as usize;
                assert_eq!(window.row(i, j), row, "{k} {n} {i} {j}");
                assert!(window.keys(row..row + 1, n).contains(&j), "{k} {n} {i} {j}");
            }
            assert_eq!(window.rows(), k - n.min(k)..k + n.min(k));
        }
    }
}
