//! Traces of large models as samples and statistics: of every point sixteen numbers and what all of its tokens come to.
//!
//! The format, `deberta-samples-1`, is in `docs/golden.md`; `golden/python` writes the same from PyTorch.

use std::collections::BTreeSet;

use deberta_converters::error::{Error, Result};
use deberta_converters::recipe::Stream;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::judge::tolerance::Tolerance;

/// The value of `format` in the metadata of a sampled trace.
pub const FORMAT: &str = "deberta-samples-1";

/// The key of the metadata that lists the points and their shapes.
pub const TENSORS: &str = "tensors";

/// How many numbers are kept of a point.
pub const SAMPLES: usize = 16;

/// How many sums of all numbers with random signs are kept of a point.
pub const PROJECTIONS: usize = 8;

/// How many statistics are kept of a point: mean, root mean square, largest magnitude, projections.
pub const STATISTICS: usize = 3 + PROJECTIONS;

/// What a sampled trace has of a point.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The full name: `activations.deberta.encoder.layer.0`.
    pub name: String,
    /// The shape of the whole tensor.
    pub shape: Vec<usize>,
    /// The numbers at [`positions`].
    pub samples: Vec<f32>,
    /// What the numbers of tokens come to.
    pub statistics: Statistics,
}

/// What many numbers come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics([f32; STATISTICS]);

/// A statistic that was compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistic {
    /// `mean`, `rms`, `max`, `projection 3`.
    pub name: String,
    /// The number that was expected.
    pub want: f32,
    /// The number that was found.
    pub got: f32,
    /// How far it may be off.
    pub allowed: f64,
    /// The difference as a share of that.
    #[serde(with = "crate::judge::unbounded")]
    pub share: f64,
}

impl Sampled {
    /// What a sampled trace keeps of a tensor. `tokens` says for every number whether it belongs to tokens; all do if it is
    /// absent.
    pub fn of(name: &str, shape: &[usize], values: &[f32], tokens: Option<&[bool]>) -> Sampled {
        let at = positions(name, values.len());
        Sampled {
            name: name.to_owned(),
            shape: shape.to_vec(),
            samples: at.iter().filter_map(|&at| values.get(at).copied()).collect(),
            statistics: Statistics::of(name, values, tokens),
        }
    }

    /// The largest magnitude of the numbers of tokens.
    pub fn largest(&self) -> f32 {
        self.statistics.largest()
    }
}

/// Where the samples of a tensor of `count` numbers are: one in each of sixteen equal parts, by chance; everywhere if there
/// are no more than sixteen.
pub fn positions(name: &str, count: usize) -> Vec<usize> {
    if count <= SAMPLES {
        return (0..count).collect();
    }
    let stream = Stream::new(0, name);
    let bound = |part: usize| (part as u128 * count as u128 / SAMPLES as u128) as usize;
    (0..SAMPLES)
        .map(|part| {
            let (start, end) = (bound(part), bound(part + 1));
            start + (stream.word(part as u64) % (end - start) as u64) as usize
        })
        .collect()
}

impl Statistics {
    /// From the row of a file.
    pub fn from_row(row: &[f32]) -> Option<Statistics> {
        row.try_into().ok().map(Statistics)
    }

    /// The row of a file.
    pub fn row(&self) -> &[f32] {
        &self.0
    }

    /// The statistics of the numbers of a tensor that belong to tokens.
    pub fn of(name: &str, values: &[f32], tokens: Option<&[bool]>) -> Statistics {
        /// A multiple of 64, so that a chunk starts with a word of signs.
        const CHUNK: usize = 1 << 14;
        let stream = Stream::new(0, name);
        let chunks = values.par_chunks(CHUNK).enumerate().map(|(chunk, values)| {
            let first = chunk * CHUNK;
            let tokens = tokens.map(|tokens| tokens.get(first..).unwrap_or_default());
            let word = (SAMPLES + first / 64) as u64;
            let mut sums = Sums::default();
            for (at, values) in values.chunks(64).enumerate() {
                let tokens = tokens.map(|tokens| tokens.get(64 * at..).unwrap_or_default());
                sums.add(values, tokens, stream.word(word + at as u64));
            }
            sums
        });
        // In order, so that the sum is the same in every run.
        let sums = chunks.collect::<Vec<_>>().into_iter().fold(Sums::default(), Sums::join);
        let count = sums.count.max(1) as f64;
        let mut row = [0.0; STATISTICS];
        let wide = [sums.sum / count, (sums.squares / count).sqrt(), sums.largest];
        for (place, value) in row.iter_mut().zip(wide.into_iter().chain(sums.projections)) {
            *place = value as f32;
        }
        Statistics(row)
    }

    fn rms(&self) -> f64 {
        f64::from(self.0[1])
    }

    fn largest(&self) -> f32 {
        self.0[2]
    }

    /// Compares the statistics of `count` numbers with those that are expected, and returns the one that is furthest off as a
    /// share of what it may be off. How that follows from the tolerance of a single number: `docs/golden.md`.
    pub fn compare(&self, got: &Statistics, count: usize, tolerance: Tolerance) -> Option<Statistic> {
        let largest = f64::from(self.largest());
        let one = tolerance.atol + tolerance.rtol * self.rms() + tolerance.scale * largest;
        let tallest = tolerance.atol + (tolerance.rtol + tolerance.scale) * largest;
        let random = (count as f64 / PROJECTIONS as f64).sqrt().max(1.0) * one;
        let judged = self.0.iter().zip(&got.0).enumerate().map(|(at, (&want, &got))| {
            let (name, allowed) = match at {
                0 => ("mean".to_owned(), one),
                1 => ("rms".to_owned(), one),
                2 => ("max".to_owned(), tallest),
                _ => (format!("projection {}", at - 3), random),
            };
            let off = (f64::from(got) - f64::from(want)).abs();
            let share = if off == 0.0 { 0.0 } else { off / allowed };
            Statistic { name, want, got, allowed, share }
        });
        judged.max_by(|a, b| a.share.total_cmp(&b.share))
    }
}

#[derive(Default)]
struct Sums {
    count: usize,
    sum: f64,
    squares: f64,
    largest: f64,
    projections: [f64; PROJECTIONS],
}

impl Sums {
    /// Adds 64 numbers, or the last ones, of which `signs` has a bit for each.
    fn add(&mut self, values: &[f32], tokens: Option<&[bool]>, mut signs: u64) {
        for (at, &value) in values.iter().enumerate() {
            let negative = signs & 1 == 1;
            signs >>= 1;
            if tokens.is_some_and(|tokens| tokens.get(at) == Some(&false)) {
                continue;
            }
            let value = f64::from(value);
            self.count += 1;
            self.sum += value;
            self.squares += value * value;
            self.largest = self.largest.max(value.abs());
            self.projections[at % PROJECTIONS] += if negative { -value } else { value };
        }
    }

    fn join(mut self, other: Sums) -> Sums {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
        self.largest = self.largest.max(other.largest);
        self.projections.iter_mut().zip(other.projections).for_each(|(sum, more)| *sum += more);
        self
    }
}

/// The points of a sampled trace and their shapes, as the metadata list them.
///
/// # Errors
/// What is no such list; a name that is no point's, or twice there; a shape that nothing can have.
pub(crate) fn listed(text: &str) -> Result<Vec<(String, Vec<usize>)>> {
    let listed: Vec<(String, Vec<usize>)> = serde_json::from_str(text).map_err(|error| {
        Error::malformed(format!("metadata {TENSORS}: no list of [name, shape]: {error}"))
    })?;
    let mut seen = BTreeSet::new();
    for (name, shape) in &listed {
        let wrong =
            |what: String| Err(Error::malformed(format!("metadata {TENSORS}: {what}")).in_tensor(name));
        if !["activations.", "outputs."].iter().any(|start| name.starts_with(start)) {
            return wrong("neither activations.* nor outputs.*".to_owned());
        }
        let count = shape.iter().try_fold(4_usize, |product, &length| product.checked_mul(length));
        if count.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
            return wrong(format!("shape {shape:?} overflows the address space"));
        }
        if !seen.insert(name) {
            return wrong("listed twice".to_owned());
        }
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize) -> Vec<f32> {
        let stream = Stream::new(9, "values");
        (0..count as u64).map(|at| stream.bell(at)).collect()
    }

    #[test]
    fn samples_are_spread_and_the_same_in_every_run() {
        assert_eq!(positions("x", 3), [0, 1, 2]);
        let at = positions("outputs.logits", 1000);
        assert_eq!(at.len(), SAMPLES);
        let within = |(part, &at): (usize, &usize)| (part * 1000 / 16..(part + 1) * 1000 / 16).contains(&at);
        assert!(at.iter().enumerate().all(within), "{at:?}");
        assert_eq!(at, positions("outputs.logits", 1000));
        assert_ne!(at, positions("outputs.start_logits", 1000));
    }

    #[test]
    fn statistics_are_of_tokens() {
        let mut numbers = values(200);
        let tokens: Vec<bool> = (0..200).map(|at| at < 150).collect();
        let before = Statistics::of("x", &numbers, Some(&tokens));
        numbers[170] = 1e6;
        assert_eq!(Statistics::of("x", &numbers, Some(&tokens)), before);
        numbers[100] += 1.0;
        assert_ne!(Statistics::of("x", &numbers, Some(&tokens)), before);
    }

    #[test]
    fn a_projection_sees_a_single_change_and_not_rounding() {
        let tolerance = Tolerance { atol: 5e-6, rtol: 1e-5, scale: 1e-5 };
        let numbers = values(16 * 768);
        let want = Statistics::of("x", &numbers, None);
        let share = |numbers: &[f32]| {
            let got = Statistics::of("x", numbers, None);
            want.compare(&got, numbers.len(), tolerance).map(|statistic| (statistic.name, statistic.share))
        };
        assert_eq!(share(&numbers).map(|(_, share)| share), Some(0.0));
        let rounded: Vec<f32> = numbers.iter().map(|number| number * (1.0 + f32::EPSILON)).collect();
        assert!(share(&rounded).is_some_and(|(_, share)| share < 0.5));
        let mut changed = numbers.clone();
        changed[5000] += 0.01;
        assert!(share(&changed).is_some_and(|(name, share)| name.starts_with("projection") && share > 1.0));
    }

    #[test]
    fn lists_that_lie_are_refused() {
        for (text, expected) in [
            ("{}", "no list of [name, shape]"),
            (r#"[["weights.x", [1]]]"#, "neither activations.* nor outputs.*"),
            (r#"[["outputs.x", [1]], ["outputs.x", [1]]]"#, "listed twice"),
            (r#"[["outputs.x", [4294967296, 4294967296]]]"#, "overflows"),
        ] {
            let error = listed(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
