//! How far the numbers of the golden are off, and how they respond to a parameter.

use super::Hidden;
use crate::diagnose::section::floats;
use crate::fault::{Change, Model};
use crate::trace::inputs::dims;

/// The most numbers of the golden that are looked at.
const EQUATIONS: usize = 2048;
/// How far a number is moved to see what comes of it.
const STEP: f32 = 2e-3;

/// The numbers of the golden that are looked at, from the first point that differs on.
pub(super) struct Response<'r, 'h, 'd> {
    pub(super) hidden: &'r Hidden<'h, 'd>,
    /// The name of a tensor and the places in it.
    judged: Vec<(String, Vec<Judged>)>,
}

/// A number of the golden.
struct Judged {
    at: usize,
    want: f64,
    allowed: f64,
    /// The token that it belongs to, counted through all sequences, if it belongs to one.
    row: Option<usize>,
}

impl<'r, 'h, 'd> Response<'r, 'h, 'd> {
    pub(super) fn of(hidden: &'r Hidden<'h, 'd>) -> Response<'r, 'h, 'd> {
        let section = hidden.section;
        let wanted: Vec<_> = section.wanted_from(hidden.at).collect();
        let all: usize = wanted.iter().filter_map(|tensor| Some(floats(tensor)?.len())).sum();
        // Whole rows of a state are kept together: a parameter is felt in few channels.
        let step = all.div_ceil(EQUATIONS).max(1);
        let (b, n) = dims(section.inputs()).unwrap_or((1, 1));
        let judged = |tensor: &&crate::trace::tensor::Tensor| {
            let values = floats(tensor)?;
            let real = section.real_of(tensor);
            let allowed = section.allowed(tensor, values);
            let shape = tensor.shape.as_slice();
            let row = |at: usize| match *shape {
                [first, last, width] if first == b && last == n => Some(at / width),
                [first, heads, i, j] if first == b && i == n => Some(at / (heads * i * j) * n + at / j % i),
                [first, width] if first == b => Some(at / width),
                _ => None,
            };
            let width = shape.last().copied().unwrap_or(1).max(1);
            let kept = |at: &usize| {
                (at / width).is_multiple_of(step)
                    && real.as_ref().is_none_or(|real| real.get(*at) == Some(&true))
            };
            let number = |(at, &want): (usize, &f32)| Judged {
                at,
                want: f64::from(want),
                allowed: allowed.allowance(want),
                row: row(at),
            };
            Some((
                tensor.name.clone(),
                values.iter().enumerate().filter(|(at, _)| kept(at)).map(number).collect(),
            ))
        };
        Response { hidden, judged: wanted.iter().filter_map(judged).collect() }
    }

    /// How far each number is off, as a multiple of what is allowed; nothing of a model that cannot be run.
    pub(super) fn off(&self, model: &Model) -> Option<Vec<f64>> {
        let trace = self.hidden.section.run(model, false).ok()?;
        let mut off = Vec::new();
        for (name, numbers) in &self.judged {
            let got = trace.get(name).and_then(floats)?;
            for number in numbers {
                off.push((f64::from(*got.get(number.at)?) - number.want) / number.allowed);
            }
        }
        off.iter().all(|off| off.is_finite()).then_some(off)
    }

    /// The token that each number belongs to.
    pub(super) fn rows(&self) -> Vec<Option<usize>> {
        self.judged.iter().flat_map(|(_, numbers)| numbers.iter().map(|number| number.row)).collect()
    }

    /// How the numbers respond to each of some numbers of a parameter, from where they are off by `off`.
    pub(super) fn to_numbers(
        &self,
        model: &Model,
        off: &[f64],
        name: &str,
        at: &[usize],
    ) -> Option<Vec<Vec<f64>>> {
        let moved =
            |&at: &usize| self.to(model, off, |step| vec![Change::Add(name.to_owned(), vec![(at, step)])]);
        at.iter().map(moved).collect()
    }

    /// How the numbers respond to a change that goes on from nothing.
    pub(super) fn to(
        &self,
        model: &Model,
        off: &[f64],
        change: impl Fn(f32) -> Vec<Change>,
    ) -> Option<Vec<f64>> {
        if !self.hidden.in_time() {
            return None;
        }
        let moved = self.off(&model.with(&change(STEP))?)?;
        Some(moved.iter().zip(off).map(|(moved, off)| (moved - off) / f64::from(STEP)).collect())
    }
}

/// The sum of the products of two rows of numbers.
pub(super) fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}
