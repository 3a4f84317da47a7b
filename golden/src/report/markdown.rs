//! The report for a comment on a pull request: short, details folded, within the length that GitHub allows.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{Subject, judged, trace_name};
use super::escape::markdown;
use super::growth::{growth, shares, sparkline};
use super::numbers::{grouped, measure, share};
use super::table::{Row, Table};
use super::verdict::{detail, outcome, title, word};
use super::{Document, FileReport, Finding, Report, RunReport};
use crate::judge::verdict::{Outcome, PointReport};

/// The most that GitHub allows in a comment, in characters, less what a comment around it may need.
const LONGEST: usize = 65_536 - 4_096;

/// The line that tells a comment of this program from others, so that the next one can replace it.
const MARK: &str = "<!-- deberta-verify -->";

/// The report as Markdown.
pub(super) fn render(document: &Document<'_>) -> String {
    let mut page = Page { document, out: format!("{MARK}\n"), left_out: 0 };
    let verdict = document.outcome();
    page.add(&format!(
        "## {} deberta-verify: {}\n\n{}: {} compared; not judged: {}.\n\n",
        symbol(verdict),
        outcome(verdict),
        code(&document.subject()),
        document.totals(),
        document.not_judged()
    ));
    page.headline();
    page.files();
    page.origins();
    page.tables();
    page.findings();
    page.runs();
    if page.left_out > 0 {
        page.out.push_str(&format!(
            "{} more lines did not fit: the other formats have them.\n",
            grouped(page.left_out)
        ));
    }
    page.out
}

struct Page<'d> {
    document: &'d Document<'d>,
    out: String,
    /// Lines that did not fit.
    left_out: usize,
}

impl Page<'_> {
    /// Adds text, or counts its lines if it is too much.
    fn add(&mut self, text: &str) {
        match self.out.len() + text.len() <= LONGEST {
            true => self.out.push_str(text),
            false => self.left_out += text.lines().filter(|line| !line.is_empty()).count(),
        }
    }

    /// Adds a table or a list. The lines that do not fit are counted.
    fn add_lines(&mut self, head: &str, lines: impl Iterator<Item = String>, foot: &str) {
        let mut lines = lines.peekable();
        // Room for the end of it.
        let room = LONGEST.saturating_sub(foot.len());
        if lines.peek().is_none() || self.out.len() + head.len() > room {
            self.left_out += lines.count();
            return;
        }
        self.out.push_str(head);
        for line in lines {
            match self.out.len() + line.len() <= room {
                true => self.out.push_str(&line),
                false => self.left_out += 1,
            }
        }
        self.out.push_str(foot);
    }

    fn headline(&mut self) {
        let Some(headline) = self.document.headline() else { return };
        let file = headline.place();
        let trace = headline.run.map(|run| format!(", {}", code(&trace_name(run)))).unwrap_or_default();
        let text = match headline.subject {
            Subject::Point(point) => format!(
                "**{}:** {} in {}{trace}\n\n{}\n\n",
                title(point),
                code(&point.name),
                code(file),
                markdown(&detail(point))
            ),
            Subject::Finding(finding) => {
                format!("**{}{trace}:** {}\n\n", code(file), markdown(&finding.message))
            }
        };
        self.add(&text);
        for diagnosis in headline.diagnoses() {
            let sure = if diagnosis.confirmed { "Cause" } else { "Likely cause" };
            self.add(&format!(
                "**{sure}:** {} ({})\n\n**Repair:** {}\n\n",
                markdown(&diagnosis.cause),
                markdown(&diagnosis.evidence),
                markdown(&diagnosis.repair)
            ));
        }
    }

    fn files(&mut self) {
        let document = self.document;
        let row = |(report, file): (&Report, &FileReport)| {
            let model =
                if document.policy.is_some() { format!(" {} |", code(&report.model)) } else { String::new() };
            let or_dash = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), markdown);
            let largest = file.runs.iter().flat_map(|run| &run.points).filter_map(|point| shares(point).real);
            format!(
                "|{model} {} | {} | {} | {} | {} | {} | {} {} |\n",
                code(&file.file),
                or_dash(&file.format),
                or_dash(&file.precision),
                file.runs.len(),
                file.runs.iter().flat_map(|run| &run.points).filter(|point| judged(point)).count(),
                largest.reduce(f64::max).map_or("-".to_owned(), share),
                symbol(file.outcome),
                outcome(file.outcome)
            )
        };
        let (model, rule) = if document.policy.is_some() { (" model |", " --- |") } else { ("", "") };
        let head = format!(
            "|{model} file | format | weights | traces | points | of tolerance | outcome |\n\
             |{rule} --- | --- | --- | ---: | ---: | ---: | --- |\n"
        );
        self.add_lines(&head, document.files().map(row), "\n");
    }

    /// What the numbers are of: the digest of the weights, and what computed the goldens.
    fn origins(&mut self) {
        let (mut digests, mut producers) = (BTreeMap::<&str, BTreeSet<&str>>::new(), BTreeSet::new());
        for (_, file) in self.document.files() {
            if let Some(digest) = &file.digest {
                digests.entry(digest).or_default().insert(&file.file);
            }
            producers.extend(file.runs.iter().map(|run| run.producer.as_str()));
        }
        let list =
            |items: &BTreeSet<&str>| items.iter().map(|item| code(item)).collect::<Vec<_>>().join(", ");
        for (digest, files) in &digests {
            self.add(&format!("Weight digest {} of {}\n\n", code(digest), list(files)));
        }
        if !producers.is_empty() {
            self.add(&format!("Goldens by {}\n\n", list(&producers)));
        }
    }

    /// A folded table for every table of every model.
    fn tables(&mut self) {
        let rules = self.document.rules;
        let tables = self.document.reports.iter().flat_map(|report| {
            let of = |table: Table| (&report.model, table);
            report.tables(&rules).into_iter().chain(report.details()).map(of)
        });
        for (model, table) in tables {
            let heads: String = table.columns.iter().map(|column| format!(" {} |", column.head)).collect();
            let rules = table.columns.iter().map(|column| if column.number { " ---: |" } else { " --- |" });
            let head = format!(
                "<details><summary>{}: {}</summary>\n\n|{heads} |\n|{} --- |\n",
                code(model),
                markdown(&table.title),
                rules.collect::<String>()
            );
            let row = |row: &Row| {
                let cells: String = row.cells.iter().map(|cell| format!(" {} |", markdown(cell))).collect();
                format!("|{cells} {} |\n", row.outcome.map_or("", symbol))
            };
            self.add_lines(&head, table.rows.iter().map(row), "\n</details>\n\n");
        }
    }

    fn findings(&mut self) {
        let mut lines: Vec<String> = Vec::new();
        let mut list = |place: &str, findings: &[Finding]| {
            for finding in findings {
                let symbol = match self.document.rules.finding(finding) {
                    Outcome::Pass => "ℹ️",
                    other => symbol(other),
                };
                let line = format!("- {symbol} {}: {}\n", code(place), markdown(&finding.message));
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        };
        for report in self.document.reports {
            list(&report.model, &report.findings);
            for file in &report.files {
                list(&file.file, &file.findings);
                for run in &file.runs {
                    list(&format!("{}, {}", file.file, trace_name(run)), &run.findings);
                }
            }
        }
        self.add_lines("", lines.into_iter(), "\n");
    }

    /// A folded table of the runs, and a folded table of points for each that does not pass.
    fn runs(&mut self) {
        let document = self.document;
        let row = |(_, file, run): (&Report, &FileReport, &RunReport)| {
            let stages = growth(&run.points);
            let largest = run.points.iter().filter_map(|point| shares(point).real).reduce(f64::max);
            format!(
                "| {} | {} | {} | {} | {} | {} | {} |\n",
                code(&file.file),
                code(&trace_name(run)),
                markdown(&run.class),
                run.points.iter().filter(|point| judged(point)).count(),
                largest.map_or("-".to_owned(), share),
                sparkline(stages.iter().map(|(_, error)| error.real)),
                symbol(run.outcome)
            )
        };
        let head = "<details><summary>Every trace</summary>\n\n\
                    | file | trace | class | points | of tolerance | by layer | |\n\
                    | --- | --- | --- | ---: | ---: | --- | --- |\n";
        self.add_lines(head, document.runs().map(row), "\n</details>\n\n");
        for (_, file, run) in document.runs().filter(|(_, file, run)| document.leads(file, run)) {
            self.points(file, run);
        }
    }

    fn points(&mut self, file: &FileReport, run: &RunReport) {
        let rules = self.document.rules;
        let failing = |point: &&PointReport| rules.point(run, point) != Outcome::Pass;
        let row = |point: &PointReport| {
            let of = shares(point);
            let or_dash = |share_of: Option<f64>| share_of.map_or("-".to_owned(), share);
            format!(
                "| {} | {} | {} | {} | {} |\n",
                word(&point.verdict),
                or_dash(of.real),
                or_dash(of.padded),
                point.real.as_ref().map_or("-".to_owned(), |part| measure(part.max_abs)),
                code(&point.name)
            )
        };
        let head = format!(
            "<details><summary>{}, {}: points that do not agree</summary>\n\n\
             | verdict | of tolerance | padding | max abs | point |\n| --- | ---: | ---: | ---: | --- |\n",
            code(&file.file),
            code(&trace_name(run))
        );
        self.add_lines(&head, run.points.iter().filter(failing).map(row), "\n</details>\n\n");
    }
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", markdown(text))
}

fn symbol(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "✅",
        Outcome::Undecided => "⚠️",
        Outcome::Divergence => "❌",
    }
}
