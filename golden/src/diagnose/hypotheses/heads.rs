//! Causes in the rows and columns of heads: their order, and the scale of the queries.

use deberta_reference::{Module, Param, Part};

use super::{Search, permuted_blocks, permuted_heads, rows_of};
use crate::diagnose::Hypothesis;
use crate::diagnose::attention::solve;
use crate::diagnose::residual::{Linear, Residual, block_order, moved_bias};
use crate::fault::{Change, by_head_to_parts, inverse, orders_of_heads, scaled_part};
use crate::trace::points::Point;

/// The most heads whose order is looked for in the columns of a kernel: their squares are unknowns.
const MOST_HEADS: usize = 16;
/// The most equations for them.
const EQUATIONS: usize = 4096;

impl Search<'_> {
    /// Rows of a projection in another order: its numbers are all there, elsewhere.
    pub(super) fn moved_heads(
        &self,
        layer: usize,
        weight: &str,
        bias: Option<&str>,
        residual: &Residual<'_>,
    ) -> Vec<Hypothesis> {
        let Some(parts) = self.parts(weight) else { return Vec::new() };
        let (model, parts) = (self.model, parts.len());
        let (h, d) = (model.config.num_attention_heads, model.config.head_size());
        let rows = |name: &str, order: Vec<usize>| Change::Rows { name: name.to_owned(), order };
        let evidence = "the numbers of every head are there, in the wrong place";
        let own = bias.and_then(|bias| Some((bias, model.values(bias)?)));
        let mut found = Vec::new();
        if let Some((bias, values)) = own {
            // The rows of the weight, or the numbers of the bias, alone.
            if let Some(order) = block_order(residual, d, Some(values)) {
                let change = rows(weight, rows_of(&order, d));
                found.push(permuted_heads(weight, &order).because(evidence).undone_by([change]));
            }
            if let Some(order) = moved_bias(residual, d, values) {
                let change = rows(bias, rows_of(&order, d));
                found.push(permuted_heads(bias, &order).because(evidence).undone_by([change]));
            }
        }
        let Some(order) = block_order(residual, d, None) else { return found };
        let all_rows = rows_of(&order, d);
        let by_part = by_head_to_parts(h, parts, d);
        if parts > 1 && (all_rows == by_part || all_rows == inverse(&by_part)) {
            return self.splits(layer, weight);
        }
        let heads: Vec<usize> = order.iter().step_by(parts).map(|block| block / parts).collect();
        let in_place = |(at, block): (usize, &usize)| {
            heads.get(at / parts).map(|head| head * parts + at % parts) == Some(*block)
        };
        let whole = order.iter().enumerate().all(in_place);
        let both = |order: &[usize]| {
            let bias = own.map(|(bias, _)| rows(bias, order.to_vec()));
            [rows(weight, order.to_vec())].into_iter().chain(bias)
        };
        let name = own.map_or_else(|| weight.to_owned(), |(bias, _)| format!("{weight} and {bias}"));
        let hypothesis = if whole {
            permuted_heads(&name, &heads)
        } else {
            permuted_blocks(&name, &order, self.parts(weight))
        };
        found.push(hypothesis.because(evidence).undone_by(both(&all_rows)));
        if whole {
            found.extend(self.moved_with_others(layer, &heads));
        }
        found
    }

    /// Whole heads in another order, in more and more of what is made of heads.
    pub(super) fn moved_with_others(&self, layer: usize, heads: &[usize]) -> Vec<Hypothesis> {
        use Part::{Key, PositionKey, PositionQuery, Query, Value};
        let model = self.model;
        let d = model.config.head_size();
        let name = model.weight(Module::AttentionDense, layer);
        let dense = Change::Columns { name, order: rows_of(heads, d) };
        let attention = model.path(Module::SelfAttention, layer);
        let sets: [(&str, &[Part], bool); 4] = [
            ("queries and keys", &[Query, Key], false),
            ("queries, keys and values", &[Query, Key, Value], false),
            (
                "queries, keys and values, and those of positions,",
                &[Query, Key, Value, PositionKey, PositionQuery],
                false,
            ),
            ("all that knows heads", &[Query, Key, Value, PositionKey, PositionQuery], true),
        ];
        let moved = |(what, parts, with_dense): (&str, &[Part], bool)| {
            let changes =
                self.moved_parts(layer, heads, parts).into_iter().chain(with_dense.then(|| dense.clone()));
            permuted_heads(&format!("{what} of {attention}"), heads).undone_by(changes)
        };
        sets.map(moved).into()
    }

    /// Some parts of heads in another order, in everything that has them: other parts stay where they are.
    fn moved_parts(&self, layer: usize, heads: &[usize], wanted: &[Part]) -> Vec<Change> {
        let d = self.model.config.head_size();
        let change = |(param, parts): (Param, &[Part])| {
            let block = |(head, &from): (usize, &usize)| {
                let row = move |(at, part): (usize, &Part)| {
                    (if wanted.contains(part) { from } else { head }) * parts.len() + at
                };
                parts.iter().enumerate().map(row).collect::<Vec<_>>()
            };
            let blocks: Vec<usize> = heads.iter().enumerate().flat_map(block).collect();
            (!blocks.is_sorted()).then(|| Change::Rows { name: param.name, order: rows_of(&blocks, d) })
        };
        self.model.of_heads(layer).filter_map(change).collect()
    }

    /// Columns of a kernel that takes heads, in another order. What the golden has is a sum of what each block of columns makes
    /// of each head; the blocks and heads that belong together are those with a share of 1, by least squares.
    pub(super) fn permuted_columns(
        &self,
        point: &Point,
        layer: &Linear<'_>,
        residual: &Residual<'_>,
    ) -> Option<Hypothesis> {
        let config = &self.model.config;
        let (h, d, hidden) = (config.num_attention_heads, config.head_size(), config.hidden_size);
        if point.module != Module::AttentionDense
            || residual.channels().len() < 2
            || !(2..=MOST_HEADS).contains(&h)
        {
            return None;
        }
        let name = layer.weight.to_owned();
        let weight = self.model.values(&name)?;
        let bias = layer.bias.and_then(|bias| self.model.values(bias));
        let (want, width) = self.section.rows(&point.name)?;
        let unknown = h * h;
        let (mut normal, mut right) = (vec![0.0_f64; unknown * unknown], vec![0.0_f64; unknown]);
        let rows = want.chunks_exact(width).zip(layer.input.chunks_exact(hidden));
        let step = (want.len() / EQUATIONS).max(1);
        let equations = rows
            .flat_map(|(want, x)| want.iter().enumerate().map(move |(channel, &want)| (channel, want, x)));
        for (channel, want, x) in equations.step_by(step) {
            let row = weight.get(channel * hidden..(channel + 1) * hidden)?;
            let share = |block: usize, head: usize| -> f64 {
                let pairs = row.iter().skip(block * d).zip(x.iter().skip(head * d)).take(d);
                pairs.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
            };
            let shares: Vec<f64> = (0..unknown).map(|at| share(at % h, at / h)).collect();
            let bias = bias.and_then(|bias| bias.get(channel)).map_or(0.0, |&bias| f64::from(bias));
            for (sums, &one) in normal.chunks_exact_mut(unknown).zip(&shares) {
                sums.iter_mut().zip(&shares).for_each(|(sum, &other)| *sum += one * other);
            }
            right.iter_mut().zip(&shares).for_each(|(sum, &share)| *sum += share * (f64::from(want) - bias));
        }
        let shares = solve(normal, right, unknown);
        let block = |shares: &[f64]| {
            let (at, share) =
                shares.iter().enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other))?;
            (*share > 0.9).then_some(at)
        };
        let heads: Vec<usize> = shares.chunks_exact(h).map(block).collect::<Option<_>>()?;
        let all = (0..h).all(|head| heads.contains(&head));
        let order = rows_of(&heads, d);
        let found = permuted_heads(&name, &heads).undone_by([Change::Columns { name, order }]);
        (all && !heads.is_sorted()).then_some(found)
    }

    /// Any two heads, or all of few, where the golden does not show which: of a projection, or of what takes the context.
    pub(super) fn exchanged_heads(&self, weight: &str, columns: bool) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let (h, d) = (config.num_attention_heads, config.head_size());
        let parts = if columns { 1 } else { self.parts(weight).map_or(1, <[Part]>::len) };
        let block = parts * d;
        let hypothesis = |heads: Vec<usize>| {
            let (name, order) = (weight.to_owned(), rows_of(&heads, block));
            let change = if columns { Change::Columns { name, order } } else { Change::Rows { name, order } };
            // Values in another order, and what takes them, are the same.
            permuted_heads(weight, &heads).undone_by([change]).says_what(false)
        };
        orders_of_heads(h).into_iter().map(hypothesis).collect()
    }

    /// Heads in another order in queries and keys, or more, where the golden does not show which.
    pub(super) fn exchanged_with_others(&self, layer: usize) -> Vec<Hypothesis> {
        let orders = orders_of_heads(self.model.config.num_attention_heads).into_iter();
        let moved = orders.flat_map(|heads| self.moved_with_others(layer, &heads).into_iter().take(2));
        moved.map(|hypothesis| hypothesis.says_what(false)).collect()
    }

    /// All rows of each part together, where they should be head by head, and the other way round.
    pub(super) fn splits(&self, layer: usize, weight: &str) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let parts = self.parts(weight).map_or(1, <[Part]>::len);
        if config.num_attention_heads < 2 || parts < 2 {
            return Vec::new();
        }
        let by_part = by_head_to_parts(config.num_attention_heads, parts, config.head_size());
        let back = inverse(&by_part);
        let module = self.param(weight).map(|param| param.module);
        let name = |layer| module.map_or_else(String::new, |module| self.model.weight(module, layer));
        [
            (back, "all of q, all of k, all of v"),
            (by_part, "a third per head where the golden has all of q, k, v"),
        ]
        .into_iter()
        .map(|(order, how)| {
            let rows = |layer| Change::Rows { name: name(layer), order: order.clone() };
            Hypothesis::new(
                "naive-split",
                format!("the rows of {} are split naively: {how}", name(layer)),
                "DeBERTa stores the rows head by head, each as q, k, v: convert the original model again",
            )
            .undone_by([rows(layer)])
            .wider(", and so they are in every layer", (0..config.num_hidden_layers).map(rows).collect())
        })
        .collect()
    }

    /// Queries, or keys, that are a factor too large, or too small.
    pub(super) fn scales(&self, layer: usize) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let (terms, d) = (config.scale_terms(), config.head_size());
        let numbers = [(terms, "the number of terms of the scores"), (d, "the size of a head")];
        let mut ways: Vec<(f64, String)> = Vec::new();
        for (number, what) in numbers.into_iter().filter(|(number, _)| *number > 1) {
            let root = (number as f64).sqrt();
            ways.push((1.0 / root, format!("are not divided by √{number}, {what}")));
            ways.push((root, format!("are divided twice by √{number}, {what}")));
        }
        for other in (2..=3).filter(|&other| other != terms) {
            let factor = (terms as f64 / other as f64).sqrt();
            ways.push((1.0 / factor, format!("are divided by √{other} where the scores have √{terms}")));
            ways.push((factor, format!("are {factor:.4} times too small: √{terms} for √{other}")));
        }
        let mut known: Vec<f64> = Vec::new();
        ways.retain(|(factor, _)| {
            let new =
                (factor - 1.0).abs() > 1e-3 && known.iter().all(|known| (factor / known - 1.0).abs() > 1e-3);
            known.push(*factor);
            new
        });
        let what = [(Part::Query, "queries"), (Part::Key, "keys")];
        let of = |(part, what): (Part, &'static str)| {
            let undone = move |layer, factor: f64| scaled_part(self.model, layer, part, factor as f32);
            ways.iter().map(move |(factor, how)| {
                Hypothesis::new(
                    "missing-scale",
                    format!("{what} of layer {layer} {how}"),
                    "scores are divided by √(d (1 + position terms)) once, at run time, not in the weights",
                )
                .undone_by(undone(layer, *factor))
                .wider(
                    ", and so they are in every layer",
                    (0..config.num_hidden_layers).flat_map(|layer| undone(layer, *factor)).collect(),
                )
            })
        };
        what.into_iter().flat_map(of).collect()
    }
}
