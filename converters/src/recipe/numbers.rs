//! What the numbers of each parameter are: middles, scales, tails and outliers. `docs/recipe.md` gives the reasons.
//!
//! Every f32 operation here rounds exactly, and stands in `golden/generate/recipe.py` in the same order.

use deberta_reference::{DebertaConfig, Module, Param, Part, Role, Rows};

use super::stream::Stream;

/// The standard deviation of [`Stream::bell`].
const BELL: f64 = 1.1547;
/// The standard deviation of [`heavy`] of it.
const HEAVY: f64 = 1.7755;
/// What the queries and keys of a head are multiplied with: one of these, by chance. Scores go with the square, from nearly
/// even attention to attention to one or two tokens.
const HEADS: [f32; 4] = [0.75, 1.25, 1.75, 2.5];
/// How many features of a normalisation are tall, and how many of all of the model's are steady.
const TALL: u64 = 3;
const STEADY: u64 = 2;

/// The numbers of one parameter.
pub(super) struct Numbers {
    stream: Stream,
    rows: usize,
    width: usize,
    law: Law,
}

/// How the numbers are distributed.
enum Law {
    /// `middle + factor of the row · scale · x`, and 1 more on the diagonal if there is `identity`.
    Spread { middle: f32, scale: f32, heavy: bool, factors: Factors, identity: bool },
    /// The gain of a normalisation.
    Gain(Outliers),
    /// Its shift.
    Shift(Outliers),
}

/// What the rows of a matrix are multiplied with.
enum Factors {
    One,
    /// Tokens: from 0.5 to 1.5.
    Tokens(Stream),
    /// Distances: 4 for -1, 0 and 1, of which row `middle` is 0.
    Near {
        middle: usize,
    },
    /// Heads: [`HEADS`], for every `size` rows of which the first `scaled` belong to queries or keys.
    Heads {
        of: Vec<f32>,
        size: usize,
        scaled: usize,
    },
}

/// The features of a normalisation that stand out.
struct Outliers {
    /// Their gain is five times the others'.
    tall: Vec<usize>,
    /// The same everywhere in the model: shifted by 3, the second by -3, and with half of the gain.
    steady: Vec<usize>,
}

impl Numbers {
    pub(super) fn of(param: &Param, config: &DebertaConfig, seed: u64) -> Numbers {
        // The base model has the same numbers under every head.
        let name = &param.name_under("");
        let width = param.shape.last().copied().unwrap_or(1);
        let rows = param.shape.iter().rev().skip(1).product();
        let law = law(param, name, rows, width, config, seed);
        Numbers { stream: Stream::new(seed, name), rows, width, law }
    }

    /// How many numbers there are.
    pub(super) fn len(&self) -> usize {
        self.rows * self.width
    }

    /// All numbers, row-major.
    pub(super) fn all(&self) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.len());
        self.rows(|row| all.extend_from_slice(row));
        all
    }

    /// Gives `each` row after row.
    pub(super) fn rows(&self, mut each: impl FnMut(&[f32])) {
        let mut row = vec![0.0; self.width];
        for at in 0..self.rows {
            self.row(at, &mut row);
            each(&row);
        }
    }

    fn row(&self, row: usize, numbers: &mut [f32]) {
        let first = row as u64 * self.width as u64;
        let numbered = numbers.iter_mut().zip(first..);
        match &self.law {
            Law::Spread { middle, scale, heavy: tails, factors, identity } => {
                let scale = factors.of_row(row) * scale;
                match tails {
                    true => numbered.for_each(|(number, at)| {
                        *number = heavy(self.stream.bell(at)) * scale + middle;
                    }),
                    false => {
                        numbered.for_each(|(number, at)| *number = self.stream.bell(at) * scale + middle)
                    }
                }
                if let (true, Some(diagonal)) = (identity, numbers.get_mut(row)) {
                    *diagonal += 1.0;
                }
            }
            Law::Gain(outliers) => numbered.for_each(|(number, at)| {
                let gain = self.stream.uniform(at) * 0.4 + 0.6;
                *number = outliers.gain(at as usize, gain);
            }),
            Law::Shift(outliers) => numbered.for_each(|(number, at)| {
                let shift = self.stream.bell(at) * (0.05 / BELL) as f32;
                *number = outliers.shift(at as usize, shift);
            }),
        }
    }
}

/// A cubic that makes the tails of a bell heavy: the largest numbers are ten standard deviations.
#[inline]
fn heavy(x: f32) -> f32 {
    x * (x * x * 0.25 + 0.5)
}

/// `name` is that of the parameter in the base model: streams of numbers are named after it.
fn law(param: &Param, name: &str, rows: usize, width: usize, config: &DebertaConfig, seed: u64) -> Law {
    let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
    let mixes_heads = matches!(param.module, Module::HeadLogitsProj | Module::HeadWeightsProj);
    let (middle, heavy, scale) = match (param.role, param.module) {
        (Role::LayerNormScale, _) => return Law::Gain(Outliers::of(module, width, seed)),
        (Role::LayerNormShift, _) => return Law::Shift(Outliers::of(module, width, seed)),
        (Role::RelativeEmbedding, _) => (0.0, true, 0.5 / HEAVY),
        (Role::WordEmbedding | Role::PositionEmbedding | Role::TokenTypeEmbedding, _)
        | (Role::LinearWeight, Module::Decoder) => (0.0, true, 0.05 / HEAVY),
        (Role::LinearWeight, _) if mixes_heads => (0.0, false, 0.2 / BELL),
        (Role::LinearWeight, module) => (0.0, false, gain(module) / (width as f64).sqrt() / BELL),
        (Role::Convolution, module) => {
            let inputs: usize = param.shape.iter().skip(1).product();
            (0.0, false, gain(module) / (inputs as f64).sqrt() / BELL)
        }
        (Role::Bias, Module::IntermediateDense) => (-0.3, true, 0.2 / HEAVY),
        (Role::Bias, Module::Predictions | Module::LmHead) => (0.0, true, 0.5 / HEAVY),
        (Role::Bias, _) if matches!(param.rows, Rows::Heads([Part::Query | Part::Key])) => {
            (0.0, false, 0.3 / BELL)
        }
        (Role::Bias, _) => (0.0, true, 0.03 / HEAVY),
    };
    let factors = Factors::of(param, name, rows, config, seed);
    Law::Spread { middle, scale: scale as f32, heavy, factors, identity: mixes_heads }
}

/// The standard deviation of what a linear layer makes of numbers of size 1.
fn gain(module: Module) -> f64 {
    match module {
        Module::AttentionDense => 0.2,
        Module::IntermediateDense => 1.5,
        Module::OutputDense => 0.5,
        Module::PosProj | Module::PosQProj | Module::PosKeyProj | Module::PosQueryProj => 1.8,
        _ => 1.0,
    }
}

impl Factors {
    fn of(param: &Param, name: &str, rows: usize, config: &DebertaConfig, seed: u64) -> Factors {
        match (param.role, param.rows) {
            (Role::WordEmbedding, _) => Factors::Tokens(Stream::new(seed, &format!("{name}/rows"))),
            (Role::LinearWeight, _) if param.module == Module::Decoder => {
                Factors::Tokens(Stream::new(seed, &format!("{name}/rows")))
            }
            (Role::RelativeEmbedding, _) => Factors::Near { middle: rows / 2 },
            (Role::LinearWeight, Rows::Heads(parts)) => {
                let layer = param.layer.unwrap_or_default();
                let attention = Module::SelfAttention.at("", layer);
                let stream = Stream::new(seed, &format!("{attention}/heads"));
                let choice = |head: usize| HEADS.get((stream.word(head as u64) >> 62) as usize).copied();
                let of = (0..config.num_attention_heads).map(|head| choice(head).unwrap_or(1.0)).collect();
                // Of the rows of a head, its values come last.
                let scaled = parts.iter().filter(|&&part| part != Part::Value).count();
                let d = config.head_size();
                Factors::Heads { of, size: parts.len() * d, scaled: scaled * d }
            }
            _ => Factors::One,
        }
    }

    fn of_row(&self, row: usize) -> f32 {
        match self {
            Factors::One => 1.0,
            Factors::Tokens(stream) => stream.uniform(row as u64) + 0.5,
            Factors::Near { middle } => {
                if row.abs_diff(*middle) <= 1 {
                    4.0
                } else {
                    1.0
                }
            }
            Factors::Heads { size, scaled, .. } if row % size >= *scaled => 1.0,
            Factors::Heads { of, size, .. } => of.get(row / size).copied().unwrap_or(1.0),
        }
    }
}

impl Outliers {
    fn of(module: &str, size: usize, seed: u64) -> Outliers {
        let features = |name: &str, count: u64| {
            let stream = Stream::new(seed, name);
            (0..count).map(|at| (stream.word(at) % size as u64) as usize).collect()
        };
        Outliers { tall: features(&format!("{module}/tall"), TALL), steady: features("steady", STEADY) }
    }

    fn gain(&self, feature: usize, gain: f32) -> f32 {
        let gain = if self.tall.contains(&feature) { gain * 5.0 } else { gain };
        if self.steady.contains(&feature) { gain * 0.5 } else { gain }
    }

    fn shift(&self, feature: usize, shift: f32) -> f32 {
        let by = [3.0, -3.0];
        self.steady
            .iter()
            .zip(by)
            .filter(|(steady, _)| **steady == feature)
            .fold(shift, |shift, (_, by)| shift + by)
    }
}
