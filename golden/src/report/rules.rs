//! What fails. Divergence always does; about the rest a policy may say otherwise.

use serde::{Deserialize, Serialize};

use super::{FileReport, Finding, FindingKind, Report, RunReport};
use crate::judge::verdict::{Outcome, PointReport, Verdict};

/// What fails besides divergence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Points that cannot be judged, because the golden lacks them or has no numbers there. An error, and a run in which
    /// nothing was compared, fail however this is set.
    #[serde(default)]
    pub undecided: Rule,
    /// Numbers of padding that differ where those of tokens agree.
    #[serde(default)]
    pub padding: PaddingRule,
    /// Findings that are for information.
    #[serde(default = "allow")]
    pub notes: Rule,
    /// Files of the release that were not judged.
    #[serde(default)]
    pub unjudged: UnjudgedRule,
}

fn allow() -> Rule {
    Rule::Allow
}

/// Whether something fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// It fails.
    #[default]
    Fail,
    /// It is said, and passes.
    Allow,
}

/// Whether differences of padding fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaddingRule {
    /// They pass if the other convention for masked rows explains them.
    #[default]
    Explained,
    /// They fail.
    Fail,
    /// They pass.
    Allow,
}

/// Whether files of the release fail that were not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnjudgedRule {
    /// Those of a format that is read here fail, those of another are said.
    #[default]
    Known,
    /// All fail.
    Fail,
    /// All are said, and pass.
    Allow,
}

impl Rules {
    /// What applies without a policy.
    pub const DEFAULT: Rules = Rules {
        undecided: Rule::Fail,
        padding: PaddingRule::Explained,
        notes: Rule::Allow,
        unjudged: UnjudgedRule::Known,
    };

    /// What follows from a point of a run.
    pub fn point(&self, run: &RunReport, point: &PointReport) -> Outcome {
        let explained = || run.findings.iter().any(|finding| finding.kind == FindingKind::MaskedRows);
        match (&point.verdict, point.verdict.outcome()) {
            (Verdict::Padding, outcome) => match self.padding {
                PaddingRule::Allow => Outcome::Pass,
                PaddingRule::Explained if explained() => Outcome::Pass,
                _ => outcome,
            },
            (_, Outcome::Undecided) if self.undecided == Rule::Allow => Outcome::Pass,
            (_, outcome) => outcome,
        }
    }

    /// What follows from a finding.
    pub fn finding(&self, finding: &Finding) -> Outcome {
        match (finding.kind, finding.outcome) {
            (FindingKind::MaskedRows, _) if self.padding == PaddingRule::Fail => Outcome::Divergence,
            (FindingKind::MaskedRows, outcome) => outcome,
            // A task that keeps its thresholds is a finding that passes, and no note: `notes: fail` does not make it fail.
            (FindingKind::Task, outcome) => outcome,
            (FindingKind::FileNotJudged, outcome) => match self.unjudged {
                UnjudgedRule::Known => outcome,
                UnjudgedRule::Fail => outcome.max(Outcome::Undecided),
                UnjudgedRule::Allow => Outcome::Pass,
            },
            // This finding is about padding alone; tokens that differ are points that diverge, and fail by themselves.
            (FindingKind::PaddingDiffers, _) if self.padding == PaddingRule::Allow => Outcome::Pass,
            (FindingKind::GoldenIncomplete | FindingKind::NotJudged, Outcome::Undecided)
                if self.undecided == Rule::Allow =>
            {
                Outcome::Pass
            }
            (_, Outcome::Pass) if self.notes == Rule::Fail => Outcome::Divergence,
            (_, outcome) => outcome,
        }
    }

    /// Sets what follows from what was found: for the runs, the weight files, and the report.
    pub fn judge(&self, report: &mut Report) {
        report.files.iter_mut().for_each(|file| self.judge_file(file));
        let files = report.files.iter().map(|file| file.outcome).max().unwrap_or(Outcome::Undecided);
        report.outcome = files.max(self.findings(&report.findings));
    }

    fn judge_file(&self, file: &mut FileReport) {
        file.runs.iter_mut().for_each(|run| self.judge_run(run));
        let runs = file.runs.iter().map(|run| run.outcome).max().unwrap_or(Outcome::Undecided);
        file.outcome = runs.max(self.findings(&file.findings));
    }

    fn judge_run(&self, run: &mut RunReport) {
        let of_points: Vec<Outcome> = run.points.iter().map(|point| self.point(run, point)).collect();
        let first = of_points.iter().position(|&outcome| outcome == Outcome::Divergence);
        let nothing = if run.compared() == 0 { Outcome::Undecided } else { Outcome::Pass };
        let points = of_points.into_iter().max().unwrap_or(Outcome::Pass);
        run.first_divergence = first.and_then(|at| run.points.get(at)).map(|point| point.name.clone());
        run.outcome = points.max(self.findings(&run.findings)).max(nothing);
    }

    /// Ends a run: notes that nothing was compared, if that is so, and sets what follows.
    pub(crate) fn conclude(&self, run: &mut RunReport) {
        if run.compared() == 0 && run.findings.iter().all(|finding| finding.outcome == Outcome::Pass) {
            let message = "no number was compared: the golden has nothing to compare with";
            run.findings.push(Finding::new(FindingKind::NothingCompared, Outcome::Undecided, message));
        }
        self.judge_run(run);
    }

    fn findings(&self, findings: &[Finding]) -> Outcome {
        findings.iter().map(|finding| self.finding(finding)).max().unwrap_or(Outcome::Pass)
    }
}
