//! Weights in half precision beside those that the golden was computed with, where these are at hand: the wider tolerance that
//! rounding needs must not hide what no rounding does.

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::Result;
use deberta_converters::loading::Parameters;
use deberta_reference::{DebertaConfig, TensorSource as _};
use rayon::prelude::*;

use super::arbitration::own_parameters;
use super::asked::{Asked, Stated};
use super::candidate::Candidate;
use super::configured::differing_lines;
use crate::backend::{Backend as _, Reference};
use crate::judge::compare::Comparison;
use crate::judge::tolerance::Precision;
use crate::judge::verdict::{Outcome, PointReport};
use crate::report::{Finding, FindingKind};
use crate::trace::file::TraceFile;

impl Candidate<'_> {
    /// What of weights in half precision is not the golden's model rounded: numbers that are further off than rounding takes
    /// them, and lines of the configuration that change what these weights compute. Nothing for other weights, or where the
    /// golden's model is not at hand.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(super) fn check_rounding(&self) -> Result<Vec<Finding>> {
        if matches!(self.precision, Precision::F32 | Precision::Quantized) {
            return Ok(Vec::new());
        }
        let own = self.file.parameters(None)?;
        let Some(original) = own_parameters(self.golden, Some(own.checkpoint().head)) else {
            return Ok(Vec::new());
        };
        let weights = self.beyond_rounding(&own, &original)?;
        // Other weights compute something else under any configuration.
        let settings =
            if weights.is_none() { self.settings_that_matter(&original.checkpoint().config)? } else { None };
        Ok(weights.into_iter().chain(settings).collect())
    }

    /// The parameters that are not the original ones, rounded.
    fn beyond_rounding(&self, own: &Parameters, original: &Parameters) -> Result<Option<Finding>> {
        let names: Vec<&str> =
            original.checkpoint().bound.iter().map(|bound| bound.param.name.as_str()).collect();
        let precision = self.precision;
        // What was half precision already is not rounded again.
        let exactly = Precision::of(original.checkpoint().bound.iter().map(|bound| bound.dtype)) == precision;
        let agree = |own: f32, want: f32| {
            own == want || (!exactly && precision.rounds(want, own)) || (own.is_nan() && want.is_nan())
        };
        let mut differ = Vec::new();
        for &name in &names {
            let (Ok(Some(own)), Ok(Some(original))) = (own.tensor(name), original.tensor(name)) else {
                continue;
            };
            let (own, original): (&[f32], &[f32]) = ((*own.values).as_ref(), (*original.values).as_ref());
            let off = own.par_iter().zip(original).position_first(|(own, want)| !agree(*own, *want));
            if let Some(at) = off.filter(|_| own.len() == original.len()) {
                differ.push((name, own.get(at).copied(), original.get(at).copied()));
            }
        }
        let [(name, Some(own), Some(want)), ..] = differ[..] else { return Ok(None) };
        let message = format!(
            "{} of {} tensors are not those of golden {}, rounded to {}: {name} has {own} where the golden's has {want}, \
             the first of its numbers that are further apart than rounding takes them",
            differ.len(),
            names.len(),
            self.golden.name,
            self.precision
        );
        Ok(Some(Finding::new(FindingKind::WeightsDiffer, Outcome::Divergence, message)))
    }

    /// What the configuration changes: with that of the golden, the same weights compute something else, and by more than f32
    /// allows.
    fn settings_that_matter(&self, recorded: &DebertaConfig) -> Result<Option<Finding>> {
        for path in &self.golden.traces {
            let file = TraceFile::open(path)?;
            let trace = file.inputs()?;
            let stated = Stated::of(&trace, self.golden, path)?;
            let parameters = self.file.parameters(stated.class)?;
            let checkpoint: &Checkpoint = parameters.checkpoint();
            if checkpoint.config == *recorded {
                return Ok(None);
            }
            let (class, rows) = stated.or_of(checkpoint)?;
            let asked = Asked::of(class, rows, &checkpoint.config, &trace)?;
            let (points, _) = file.points();
            let points: Vec<&str> =
                points.into_iter().filter_map(|name| name.strip_prefix("activations.")).collect();
            let run = |config: &DebertaConfig| {
                Reference::of(config.clone(), &*parameters, class, rows)?.run(
                    &asked.inputs,
                    &points,
                    Vec::new(),
                )
            };
            // Under the golden's configuration these weights may be those of no model at all: its runs say so.
            let Ok(want) = run(recorded) else { continue };
            let got = run(&checkpoint.config)?;
            let tolerances = &*self.tolerances;
            let comparison = Comparison { tolerances, precision: Precision::F32, padding: &asked.padding };
            let judged = |want| -> PointReport { comparison.tensors(want, got.get(&want.name)) };
            let mut judged = want.tensors.iter().map(judged);
            let Some(first) = judged.find(|point| point.verdict.outcome() == Outcome::Divergence) else {
                continue;
            };
            let lines: Vec<String> = differing_lines(&checkpoint.config, recorded)
                .into_iter()
                .map(|[own, recorded]| format!("{own}, where the golden's has {recorded}"))
                .collect();
            let message = format!(
                "the configuration is not that of golden {}: {}. It is no rounding that {} differs: with the golden's \
                 configuration the same weights compute something else there, by more than f32 allows",
                self.golden.name,
                lines.join("; "),
                first.name
            );
            return Ok(Some(Finding::new(FindingKind::HalfPrecision, Outcome::Divergence, message)));
        }
        Ok(None)
    }
}
