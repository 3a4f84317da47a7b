//! A candidate against a golden, at every point that the golden has.

use std::collections::HashMap;

use deberta_converters::error::Result;
use deberta_reference::probe::magnitude;

use crate::judge::arbiter::Arbiter;
use crate::judge::difference::{Difference, coordinates, difference};
use crate::judge::tolerance::{Precision, Tolerance, Tolerances};
use crate::judge::verdict::{PointReport, Verdict};
use crate::trace::file::{Recorded, Trace, TraceFile};
use crate::trace::padding::Padding;
use crate::trace::points::rank;
use crate::trace::samples::{Sampled, Statistics, positions};
use crate::trace::tensor::Tensor;

/// How to compare.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'c> {
    /// How far numbers may be off.
    pub tolerances: &'c Tolerances,
    /// The precision that the candidate's weights are stored with.
    pub precision: Precision,
    /// Which positions are padding.
    pub padding: &'c Padding,
}

impl Comparison<'_> {
    /// Compares a candidate with all activations and outputs of a golden, in the order of execution. One tensor of the
    /// golden is in memory at a time, and those of the candidate leave it one by one. The arbiter, if there is one, says of
    /// each whose error is larger.
    ///
    /// # Errors
    /// The golden's file cannot be read.
    pub fn traces(
        &self,
        golden: &TraceFile,
        candidate: Trace,
        arbiter: Option<&Arbiter>,
    ) -> Result<Vec<PointReport>> {
        let (mut names, _) = golden.points();
        names.sort_by_key(|name| (rank(name), *name));
        self.points(golden, &names, candidate, arbiter)
    }

    /// Compares a candidate with some points of a golden, as [`Comparison::traces`] does.
    ///
    /// # Errors
    /// The golden's file cannot be read.
    pub fn points(
        &self,
        golden: &TraceFile,
        names: &[&str],
        candidate: Trace,
        arbiter: Option<&Arbiter>,
    ) -> Result<Vec<PointReport>> {
        let mut candidate: HashMap<String, Tensor> =
            candidate.tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        let mut points = Vec::with_capacity(names.len());
        for &name in names {
            if let Some(want) = golden.recorded(name)? {
                points.push(self.judged(&want, candidate.remove(name).as_ref(), arbiter));
            }
        }
        Ok(points)
    }

    /// Compares a tensor of a candidate with what a golden has of it, and asks the arbiter, if there is one, whose error is
    /// larger; of samples it cannot be asked.
    pub fn judged(&self, want: &Recorded, got: Option<&Tensor>, arbiter: Option<&Arbiter>) -> PointReport {
        let want = match want {
            Recorded::Whole(want) => want,
            Recorded::Sampled(want) => return self.sampled(want, got),
        };
        let mut point = self.tensors(want, got);
        if let (Some(arbiter), Some(got)) = (arbiter, got) {
            point.arbiter = arbiter.judge(&point, want, got, self.padding);
        }
        point
    }

    /// Compares a tensor of a candidate with samples and statistics.
    fn sampled(&self, want: &Sampled, got: Option<&Tensor>) -> PointReport {
        let tolerance = self.tolerances.of(&want.name, Precision::F32);
        let mut report = PointReport::new(&want.name, &want.shape, tolerance);
        let known = [&want.samples[..], want.statistics.row()].concat();
        let Some(got) = got else {
            return PointReport { verdict: Verdict::MissingInCandidate, ..report };
        };
        report.verdict = match got.data.floats() {
            _ if got.shape != want.shape => Verdict::Shape { found: got.shape.clone() },
            Some(found) => match (not_finite(&known, &[known.len()]), found.len()) {
                (_, 0) => Verdict::Empty,
                (Some((count, at)), _) => Verdict::GoldenNotFinite { count, at },
                (None, _) => self.samples(want, &found, &mut report),
            },
            None => Verdict::Dtype,
        };
        report
    }

    /// Compares numbers with samples of them, for tokens and padding apart, and with statistics of tokens.
    fn samples(&self, want: &Sampled, got: &[f32], report: &mut PointReport) -> Verdict {
        if let Some((count, at)) = not_finite(got, &want.shape) {
            return Verdict::NotFinite { count, at };
        }
        let flags = self.padding.of_tensor(&want.name, &want.shape);
        let places = positions(&want.name, got.len());
        let at_places: Vec<f32> = places.iter().filter_map(|&at| got.get(at).copied()).collect();
        let flags_there: Option<Vec<bool>> = flags
            .as_ref()
            .map(|flags| places.iter().map(|&at| flags.get(at).copied().unwrap_or(true)).collect());
        let of_tokens = flags.as_ref().map_or(got.len(), |flags| flags.iter().filter(|real| **real).count());
        let statistics = Statistics::of(&want.name, got, flags.as_deref());
        for (attempt, &tolerance) in self.attempts(&want.name).iter().enumerate() {
            // max|want| of the whole tensor is one of its statistics; the samples alone would give a smaller one.
            let scale = tolerance.scale * f64::from(want.largest());
            let fixed = Tolerance { atol: tolerance.atol + scale, scale: 0.0, ..tolerance };
            let part = |real| {
                let flags = flags_there.as_deref().map(|flags| (flags, real));
                let found = difference(&want.samples, &at_places, &[places.len()], flags, fixed)?;
                let place = found.at.first().and_then(|&at| places.get(at)).copied().unwrap_or(0);
                Some(Difference { at: coordinates(place, &want.shape), ..found })
            };
            (report.real, report.tolerance) = (part(true), tolerance);
            report.padded = flags.is_some().then(|| part(false)).flatten();
            report.statistic = want.statistics.compare(&statistics, of_tokens, tolerance);
            let within = |part: &Option<Difference>| part.as_ref().is_none_or(|part| part.beyond == 0);
            let statistic = report.statistic.as_ref().is_none_or(|statistic| statistic.share <= 1.0);
            if within(&report.real) && statistic && within(&report.padded) {
                return self.agreement(attempt, tolerance, want.largest());
            }
        }
        match (&report.real, &report.statistic) {
            (Some(real), _) if real.beyond > 0 => Verdict::Diverges,
            (_, Some(statistic)) if statistic.share > 1.0 || statistic.share.is_nan() => Verdict::Statistic,
            _ => Verdict::Padding,
        }
    }

    /// The tolerances by which a tensor is judged, one after the other: that of f32, and that of the weights' precision.
    fn attempts(&self, name: &str) -> Vec<Tolerance> {
        let of = |precision| self.tolerances.of(name, precision);
        match self.precision {
            Precision::F32 => vec![of(Precision::F32)],
            half => vec![of(Precision::F32), of(half)],
        }
    }

    /// What it means that all numbers are within a tolerance, that of an attempt, if the largest that is expected is `largest`.
    /// If zeros would be, too, nothing was judged, unless the tolerance is the usual one, or numbers so small that even that
    /// does not tell them from zeros.
    fn agreement(&self, attempt: usize, tolerance: Tolerance, largest: f32) -> Verdict {
        let (precision, verdict) = match attempt {
            0 => (Precision::F32, Verdict::Match),
            _ => (self.precision, Verdict::Rounded),
        };
        if precision.tolerance().notices_zeros(largest) && !tolerance.notices_zeros(largest) {
            return Verdict::ZerosPass;
        }
        verdict
    }

    /// Compares a tensor of a candidate with that of a golden.
    pub fn tensors(&self, want: &Tensor, got: Option<&Tensor>) -> PointReport {
        let tolerance = self.tolerances.of(&want.name, Precision::F32);
        let mut report = PointReport::new(&want.name, &want.shape, tolerance);
        let Some(got) = got else {
            return PointReport { verdict: Verdict::MissingInCandidate, ..report };
        };
        report.verdict = match (want.data.floats(), got.data.floats()) {
            _ if got.shape != want.shape => Verdict::Shape { found: got.shape.clone() },
            (Some(wanted), Some(found)) => match (not_finite(&wanted, &want.shape), wanted.len()) {
                (_, 0) => Verdict::Empty,
                (Some((count, at)), _) => Verdict::GoldenNotFinite { count, at },
                (None, _) => self.numbers(&wanted, &found, &mut report),
            },
            _ => Verdict::Dtype,
        };
        report
    }

    /// Compares numbers, for tokens and padding apart, by the tolerance of f32 and else by that of the precision.
    fn numbers(&self, want: &[f32], got: &[f32], report: &mut PointReport) -> Verdict {
        let flags = self.padding.of_tensor(&report.name, &report.shape);
        for (attempt, &tolerance) in self.attempts(&report.name).iter().enumerate() {
            let part = |real| {
                let flags = flags.as_deref().map(|flags| (flags, real));
                difference(want, got, &report.shape, flags, tolerance)
            };
            report.real = part(true);
            report.padded = flags.is_some().then(|| part(false)).flatten();
            report.tolerance = tolerance;
            let within = |part: &Option<Difference>| part.as_ref().is_none_or(|part| part.beyond == 0);
            if let Some((count, at)) = not_finite(got, &report.shape) {
                return Verdict::NotFinite { count, at };
            }
            if within(&report.real) && within(&report.padded) {
                return self.agreement(attempt, tolerance, magnitude(want));
            }
        }
        match &report.real {
            Some(real) if real.beyond > 0 => Verdict::Diverges,
            _ => Verdict::Padding,
        }
    }
}

/// How many numbers are NaN or infinite, and where the first is.
fn not_finite(values: &[f32], shape: &[usize]) -> Option<(usize, Vec<usize>)> {
    let first = values.iter().position(|value| !value.is_finite())?;
    let count = values.iter().skip(first).filter(|value| !value.is_finite()).count();
    Some((count, coordinates(first, shape)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tensor::Data;
    use deberta_reference::Head;
    use deberta_reference::Inputs;
    use ndarray::{Array, arr2};

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor { name: "outputs.logits".into(), shape: shape.into(), data: Data::Floats(values.into()) }
    }

    fn verdict(want: &Tensor, got: Option<&Tensor>, precision: Precision) -> Verdict {
        let inputs = Inputs {
            input_ids: Some(Array::zeros((1, 2))),
            attention_mask: Some(arr2(&[[1.0, 0.0]]).into_dyn()),
            ..Inputs::default()
        };
        let padding = Padding::of(&inputs, Head::TokenClassification);
        let tolerances = Tolerances::uniform(Tolerance::absolute(0.001));
        Comparison { tolerances: &tolerances, precision, padding: &padding }.tensors(want, got).verdict
    }

    fn of(want: &[f32], got: &[f32]) -> Verdict {
        verdict(&tensor(&[1, 2, 1], want), Some(&tensor(&[1, 2, 1], got)), Precision::F32)
    }

    #[test]
    fn tokens_and_padding_are_judged_apart() {
        assert_eq!(of(&[1.0, 2.0], &[1.0, 2.0005]), Verdict::Match);
        assert_eq!(of(&[1.0, 2.0], &[1.0, 2.5]), Verdict::Padding);
        assert_eq!(of(&[1.0, 2.0], &[1.5, 2.5]), Verdict::Diverges);
    }

    #[test]
    fn what_cannot_be_compared_has_a_verdict_of_its_own() {
        assert_eq!(of(&[1.0, 2.0], &[1.0, f32::NAN]), Verdict::NotFinite { count: 1, at: vec![0, 1, 0] });
        let nan = [f32::NAN, f32::NAN];
        assert_eq!(of(&nan, &nan), Verdict::GoldenNotFinite { count: 2, at: vec![0, 0, 0] });
        let want = tensor(&[1, 2, 1], &[1.0, 2.0]);
        assert_eq!(verdict(&want, None, Precision::F32), Verdict::MissingInCandidate);
        let turned = tensor(&[1, 1, 2], &[1.0, 2.0]);
        assert_eq!(verdict(&want, Some(&turned), Precision::F32), Verdict::Shape { found: vec![1, 1, 2] });
        let integers = Tensor { data: Data::Integers(vec![1, 2]), ..want.clone() };
        assert_eq!(verdict(&want, Some(&integers), Precision::F32), Verdict::Dtype);
        let empty = tensor(&[0], &[]);
        assert_eq!(verdict(&empty, Some(&empty), Precision::F32), Verdict::Empty);
    }

    #[test]
    fn a_tolerance_under_which_zeros_pass_judges_nothing() {
        let padding = Padding::of(&Inputs::default(), Head::TokenClassification);
        let judged = |tolerance, want: &[f32], got: &[f32]| {
            let tolerances = Tolerances::uniform(tolerance);
            let (want, got) = (tensor(&[want.len()], want), tensor(&[got.len()], got));
            Comparison { tolerances: &tolerances, precision: Precision::F32, padding: &padding }
                .tensors(&want, Some(&got))
        };
        let wide = Tolerance { atol: 0.0, rtol: 0.0, scale: 10.0 };
        let point = judged(wide, &[1.0, -2.0], &[1.0, -2.0]);
        assert_eq!((&point.verdict, point.compared()), (&Verdict::ZerosPass, 0));
        assert_eq!(judged(Tolerance::absolute(2.5), &[1.0, -2.0], &[0.0, 0.0]).verdict, Verdict::ZerosPass);
        assert_eq!(judged(Tolerance::absolute(1.5), &[1.0, -2.0], &[1.0, -2.0]).verdict, Verdict::Match);
        // What is 0, or nearly, is judged by any tolerance: nothing tells it from zeros.
        assert_eq!(judged(wide, &[0.0, 4e-6], &[0.0, 0.0]).verdict, Verdict::Match);
        assert_eq!(judged(wide, &[1.0, -2.0], &[90.0, 0.0]).verdict, Verdict::Diverges);
    }

    #[test]
    fn low_precision_is_said() {
        let (want, got) = (tensor(&[1, 2, 1], &[1.0, 2.0]), tensor(&[1, 2, 1], &[1.0, 2.004]));
        assert_eq!(verdict(&want, Some(&got), Precision::F32), Verdict::Padding);
        assert_eq!(verdict(&want, Some(&got), Precision::F16), Verdict::Rounded);
        assert_eq!(verdict(&want, Some(&want), Precision::F16), Verdict::Match);
    }
}
