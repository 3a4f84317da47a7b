//! The report for a terminal: where it goes wrong first, then one line a point, and at the end what was compared.

use deberta_converters::folding::{HANGING, fold};

use super::document::{Headline, Subject, judged, trace_name};
use super::escape::plain;
use super::growth::{growth, shares, sparkline, stages_in_words};
use super::numbers::{count, decibels, grouped, measure, of_tolerance, share, steps};
use super::table::FILE_WIDTH;
use super::verdict::{detail, outcome, title, word};
use super::{Diagnosis, Document, FileReport, Finding, Report, RunReport};
use crate::coverage::Covered;
use crate::judge::verdict::{Outcome, PointReport, Verdict};

/// How the text looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Whether to use the colours of terminals.
    pub color: bool,
    /// Whether to show every point, and not only those around the first divergence.
    pub all_points: bool,
    /// How many columns a line of the terminal has, which longer lines are broken for; nothing for a file.
    pub width: Option<usize>,
    /// Whether to show the conclusion alone, and what leads to it if that is no pass.
    pub brief: bool,
}

/// How many points are shown before and after the first one that does not agree.
const BEFORE: usize = 3;
const AFTER: usize = 9;

/// The report as text.
pub(super) fn render(document: &Document<'_>, style: Style) -> String {
    let mut page = Page { document, style, out: String::new() };
    if let Some(headline) = document.headline() {
        page.headline(&headline);
    }
    if !style.brief {
        document.reports.iter().for_each(|report| page.report(report));
    }
    page.conclusion();
    page.out
}

struct Page<'d> {
    document: &'d Document<'d>,
    style: Style,
    out: String,
}

impl Page<'_> {
    fn line(&mut self, text: &str) {
        let text = text.trim_end();
        match self.style.width {
            Some(width) => self.out.push_str(&fold(text, width, HANGING)),
            None => self.out.push_str(text),
        }
        self.out.push('\n');
    }

    fn headline(&mut self, headline: &Headline<'_>) {
        let trace = headline.run.map(|run| format!(", {}", trace_name(run))).unwrap_or_default();
        let place = plain(&format!("{}{trace}", headline.place()));
        match headline.subject {
            Subject::Point(point) => {
                let text = self.painted(point.verdict.outcome(), &title(point).to_uppercase());
                self.line(&format!("{text} in {place}"));
                self.line(&format!("  point      {} {:?}", plain(&point.name), point.shape));
                self.line(&format!("  {}", detail(point)));
            }
            Subject::Finding(finding) => {
                let verdict = self.document.rules.finding(finding);
                let text = self.painted(verdict, &outcome(verdict).to_uppercase());
                self.line(&format!("{text} in {place}"));
                self.line(&format!("  what       {}", plain(&finding.message)));
            }
        }
        self.diagnoses("  ", headline.diagnoses());
        self.line("");
    }

    fn diagnoses(&mut self, indent: &str, diagnoses: &[Diagnosis]) {
        for diagnosis in diagnoses {
            let sure = if diagnosis.confirmed { "confirmed" } else { "not confirmed" };
            self.line(&format!(
                "{indent}cause      {} ({}, {sure})",
                plain(&diagnosis.cause),
                plain(&diagnosis.kind)
            ));
            self.line(&format!("{indent}evidence   {}", plain(&diagnosis.evidence)));
            self.line(&format!("{indent}repair     {}", plain(&diagnosis.repair)));
        }
    }

    fn report(&mut self, report: &Report) {
        self.line(&format!("model {}", plain(&report.model)));
        let details = if self.style.all_points { report.details() } else { Vec::new() };
        for table in report.tables(&self.document.rules).into_iter().chain(details) {
            self.line(&format!("  {}", table.title));
            let width = self.style.width.unwrap_or(FILE_WIDTH);
            let lines = table.lines("    ", width, |outcome, text| self.painted(outcome, text));
            lines.iter().for_each(|line| self.line(line));
        }
        for file in &report.files {
            self.file(file);
        }
        self.findings("  ", &report.findings);
        if !report.coverage.is_empty() && !report.coverage.iter().any(Covered::is_lacking) {
            self.line("  coverage: the goldens exercise every feature of the configuration");
        }
    }

    fn file(&mut self, file: &FileReport) {
        let known = [&file.format, &file.precision].into_iter().flatten().map(|word| plain(word));
        let digest = file.digest.as_ref().map(|digest| format!("digest {}", plain(digest)));
        let about: Vec<String> = known.chain(digest).collect();
        self.line(&format!("  file {}  {}", plain(&file.file), about.join(", ")));
        self.findings("    ", &file.findings);
        for run in &file.runs {
            self.run(file, run);
        }
    }

    fn findings(&mut self, indent: &str, findings: &[Finding]) {
        for finding in findings {
            let verdict = self.document.rules.finding(finding);
            let word = match verdict {
                Outcome::Pass => "note".to_owned(),
                verdict => self.painted(verdict, outcome(verdict)),
            };
            self.line(&format!("{indent}{word}: {}", plain(&finding.message)));
        }
    }

    fn run(&mut self, file: &FileReport, run: &RunReport) {
        let name = plain(&trace_name(run));
        let real = largest(run, |point| shares(point).real).map(|(share_of, point)| {
            let name = plain(&point.name);
            match point.verdict {
                Verdict::MissingInCandidate => format!(", without {name}"),
                _ => format!(", at most {}, at {name}", of_tolerance(share_of)),
            }
        });
        let padded = largest(run, |point| shares(point).padded)
            .map(|(share_of, _)| format!("; padding at most {}", share(share_of)));
        let ending = self.painted(run.outcome, &format!("{:<10}", outcome(run.outcome)));
        let points = run.points.iter().filter(|point| judged(point)).count();
        self.line(&format!(
            "    {ending} {name}: {}, {}{}{}",
            count(points, "point"),
            count(run.compared(), "number"),
            real.unwrap_or_default(),
            padded.unwrap_or_default()
        ));
        self.findings("      ", &run.findings);
        let told = self.document.headline().and_then(|headline| headline.run);
        if !told.is_some_and(|told| std::ptr::eq(told, run)) {
            self.diagnoses("      ", &run.diagnoses);
        }
        let leads = self.document.leads(file, run);
        if leads {
            let isolated = if run.isolated { ", every module given the golden's input" } else { "" };
            self.line(&format!(
                "      {} by {}; golden {} by {}; masked rows {}{isolated}",
                plain(&run.class),
                plain(&run.backend),
                plain(&run.golden),
                plain(&run.producer),
                plain(&run.masked_rows)
            ));
            self.growth(run);
        } else if let Some(point) = self.document.first_of(run) {
            let name = plain(&point.name);
            self.line(&format!("      first {}  {name}: {}", word(&point.verdict), detail(point)));
        }
        if leads || self.style.all_points {
            self.points(run);
        }
    }

    fn growth(&mut self, run: &RunReport) {
        let stages = growth(&run.points);
        if stages.len() < 2 {
            return;
        }
        let line = sparkline(stages.iter().map(|(_, error)| error.real));
        self.line(&format!(
            "      error      {line}  {}; █ is beyond the tolerance",
            stages_in_words(&stages)
        ));
        if stages.iter().any(|(_, error)| error.padded.is_some()) {
            let line = sparkline(stages.iter().map(|(_, error)| error.padded));
            self.line(&format!("      of padding {line}"));
        }
    }

    /// The points around the first that does not pass, or all of them.
    fn points(&mut self, run: &RunReport) {
        let passes = |point: &PointReport| self.document.rules.point(run, point) == Outcome::Pass;
        let differs = |point: &PointReport| self.document.rules.point(run, point) == Outcome::Divergence;
        let first = run.points.iter().position(differs);
        let first = first.or_else(|| run.points.iter().position(|point| !passes(point)));
        let (start, end) = match (self.style.all_points, first) {
            (true, _) => (0, run.points.len()),
            (false, Some(first)) => (first.saturating_sub(BEFORE), first.saturating_add(AFTER)),
            (false, None) => return,
        };
        let end = end.min(run.points.len());
        let (before, rest) = run.points.split_at(start.min(end));
        let (shown, after) = rest.split_at(end - start.min(end));
        if !before.is_empty() {
            self.line(&format!(
                "      {} before: {}",
                count(before.len(), "point"),
                self.summary(run, before)
            ));
        }
        let heads = ["share", "padding", "max abs", "max rel", "max ulp", "SQNR"];
        let line = self.measures(heads.map(str::to_owned));
        self.line(&format!("      {:<13} {line}  point", "verdict"));
        for point in shown {
            self.point(run, point);
        }
        if !after.is_empty() {
            let text = self.summary(run, after);
            self.line(&format!(
                "      {} after: {text}; --all-points shows them",
                count(after.len(), "point")
            ));
        }
    }

    fn point(&mut self, run: &RunReport, point: &PointReport) {
        let of = shares(point);
        let real = point.real.as_ref();
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let verdict = format!("{:<13}", word(&point.verdict));
        let verdict = match self.document.rules.point(run, point) {
            Outcome::Pass => verdict,
            outcome => self.painted(outcome, &verdict),
        };
        let measures = self.measures([
            or_dash(of.real.map(share)),
            or_dash(of.padded.map(share)),
            or_dash(real.map(|part| measure(part.max_abs))),
            or_dash(real.map(|part| measure(part.max_rel))),
            or_dash(real.map(|part| steps(part.max_ulp))),
            or_dash(real.map(|part| decibels(part.sqnr_db))),
        ]);
        self.line(&format!("      {verdict} {measures}  {} {:?}", plain(&point.name), point.shape));
    }

    /// What was measured at a point, or the heads of it, in columns; a narrow terminal has no room for the two relative ones.
    fn measures(&self, [share, padding, abs, rel, ulp, sqnr]: [String; 6]) -> String {
        let wide = self.style.width.is_none_or(|width| width >= FILE_WIDTH);
        let relative = if wide { format!("{rel:>8} {ulp:>8} ") } else { String::new() };
        format!("{share:>6} {padding:>7} {abs:>8} {relative}{sqnr:>6}")
    }

    /// `11 diverge, 1 agrees`
    fn summary(&self, run: &RunReport, points: &[PointReport]) -> String {
        let of = |wanted: Outcome| {
            points.iter().filter(|point| self.document.rules.point(run, point) == wanted).count()
        };
        let (pass, differ, undecided) = (of(Outcome::Pass), of(Outcome::Divergence), of(Outcome::Undecided));
        [(differ, "differ"), (undecided, "not judged"), (pass, "agree")]
            .into_iter()
            .filter(|&(number, _)| number > 0)
            .map(|(number, what)| format!("{} {what}", grouped(number)))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The last line: how it ends, what was compared and what was not.
    fn conclusion(&mut self) {
        let verdict = self.document.outcome();
        let word = self.painted(verdict, outcome(verdict));
        let models = match (self.document.policy, self.document.shard) {
            (Some(_), None) => format!("{}, ", count(self.document.reports.len(), "model")),
            (Some(_), Some(shard)) => {
                format!("{shard}, {} of {} models, ", self.document.reports.len(), shard.models)
            }
            (None, _) => String::new(),
        };
        let not_judged = self.document.not_judged();
        let totals = self.document.totals();
        self.line(&format!("{word}: {models}{totals} compared; not judged: {not_judged}"));
    }

    fn painted(&self, outcome: Outcome, text: &str) -> String {
        let code = match outcome {
            Outcome::Pass => 32,
            Outcome::Undecided => 33,
            Outcome::Divergence => 31,
        };
        if self.style.color { format!("\x1b[1;{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The point with the largest share of the tolerance.
fn largest(run: &RunReport, of: impl Fn(&PointReport) -> Option<f64>) -> Option<(f64, &PointReport)> {
    let shares = run.points.iter().filter_map(|point| Some((of(point)?, point)));
    shares.reduce(|largest, other| if other.0 > largest.0 { other } else { largest })
}
