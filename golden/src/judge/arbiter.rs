//! The arbiter: the same computation in f64, from which the golden and the candidate are both measured.
//!
//! Two programs that compute in f32 differ by the rounding errors of both. Where they differ by more than is allowed, or
//! nearly, the comparison does not tell whose errors they are; the arbiter, whose own are a hundred millionth of theirs, does. It
//! informs: the outcome of a comparison is the same with and without it.

use std::collections::HashMap;
use std::path::Path;

use deberta_converters::error::{Error, Kind, Result};

use crate::judge::difference::coordinates;
use crate::judge::tolerance::Tolerance;
use crate::judge::verdict::{Arbitration, Basis, Offset, PointReport, Verdict, Worse};
use crate::trace::file::Trace;
use crate::trace::padding::Padding;
use crate::trace::tensor::{Data, Tensor};

/// A run in f64.
pub struct Arbiter {
    exact: HashMap<String, Tensor>,
    /// Whose model was run.
    pub basis: Basis,
}

/// An error is clearly larger than another if it is so many times as large.
const CLEARLY: f64 = 1.5;

/// No rounding error is so many times the tolerance.
const ROUNDING: f64 = 10.0;

impl Arbiter {
    /// From what was computed in f64.
    pub fn new(trace: Trace, basis: Basis) -> Arbiter {
        let tensors = trace.tensors.into_iter();
        Arbiter { exact: tensors.map(|tensor| (tensor.name.clone(), tensor)).collect(), basis }
    }

    /// From a trace that was recorded in f64, on the inputs that `golden` has.
    ///
    /// # Errors
    /// A file that is no trace; other inputs, another class or another convention for masked rows; nothing in f64.
    pub fn read(path: &Path, golden: &Trace) -> Result<Arbiter> {
        let trace = Trace::read(path)?;
        let unfit = |why: String| Err(Error::new(Kind::Request, format!("no arbiter: {why}")).in_file(path));
        if !trace.tensors.iter().any(|tensor| matches!(tensor.data, Data::Doubles(_))) {
            return unfit("nothing in it is f64; record --precision f64 writes such a trace".to_owned());
        }
        for key in ["class", "masked_rows"] {
            if let (Some(golden), Some(own)) = (golden.metadata(key), trace.metadata(key))
                && golden != own
            {
                return unfit(format!("its {key} is {own}, the golden's {golden}"));
            }
        }
        for input in &golden.tensors {
            if trace.get(&input.name).map(|own| (&own.shape, own.data.numbers()))
                != Some((&input.shape, input.data.numbers()))
            {
                return unfit(format!("{} is not what the golden has", input.name));
            }
        }
        Ok(Arbiter::new(trace, Basis::Recording))
    }

    /// Measures both sides of a point that was compared. Nothing if it was not, or if the arbiter has no such tensor.
    pub fn judge(
        &self,
        point: &PointReport,
        want: &Tensor,
        got: &Tensor,
        padding: &Padding,
    ) -> Option<Arbitration> {
        let compared =
            [Verdict::Match, Verdict::Rounded, Verdict::Padding, Verdict::Diverges].contains(&point.verdict);
        let exact = self.exact.get(&point.name).filter(|exact| compared && exact.shape == point.shape)?;
        let exact = exact.data.numbers();
        // The numbers of tokens are measured. Those of padding are where tokens agree and padding differs, and where no number
        // of the tensor is a token's.
        let of_tokens = point.verdict != Verdict::Padding && point.real.is_some();
        let flags = padding.of_tensor(&point.name, &point.shape);
        let part = |at: usize| flags.as_ref().is_none_or(|flags| flags.get(at) == Some(&of_tokens));
        let offset = |numbers: &[f64]| offset(numbers, &exact, &point.shape, part, point.tolerance);
        let (golden, candidate) = (offset(&want.data.numbers())?, offset(&got.data.numbers())?);
        let worse = match self.basis {
            Basis::Candidate if golden.share > ROUNDING => Worse::NotRounding,
            _ if golden.max_abs > CLEARLY * candidate.max_abs => Worse::Golden,
            _ if candidate.max_abs > CLEARLY * golden.max_abs => Worse::Candidate,
            _ => Worse::Neither,
        };
        Some(Arbitration { worse, golden, candidate })
    }
}

/// How far those of the numbers that belong to `part` are from the exact ones. Nothing if none does.
fn offset(
    numbers: &[f64],
    exact: &[f64],
    shape: &[usize],
    part: impl Fn(usize) -> bool,
    tolerance: Tolerance,
) -> Option<Offset> {
    let largest = exact.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let (mut count, mut squares, mut share, mut worst) = (0.0, 0.0, 0.0_f64, (0.0, None));
    for (at, (number, exact)) in numbers.iter().zip(exact).enumerate().filter(|&(at, _)| part(at)) {
        let off = (number - exact).abs();
        count += 1.0;
        squares += off * off;
        if off > 0.0 {
            share = share.max(off / tolerance.allowance(*exact as f32, largest as f32));
        }
        if off > worst.0 || worst.1.is_none() {
            worst = (off, Some(at));
        }
    }
    let (max_abs, at) = (worst.0, coordinates(worst.1?, shape));
    Some(Offset { max_abs, rms: f64::sqrt(squares / count), share, at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::compare::Comparison;
    use crate::judge::tolerance::{Precision, Tolerances};
    use crate::trace::file::Recorded;
    use deberta_reference::Head;
    use deberta_reference::Inputs;
    use ndarray::{Array, arr2};

    /// What is said about the numbers of a token and of padding, which are 1 and 9.
    fn judged(basis: Basis, want: [f32; 2], got: [f32; 2]) -> Arbitration {
        let tensor = |data| Tensor { name: "outputs.logits".into(), shape: vec![1, 2, 1], data };
        let exact = Trace { metadata: Vec::new(), tensors: vec![tensor(Data::Doubles(vec![1.0, 9.0]))] };
        let inputs = Inputs {
            input_ids: Some(Array::zeros((1, 2))),
            attention_mask: Some(arr2(&[[1.0, 0.0]]).into_dyn()),
            ..Inputs::default()
        };
        let padding = Padding::of(&inputs, Head::TokenClassification);
        let tolerances = Tolerances::uniform(Tolerance::absolute(0.01));
        let comparison = Comparison { tolerances: &tolerances, precision: Precision::F32, padding: &padding };
        let (want, got) = (tensor(Data::Floats(want.into())), tensor(Data::Floats(got.into())));
        let want = Recorded::Whole(want);
        comparison.judged(&want, Some(&got), Some(&Arbiter::new(exact, basis))).arbiter.unwrap()
    }

    #[test]
    fn the_larger_error_is_named_if_it_is_clearly_larger() {
        let worse = |basis, want, got| judged(basis, [want, 9.0], [got, 9.0]).worse;
        assert_eq!(worse(Basis::Golden, 1.25, 1.125), Worse::Golden);
        assert_eq!(worse(Basis::Golden, 1.0, 0.75), Worse::Candidate);
        assert_eq!(worse(Basis::Golden, 1.25, 0.75), Worse::Neither);
        assert_eq!(worse(Basis::Golden, 1.0, 1.0), Worse::Neither);
    }

    #[test]
    fn what_no_rounding_explains_is_judged_by_the_golden_s_own_model_alone() {
        assert_eq!(judged(Basis::Candidate, [1.25, 9.0], [1.0, 9.0]).worse, Worse::NotRounding);
        assert_eq!(judged(Basis::Candidate, [1.0625, 9.0], [1.0, 9.0]).worse, Worse::Golden);
        assert_eq!(judged(Basis::Candidate, [1.0, 9.0], [1.25, 9.0]).worse, Worse::Candidate);
    }

    #[test]
    fn padding_is_measured_where_it_alone_differs() {
        let Arbitration { worse, golden, candidate } = judged(Basis::Golden, [1.0, 9.0], [1.0, 9.5]);
        assert_eq!((worse, golden.max_abs, candidate.max_abs), (Worse::Candidate, 0.0, 0.5));
        assert_eq!((candidate.at, candidate.rms), (vec![0, 1, 0], 0.5));
        assert!((candidate.share - 50.0).abs() < 1e-9);
        // Where tokens differ, they count.
        assert_eq!(judged(Basis::Golden, [1.5, 9.0], [1.0, 99.0]).worse, Worse::Golden);
    }
}
