//! What fails. Divergence always does; about the rest a policy may say otherwise.

use serde::{Deserialize, Serialize};

use super::{FileReport, Finding, FindingKind, Report, RunReport, worst};
use crate::judge::compare::{Outcome, PointReport, Verdict};

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

impl Rules {
    /// What applies without a policy.
    pub const DEFAULT: Rules =
        Rules { undecided: Rule::Fail, padding: PaddingRule::Explained, notes: Rule::Allow };

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
            // Thresholds decide alone: that they are kept is no mere note.
            (FindingKind::Task, outcome) => outcome,
            // The points themselves say whether tokens differ.
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

    fn findings(&self, findings: &[Finding]) -> Outcome {
        worst(findings.iter().map(|finding| self.finding(finding)))
    }
}

impl RunReport {
    /// Sets what follows from the points and the findings.
    pub(crate) fn conclude(&mut self) {
        if self.compared() == 0 && self.findings.iter().all(|finding| finding.outcome == Outcome::Pass) {
            let message = "no number was compared: the golden has nothing to compare with";
            self.findings.push(Finding::new(FindingKind::NothingCompared, Outcome::Undecided, message));
        }
        self.judge(&Rules::DEFAULT);
    }

    fn judge(&mut self, rules: &Rules) {
        let of_point = |point: &&PointReport| rules.point(self, point);
        let first = self.points.iter().find(|point| of_point(point) == Outcome::Divergence);
        let points = worst(self.points.iter().map(|point| of_point(&point)));
        let nothing = if self.compared() == 0 { Outcome::Undecided } else { Outcome::Pass };
        self.first_divergence = first.map(|point| point.name.clone());
        self.outcome = points.max(rules.findings(&self.findings)).max(nothing);
    }
}

impl FileReport {
    fn judge(&mut self, rules: &Rules) {
        self.runs.iter_mut().for_each(|run| run.judge(rules));
        let runs = self.runs.iter().map(|run| run.outcome).max().unwrap_or(Outcome::Undecided);
        self.outcome = runs.max(rules.findings(&self.findings));
    }
}

impl Report {
    /// Judges what was found by other rules than the default.
    pub fn judge(&mut self, rules: &Rules) {
        self.files.iter_mut().for_each(|file| file.judge(rules));
        let files = self.files.iter().map(|file| file.outcome).max().unwrap_or(Outcome::Undecided);
        self.outcome = files.max(rules.findings(&self.findings));
    }
}
