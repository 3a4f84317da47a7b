//! What the difference at a module says about its parameters, all of its inputs being the golden's.

use std::collections::BTreeMap;

use deberta_reference::{Module, Param, Role, Rows};

use super::hypothesis::Hypothesis;
use super::section::Pair;
use crate::fault::{Change, Model, dropped};

/// The difference of a point, row by row.
pub(super) struct Residual<'p> {
    pair: Pair<'p>,
    rows: usize,
}

impl<'p> Residual<'p> {
    pub(super) fn new(pair: Pair<'p>) -> Residual<'p> {
        Residual { pair, rows: pair.want.len().min(pair.got.len()) / pair.width }
    }

    /// Want, got and what may be off, of a channel in every row.
    fn channel(&self, channel: usize) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
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
        let mean = self.channel(channel).map(|(want, got, _)| want - got).sum::<f64>() / self.rows as f64;
        self.channel(channel).all(|(want, got, off)| (want - got - mean).abs() <= 2.0 * off).then_some(mean)
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
            let evidence = format!("only channel {row} differs, in proportion to channel {at} of the input");
            let changed = Hypothesis::changed_number(layer.weight, [*row, at], layer.width, slope);
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
    let mut hypothesis = hypothesis.because(evidence).undone_by([Change::Add(bias.to_owned(), shifts)]);
    hypothesis.proves = rows > 1;
    Some(hypothesis)
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
    let channels = 0..residual.pair.width;
    let shifts: Vec<f64> = channels.map(|channel| residual.constant(channel)).collect::<Option<_>>()?;
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

/// What can be read from the difference of a normalisation, `weight` and `bias` of the module at `path`.
pub(super) fn norm(model: &Model, params: &[Param], path: &str, residual: &Residual<'_>) -> Vec<Hypothesis> {
    let (weight, bias) = (format!("{path}.weight"), format!("{path}.bias"));
    let channels = residual.channels();
    let mut found: Vec<Hypothesis> = shifted(model, params, &bias, residual, &channels).into_iter().collect();
    let (Some(gamma), Some(beta)) = (model.values(&weight), model.values(&bias)) else { return found };
    if residual.rows < 2 {
        return found;
    }
    // want = γ' x̂ + β' with x̂ = (got - β) / γ, for every channel by least squares.
    let mut fit = Vec::new();
    for (channel, (&gamma, &beta)) in gamma.iter().zip(beta).enumerate() {
        let n = residual.rows as f64;
        let normal = |got: f64| (got - f64::from(beta)) / f64::from(gamma);
        let points = || residual.channel(channel).map(|(want, got, _)| (normal(got), want));
        let (sx, sy) = points().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x / n, sy + y / n));
        let (sxx, sxy) = points()
            .fold((0.0, 0.0), |(sxx, sxy), (x, y)| (sxx + (x - sx) * (x - sx), sxy + (x - sx) * (y - sy)));
        let slope = if sxx > 0.0 { sxy / sxx } else { f64::from(gamma) };
        let shift = sy - slope * sx;
        let explained = residual
            .channel(channel)
            .all(|(want, got, off)| (want - slope * normal(got) - shift).abs() <= 2.0 * off);
        if !explained || !slope.is_finite() || !shift.is_finite() {
            return found;
        }
        fit.push((slope as f32, shift as f32));
    }
    let far = |at: usize, name: &str, value: f32| {
        model.values(name).and_then(|values| values.get(at)).is_none_or(|&own| (own - value).abs() > 2e-4)
    };
    let same = |name: &str, part: fn(&(f32, f32)) -> f32| {
        fit.iter().enumerate().all(|(at, fitted)| !far(at, name, part(fitted)))
    };
    let mut scales: Vec<&Param> =
        params.iter().filter(|param| param.role == Role::LayerNormScale && param.name != weight).collect();
    scales.sort_by(|one, other| one.name.cmp(&other.name));
    for scale in scales {
        let (name, module) = (scale.name.as_str(), scale.path());
        let its_bias = format!("{module}.bias");
        if same(name, |fit| fit.0) && model.shape(name) == model.shape(&weight) {
            let swap = |part: &str| Change::Swap(format!("{path}.{part}"), format!("{module}.{part}"));
            let copy =
                |part: &str| Change::Copy { from: format!("{module}.{part}"), to: format!("{path}.{part}") };
            let both = same(&its_bias, |fit| fit.1);
            let hypothesis = || {
                let cause = format!("the parameters of {module} belong to {path}");
                let repair = "put each normalisation's parameters under its own name (deberta-convert names lists them)";
                Hypothesis::new("misplaced-parameter", cause, repair)
                    .because(format!("γ of {module} is what the golden was computed with"))
            };
            let parts: &[&str] = if both { &["weight", "bias"] } else { &["weight"] };
            found.push(hypothesis().undone_by(parts.iter().map(|part| swap(part))));
            found.push(hypothesis().undone_by(parts.iter().map(|part| copy(part))));
        }
    }
    let off: Vec<usize> =
        (0..fit.len()).filter(|&at| fit.get(at).is_none_or(|&(slope, _)| far(at, &weight, slope))).collect();
    let fresh = gamma.iter().all(|&gamma| gamma == 1.0) && beta.iter().all(|&beta| beta == 0.0);
    let restore = "restore them from the original model";
    let hypothesis = match (off.as_slice(), channels.as_slice()) {
        _ if fresh => Hypothesis::new(
            "fresh-layer-norm",
            format!("{path} is as before training: γ is 1, β is 0"),
            restore,
        ),
        ([at], [_]) => {
            let by = fit.get(*at).zip(gamma.get(*at)).map_or(0.0, |(fit, gamma)| gamma - fit.0);
            Hypothesis::new("changed-weight", format!("{weight}[{at}] is off by {by:.3e}"), restore)
        }
        _ => Hypothesis::new(
            "changed-layer-norm",
            format!("γ and β of {path}: {} channels", channels.len()),
            restore,
        ),
    };
    let (slopes, shifts) = fit.into_iter().unzip();
    found.push(
        hypothesis
            .because("every channel is a multiple of what it should be, plus a constant")
            .undone_by([Change::Replace(weight, slopes), Change::Replace(bias, shifts)]),
    );
    found
}

/// What can be read from the difference of a table lookup. `rows` is the row that each position reads.
pub(super) fn table(model: &Model, name: &str, rows: &[usize], residual: &Residual<'_>) -> Vec<Hypothesis> {
    let width = residual.pair.width;
    let Some(values) = model.values(name) else { return Vec::new() };
    let table: Vec<&[f32]> = values.chunks_exact(width).collect();
    let mut wanted: BTreeMap<usize, &[f32]> = BTreeMap::new();
    let mut off: BTreeMap<usize, Vec<(usize, f32)>> = BTreeMap::new();
    for (&row, want) in rows.iter().zip(residual.pair.want.chunks_exact(width)) {
        wanted.insert(row, want);
        let own = table.get(row).copied().unwrap_or_default();
        let differs = own
            .iter()
            .zip(want)
            .enumerate()
            .filter(|(_, (own, want))| !residual.pair.allowed.allows(**want, **own));
        let differs: Vec<(usize, f32)> = differs.map(|(at, (own, want))| (at, want - own)).collect();
        if !differs.is_empty() {
            off.insert(row, differs);
        }
    }
    let mut found = Vec::new();
    let single: Vec<_> = off.iter().collect();
    if let [(row, channels)] = single.as_slice()
        && let [(channel, by)] = channels.as_slice()
    {
        let changed = Hypothesis::changed_number(name, [**row, *channel], width, f64::from(*by));
        return vec![changed.because(format!("row {row} differs in this number alone"))];
    }
    // The golden's rows, at other places of the table.
    let at = |want: &[f32]| {
        table
            .iter()
            .position(|row| row.iter().zip(want).all(|(&own, &want)| residual.pair.allowed.allows(want, own)))
    };
    let moved: Option<BTreeMap<usize, usize>> =
        off.keys().map(|row| Some((*row, at(wanted.get(row)?)?))).collect();
    if let Some(moved) = moved.filter(|moved| !moved.is_empty()) {
        let len = table.len();
        let shifts: std::collections::BTreeSet<usize> =
            moved.iter().map(|(row, at)| (at + len - row) % len.max(1)).collect();
        let order = match shifts.iter().collect::<Vec<_>>().as_slice() {
            [shift] if moved.len() > 1 => (0..len).map(|row| (row + *shift) % len).collect(),
            _ => {
                let order = |row| moved.get(&row).copied().unwrap_or(row);
                (0..len).map(order).collect()
            }
        };
        let (row, elsewhere) = moved.iter().next().map_or((0, 0), |(row, at)| (*row, *at));
        let words = name == model.weight(Module::WordEmbeddings, 0);
        let kind = if words { "wrong-token-ids" } else { "permuted-rows" };
        found.push(
            Hypothesis::new(
                kind,
                format!("the rows of {name} are in another order"),
                "use the tokenizer that belongs to these weights, or put the rows in the order of its vocabulary",
            )
            .because(format!(
                "all {} rows that differ are elsewhere in the table: row {row} at {elsewhere}",
                moved.len()
            ))
            .undone_by([Change::Rows { name: name.to_owned(), order }]),
        );
    }
    let numbers = off
        .iter()
        .flat_map(|(row, channels)| channels.iter().map(move |(channel, by)| (row * width + channel, *by)));
    let first: Vec<String> = off.keys().take(4).map(usize::to_string).collect();
    found.push(
        Hypothesis::new(
            "changed-rows",
            format!("{} rows of {name} are not the golden's: {}", off.len(), first.join(", ")),
            format!("restore {name} from the original model"),
        )
        .because(format!("{} of {} rows that were read differ", off.len(), wanted.len()))
        .undone_by([Change::Add(name.to_owned(), numbers.collect())]),
    );
    found
}
