//! What is said of a point that was compared, and how what it is part of ends.

use serde::{Deserialize, Serialize};

use crate::judge::difference::Difference;
use crate::judge::tolerance::Tolerance;
use crate::trace::samples::Statistic;

/// What became of one point of a golden.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointReport {
    /// The full name: `activations.deberta.encoder.layer.0`, `outputs.logits`.
    pub name: String,
    /// Whether the numbers agree, or why they could not be compared.
    pub verdict: Verdict,
    /// The shape in the golden.
    pub shape: Vec<usize>,
    /// What was allowed.
    pub tolerance: Tolerance,
    /// How the numbers of tokens differ.
    pub real: Option<Difference>,
    /// How the numbers of padding differ.
    pub padded: Option<Difference>,
    /// If the golden has samples alone: of its statistics the one that is furthest off.
    pub statistic: Option<Statistic>,
    /// Whose error it is, if f64 was asked.
    pub arbiter: Option<Arbitration>,
}

/// What was expected at a place, or found there.
#[derive(Clone, Debug, PartialEq)]
pub enum Amount {
    /// A number of the tensor, or a statistic of it.
    Number(f64),
    /// Its shape.
    Shape(Vec<usize>),
}

impl PointReport {
    /// What the golden has and what was computed where the point is furthest off; nothing where it is not two numbers or shapes
    /// that disagree.
    pub fn want_and_got(&self) -> Option<(Amount, Amount)> {
        let numbers = |want: f32, got: f32| {
            let [want, got] = [want, got].map(|number| Amount::Number(f64::from(number)));
            Some((want, got))
        };
        match &self.verdict {
            Verdict::Shape { found } => {
                Some((Amount::Shape(self.shape.clone()), Amount::Shape(found.clone())))
            }
            Verdict::Statistic => self.statistic.as_ref().and_then(|of| numbers(of.want, of.got)),
            Verdict::Padding => self.padded.as_ref().and_then(|of| numbers(of.want, of.got)),
            Verdict::Diverges | Verdict::Quantized | Verdict::Cost => {
                self.real.as_ref().and_then(|of| numbers(of.want, of.got))
            }
            _ => None,
        }
    }
}

/// Whether the numbers of a point agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Verdict {
    /// Every number is within the tolerance.
    Match,
    /// Every number is within the tolerance for the lower precision that the candidate's weights are stored with.
    Rounded,
    /// The numbers of tokens agree, those of padding do not.
    Padding,
    /// Numbers of tokens do not agree.
    Diverges,
    /// Numbers differ as those of a quantized graph do, and nothing says by how much they may.
    Quantized,
    /// Numbers differ by what rounding costs: the weights are the model's, and so is the computation.
    Cost,
    /// The samples of tokens agree, and a statistic of all of them does not.
    Statistic,
    /// The candidate has NaN or infinity where the golden has numbers.
    NotFinite {
        /// How many.
        count: usize,
        /// Where the first is.
        at: Vec<usize>,
    },
    /// The golden has NaN or infinity: nothing can be judged by it.
    GoldenNotFinite {
        /// How many.
        count: usize,
        /// Where the first is.
        at: Vec<usize>,
    },
    /// The candidate computes another shape.
    Shape {
        /// The candidate's.
        found: Vec<usize>,
    },
    /// One holds integers, the other numbers.
    Dtype,
    /// The candidate has no such point.
    MissingInCandidate,
    /// The golden lacks a point that it must have.
    MissingInGolden,
    /// The tensor has no elements.
    Empty,
    /// The numbers agree, within a tolerance so wide that zeros would agree, too: nothing was judged.
    ZerosPass,
}

/// How a run, a file or all of it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything was compared and agrees.
    Pass,
    /// Something could not be judged.
    #[default]
    Undecided,
    /// Something differs.
    Divergence,
}

/// Whose model the arbiter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The one in the golden's folder: whatever the candidate has done to weights and configuration is the candidate's
    /// error.
    Golden,
    /// The candidate's, because the golden has none: it tells rounding errors, and not whose weights are right.
    Candidate,
    /// The one of a recorded run.
    Recording,
}

/// Who is further from f64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Worse {
    /// The golden.
    Golden,
    /// The candidate.
    Candidate,
    /// Neither, by much.
    Neither,
    /// No rounding error: the golden is of other weights or another configuration than the candidate, or wrong.
    NotRounding,
}

/// How far numbers are from f64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offset {
    /// The largest absolute error.
    pub max_abs: f64,
    /// The root of the mean of the squared errors.
    pub rms: f64,
    /// The largest error as a share of the tolerance.
    #[serde(with = "crate::judge::unbounded")]
    pub share: f64,
    /// Where the largest absolute error is.
    pub at: Vec<usize>,
}

/// What the arbiter says about a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arbitration {
    /// Whose error is larger.
    pub worse: Worse,
    /// The golden's error.
    pub golden: Offset,
    /// The candidate's error.
    pub candidate: Offset,
}

/// A point is borderline from this share of the tolerance on.
const BORDERLINE: f64 = 0.5;

impl Verdict {
    /// What follows from it.
    pub fn outcome(&self) -> Outcome {
        match self {
            Verdict::Match | Verdict::Rounded | Verdict::Cost => Outcome::Pass,
            Verdict::Padding
            | Verdict::Diverges
            | Verdict::Statistic
            | Verdict::NotFinite { .. }
            | Verdict::Shape { .. }
            | Verdict::Dtype
            | Verdict::MissingInCandidate => Outcome::Divergence,
            Verdict::Quantized
            | Verdict::GoldenNotFinite { .. }
            | Verdict::MissingInGolden
            | Verdict::Empty
            | Verdict::ZerosPass => Outcome::Undecided,
        }
    }
}

impl PointReport {
    /// A point that a golden does not have.
    pub fn missing_in_golden(name: &str) -> PointReport {
        let tolerance = Tolerance::absolute(0.0);
        PointReport { verdict: Verdict::MissingInGolden, ..PointReport::new(name, &[], tolerance) }
    }

    pub(super) fn new(name: &str, shape: &[usize], tolerance: Tolerance) -> PointReport {
        PointReport {
            name: name.to_owned(),
            verdict: Verdict::Match,
            shape: shape.to_vec(),
            tolerance,
            real: None,
            padded: None,
            statistic: None,
            arbiter: None,
        }
    }

    /// How many numbers were compared, by a tolerance that says something.
    pub fn compared(&self) -> usize {
        if self.verdict == Verdict::ZerosPass {
            return 0;
        }
        [&self.real, &self.padded].into_iter().flatten().map(|part| part.count).sum()
    }

    /// Whether the numbers differ, or are within the tolerance but not by much.
    pub fn is_borderline(&self) -> bool {
        let parts = [&self.real, &self.padded].into_iter().flatten();
        self.verdict.outcome() != Outcome::Pass
            || parts.map(|part| part.share).any(|share| share > BORDERLINE)
    }
}
