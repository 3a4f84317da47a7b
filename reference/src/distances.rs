//! Relative distances: which row of the relative position table stands for the distance i - j of a query i and a key j.
//!
//! In version 1, every distance from -K to K - 1 has a row of its own, K = [`DebertaConfig::max_relative`], and all that are
//! farther share the first or the last one. So it is in version 2 where there are no buckets. With B buckets the rows for
//! the distances from -B/2 to B/2 are their own; beyond, the rows stand for more and more distances, as the logarithm does:
//!
//! ```text
//! bucket(d) = d                                                              |d| ≤ mid,  mid = ⌊B/2⌋
//! bucket(d) = sign(d) (⌈ln(|d|/mid) / ln((M-1)/mid) (mid-1)⌉ + mid)          else
//! row(d)    = clamp(bucket(d) + S, 0, 2S-1)                                  S = B
//! ```
//!
//! The ceiling makes single roundings matter, so frameworks differ by a row here and there: [`BucketRounding`]. Source:
//! `make_log_bucket_position`, `build_relative_position` of `modeling_deberta_v2.py`.

use std::ops::Range;

use crate::config::DebertaConfig;
use crate::conventions::Conventions;
use crate::error::{Error, Result};

impl DebertaConfig {
    /// √(d (1 + position terms)), by which queries are divided.
    pub fn attention_scale(&self) -> f64 {
        ((self.head_size() * self.scale_terms()) as f64).sqrt()
    }

    /// The distances that the relative position table [2S, H] has rows for.
    pub fn distances(&self) -> Distances {
        let buckets = self.position_buckets.map(|buckets| Buckets {
            mid: buckets / 2,
            max: self.max_relative(),
            rounding: BucketRounding::default(),
            far: FarPositions::default(),
        });
        let span = self.position_buckets.unwrap_or_else(|| self.max_relative());
        Distances { span, records_all: !self.has_in_proj(), buckets }
    }
}

/// What becomes of distances |i - j| ≥ M, the largest one, where they are sorted into buckets. Nearer ones are not touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FarPositions {
    /// The logarithm runs on, until the table ends: i - j ≤ -M has row 0, which training on n ≤ M never touches.
    /// transformers, in both frameworks.
    #[default]
    Spill,
    /// Distances are clamped to ±(M - 1) first: Microsoft's code of 2023.
    Clamp,
}

impl FarPositions {
    /// The word that files have for it.
    pub fn word(self) -> &'static str {
        match self {
            FarPositions::Spill => "spilled",
            FarPositions::Clamp => "clamped",
        }
    }

    /// What a word stands for.
    pub fn from_word(word: &str) -> Option<FarPositions> {
        [FarPositions::Spill, FarPositions::Clamp].into_iter().find(|far| far.word() == word)
    }
}

/// Where the logarithm of buckets is rounded to f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BucketRounding {
    /// |d| / mid is f32 before its logarithm is: PyTorch.
    #[default]
    PyTorch,
    /// |d| / mid is f64, its logarithm f32: TensorFlow. In some configurations, single distances get another row; with 256
    /// buckets up to 512, as published, none does.
    TensorFlow,
    /// |d| / mid as in PyTorch, but (M - 1) / mid is f64: Microsoft's code. Single distances get another row, too.
    Microsoft,
}

/// The distances that a relative position table [2S, H] has rows for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distances {
    /// S
    span: usize,
    /// Whether the classes project, and traces record, all rows, however many tokens there are: version 2. Where nothing is
    /// recorded, those in use are enough.
    records_all: bool,
    buckets: Option<Buckets>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Buckets {
    /// ⌊B/2⌋
    mid: usize,
    /// M
    max: usize,
    rounding: BucketRounding,
    far: FarPositions,
}

/// The rows of the table that n tokens need, and which of them stands for which distance.
///
/// ```
/// use deberta_reference::DebertaConfig;
/// let config = DebertaConfig::from_json(r#"{"max_relative_positions": 4}"#)?;
/// let window = config.distances().window(3);
/// assert_eq!(window.rows(), 1..7);
/// assert_eq!((window.row(0, 2), window.row(1, 1), window.row(2, 0)), (1, 3, 5));
/// # Ok::<(), deberta_reference::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The rows of the table.
    rows: Range<usize>,
    /// n
    tokens: usize,
    /// The row of every distance from -(n - 1) to n - 1, counted from the first row of the window.
    of_distance: Vec<usize>,
    /// Along the distances from -after to before, every row is the one after that of the distance before it.
    before: usize,
    after: usize,
}

impl Distances {
    /// S: the table has 2S rows.
    pub fn span(self) -> usize {
        self.span
    }

    /// The same with another treatment of far distances, if there are buckets.
    pub fn with_far_positions(mut self, far: FarPositions) -> Distances {
        self.buckets.iter_mut().for_each(|buckets| buckets.far = far);
        self
    }

    /// The same with another rounding, if there are buckets.
    pub fn with_rounding(mut self, rounding: BucketRounding) -> Distances {
        self.buckets.iter_mut().for_each(|buckets| buckets.rounding = rounding);
        self
    }

    /// The same under somebody's conventions, if there are buckets.
    pub fn under(self, conventions: Conventions) -> Distances {
        self.with_far_positions(conventions.far_positions).with_rounding(conventions.bucket_rounding)
    }

    /// The row of the table for a distance.
    pub fn row(self, distance: isize) -> usize {
        let bucket = match self.buckets {
            Some(buckets) => buckets.of(distance),
            None => distance,
        };
        self.row_of(bucket)
    }

    fn row_of(self, bucket: isize) -> usize {
        let (span, last) = (self.span as isize, 2 * self.span as isize - 1);
        bucket.saturating_add(span).clamp(0, last) as usize
    }

    /// Whether all rows are projected and recorded, however many tokens there are.
    pub fn records_all(self) -> bool {
        self.records_all
    }

    /// The number beside integers that sorting into buckets computes with: ln((M-1)/mid). None without buckets.
    pub fn log_of_most(self) -> Option<f32> {
        self.buckets.map(Buckets::log_of_most)
    }

    /// The rows of the distances from -D to D, if there are buckets. D is the distance from which on, on both sides, every
    /// farther one has the same row.
    ///
    /// # Errors
    /// A D that is larger than any text: more than [`Distances::MOST_LOOKED_UP`].
    pub fn lookup(self) -> Result<Option<Vec<usize>>> {
        if self.buckets.is_none() {
            return Ok(None);
        }
        let ends = |distance: isize| (self.row(-distance), self.row(distance));
        let (mut near, mut far) = (0, isize::MAX / 2);
        while near < far {
            let middle = near + (far - near) / 2;
            (near, far) =
                if ends(middle) == ends(isize::MAX / 2) { (near, middle) } else { (middle + 1, far) };
        }
        if near > Self::MOST_LOOKED_UP {
            let most = Self::MOST_LOOKED_UP;
            let why =
                format!("the buckets of this configuration end at distances of {near}, more than {most}");
            return Err(Error::Unsupported(why));
        }
        Ok(Some((-near..=near).map(|distance| self.row(distance)).collect()))
    }

    /// The distances up to ±M that get another row where the logarithms are computed with fewer bits: `constant` rounds that
    /// of the largest distance, which a tool stores, and `number` what is computed of each other one. None without buckets.
    pub fn moved(self, constant: impl Fn(f32) -> f32, number: impl Fn(f32) -> f32) -> Vec<isize> {
        let Some(buckets) = self.buckets else { return Vec::new() };
        let most = (buckets.max as isize).min(Self::MOST_LOOKED_UP);
        let moves = |distance: &isize| {
            buckets.is_sorted(*distance)
                && self.row_of(buckets.rounded(*distance, &constant, &number)) != self.row(*distance)
        };
        (-most..=most).filter(moves).collect()
    }

    /// The largest distance for which [`Distances::lookup`] has a row.
    pub const MOST_LOOKED_UP: isize = 1 << 20;

    /// The rows for n tokens.
    pub fn window(self, n: usize) -> Window {
        let farthest = n.saturating_sub(1) as isize;
        let rows =
            if self.records_all { self.row(-farthest)..self.row(farthest) + 1 } else { self.projected(n) };
        let (before, after) = match self.buckets {
            Some(buckets) => (buckets.mid, buckets.mid),
            None => (self.span - 1, self.span),
        };
        let of_distance = (-farthest..=farthest).map(|distance| self.row(distance) - rows.start).collect();
        Window { rows, tokens: n, of_distance, before, after }
    }

    /// The rows that the classes project for n tokens, which is what is recorded: the 2 s around the middle with
    /// s = min(n, K) in version 1, all in version 2.
    pub fn projected(self, n: usize) -> Range<usize> {
        let span = if self.records_all { self.span } else { n.min(self.span) };
        self.span - span..self.span + span
    }
}

impl Buckets {
    /// bucket(d)
    fn of(self, distance: isize) -> isize {
        let limit = (self.max - 1) as isize;
        let distance = match self.far {
            FarPositions::Spill => distance,
            FarPositions::Clamp => distance.clamp(-limit, limit),
        };
        let far = distance.unsigned_abs();
        if !self.is_sorted(distance) {
            return distance;
        }
        let (mid, log) = (self.mid as f32, |ratio: f64| ratio.ln() as f32);
        let exactly = |distance: f64| distance / f64::from(mid);
        let rounded = |distance: f64| f64::from(exactly(distance) as f32);
        let (ratio, most) = match self.rounding {
            BucketRounding::PyTorch => (rounded(far as f64), rounded(limit as f64)),
            BucketRounding::TensorFlow => (exactly(far as f64), rounded(limit as f64)),
            BucketRounding::Microsoft => (rounded(far as f64), exactly(limit as f64)),
        };
        let bucket = (log(ratio) / log(most) * (mid - 1.0)).ceil() + mid;
        bucket as isize * distance.signum()
    }

    /// Whether a distance shares its bucket with others.
    fn is_sorted(self, distance: isize) -> bool {
        distance.unsigned_abs() > self.mid
    }

    /// ln((M-1)/mid), as PyTorch has it.
    fn log_of_most(self) -> f32 {
        f64::from((self.max.saturating_sub(1) as f64 / self.mid as f64) as f32).ln() as f32
    }

    /// bucket(d) of a distance beyond mid, every number rounded as [`Distances::moved`] says.
    fn rounded(self, distance: isize, constant: impl Fn(f32) -> f32, number: impl Fn(f32) -> f32) -> isize {
        let mid = self.mid as f32;
        let ratio = number(number(distance.unsigned_abs() as f32) / mid);
        let log = number(f64::from(ratio).ln() as f32);
        let share = number(log / constant(self.log_of_most()));
        let bucket = number(share * (mid - 1.0)).ceil() + mid;
        bucket as isize * distance.signum()
    }
}

impl Window {
    /// The rows of the table.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// n
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// How many rows they are.
    #[allow(clippy::len_without_is_empty)]
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.rows.end - self.rows.start
    }

    /// δ(i, j), the row of the distance i - j, counted from the first row of the window. As j goes up, it goes down or stays.
    #[inline(always)]
    pub fn row(&self, i: usize, j: usize) -> usize {
        self.of_distance[i + self.tokens - 1 - j]
    }

    /// δ(i, j) for the keys `js` in turn.
    #[inline(always)]
    pub(crate) fn along(&self, i: usize, js: Range<usize>) -> impl Iterator<Item = usize> {
        self.of_distance[i + self.tokens - js.end..i + self.tokens - js.start].iter().rev().copied()
    }

    /// The keys near a query i, along which δ goes down by one at a time.
    #[inline(always)]
    pub(crate) fn near(&self, i: usize) -> Range<usize> {
        i.saturating_sub(self.before)..(i + self.after + 1).min(self.tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distances(family: &str, keys: &str) -> Distances {
        let json = format!(r#"{{"model_type": "{family}", "relative_attention": true, {keys}}}"#);
        DebertaConfig::from_json(&json).unwrap().distances()
    }

    #[test]
    fn every_row_is_the_clamped_distance() {
        for (k, n) in [(4, 3), (4, 4), (4, 9), (1, 5), (3, 1)] {
            let keys = format!(r#""max_relative_positions": {k}"#);
            let (version_1, version_2) = (distances("deberta", &keys), distances("deberta-v2", &keys));
            let window = version_1.window(n);
            let s = n.min(k) as isize;
            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let row = (i as isize - j as isize + s).clamp(0, 2 * s - 1) as usize;
                assert_eq!(window.row(i, j), row, "{k} {n} {i} {j}");
                let other = version_2.window(n);
                assert_eq!(other.row(i, j) + other.rows().start, row + window.rows().start);
            }
            assert_eq!(window.rows(), k - n.min(k)..k + n.min(k));
            assert_eq!(version_2.projected(n), 0..2 * k);
        }
    }

    #[test]
    fn farther_than_the_lookup_nothing_changes() {
        for (buckets, max, far) in [(256, 512, 512), (8, 20, 20), (7, 30, 91), (2, 9, 1)] {
            let keys = format!(r#""position_buckets": {buckets}, "max_relative_positions": {max}"#);
            let distances = distances("deberta-v2", &keys);
            let lookup = distances.lookup().unwrap().unwrap();
            assert_eq!(lookup.len() / 2, far, "{keys}");
            for distance in -1000_isize..1000 {
                let at = distance.clamp(-(far as isize), far as isize) + far as isize;
                assert_eq!(lookup[at as usize], distances.row(distance), "{keys} {distance}");
            }
        }
        assert_eq!(distances("deberta-v2", r#""max_relative_positions": 4"#).lookup().unwrap(), None);
        let endless =
            distances("deberta-v2", r#""position_buckets": 256, "max_relative_positions": 2000000"#);
        assert!(endless.lookup().unwrap_err().to_string().contains("1048576"));
    }

    #[test]
    fn fewer_bits_move_single_distances() {
        let f16 = |number: f32| ((f64::from(number) * 1024.0).round() / 1024.0) as f32; // right from 1 to 2
        let of = |keys: &str| distances("deberta-v2", keys);
        let small = of(r#""position_buckets": 6, "max_relative_positions": 18"#);
        assert_eq!(small.log_of_most(), Some(1.734_601));
        assert!(small.moved(|number| number, |number| number).is_empty());
        // ln(17/3) / 1.734 · 2 is a little more than 2.
        assert_eq!(small.moved(f16, |number| number), [-17]);
        let published = of(r#""position_buckets": 256, "max_relative_positions": 512"#);
        assert!(published.moved(|number| number, |number| number).is_empty());
        assert!(!published.moved(f16, |number| number).is_empty());
        assert!(of(r#""max_relative_positions": 4"#).moved(f16, f16).is_empty());
    }

    #[test]
    fn windows_know_their_neighbours() {
        let cases = [
            distances("deberta", r#""max_relative_positions": 4"#),
            distances("deberta-v2", r#""max_relative_positions": 4"#),
            distances("deberta-v2", r#""position_buckets": 8, "max_relative_positions": 20"#),
            distances("deberta-v2", r#""position_buckets": 7, "max_relative_positions": 30"#),
        ];
        for (distances, n) in cases.into_iter().flat_map(|case| [1, 3, 9, 40].map(|n| (case, n))) {
            let window = distances.window(n);
            for i in 0..n {
                let rows: Vec<usize> = (0..n).map(|j| window.row(i, j)).collect();
                assert_eq!(window.along(i, 0..n).collect::<Vec<_>>(), rows);
                assert!(rows.is_sorted_by(|a, b| a >= b) && rows.iter().all(|&row| row < window.len()));
                let near = window.near(i);
                assert!(near.contains(&i) && near.end <= n);
                assert!(rows[near].windows(2).all(|pair| pair[0] == pair[1] + 1), "{distances:?} {n} {i}");
            }
        }
    }

    #[test]
    fn published_buckets_reach_the_ends_of_the_table() {
        let distances = distances("deberta-v2", r#""position_buckets": 256"#);
        let rows = [-511, -129, -128, 0, 128, 129, 511].map(|distance| distances.row(distance));
        assert_eq!(rows, [1, 127, 128, 256, 384, 385, 511]);
        assert_eq!((distances.row(-512), distances.row(512)), (0, 511));
        let clamped = distances.with_far_positions(FarPositions::Clamp);
        assert_eq!([clamped.row(-512), clamped.row(-5000), clamped.row(5000)], [1, 1, 511]);
        assert_eq!(distances.with_rounding(BucketRounding::TensorFlow).window(512), distances.window(512));
    }
}
