//! A model that diverges from a golden, and where it does first.

use deberta_converters::error::Result;
use deberta_reference::Inputs;

use crate::fault::Model;
use crate::judge::compare::Comparison;
use crate::judge::tolerance::Precision;
use crate::judge::verdict::{Outcome, PointReport, Verdict};
use crate::trace::file::Trace;
use crate::trace::points::rank;

/// A model that diverges from a golden.
#[derive(Clone, Copy)]
pub struct Divergence<'d> {
    /// The model.
    pub model: &'d Model,
    /// What it should compute.
    pub golden: &'d Trace,
    /// The inputs of the golden; hidden states and attentions are asked for.
    pub inputs: &'d Inputs,
    /// How to compare.
    pub comparison: Comparison<'d>,
    /// Whether the model's parameters are known to be the golden's, by their digest.
    pub weights_known: bool,
}

/// The first point whose tokens diverge, in the order of execution.
pub(crate) fn first_divergence(points: &[PointReport]) -> Option<&PointReport> {
    points.iter().find(|point| diverges(&point.verdict))
}

/// Whether a point diverges otherwise than in padding.
pub(super) fn diverges(verdict: &Verdict) -> bool {
    verdict.outcome() == Outcome::Divergence && *verdict != Verdict::Padding
}

impl Divergence<'_> {
    /// Whether the tolerance is that of weights in half precision, which are not known to be the golden's.
    pub(super) fn allows_halves(&self) -> bool {
        self.comparison.precision != Precision::F32 && !self.weights_known
    }

    /// Runs a model on the inputs and compares all points of the golden, in the order of execution.
    pub(crate) fn compare(&self, model: &Model) -> Result<Vec<PointReport>> {
        let mut wanted: Vec<_> =
            self.golden.tensors.iter().filter(|tensor| !tensor.name.starts_with("inputs.")).collect();
        wanted.sort_by_key(|tensor| (rank(&tensor.name), &tensor.name));
        let names: Vec<&str> =
            wanted.iter().filter_map(|tensor| tensor.name.strip_prefix("activations.")).collect();
        let candidate = model.run(self.inputs, &names, Vec::new())?;
        Ok(wanted.iter().map(|want| self.comparison.tensors(want, candidate.get(&want.name))).collect())
    }
}

/// A point without `activations.`.
pub(super) fn short(name: &str) -> &str {
    name.strip_prefix("activations.").unwrap_or(name)
}
