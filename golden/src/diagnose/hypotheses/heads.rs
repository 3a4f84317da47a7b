//! Causes in the rows and columns of heads: their order, and the scale of the queries.

use deberta_reference::{Module, Param, Part};

use super::{Search, permuted_heads, rows_of};
use crate::diagnose::Hypothesis;
use crate::diagnose::residual::{Linear, Residual, block_order, moved_bias};
use crate::fault::{Change, by_head_to_parts, exchange, inverse, scaled_queries};
use crate::trace::points::Point;

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
        let blocks = if whole { &heads } else { &order };
        found.push(permuted_heads(weight, blocks).because(evidence).undone_by(both(&all_rows)));
        if whole {
            found.extend(self.moved_with_others(layer, &heads));
        }
        found
    }

    /// Whole heads in another order, in more and more of what is made of heads.
    fn moved_with_others(&self, layer: usize, heads: &[usize]) -> Vec<Hypothesis> {
        let model = self.model;
        let d = model.config.head_size();
        let of_positions =
            |parts: &[Part]| parts.iter().all(|part| matches!(part, Part::PositionKey | Part::PositionQuery));
        let (positions, tokens): (Vec<_>, Vec<_>) =
            model.of_heads(layer).partition(|(_, parts)| of_positions(parts));
        let rows = |(param, parts): (Param, &[Part])| Change::Rows {
            name: param.name,
            order: rows_of(heads, parts.len() * d),
        };
        let tokens: Vec<Change> = tokens.into_iter().map(rows).collect();
        let all: Vec<Change> = tokens.iter().cloned().chain(positions.into_iter().map(rows)).collect();
        let name = model.weight(Module::AttentionDense, layer);
        let dense = Change::Columns { name, order: rows_of(heads, d) };
        let with_dense = all.iter().cloned().chain([dense]).collect::<Vec<_>>();
        let attention = model.path(Module::SelfAttention, layer);
        [tokens, all, with_dense].map(|changes| permuted_heads(&attention, heads).undone_by(changes)).into()
    }

    /// Columns of a kernel that takes heads, in another order: two heads exchanged.
    pub(super) fn permuted_columns(
        &self,
        point: &Point,
        layer: &Linear<'_>,
        residual: &Residual<'_>,
    ) -> Option<Hypothesis> {
        let config = &self.model.config;
        if point.module != Module::AttentionDense || residual.channels().len() < 2 {
            return None;
        }
        let (h, d, hidden) = (config.num_attention_heads, config.head_size(), config.hidden_size);
        let name = layer.weight.to_owned();
        let pairs = (0..h).flat_map(|a| (a + 1..h).map(move |b| (a, b)));
        let mut orders = pairs.map(|(a, b)| ((a, b), exchange(hidden, d, a, b)));
        let weight = self.model.values(&name)?;
        let bias = layer.bias.and_then(|bias| self.model.values(bias));
        let (want, width) = self.section.rows(&point.name)?;
        let allowed = self.section.pair(self.isolated, &point.name)?.allowed;
        let computes = |order: &[usize]| {
            want.chunks_exact(width).zip(layer.input.chunks_exact(hidden)).take(3).all(|(want, x)| {
                (0..width).step_by((width / 6).max(1)).all(|channel| {
                    let row = weight.get(channel * hidden..(channel + 1) * hidden).unwrap_or_default();
                    let terms = order
                        .iter()
                        .zip(x)
                        .filter_map(|(&at, &x)| Some(f64::from(*row.get(at)?) * f64::from(x)));
                    let bias = bias.and_then(|bias| bias.get(channel)).map_or(0.0, |&bias| f64::from(bias));
                    let sum = terms.sum::<f64>() + bias;
                    want.get(channel)
                        .is_some_and(|&want| (sum - f64::from(want)).abs() <= 4.0 * allowed.allowance(want))
                })
            })
        };
        let ((a, b), order) = orders.find(|(_, order)| computes(order))?;
        let mut heads: Vec<usize> = (0..h).collect();
        heads.swap(a, b);
        Some(permuted_heads(&name, &heads).undone_by([Change::Columns { name, order }]))
    }

    /// Any two heads, where the golden does not show which: of a projection, or of what takes the context.
    pub(super) fn exchanged_heads(&self, weight: &str, columns: bool) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let (h, d) = (config.num_attention_heads, config.head_size());
        let parts = if columns { 1 } else { self.parts(weight).map_or(1, <[Part]>::len) };
        let block = parts * d;
        let mut found = Vec::new();
        for (a, b) in (0..h.min(16)).flat_map(|a| (a + 1..h.min(16)).map(move |b| (a, b))) {
            let mut heads: Vec<usize> = (0..h).collect();
            heads.swap(a, b);
            let (name, order) = (weight.to_owned(), exchange(h * block, block, a, b));
            let change = if columns { Change::Columns { name, order } } else { Change::Rows { name, order } };
            found.push(permuted_heads(weight, &heads).undone_by([change]));
        }
        found
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

    /// Queries that are a factor too large, or too small.
    pub(super) fn scales(&self, layer: usize) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let terms = config.scale_terms();
        let numbers =
            [(terms, "the number of terms of the scores"), (config.head_size(), "the size of a head")];
        let numbers = numbers.into_iter().filter(|(number, _)| *number > 1);
        let undone = |layer, factor| scaled_queries(self.model, layer, factor);
        let ways = |(number, what)| {
            let root = (number as f32).sqrt();
            [(number, what, 1.0 / root, "not divided"), (number, what, root, "divided twice")]
        };
        numbers
            .flat_map(ways)
            .map(|(number, what, factor, how)| {
                Hypothesis::new(
                    "missing-scale",
                    format!("queries of layer {layer} are {how} by √{number}, {what}"),
                    "scores are divided by √(d (1 + position terms)) once, at run time, not in the weights",
                )
                .undone_by(undone(layer, factor))
                .wider(
                    ", and so they are in every layer",
                    (0..config.num_hidden_layers).flat_map(|layer| undone(layer, factor)).collect(),
                )
            })
            .collect()
    }
}
