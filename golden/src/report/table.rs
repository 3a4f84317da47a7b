//! Tables: what a report has to say in rows and columns, the same in every format for people.
//!
//! A table is made from a typed field of the report, which the JSON holds as it is. Every format shows the tables of
//! [`Report::tables`]; a new table is one more line there.

use deberta_converters::folding::fold;

use super::escape::plain;
use super::{Report, Rules, quantization, tokenizers};
use crate::coverage::Covered;
use crate::inventory;
use crate::judge::verdict::Outcome;

/// The columns that a line of a file has, if words are not longer.
pub(super) const FILE_WIDTH: usize = 80;

/// Between two columns of text.
const GAP: &str = "  ";

/// Before a cell that stands below its row.
const BELOW: &str = "  ";

/// Rows under heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What it is about: `files of the release`.
    pub title: String,
    /// From left to right.
    pub columns: Vec<Column>,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

/// The head of a column, and how its cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The word above it.
    pub head: &'static str,
    /// Whether its cells are numbers, which stand to the right.
    pub number: bool,
}

/// A cell for every column, and what follows from the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The texts as they are: every format escapes them.
    pub cells: Vec<String>,
    /// What follows from it, by the rules of the report; nothing where the row is for information.
    pub outcome: Option<Outcome>,
}

impl Report {
    /// The tables that every format shows.
    pub fn tables(&self, rules: &Rules) -> Vec<Table> {
        let tables = [inventory::table(self, rules), tokenizers::table(&self.tokenizers)];
        let of_files = self.files.iter().flat_map(|file| quantization::tables(file, rules));
        tables.into_iter().flatten().chain(of_files).collect()
    }

    /// The tables that text shows with all points alone.
    pub fn details(&self) -> Vec<Table> {
        coverage(&self.coverage).into_iter().collect()
    }
}

/// What the goldens exercise. Nothing if it was not measured.
fn coverage(features: &[Covered]) -> Option<Table> {
    let row = |covered: &Covered| Row {
        cells: vec![
            covered.feature.name().to_owned(),
            covered.exercised.word().to_owned(),
            covered.ratio().unwrap_or_default(),
            covered.detail.clone(),
        ],
        outcome: None,
    };
    (!features.is_empty()).then(|| Table {
        title: "what the goldens exercise of the configuration".to_owned(),
        columns: vec![
            Column::text("feature"),
            Column::text("exercised"),
            Column::text("seen"),
            Column::text("what"),
        ],
        rows: features.iter().map(row).collect(),
    })
}

impl Column {
    /// A column of words, which stand to the left.
    pub const fn text(head: &'static str) -> Column {
        Column { head, number: false }
    }

    /// A column of numbers, which stand to the right.
    pub const fn number(head: &'static str) -> Column {
        Column { head, number: true }
    }
}

impl Table {
    /// The lines of the table for a terminal of `width` columns, without its title, indented: columns stand under their heads. What
    /// is wider than a line is wrapped between words, the widest column first; a single word, as the path of a file, is never
    /// broken. Columns that do not fit even so, from the last, stand on lines of their own below the rest of their row.
    pub(super) fn lines(
        &self,
        indent: &str,
        width: usize,
        paint: impl Fn(Outcome, &str) -> String,
    ) -> Vec<String> {
        let room = width.saturating_sub(indent.len());
        let beside = (1..=self.columns.len()).rev().find(|&beside| self.fits(beside, room)).unwrap_or(1);
        let widths = self.widths(beside, room);
        let heads = self.columns.iter().map(|column| column.head.to_owned()).collect();
        let head = Row { cells: heads, outcome: None };
        let rows = std::iter::once(&head).chain(&self.rows);
        let lines = rows.flat_map(|row| {
            let mut lines = self.row_lines(row, &widths, indent, &paint);
            for cell in row.cells.iter().skip(beside).filter(|cell| !cell.is_empty()) {
                let below = fold(&format!("{indent}{BELOW}{}", plain(cell)), width, 0);
                let painted = below.split('\n').map(|line| match row.outcome {
                    Some(outcome) if outcome != Outcome::Pass => paint(outcome, line),
                    _ => line.to_owned(),
                });
                lines.extend(painted);
            }
            lines
        });
        lines.collect()
    }

    /// Whether the first `beside` columns fit beside each other, no word broken.
    fn fits(&self, beside: usize, room: usize) -> bool {
        self.widths(beside, room).iter().map(|width| width + GAP.len()).sum::<usize>() <= room + GAP.len()
    }

    fn row_lines(
        &self,
        row: &Row,
        widths: &[usize],
        indent: &str,
        paint: &impl Fn(Outcome, &str) -> String,
    ) -> Vec<String> {
        let cells: Vec<Vec<String>> =
            row.cells.iter().zip(widths).map(|(cell, &width)| of_width(&plain(cell), width)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        let line = |at: usize| {
            let mut line = indent.to_owned();
            for ((cell, column), &width) in cells.iter().zip(&self.columns).zip(widths) {
                let text = cell.get(at).map_or("", String::as_str);
                let space = " ".repeat(width.saturating_sub(text.chars().count()));
                let (before, after) = if column.number { (space.as_str(), "") } else { ("", space.as_str()) };
                let failing = row.outcome.filter(|&outcome| outcome != Outcome::Pass && !text.is_empty());
                let text = failing.map_or_else(|| text.to_owned(), |outcome| paint(outcome, text));
                line.push_str(&format!("{before}{text}{after}{GAP}"));
            }
            line.trim_end().to_owned()
        };
        (0..height).map(line).collect()
    }

    /// How wide each of the first `beside` columns is, in characters: as its widest cell, and less for the widest columns if they do not fit
    /// a line of `line` characters, but never less than its longest word.
    fn widths(&self, beside: usize, line: usize) -> Vec<usize> {
        let cells = |at: usize| self.rows.iter().filter_map(move |row| row.cells.get(at));
        let measured = self.columns.iter().take(beside).enumerate().map(|(at, column)| {
            let cells = cells(at).map(|cell| plain(cell));
            let texts: Vec<String> = std::iter::once(column.head.to_owned()).chain(cells).collect();
            let length = |text: &str| text.chars().count();
            let widest = texts.iter().map(|text| length(text)).max().unwrap_or(0);
            let words = texts.iter().flat_map(|text| text.split(' '));
            (widest, words.map(length).max().unwrap_or(0))
        });
        let (mut widths, least): (Vec<usize>, Vec<usize>) = measured.unzip();
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        loop {
            let excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(line);
            let shrinkable = widths.iter_mut().zip(&least).filter(|(width, least)| **width > **least);
            let Some((width, &least)) = shrinkable.max_by_key(|(width, _)| **width).filter(|_| excess > 0)
            else {
                return widths;
            };
            *width = width.saturating_sub(excess).max(least).max(*width / 2);
        }
    }
}

/// A text in lines of at most `width` characters, broken at spaces.
fn of_width(text: &str, width: usize) -> Vec<String> {
    fold(text, width, 0).split('\n').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 3]]) -> Table {
        let row = |cells: &[&str; 3]| Row { cells: cells.map(str::to_owned).to_vec(), outcome: None };
        Table {
            title: "files".to_owned(),
            columns: vec![Column::text("file"), Column::number("size"), Column::text("why")],
            rows: rows.iter().map(row).collect(),
        }
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let lines =
            table(&[["a.bin", "7", "not read"], ["b", "1,000", ""]])
                .lines("  ", FILE_WIDTH, |_, text| text.into());
        assert_eq!(lines, ["  file    size  why", "  a.bin      7  not read", "  b      1,000"]);
    }

    #[test]
    fn long_cells_are_wrapped_and_words_are_not_broken() {
        let why = "nothing here reads this format ".repeat(5);
        let path = "a-very-long-folder/".repeat(3) + "model.msgpack";
        let lines = table(&[[&path, "7", why.trim()]]).lines("", FILE_WIDTH, |_, text| text.into());
        assert!(lines.len() > 3, "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with(&path)), "{lines:?}");
        let lines = table(&[["a.bin", "7", why.trim()]]).lines("", FILE_WIDTH, |_, text| text.into());
        assert!(lines.iter().all(|line| line.chars().count() <= FILE_WIDTH), "{lines:?}");
    }

    #[test]
    fn columns_that_do_not_fit_stand_below() {
        let path = "a-long-folder/model.msgpack";
        let lines = table(&[[path, "7", "nothing here reads this"]]).lines("", 40, |_, text| text.into());
        let expected = ["file                         size", "  why"];
        assert_eq!(lines[..2], expected, "{lines:?}");
        assert_eq!(lines[2..], [format!("{path}     7"), "  nothing here reads this".to_owned()]);
    }

    #[test]
    fn rows_that_do_not_pass_are_painted() {
        let mut table = table(&[["a", "1", "x"]]);
        for row in &mut table.rows {
            row.outcome = Some(Outcome::Undecided);
        }
        let lines = table.lines("", FILE_WIDTH, |outcome, text| format!("<{outcome:?} {text}>"));
        assert!(lines.iter().any(|line| line.starts_with("<Undecided a>")), "{lines:?}");
    }
}
