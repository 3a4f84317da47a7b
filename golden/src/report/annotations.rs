//! Annotations that GitHub shows beside the files of a pull request.

use super::document::trace_name;
use super::escape::{command_message, command_property, plain};
use super::verdict::{detail, outcome};
use super::{Document, Finding, Report, RunReport};
use crate::judge::verdict::Outcome;

/// The most annotations of a step that GitHub shows.
const MOST: usize = 10;

/// One command of GitHub's runner for every finding that does not pass and every run that does not, the first of them.
/// `path` tells where the weight file of that name of a model is in the repository, if it is there.
pub fn annotations(document: &Document<'_>, path: impl Fn(&Report, &str) -> Option<String>) -> Vec<String> {
    let mut lines = Vec::new();
    for report in document.reports {
        let place = path(report, "");
        lines.extend(document.of_findings(&report.findings, place.as_deref(), &report.model));
        for file in &report.files {
            let place = path(report, &file.file);
            lines.extend(document.of_findings(&file.findings, place.as_deref(), &file.file));
            for run in &file.runs {
                lines.extend(document.of_run(run, place.as_deref(), &file.file));
            }
        }
    }
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    if more > 0 {
        lines.pop();
        lines.push(command("error", None, "deberta-verify", &format!("{} more are in the report", more + 1)));
    }
    lines
}

impl Document<'_> {
    fn of_findings(&self, findings: &[Finding], file: Option<&str>, title: &str) -> Vec<String> {
        let failing = findings.iter().filter(|finding| self.rules.finding(finding) != Outcome::Pass);
        failing
            .map(|finding| {
                let title = format!("{} in {title}", outcome(self.rules.finding(finding)));
                command("error", file, &title, &plain(&finding.message))
            })
            .collect()
    }

    fn of_run(&self, run: &RunReport, file: Option<&str>, name: &str) -> Vec<String> {
        let mut lines = self.of_findings(&run.findings, file, &format!("{name}, {}", trace_name(run)));
        if let Some(point) = self.first_of(run) {
            let mut message = format!("{}: {}", plain(&point.name), detail(point));
            for diagnosis in &run.diagnoses {
                message.push_str(&format!("\n{}: {}", plain(&diagnosis.cause), plain(&diagnosis.repair)));
            }
            let title = format!("{} in {name}, {}", outcome(self.rules.point(run, point)), trace_name(run));
            lines.push(command("error", file, &title, &message));
        }
        lines
    }
}

fn command(level: &str, file: Option<&str>, title: &str, message: &str) -> String {
    let title = command_property(&plain(title));
    let file = file.map(|file| format!("file={},", command_property(&plain(file)))).unwrap_or_default();
    format!("::{level} {file}title={title}::{}", command_message(message))
}
