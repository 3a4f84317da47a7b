//! Causes in the rows and columns of heads: their order, and the scale of the queries.

use deberta_reference::{Module, Param, locate};

use super::{Search, permuted_heads, rows_of};
use crate::diagnose::Hypothesis;
use crate::diagnose::residual::{Linear, Residual, block_order};
use crate::fault::{Change, by_head_to_thirds, exchange, inverse, scaled_queries};

impl Search<'_> {
    /// Rows of in_proj in another order.
    pub(super) fn moved_heads(&self, layer: usize, residual: &Residual<'_>) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let (h, d) = (config.num_attention_heads, config.head_size());
        let Some(order) = block_order(residual, d) else { return Vec::new() };
        let rows = rows_of(&order, d);
        let split = |thirds: &[usize]| rows == thirds;
        let thirds = by_head_to_thirds(h, d);
        if split(&thirds) || split(&inverse(&thirds)) {
            return self.splits(layer);
        }
        let model = self.model;
        let name = model.weight(Module::InProj, layer);
        let only = Change::Rows { name: name.clone(), order: rows };
        let heads: Vec<usize> = order.iter().step_by(3).map(|block| block / 3).collect();
        let whole = order
            .iter()
            .enumerate()
            .all(|(at, block)| heads.get(at / 3).map(|head| head * 3 + at % 3) == Some(*block));
        let mut found = vec![
            permuted_heads(&name, if whole { &heads } else { &order })
                .because("the numbers of every head are there, in the wrong place")
                .undone_by([only.clone()]),
        ];
        if whole {
            let order = rows_of(&heads, d);
            let attention = model.path(Module::SelfAttention, layer);
            // The biases of tokens come before the projections of positions, in the order of parameters.
            let single = model.of_heads(layer).filter(|(_, parts)| parts.len() == 1);
            let (biases, positions): (Vec<_>, Vec<_>) =
                single.map(|(param, _)| param).partition(|param| param.module == Module::SelfAttention);
            let rows = |param: Param| Change::Rows { name: param.name, order: order.clone() };
            let biases: Vec<Change> = [only].into_iter().chain(biases.into_iter().map(rows)).collect();
            let all: Vec<Change> = biases.iter().cloned().chain(positions.into_iter().map(rows)).collect();
            let dense =
                Change::Columns { name: model.weight(Module::AttentionDense, layer), order: order.clone() };
            let with_dense = all.iter().cloned().chain([dense]).collect::<Vec<_>>();
            for changes in [biases, all, with_dense] {
                found.push(permuted_heads(&attention, &heads).undone_by(changes));
            }
        }
        found
    }

    /// Columns of a kernel that takes heads, in another order: two heads exchanged.
    pub(super) fn permuted_columns(
        &self,
        path: &str,
        layer: &Linear<'_>,
        residual: &Residual<'_>,
    ) -> Option<Hypothesis> {
        let config = &self.model.config;
        let takes_heads = locate(path).is_some_and(|(_, module)| module == Module::AttentionDense);
        if !takes_heads || residual.channels().len() < 2 {
            return None;
        }
        let (h, d, hidden) = (config.num_attention_heads, config.head_size(), config.hidden_size);
        let name = layer.weight.to_owned();
        let pairs = (0..h).flat_map(|a| (a + 1..h).map(move |b| (a, b)));
        let mut orders = pairs.map(|(a, b)| ((a, b), exchange(hidden, d, a, b)));
        let weight = self.model.values(&name)?;
        let bias = layer.bias.and_then(|bias| self.model.values(bias));
        let (want, width) = self.section.rows(path)?;
        let allowed = self.section.pair(self.isolated, path)?.allowed;
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

    /// Any two heads, where the golden does not show which: of in_proj, or of what takes the context.
    pub(super) fn exchanged_heads(&self, layer: usize, columns: bool) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let (h, d, hidden) = (config.num_attention_heads, config.head_size(), config.hidden_size);
        let (module, len, block) =
            if columns { (Module::AttentionDense, hidden, d) } else { (Module::InProj, 3 * hidden, 3 * d) };
        let weight = self.model.weight(module, layer);
        let mut found = Vec::new();
        for (a, b) in (0..h.min(16)).flat_map(|a| (a + 1..h.min(16)).map(move |b| (a, b))) {
            let mut heads: Vec<usize> = (0..h).collect();
            heads.swap(a, b);
            let (name, order) = (weight.clone(), exchange(len, block, a, b));
            let change = if columns { Change::Columns { name, order } } else { Change::Rows { name, order } };
            found.push(permuted_heads(&weight, &heads).undone_by([change]));
        }
        found
    }

    pub(super) fn splits(&self, layer: usize) -> Vec<Hypothesis> {
        let config = &self.model.config;
        if config.num_attention_heads < 2 {
            return Vec::new();
        }
        let thirds = by_head_to_thirds(config.num_attention_heads, config.head_size());
        let back = inverse(&thirds);
        let name = |layer| self.model.weight(Module::InProj, layer);
        [
            (back, "all of q, all of k, all of v"),
            (thirds, "a third per head where the golden has all of q, k, v"),
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
