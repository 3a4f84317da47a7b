//! Other code than the golden's that a graph may follow: for masked rows, and for far positions.

use deberta_converters::error::Result;
use deberta_reference::{BucketRounding, Conventions, FarPositions, Inputs, MaskedRows};

use super::candidate::{GraphCandidate, Weights};
use super::trace::Given;
use crate::backend::{Backend as _, Reference};
use crate::goldens::Golden;
use crate::judge::compare::Comparison;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind};
use crate::trace::class::Class;
use crate::trace::file::Trace;
use crate::verify::conventions::{convention, other};

/// How the code of a class sorts distances into rows of the table.
fn positions(class: Class) -> (FarPositions, BucketRounding) {
    let Conventions { far_positions, bucket_rounding, .. } = class.conventions();
    (far_positions, bucket_rounding)
}

impl GraphCandidate<'_> {
    /// That the graph and the trace follow code that sorts distances into different rows, if that is all that is between them.
    pub(super) fn explain_positions(
        &self,
        comparison: &Comparison<'_>,
        given: &Given,
        computed: &Trace,
        points: &[&str],
    ) -> Result<Option<String>> {
        let (Ok(weights), Some(own)) = (&self.weights, self.class()) else { return Ok(None) };
        if positions(own) == positions(given.class)
            || !self.computes_as(
                (own, self.graph.masked_rows()),
                weights,
                comparison,
                given,
                computed,
                points,
            )?
        {
            return Ok(None);
        }
        Ok(Some(format!(
            "the golden is of {}, and the graph of {own}, whose code gives other rows of the table to some distances: \
             the reference computes what the graph does when it follows that code",
            given.class
        )))
    }

    /// Whether a trace of the golden can judge the graph by the code that sorts distances as the graph does.
    pub(super) fn is_judged_elsewhere(&self, golden: &Golden) -> bool {
        let judges = |given: Given| {
            self.class().is_some_and(|own| positions(own) == positions(given.class))
                && self.refuses(&given).is_none()
        };
        golden.traces.iter().any(|path| self.given(golden, path).is_ok_and(judges))
    }

    /// Whether the reference, as the code of `class` does and with masked rows by `rows`, computes what the graph did.
    fn computes_as(
        &self,
        (class, rows): (Class, MaskedRows),
        weights: &Weights,
        comparison: &Comparison<'_>,
        given: &Given,
        computed: &Trace,
        points: &[&str],
    ) -> Result<bool> {
        let model = Reference::load(&weights.parameters, class, rows)?;
        let inputs = Inputs { output_hidden_states: true, output_attentions: true, ..given.inputs.clone() };
        let expected = model.run(&inputs, points, Vec::new())?;
        Ok(computed.tensors.iter().all(|got| {
            let meaning = self.meanings.of(&got.name);
            let (want, got) = (expected.get(&got.name), meaning.of_graph(got));
            want.is_some_and(|want| {
                let point = comparison.tensors(&meaning.of_golden(want), Some(&got));
                self.allowed(point, comparison.tolerances).verdict.outcome() != Outcome::Divergence
            })
        }))
    }

    /// What the convention that the graph follows says about padding that differs where tokens agree. Where the file does not
    /// say which it is, the graph's nodes do, or else what it computes.
    pub(super) fn explain_padding(
        &self,
        comparison: &Comparison<'_>,
        given: &Given,
        computed: &Trace,
        points: &[&str],
    ) -> Result<Finding> {
        let (want, told) = (given.rows, self.graph.masked_rows());
        let unexplained = |why: String| {
            let message = format!("tokens agree. Padding differs, and {why}");
            Finding::new(FindingKind::PaddingDiffers, Outcome::Divergence, message)
        };
        let explained = |have: MaskedRows| {
            format!(
                "tokens agree. Padding differs, because the golden was computed with {}, and the graph computes {}",
                convention(want),
                convention(have)
            )
        };
        let both = || unexplained(format!("the golden and the graph both are of {}", convention(want)));
        if want == told && self.graph.states_rows() {
            return Ok(both());
        }
        let Ok(weights) = &self.weights else {
            if want == told {
                return Ok(both());
            }
            let message = format!("{}. There are no weights to compare its padding with", explained(told));
            return Ok(Finding::new(FindingKind::MaskedRows, Outcome::Pass, message));
        };
        let have = other(want);
        Ok(match self.computes_as((given.class, have), weights, comparison, given, computed, points)? {
            true => Finding::new(
                FindingKind::MaskedRows,
                Outcome::Pass,
                format!(
                    "{}; with it the reference computes the same. No token depends on it",
                    explained(have)
                ),
            ),
            false => {
                unexplained(format!("neither {} nor {} explains it", convention(want), convention(have)))
            }
        })
    }
}
