//! The inventory as a table.

use super::{Entry, Role};
use crate::report::table::{Column, Row, Table};
use crate::report::{Finding, FindingKind, Report, Rules};

/// The most files that a table has: those of the model's own folder come first.
const MOST: usize = 200;

/// The table of the files of a release; nothing if there are none but those that were judged, each of which has its own
/// report.
pub(crate) fn table(report: &Report, rules: &Rules) -> Option<Table> {
    let row = |entry: &Entry| {
        let judged = report.files.iter().find(|file| file.file == entry.file).map(|file| file.outcome);
        let finding =
            |outcome| rules.finding(&Finding::new(FindingKind::FileNotJudged, outcome, String::new()));
        let outcome = judged.or(entry.outcome.map(finding));
        let cells =
            vec![entry.file.clone(), entry.role.to_string(), entry.detail.clone().unwrap_or_default()];
        Row { cells, outcome }
    };
    let columns = vec![Column::text("file"), Column::text("role"), Column::text("how, or why not")];
    let mut rows: Vec<Row> = report.inventory.iter().map(row).collect();
    if let Some(more @ 1..) = rows.len().checked_sub(MOST) {
        rows.truncate(MOST);
        let cells =
            vec!["…".to_owned(), String::new(), format!("{more} more files, which the JSON report has")];
        rows.push(Row { cells, outcome: None });
    }
    let tells = report.inventory.iter().any(|entry| entry.role != Role::Judged);
    tells.then(|| Table { title: "files of the release".to_owned(), columns, rows })
}
