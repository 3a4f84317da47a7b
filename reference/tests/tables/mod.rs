//! The tables of documents.

use std::path::Path;

/// A file of the repository.
pub(crate) fn read(path: &str) -> String {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of every row of the tables of a document, without the rows of headings.
pub(crate) fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = text.lines().collect();
    let heading = |at: usize| lines.get(at + 1).is_some_and(|next| next.starts_with("|---"));
    let table = lines.iter().enumerate().filter(|(at, line)| line.starts_with("| ") && !heading(*at));
    table.map(|(_, line)| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What stands in backticks.
pub(crate) fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}
