//! What the difference at a module says about its parameters, all of its inputs being the golden's.

use deberta_reference::{Param, Rows};

use super::hypothesis::Hypothesis;
use super::section::Pair;
use crate::fault::{Change, Model, dropped};

/// The difference of a point, row by row.
pub(super) struct Residual<'p> {
    pub(super) pair: Pair<'p>,
    pub(super) rows: usize,
}

impl<'p> Residual<'p> {
    pub(super) fn new(pair: Pair<'p>) -> Residual<'p> {
        Residual { pair, rows: pair.want.len().min(pair.got.len()) / pair.width }
    }

    /// Want, got and what may be off, of a channel in every row.
    pub(super) fn channel(&self, channel: usize) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        let (want, got) = (self.pair.want.iter(), self.pair.got.iter());
        want.zip(got)
            .skip(channel)
            .step_by(self.pair.width)
            .map(|(&want, &got)| (f64::from(want), f64::from(got), self.pair.allowed.allowance(want)))
    }

    /// The channels that differ in some row.
    pub(super) fn channels(&self) -> Vec<usize> {
        let differs =
            |channel: &usize| self.channel(*channel).any(|(want, got, off)| (want - got).abs() > off);
        (0..self.pair.width).filter(differs).collect()
    }

    /// The rows that differ in some channel.
    pub(super) fn differing_rows(&self) -> Vec<usize> {
        let width = self.pair.width;
        let rows = self.pair.want.chunks_exact(width).zip(self.pair.got.chunks_exact(width)).enumerate();
        let differs = |(want, got): (&[f32], &[f32])| {
            want.iter().zip(got).any(|(&want, &got)| !self.pair.allowed.allows(want, got))
        };
        rows.filter(|(_, pair)| differs(*pair)).map(|(row, _)| row).collect()
    }

    /// What the golden has in a row.
    pub(super) fn want(&self, row: usize) -> Option<&'p [f32]> {
        self.pair.want.chunks_exact(self.pair.width).nth(row)
    }

    /// The difference of a channel, if it is the same in all rows.
    fn constant(&self, channel: usize) -> Option<f64> {
        // Rows of padding are 0 behind some modules, whatever is added.
        let seen = || self.channel(channel).filter(|(want, got, _)| *want != 0.0 || *got != 0.0);
        let mean = seen().map(|(want, got, _)| want - got).sum::<f64>() / (seen().count() as f64).max(1.0);
        seen().all(|(want, got, off)| (want - got - mean).abs() <= 2.0 * off).then_some(mean)
    }

    /// The difference of every channel, if each is the same in all rows.
    pub(super) fn constants(&self) -> Option<Vec<f64>> {
        (0..self.pair.width).map(|channel| self.constant(channel)).collect()
    }

    /// The factor by which the numbers of some channels must be multiplied, but for what is added to each; nothing if there is
    /// none, or if it is 1.
    pub(super) fn factor(
        &self,
        concerned: impl Fn(usize) -> bool,
        added: impl Fn(usize) -> f64,
    ) -> Option<f64> {
        let channels = || (0..self.pair.width).filter(|&channel| concerned(channel));
        let pairs = || {
            channels().flat_map(|channel| {
                let added = added(channel);
                self.channel(channel).map(move |(want, got, off)| (want - added, got - added, off))
            })
        };
        let (energy, product) = pairs()
            // Rows of padding are 0 behind some modules, whatever is added.
            .filter(|(want, got, _)| want != got)
            .fold((0.0, 0.0), |(energy, product), (want, got, _)| (energy + got * got, product + want * got));
        let factor = if energy > 0.0 { product / energy } else { return None };
        let explained =
            |(want, got, off): (f64, f64, f64)| want == got || (want - factor * got).abs() <= 2.0 * off;
        (pairs().all(explained) && (factor - 1.0).abs() > 1e-5 && factor.abs() > 1e-6).then_some(factor)
    }

    /// How much of `x` the difference of a channel is, if it is nothing else.
    fn slope(&self, channel: usize, x: impl Iterator<Item = f64> + Clone) -> Option<f64> {
        let energy: f64 = x.clone().map(|x| x * x).sum();
        let product: f64 =
            self.channel(channel).zip(x.clone()).map(|((want, got, _), x)| (want - got) * x).sum();
        let slope = if energy > 0.0 { product / energy } else { return None };
        let explained =
            |((want, got, off), x): ((f64, f64, f64), f64)| (want - got - slope * x).abs() <= 2.0 * off;
        self.channel(channel).zip(x).all(explained).then_some(slope)
    }
}

/// A linear layer, `weight` [out, in] and perhaps a `bias` [out].
pub(super) struct Linear<'l> {
    pub(super) weight: &'l str,
    pub(super) bias: Option<&'l str>,
    /// The input, row by row.
    pub(super) input: &'l [f32],
    pub(super) width: usize,
}

/// What can be read from the difference of a linear layer.
pub(super) fn linear(
    model: &Model,
    params: &[Param],
    layer: &Linear<'_>,
    residual: &Residual<'_>,
) -> Vec<Hypothesis> {
    let mut found = Vec::new();
    let channels = residual.channels();
    let rows = residual.rows;
    if let Some(bias) = layer.bias {
        found.extend(shifted(model, params, bias, residual, &channels));
    }
    if let ([row], true) = (channels.as_slice(), rows > 1) {
        let column = |column: usize| {
            layer.input.iter().skip(column).step_by(layer.width.max(1)).map(|&x| f64::from(x)).take(rows)
        };
        let slopes = (0..layer.width).filter_map(|at| Some((at, residual.slope(*row, column(at))?)));
        let mut slopes: Vec<(usize, f64)> = slopes.collect();
        slopes.truncate(4);
        for (at, slope) in slopes {
            let evidence = format!("only channel {row} differs, in proportion to number {at} of the input");
            let (at, shape) = (*row * layer.width + at, model.shape(layer.weight).unwrap_or_default());
            let changed = Hypothesis::changed_number(layer.weight, at, shape, slope);
            found.push(changed.because(evidence));
        }
        if found.is_empty() {
            found.push(
                Hypothesis::new(
                    "changed-row",
                    format!("row {row} of {}", layer.weight),
                    "restore it from the original model",
                )
                .because(format!("only channel {row} differs, and no single weight or bias explains it")),
            );
        }
    }
    found
}

/// A bias that is off, if the difference is the same in all rows.
pub(super) fn shifted(
    model: &Model,
    params: &[Param],
    bias: &str,
    residual: &Residual<'_>,
    channels: &[usize],
) -> Option<Hypothesis> {
    let constant = |&channel: &usize| Some((channel, residual.constant(channel)? as f32));
    let shifts: Vec<(usize, f32)> = channels.iter().map(constant).collect::<Option<_>>()?;
    let zero = model.values(bias)?.iter().all(|&value| value == 0.0);
    let (kind, cause) = match (shifts.as_slice(), zero) {
        ([], _) => return None,
        (_, true) => {
            let param = params.iter().find(|param| param.name == bias);
            (
                dropped(param.map_or(Rows::Plain, |param| param.rows)),
                format!("{bias} is all zero: it was dropped"),
            )
        }
        ([(at, shift)], false) => ("changed-weight", format!("{bias}[{at}] is off by {:.3e}", -shift)),
        (_, false) => ("changed-bias", format!("{} numbers of {bias} are off", shifts.len())),
    };
    let largest = shifts.iter().map(|(_, shift)| shift.abs()).fold(0.0, f32::max);
    let rows = residual.rows;
    let evidence = format!("the difference is the same in all {rows} rows, at most {largest:.3e}");
    let hypothesis = Hypothesis::new(kind, cause, "convert the original model again, with this bias");
    let fitted = shifts.len();
    let hypothesis = hypothesis.because(evidence).undone_by([Change::Add(bias.to_owned(), shifts)]);
    Some(hypothesis.fitting(fitted).says_what(zero || 2 * fitted < residual.pair.width))
}

/// Another parameter of the same shape that computes what the golden has: a misplaced one.
pub(super) fn misplaced(model: &Model, layer: &Linear<'_>, residual: &Residual<'_>) -> Vec<(String, bool)> {
    let Some(shape) = model.shape(layer.weight) else { return Vec::new() };
    let (channels, width) = (residual.pair.width, layer.width.max(1));
    let own_bias = layer.bias.and_then(|bias| model.values(bias));
    let computes = |weight: &[f32], bias: Option<&[f32]>| {
        let step = (channels / 8).max(1);
        residual.pair.want.chunks_exact(channels).zip(layer.input.chunks_exact(width)).take(4).all(
            |(want, x)| {
                (0..channels).step_by(step).all(|channel| {
                    let row = weight.chunks_exact(width).nth(channel).unwrap_or_default();
                    let product: f64 = row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                    let bias = bias.and_then(|bias| bias.get(channel)).map_or(0.0, |&bias| f64::from(bias));
                    want.get(channel).is_some_and(|&want| {
                        (product + bias - f64::from(want)).abs()
                            <= 4.0 * residual.pair.allowed.allowance(want)
                    })
                })
            },
        )
    };
    let others = model.names().filter(|name| *name != layer.weight && model.shape(name) == Some(shape));
    others
        .filter_map(|name| {
            let weight = model.values(name)?;
            let its_bias =
                name.strip_suffix("weight").and_then(|module| model.values(&format!("{module}bias")));
            let with_its_own = layer.bias.is_some() && computes(weight, its_bias);
            (with_its_own || computes(weight, own_bias)).then(|| (name.to_owned(), with_its_own))
        })
        .take(2)
        .collect()
}

/// The order of blocks of channels in which the candidate computes what the golden has, perhaps but for a bias that both
/// add; nothing if there is none, or if it is the order that they are in.
pub(super) fn block_order(residual: &Residual<'_>, block: usize, bias: Option<&[f32]>) -> Option<Vec<usize>> {
    let width = residual.pair.width;
    let bias = |channel: usize| bias.and_then(|bias| bias.get(channel)).copied().unwrap_or(0.0);
    let equal = |want: usize, got: usize| {
        let rows = residual.pair.want.chunks_exact(width).zip(residual.pair.got.chunks_exact(width));
        rows.take(64).all(|(want_row, got_row)| {
            let pairs = want_row.iter().skip(want * block).zip(got_row.iter().skip(got * block));
            pairs.take(block).enumerate().all(|(at, (&own, &other))| {
                let moved = other - bias(got * block + at) + bias(want * block + at);
                residual.pair.allowed.allows(own, moved)
            })
        })
    };
    matched(width / block.max(1), equal)
}

/// The order of blocks of a bias that makes up for a difference that is the same in all rows; nothing if there is none.
pub(super) fn moved_bias(residual: &Residual<'_>, block: usize, bias: &[f32]) -> Option<Vec<usize>> {
    let shifts = residual.constants()?;
    let own = |block_at: usize, at: usize| bias.get(block_at * block + at).map(|&own| f64::from(own));
    let equal = |want: usize, got: usize| {
        (0..block).all(|at| {
            let shift = shifts.get(want * block + at);
            let pair = own(want, at).zip(own(got, at)).zip(shift);
            pair.is_some_and(|((old, other), shift)| (old + shift - other).abs() < 1e-5 + 1e-4 * other.abs())
        })
    };
    matched(residual.pair.width / block.max(1), equal)
}

/// The block that is equal to each in turn, none twice, its own if possible.
fn matched(blocks: usize, equal: impl Fn(usize, usize) -> bool) -> Option<Vec<usize>> {
    let mut taken = vec![false; blocks];
    let mut order = Vec::with_capacity(blocks);
    for want in 0..blocks {
        let free = |got: &usize| taken.get(*got) == Some(&false);
        let got = std::iter::once(want).chain(0..blocks).filter(free).find(|&got| equal(want, got))?;
        *taken.get_mut(got)? = true;
        order.push(got);
    }
    (order.iter().enumerate().any(|(want, &got)| want != got)).then_some(order)
}
