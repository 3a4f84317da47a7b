//! JUnit XML: a suite for every weight file and trace, a test for every point.

use serde::Serialize;

use super::document::trace_name;
use super::escape::{markup, plain};
use super::numbers::grouped;
use super::table::FILE_WIDTH;
use super::verdict::detail;
use super::{Document, FileReport, Finding, Report, RunReport};
use crate::judge::verdict::Outcome;

/// The report as JUnit XML.
pub(super) fn render(document: &Document<'_>) -> String {
    let mut suites = Vec::new();
    for report in document.reports {
        suites.extend(Suite::of_model(document, report));
        for file in &report.files {
            let name = format!("{}/{}", report.model, file.file);
            suites.extend(Suite::of_findings(document, &name, &file.findings));
            suites.extend(file.runs.iter().map(|run| Suite::of_run(document, report, file, run)));
        }
    }
    let total = |count: fn(&Suite) -> usize| suites.iter().map(count).sum::<usize>();
    let seconds: f64 = suites.iter().map(|suite| suite.seconds).sum();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str(&format!(
        "<testsuites name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{seconds:.3}\">\n",
        markup(&format!("deberta-verify {}", document.subject())),
        total(|suite| suite.tests),
        total(|suite| suite.failures),
        total(|suite| suite.errors),
    ));
    for suite in &suites {
        out.push_str(&format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"0\" time=\"{:.3}\">\n",
            markup(&suite.name),
            suite.tests,
            suite.failures,
            suite.errors,
            suite.seconds
        ));
        out.push_str(&suite.cases);
        if !suite.notes.is_empty() {
            out.push_str(&format!("    <system-out>{}</system-out>\n", suite.notes));
        }
        out.push_str("  </testsuite>\n");
    }
    out + "</testsuites>\n"
}

#[derive(Default)]
struct Suite {
    name: String,
    tests: usize,
    failures: usize,
    errors: usize,
    seconds: f64,
    /// Escaped.
    cases: String,
    /// Escaped.
    notes: String,
}

impl Suite {
    /// What was found of the model as a whole, its tables among the notes. Nothing if there is neither.
    fn of_model(document: &Document<'_>, report: &Report) -> Option<Suite> {
        let mut suite = Suite { name: plain(&report.model), ..Suite::default() };
        suite.findings(document, &report.findings);
        for table in report.tables(&document.rules).into_iter().chain(report.details()) {
            suite.note(&table.title);
            table.lines("  ", FILE_WIDTH, |_, text| text.to_owned()).iter().for_each(|line| suite.note(line));
        }
        (suite.tests > 0 || !suite.notes.is_empty()).then_some(suite)
    }

    /// Nothing if there are no findings.
    fn of_findings(document: &Document<'_>, name: &str, findings: &[Finding]) -> Option<Suite> {
        let mut suite = Suite { name: plain(name), ..Suite::default() };
        suite.findings(document, findings);
        (!findings.is_empty()).then_some(suite)
    }

    fn of_run(document: &Document<'_>, report: &Report, file: &FileReport, run: &RunReport) -> Suite {
        let name = format!("{}/{}: {}", report.model, file.file, trace_name(run));
        let mut suite = Suite { name, seconds: run.seconds, ..Suite::default() };
        suite.note(&format!(
            "class {}, masked rows {}, golden {} by {}, {} numbers compared",
            run.class,
            run.masked_rows,
            run.golden,
            run.producer,
            grouped(run.compared())
        ));
        suite.findings(document, &run.findings);
        for point in &run.points {
            let outcome = document.rules.point(run, point);
            let mut lines = vec![detail(point)];
            if run.first_divergence.as_deref() == Some(point.name.as_str()) {
                lines.extend(run.diagnoses.iter().map(|diagnosis| {
                    format!("{}. {}. {}", diagnosis.cause, diagnosis.evidence, diagnosis.repair)
                }));
            }
            suite.case(&point.name, outcome, &word(&point.verdict), &lines);
        }
        suite
    }

    fn findings(&mut self, document: &Document<'_>, findings: &[Finding]) {
        for finding in findings {
            let kind = word(&finding.kind);
            self.case(&kind, document.rules.finding(finding), &kind, std::slice::from_ref(&finding.message));
            if finding.outcome == Outcome::Pass {
                self.note(&finding.message);
            }
        }
    }

    fn case(&mut self, name: &str, outcome: Outcome, kind: &str, lines: &[String]) {
        self.tests += 1;
        let start = format!("    <testcase classname=\"{}\" name=\"{}\"", markup(&self.name), markup(name));
        let element = match outcome {
            Outcome::Pass => {
                self.cases.push_str(&format!("{start}/>\n"));
                return;
            }
            Outcome::Divergence => {
                self.failures += 1;
                "failure"
            }
            Outcome::Undecided => {
                self.errors += 1;
                "error"
            }
        };
        let lines: Vec<String> = lines.iter().map(|line| markup(line)).collect();
        let message = lines.first().map_or("", String::as_str);
        self.cases.push_str(&format!(
            "{start}>\n      <{element} type=\"{}\" message=\"{message}\">{}</{element}>\n    </testcase>\n",
            markup(kind),
            lines.join("\n")
        ));
    }

    fn note(&mut self, text: &str) {
        self.notes.push_str(&markup(text));
        self.notes.push('\n');
    }
}

/// The word that the JSON report has for a verdict or a kind of finding.
fn word(of: &impl Serialize) -> String {
    let value = serde_json::to_value(of).unwrap_or_default();
    value.get("kind").unwrap_or(&value).as_str().unwrap_or_default().to_owned()
}
