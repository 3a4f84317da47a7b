//! The report as one page, which needs nothing else: styles and plots are in it, scripts there are none.

use super::document::{Subject, judged, trace_name};
use super::escape::markup;
use super::growth::shares;
use super::numbers::{count, decibels, grouped, measure, of_tolerance, share, steps, value};
use super::table::{Column, Row, Table};
use super::verdict::{detail, outcome, title, tolerance, word};
use super::{Diagnosis, Document, FileReport, Finding, RunReport};
use crate::judge::verdict::{Outcome, PointReport};

mod heat_map;
mod label;
mod plot;

const STYLE: &str = include_str!("page.css");

/// The characters from which on a cell of a table is wrapped.
const LONG: usize = 40;

/// The report as HTML.
pub(super) fn render(document: &Document<'_>) -> String {
    let mut page = Page { document, out: String::new() };
    let (verdict, subject) = (outcome(document.outcome()), markup(&document.subject()));
    page.out.push_str(&format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{verdict}: {subject}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header>\n<p class=\"badge {verdict}\">{verdict}</p>\n<h1>{subject}</h1>\n"
    ));
    page.conclusion();
    page.out.push_str("</header>\n");
    page.headline();
    page.files();
    page.tables();
    page.losses();
    page.findings();
    page.runs();
    page.out
        .push_str(&format!("<footer>{}</footer>\n</main>\n</body>\n</html>\n", markup(document.producer())));
    page.out
}

struct Page<'d> {
    document: &'d Document<'d>,
    out: String,
}

impl Page<'_> {
    fn conclusion(&mut self) {
        let not_judged = self.document.not_judged();
        let totals = self.document.totals();
        self.out.push_str(&format!("<p class=\"totals\">{totals} compared. Not judged: {not_judged}.</p>\n"));
    }

    fn headline(&mut self) {
        let Some(headline) = self.document.headline() else { return };
        let mut place = format!("<code>{}</code>", markup(headline.place()));
        if let Some(run) = headline.run {
            place.push_str(&format!(", <code>{}</code>", markup(&trace_name(run))));
        }
        let (verdict, title, text) = match headline.subject {
            Subject::Point(point) => {
                let (name, detail) = (markup(&point.name), markup(&detail(point)));
                let text = format!("<p class=\"point\"><code>{name}</code></p>\n<p>{detail}</p>");
                (point.verdict.outcome(), title(point), text)
            }
            Subject::Finding(finding) => {
                let verdict = self.document.rules.finding(finding);
                (verdict, "What is wrong", format!("<p>{}</p>", markup(&finding.message)))
            }
        };
        self.out.push_str(&format!(
            "<section class=\"headline {}\">\n<h2>{title}</h2>\n<p>in {place}</p>\n{text}\n",
            outcome(verdict)
        ));
        self.diagnoses(headline.diagnoses());
        self.out.push_str("</section>\n");
    }

    fn diagnoses(&mut self, diagnoses: &[Diagnosis]) {
        for diagnosis in diagnoses {
            let sure = if diagnosis.confirmed { "confirmed" } else { "not confirmed" };
            self.out.push_str(&format!(
                "<dl>\n<dt>Cause</dt><dd>{} <span class=\"kind\">{}, {sure}</span></dd>\n\
                 <dt>Evidence</dt><dd>{}</dd>\n<dt>Repair</dt><dd>{}</dd>\n</dl>\n",
                markup(&diagnosis.cause),
                markup(&diagnosis.kind),
                markup(&diagnosis.evidence),
                markup(&diagnosis.repair)
            ));
        }
    }

    fn files(&mut self) {
        let policy = self.document.policy.is_some();
        let model = if policy { columns("model") } else { String::new() };
        self.out.push_str(&format!(
            "<section>\n<h2>Weight files</h2>\n<div class=\"scroll\"><table>\n<thead><tr>{model}{}</tr></thead>\n<tbody>\n",
            columns("file|outcome|format|weights|traces|points|largest share of the tolerance|digest")
        ));
        for (report, file) in self.document.files() {
            let points = || file.runs.iter().flat_map(|run| &run.points);
            let largest = points().filter_map(|point| shares(point).real).reduce(f64::max);
            let or_dash = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), markup);
            let model = if policy { format!("<td>{}</td>", markup(&report.model)) } else { String::new() };
            self.out.push_str(&format!(
                "<tr>{model}<th scope=\"row\"><code>{}</code></th><td>{}</td><td>{}</td><td>{}</td>\
                 <td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
                 <td><code class=\"digest\" title=\"{}\">{}</code></td></tr>\n",
                markup(&file.file),
                badge(file.outcome),
                or_dash(&file.format),
                or_dash(&file.precision),
                file.runs.len(),
                grouped(points().filter(|point| judged(point)).count()),
                largest.map_or("-".to_owned(), share),
                or_dash(&file.digest),
                or_dash(&file.digest.as_ref().map(|digest| digest.chars().take(12).collect()))
            ));
        }
        self.out.push_str("</tbody>\n</table></div>\n</section>\n");
    }

    fn tables(&mut self) {
        let policy = self.document.policy.is_some();
        for report in self.document.reports {
            for table in report.tables(&self.document.rules).into_iter().chain(report.details()) {
                let model =
                    if policy { format!("<code>{}</code>: ", markup(&report.model)) } else { String::new() };
                let heads: Vec<&str> = table.columns.iter().map(|column| column.head).collect();
                self.out.push_str(&format!(
                    "<section>\n<h2>{model}{}</h2>\n<div class=\"scroll\"><table>\n<thead><tr>{}</tr></thead>\n\
                     <tbody>\n{}</tbody>\n</table></div>\n</section>\n",
                    markup(&table.title),
                    columns(&heads.join("|")),
                    table.rows.iter().map(|row| table_row(&table, row)).collect::<String>()
                ));
            }
        }
    }

    /// Where quantized graphs lose.
    fn losses(&mut self) {
        for (_, file) in self.document.files() {
            let losses = file.quantization.as_ref().and_then(|quantization| quantization.losses.as_ref());
            let plot = losses.map(plot::losses).filter(|plot| !plot.is_empty());
            let section = plot.map(|plot| {
                format!(
                    "<section>\n<h2>Where <code>{}</code> loses</h2>\n{plot}</section>\n",
                    markup(&file.file)
                )
            });
            self.out.extend(section);
        }
    }

    /// What concerns whole models and files.
    fn findings(&mut self) {
        let mut items = String::new();
        for report in self.document.reports {
            items.push_str(&self.finding_items(&report.model, &report.findings));
            for file in &report.files {
                items.push_str(&self.finding_items(&file.file, &file.findings));
            }
        }
        if !items.is_empty() {
            self.out.push_str(&format!(
                "<section>\n<h2>Findings</h2>\n<ul class=\"findings\">\n{items}</ul>\n</section>\n"
            ));
        }
    }

    fn finding_items(&self, place: &str, findings: &[Finding]) -> String {
        let place = if place.is_empty() { String::new() } else { format!("<code>{}</code> ", markup(place)) };
        findings
            .iter()
            .map(|finding| {
                let badge = match self.document.rules.finding(finding) {
                    Outcome::Pass => "<span class=\"badge note\">note</span>".to_owned(),
                    other => badge(other),
                };
                format!("<li>{badge} {place}{}</li>\n", markup(&finding.message))
            })
            .collect()
    }

    /// All traces, those that tell where something goes wrong first and open. If everything passes, the one with most
    /// points is.
    fn runs(&mut self) {
        let document = self.document;
        let (leading, others): (Vec<_>, Vec<_>) =
            document.runs().partition(|(_, file, run)| document.leads(file, run));
        let most = others.iter().map(|(.., run)| run.points.len()).max();
        let first = others.iter().position(|(.., run)| Some(run.points.len()) == most);
        let first = first.filter(|_| leading.is_empty());
        self.out.push_str("<section>\n<h2>Traces</h2>\n");
        for (_, file, run) in leading {
            self.run(file, run, true);
        }
        for (at, (_, file, run)) in others.into_iter().enumerate() {
            self.run(file, run, first == Some(at));
        }
        self.out.push_str("</section>\n");
    }

    fn run(&mut self, file: &FileReport, run: &RunReport, open: bool) {
        let open = if open { " open=\"\"" } else { "" };
        let largest = run.points.iter().filter_map(|point| shares(point).real).reduce(f64::max);
        let isolated = if run.isolated { ", every module given the golden's input" } else { "" };
        self.out.push_str(&format!(
            "<details class=\"run\"{open}>\n<summary>{} <code>{}</code> <span class=\"trace\">{}</span> \
             <span class=\"share\">{}, at most {}</span></summary>\n\
             <p class=\"about\">{} by {}; golden {} by {}; masked rows {}{isolated}; {} compared in {:.2} s</p>\n",
            badge(run.outcome),
            markup(&file.file),
            markup(&trace_name(run)),
            count(run.points.iter().filter(|point| judged(point)).count(), "point"),
            largest.map_or("-".to_owned(), of_tolerance),
            markup(&run.class),
            markup(&run.backend),
            markup(&run.golden),
            markup(&run.producer),
            markup(&run.masked_rows),
            count(run.compared(), "number"),
            run.seconds
        ));
        let items = self.finding_items("", &run.findings);
        if !items.is_empty() {
            self.out.push_str(&format!("<ul class=\"findings\">\n{items}</ul>\n"));
        }
        self.diagnoses(&run.diagnoses);
        self.out.push_str(&plot::plot(&run.points));
        self.out.push_str(&heat_map::heat_map(&run.points));
        self.points(run);
        self.out.push_str("</details>\n");
    }

    fn points(&mut self, run: &RunReport) {
        self.out.push_str(&format!(
            "<details class=\"points\"><summary>Every point</summary>\n<div class=\"scroll\"><table>\n<thead><tr>{}\
             </tr></thead>\n<tbody>\n",
            columns(
                "point|verdict|share|padding|max abs|max rel|max ulp|cosine|SQNR dB|shape|at|want|got|tolerance"
            )
        ));
        for point in &run.points {
            let outcome_of = outcome(self.document.rules.point(run, point));
            self.out.push_str(&row(point, outcome_of));
        }
        self.out.push_str("</tbody>\n</table></div></details>\n");
    }
}

fn table_row(table: &Table, row: &Row) -> String {
    let cell = |(cell, column): (&String, &Column)| {
        let class = match (column.number, cell.chars().count() > LONG) {
            (true, _) => " class=\"number\"",
            (false, true) => " class=\"words\"",
            (false, false) => "",
        };
        format!("<td{class}>{}</td>", markup(cell))
    };
    let cells: String = row.cells.iter().zip(&table.columns).map(cell).collect();
    format!("<tr class=\"{}\">{cells}</tr>\n", row.outcome.map_or("", outcome))
}

fn row(point: &PointReport, outcome_of: &str) -> String {
    let of = shares(point);
    let part = point.real.as_ref().or(point.padded.as_ref());
    let mut row = format!(
        "<tr class=\"{outcome_of}\"><th scope=\"row\"><code>{}</code></th><td title=\"{}\">{}</td>",
        markup(&point.name),
        markup(&detail(point)),
        word(&point.verdict)
    );
    let numbers = [
        of.real.map(share),
        of.padded.map(share),
        part.map(|part| measure(part.max_abs)),
        part.map(|part| measure(part.max_rel)),
        part.map(|part| steps(part.max_ulp)),
        part.map(|part| format!("{:.7}", part.cosine)),
        part.map(|part| decibels(part.sqnr_db)),
        Some(format!("{:?}", point.shape)),
        part.map(|part| format!("{:?}", part.at)),
        part.map(|part| value(part.want)),
        part.map(|part| value(part.got)),
        Some(tolerance(point)),
    ];
    for number in numbers {
        row.push_str(&format!(
            "<td class=\"number\">{}</td>",
            number.as_deref().map_or("-".to_owned(), markup)
        ));
    }
    row + "</tr>\n"
}

/// The heads of columns whose titles stand between bars.
fn columns(titles: &str) -> String {
    titles.split('|').map(|title| format!("<th scope=\"col\">{title}</th>")).collect()
}

fn badge(of: Outcome) -> String {
    let word = outcome(of);
    format!("<span class=\"badge {word}\">{word}</span>")
}
