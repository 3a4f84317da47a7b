//! What a report is made of, whatever its format.

use std::borrow::Cow;

use super::numbers::count;
use super::{Diagnosis, FileReport, Finding, FindingKind, PolicyShard, Report, Rules, RunReport};
use crate::inventory::Role;
use crate::judge::verdict::{Outcome, PointReport};
use crate::trace::points::rank;

/// The verification of one model, or of all models of a policy.
#[derive(Clone, Copy, Debug)]
pub struct Document<'r> {
    /// The policy, if one was given.
    pub policy: Option<&'r str>,
    /// The part of the policy's models that was verified, if it is not all of them.
    pub shard: Option<PolicyShard>,
    /// What failed.
    pub rules: Rules,
    /// One entry for every model.
    pub reports: &'r [Report],
}

/// How much was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Weight files.
    pub files: usize,
    /// Weight files by traces, published values counting as one.
    pub runs: usize,
    /// Points that were judged.
    pub points: usize,
    /// Numbers.
    pub numbers: usize,
}

/// Where to look first.
#[derive(Clone, Copy, Debug)]
pub struct Headline<'r> {
    /// The model.
    pub report: &'r Report,
    /// The weight file, if it is about one.
    pub file: Option<&'r FileReport>,
    /// The trace, if it is about one.
    pub run: Option<&'r RunReport>,
    /// What there is to see there.
    pub subject: Subject<'r>,
}

/// A point or a finding.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'r> {
    /// A point that does not agree, or cannot be judged.
    Point(&'r PointReport),
    /// What concerns more than a point.
    Finding(&'r Finding),
}

/// What is wrong, the worst first.
const WRONG: [Outcome; 2] = [Outcome::Divergence, Outcome::Undecided];

impl<'r> Headline<'r> {
    /// What it calls the weight file, or else the model.
    pub fn place(&self) -> &'r str {
        self.file.map_or(&self.report.model, |file| &file.file)
    }

    /// What is said about the causes.
    pub fn diagnoses(&self) -> &'r [Diagnosis] {
        self.run.map_or(&[], |run| &run.diagnoses)
    }
}

impl<'r> Document<'r> {
    /// The report of one model, without a policy.
    pub fn of(report: &'r Report) -> Document<'r> {
        Document { policy: None, shard: None, rules: Rules::DEFAULT, reports: std::slice::from_ref(report) }
    }

    /// How it ends.
    pub fn outcome(&self) -> Outcome {
        self.reports.iter().map(|report| report.outcome).max().unwrap_or(Outcome::Undecided)
    }

    /// What was verified: the model, or the policy, or a shard of it.
    pub fn subject(&self) -> Cow<'r, str> {
        match (self.policy, self.shard, self.reports) {
            (Some(policy), Some(shard), _) => Cow::Owned(format!("{policy}, {shard}")),
            (Some(policy), None, _) => Cow::Borrowed(policy),
            (None, _, [report, ..]) => Cow::Borrowed(&report.model),
            (None, _, []) => Cow::Borrowed("nothing"),
        }
    }

    /// The program that made the report.
    pub fn producer(&self) -> &'r str {
        self.reports.first().map_or(super::PRODUCER, |report| report.producer.as_str())
    }

    /// The weight files with their models.
    pub fn files(&self) -> impl Iterator<Item = (&'r Report, &'r FileReport)> {
        self.reports.iter().flat_map(|report| report.files.iter().map(move |file| (report, file)))
    }

    /// The runs with their weight files and models.
    pub fn runs(&self) -> impl Iterator<Item = (&'r Report, &'r FileReport, &'r RunReport)> {
        self.files().flat_map(|(report, file)| file.runs.iter().map(move |run| (report, file, run)))
    }

    /// How much was compared.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { files: self.files().count(), ..Totals::default() };
        for (.., run) in self.runs() {
            totals.runs += 1;
            totals.points += run.points.iter().filter(|point| judged(point)).count();
            totals.numbers += run.compared();
        }
        totals
    }

    /// Everything that could not be judged, counted, whatever the rules make of it.
    pub fn not_judged(&self) -> String {
        let points = self.runs().flat_map(|(.., run)| &run.points).filter(|point| !judged(point)).count();
        let undecided = |findings: &[Finding]| {
            let of = |finding: &Finding| match finding.kind {
                FindingKind::NotJudged => true,
                // Its files are counted.
                FindingKind::FileNotJudged | FindingKind::Adapter => false,
                // Something was judged, and what the configuration says of it besides is not known to be right.
                FindingKind::ConfigUnfit | FindingKind::ConfigDiffers => false,
                _ => finding.outcome == Outcome::Undecided,
            };
            findings.iter().any(of)
        };
        let (in_part, whole): (Vec<_>, Vec<_>) = self
            .runs()
            .filter(|(.., run)| undecided(&run.findings))
            .partition(|(.., run)| run.outcome == Outcome::Pass && run.compared() > 0);
        let listed = |report: &Report, file: &FileReport| {
            report.inventory.iter().any(|entry| entry.role == Role::NotJudged && entry.file == file.file)
        };
        let in_inventory = self.reports.iter().flat_map(|report| &report.inventory);
        let files = in_inventory.filter(|entry| entry.role == Role::NotJudged).count()
            + self
                .files()
                .filter(|(report, file)| undecided(&file.findings) && !listed(report, file))
                .count();
        let models = self.reports.iter().filter(|report| undecided(&report.findings)).count();
        let counted = [
            (points, "point", ""),
            (whole.len(), "trace", ""),
            (in_part.len(), "trace", " in part"),
            (files, "file", ""),
            (models, "model", ""),
        ];
        let counted = counted.into_iter().filter(|&(number, ..)| number > 0);
        let counted = counted.map(|(number, noun, how)| format!("{}{how}", count(number, noun)));
        let all = counted.collect::<Vec<_>>().join(", ");
        if all.is_empty() { "nothing".to_owned() } else { all }
    }

    /// Where to look first: the first point that differs, else the first finding that something differs, else what
    /// could not be judged. Nothing if everything passes.
    pub fn headline(&self) -> Option<Headline<'r>> {
        let first = |outcome| self.first_point(outcome).or_else(|| self.first_finding(outcome));
        WRONG.into_iter().find_map(first)
    }

    /// Of the first weight file that has such a point, the earliest in the order of execution over all of its traces: where
    /// one trace has `encoder.layer.0` alone, another may have `encoder.layer.0.attention.self`, which tells more.
    fn first_point(&self, outcome: Outcome) -> Option<Headline<'r>> {
        self.files().find_map(|(report, file)| {
            let (run, point) = self.earliest(file, outcome)?;
            let subject = Subject::Point(point);
            Some(Headline { report, file: Some(file), run: Some(run), subject })
        })
    }

    fn earliest(&self, file: &'r FileReport, outcome: Outcome) -> Option<(&'r RunReport, &'r PointReport)> {
        let firsts = file.runs.iter().filter_map(|run| Some((run, self.first_with(run, outcome)?)));
        firsts.min_by_key(|(run, point)| (rank(&point.name), run.diagnoses.is_empty()))
    }

    /// Whether a run is the one of its weight file that tells most exactly where something goes wrong.
    pub fn leads(&self, file: &'r FileReport, run: &RunReport) -> bool {
        let leading = WRONG.into_iter().find_map(|outcome| self.earliest(file, outcome));
        leading.is_some_and(|(leading, _)| std::ptr::eq(leading, run))
    }

    /// The first point of a run that differs, or else cannot be judged.
    pub fn first_of<'p>(&self, run: &'p RunReport) -> Option<&'p PointReport> {
        WRONG.into_iter().find_map(|outcome| self.first_with(run, outcome))
    }

    fn first_with<'p>(&self, run: &'p RunReport, outcome: Outcome) -> Option<&'p PointReport> {
        run.points.iter().find(|point| self.rules.point(run, point) == outcome)
    }

    fn first_finding(&self, outcome: Outcome) -> Option<Headline<'r>> {
        let first = |findings: &'r [Finding]| {
            findings.iter().find(|finding| self.rules.finding(finding) == outcome).map(Subject::Finding)
        };
        let of_report = |report: &'r Report| {
            let of_run = |file: &'r FileReport, run: &'r RunReport| {
                Some(Headline { report, file: Some(file), run: Some(run), subject: first(&run.findings)? })
            };
            let of_file = |file: &'r FileReport| {
                let own = first(&file.findings);
                own.map(|subject| Headline { report, file: Some(file), run: None, subject })
                    .or_else(|| file.runs.iter().find_map(|run| of_run(file, run)))
            };
            let own = first(&report.findings);
            report
                .files
                .iter()
                .find_map(of_file)
                .or_else(|| own.map(|subject| Headline { report, file: None, run: None, subject }))
        };
        self.reports.iter().find_map(of_report)
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Totals { files, runs, points, numbers } = *self;
        let parts = [(files, "file"), (runs, "trace"), (points, "point"), (numbers, "number")];
        f.write_str(&parts.map(|(number, noun)| count(number, noun)).join(", "))
    }
}

/// Whether a point was judged at all.
pub(super) fn judged(point: &PointReport) -> bool {
    point.verdict.outcome() != Outcome::Undecided
}

/// What a trace is called; published values have none.
pub(super) fn trace_name(run: &RunReport) -> Cow<'_, str> {
    let name = run.trace.as_deref().unwrap_or("published values");
    match run.backend.as_str() {
        "reference" => Cow::Borrowed(name),
        "onnx" => Cow::Owned(format!("{name} by the graph")),
        other => Cow::Owned(format!("{name} by {other}")),
    }
}
