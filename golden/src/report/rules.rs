//! What fails. Divergence always does; about the rest a policy may say otherwise.

use serde::{Deserialize, Serialize};

use super::numbers::{count, of_tolerance};
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
    /// Points that agree within the wider tolerance of weights in half precision, and not within that of f32.
    #[serde(default = "allow")]
    pub half_precision: Rule,
    /// Features of the configuration that the goldens do not exercise: nothing says that the model computes them rightly.
    #[serde(default = "allow")]
    pub coverage: Rule,
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
        half_precision: Rule::Allow,
        coverage: Rule::Allow,
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
            (Verdict::Rounded, _) if self.half_precision == Rule::Fail => Outcome::Divergence,
            // What the golden lacks may be left open; a tolerance that judges nothing is a mistake of whoever wrote it.
            (Verdict::ZerosPass, outcome) => outcome,
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
            // Whoever asks for a verification without a golden gets one.
            (FindingKind::NoGolden, outcome) => outcome,
            // How transformers made its two classes of tokenizers is no fault of a model, and none that its makers can mend.
            (FindingKind::TokenizerClasses, outcome) => outcome,
            // What computed, and what a graph was taken for, is told of good models too.
            (FindingKind::Recognised | FindingKind::Computation | FindingKind::Quantization, outcome) => {
                outcome
            }
            // What a golden or a graph has not cannot be judged by it: the last line of a report counts it, and no note is
            // made of the model. That every file is judged is asked by `unjudged`.
            (FindingKind::NotJudged, Outcome::Pass) => Outcome::Pass,
            // This one is about the golden, and no note on the model.
            (FindingKind::TokenizerNotJudged, Outcome::Pass) => Outcome::Pass,
            (FindingKind::TokenizerNotJudged, _) if self.unjudged == UnjudgedRule::Allow => Outcome::Pass,
            // It has a rule of its own, and is no note.
            (FindingKind::Coverage, _) if self.coverage == Rule::Fail => Outcome::Undecided,
            (FindingKind::Coverage, outcome) => outcome,
            (FindingKind::FileNotJudged, outcome) => match self.unjudged {
                UnjudgedRule::Known => outcome,
                UnjudgedRule::Fail => outcome.max(Outcome::Undecided),
                UnjudgedRule::Allow => Outcome::Pass,
            },
            // This finding is about padding alone; tokens that differ are points that diverge, and fail by themselves.
            (FindingKind::PaddingDiffers, _) if self.padding == PaddingRule::Allow => Outcome::Pass,
            (
                FindingKind::GoldenIncomplete | FindingKind::NotJudged | FindingKind::TokenizerNotJudged,
                Outcome::Undecided,
            ) if self.undecided == Rule::Allow => Outcome::Pass,
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

    pub(crate) fn judge_run(&self, run: &mut RunReport) {
        let of_points: Vec<Outcome> = run.points.iter().map(|point| self.point(run, point)).collect();
        let first = of_points.iter().position(|&outcome| outcome == Outcome::Divergence);
        let nothing = if run.compared() == 0 { Outcome::Undecided } else { Outcome::Pass };
        let points = of_points.into_iter().max().unwrap_or(Outcome::Pass);
        run.first_divergence = first.and_then(|at| run.points.get(at)).map(|point| point.name.clone());
        run.outcome = points.max(self.findings(&run.findings)).max(nothing);
    }

    /// Ends a run: notes that nothing was compared, or some of it by the tolerance of half precision, if that is so, and sets
    /// what follows.
    pub(crate) fn conclude(&self, run: &mut RunReport) {
        let unsaid = run.findings.iter().all(|finding| finding.outcome == Outcome::Pass);
        if run.compared() == 0
            && unsaid
            && !run.points.iter().any(|point| point.verdict == Verdict::ZerosPass)
        {
            run.findings
                .push(nothing_compared("no number was compared: the golden has nothing to compare with"));
        }
        run.findings.extend(rounded(&run.points));
        self.judge_run(run);
    }

    /// Ends a weight file: notes that it was compared with nothing, if that is so and nothing else says it, and sets what
    /// follows.
    pub(crate) fn conclude_file(&self, file: &mut FileReport) {
        if file.runs.is_empty() && file.findings.iter().all(|finding| finding.outcome == Outcome::Pass) {
            file.findings
                .push(nothing_compared("no number was compared: no golden has anything for this file"));
        }
        self.judge_file(file);
    }

    fn findings(&self, findings: &[Finding]) -> Outcome {
        findings.iter().map(|finding| self.finding(finding)).max().unwrap_or(Outcome::Pass)
    }
}

fn nothing_compared(message: &str) -> Finding {
    Finding::new(FindingKind::NothingCompared, Outcome::Undecided, message)
}

/// How many points needed the tolerance of half precision, and what of it they took. Nothing if none did.
fn rounded(points: &[PointReport]) -> Option<Finding> {
    let of = points.iter().filter(|point| point.verdict == Verdict::Rounded);
    let share = |point: &PointReport| {
        [&point.real, &point.padded].into_iter().flatten().map(|part| part.share).fold(0.0, f64::max)
    };
    let needed: Vec<(f64, &str)> = of.map(|point| (share(point), point.name.as_str())).collect();
    let (most, at) = needed.iter().copied().reduce(|a, b| if b.0 > a.0 { b } else { a })?;
    let message = format!(
        "half precision: {} of {} agree within its wider tolerance, and not within that of f32; at most {}, at {at}",
        needed.len(),
        count(points.len(), "point"),
        of_tolerance(most)
    );
    Some(Finding::new(FindingKind::HalfPrecision, Outcome::Pass, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::compare::Comparison;
    use crate::judge::tolerance::{Precision, Tolerances};
    use crate::trace::padding::Padding;
    use crate::trace::tensor::{Data, Tensor};
    use deberta_reference::{Head, Inputs};

    /// A run with one point: 1, found as `got` from weights in f16.
    fn run(got: f32) -> RunReport {
        let tensor = |number| Tensor {
            name: "outputs.logits".to_owned(),
            shape: vec![1],
            data: Data::Floats(vec![number]),
        };
        let padding = Padding::of(&Inputs::default(), Head::Base);
        let tolerances = Tolerances::default();
        let comparison = Comparison { tolerances: &tolerances, precision: Precision::F16, padding: &padding };
        let points = vec![comparison.tensors(&tensor(1.0), Some(&tensor(got)))];
        let mut run = RunReport { points, ..RunReport::default() };
        Rules::DEFAULT.conclude(&mut run);
        run
    }

    #[test]
    fn a_policy_can_refuse_what_half_precision_alone_allows() {
        let mut near = run(1.005);
        assert_eq!(near.outcome, Outcome::Pass);
        let [Finding { kind: FindingKind::HalfPrecision, message, .. }] = near.findings.as_slice() else {
            panic!("{:?}", near.findings);
        };
        assert!(message.contains("1 of 1 point agree") && message.contains("50% of"), "{message}");
        let strict = Rules { half_precision: Rule::Fail, ..Rules::DEFAULT };
        strict.judge_run(&mut near);
        assert_eq!(
            (near.outcome, near.first_divergence.as_deref()),
            (Outcome::Divergence, Some("outputs.logits"))
        );
        let mut equal = run(1.0);
        strict.judge_run(&mut equal);
        assert_eq!((equal.outcome, equal.findings.len()), (Outcome::Pass, 0));
    }

    #[test]
    fn a_file_that_was_compared_with_nothing_says_so() {
        let mut file = FileReport::default();
        Rules::DEFAULT.conclude_file(&mut file);
        assert_eq!((file.outcome, file.findings.len()), (Outcome::Undecided, 1));
        let mut report = super::super::Report::new("m", vec![FileReport::default()], Vec::new());
        Rules::DEFAULT.judge(&mut report);
        assert_eq!(report.outcome, Outcome::Undecided);
    }
}
