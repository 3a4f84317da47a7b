//! What may be wrong where numbers first diverge: first what the numbers themselves say, then what is known to go wrong.

use std::borrow::Cow;

use deberta_reference::Head;

use super::attention::value_bias;
use super::residual::{Linear, Residual, block_order, linear, misplaced, norm, table};
use super::section::{Section, Stage};
use super::{Divergence, Hypothesis};
use crate::fault::{Change, Model, Setting};
use crate::trace::file::Trace;

mod heads;
mod known;
mod positions;

/// The hypotheses for the first divergence of a section, the likeliest first.
pub(super) fn of(model: &Model, section: &Section<'_>, divergence: &Divergence<'_>) -> Vec<Hypothesis> {
    let free = section.run(model, false).unwrap_or_default();
    let isolated = section.run(model, true).unwrap_or_else(|_| free.clone());
    let mut at = section.diverging(&isolated).first().copied();
    if at.is_none() {
        at = section.diverging(&free).first().copied();
    }
    let Some(at) = at else { return Vec::new() };
    let suspects = section.suspects(at).to_vec();
    let search = Search { model, section, divergence, isolated: &isolated, free: &free };
    let mut found: Vec<Hypothesis> = search.fresh_head().into_iter().collect();
    found.extend(suspects.iter().flat_map(|path| search.evidence(path)));
    found.extend(suspects.iter().flat_map(|path| search.usual(path)));
    if suspects.iter().any(|path| of_scores(path)) {
        found.extend(search.scores());
    } else if suspects.iter().any(|path| path.ends_with("pos_proj") || path.ends_with("pos_q_proj")) {
        found.extend(search.terms());
    }
    found.sort_by_key(|hypothesis| !hypothesis.proves);
    found
}

/// Whether a point is one of those between the projections and the context.
fn of_scores(path: &str) -> bool {
    ["c2c", "c2p", "p2c", "scores", "probs", "self"].iter().any(|name| path.rsplit('.').next() == Some(name))
}

struct Search<'s> {
    model: &'s Model,
    section: &'s Section<'s>,
    divergence: &'s Divergence<'s>,
    /// What every module computes from the golden's input.
    isolated: &'s Trace,
    /// What the section computes from the golden's input.
    free: &'s Trace,
}

impl Search<'_> {
    fn layer(&self, path: &str) -> Option<usize> {
        let rest = path.strip_prefix(self.model.base())?.strip_prefix("encoder.layer.")?;
        rest.split('.').next()?.parse().ok()
    }

    fn residual(&self, path: &str) -> Option<Residual<'_>> {
        self.section.pair(self.isolated, path).map(Residual::new)
    }

    /// What the numbers at a point say about its parameters.
    fn evidence(&self, path: &str) -> Vec<Hypothesis> {
        let Some(residual) = self.residual(path) else { return Vec::new() };
        let model = self.model;
        let config = &model.config;
        let mut found = Vec::new();
        let (weight, bias) = parameters(model, path);
        let last = path.rsplit('.').next().unwrap_or(path);
        match (last, self.layer(path)) {
            ("self", Some(layer)) => {
                let pair = self.section.pair(self.isolated, path);
                return pair
                    .and_then(|pair| value_bias(model, &model.layer(layer), pair))
                    .into_iter()
                    .collect();
            }
            ("word_embeddings" | "position_embeddings" | "token_type_embeddings", _) => {
                return match self.looked_up(last, path) {
                    Some(rows) => table(model, &weight, &rows, &residual),
                    None => Vec::new(),
                };
            }
            ("LayerNorm", _) => {
                found.extend(self.swapped_gamma_beta(path));
                found.extend(self.other_eps());
                found.extend(norm(model, path, &residual));
                return found;
            }
            ("in_proj", Some(layer)) => found.extend(self.moved_heads(layer, &residual)),
            ("pos_proj" | "pos_q_proj", _) => {
                if let Some(order) = block_order(&residual, config.head_size()) {
                    let rows = rows_of(&order, config.head_size());
                    let change = Change::Rows { name: weight.clone(), order: rows };
                    found.push(permuted_heads(&weight, &order).undone_by([change]));
                }
            }
            _ => {}
        }
        if let Some((input, width)) = self.input(path, residual_rows(self.section, path)) {
            let linear_layer = Linear { weight: &weight, bias: bias.as_deref(), input: &input, width };
            found.extend(linear(model, &linear_layer, &residual));
            for (other, with_bias) in misplaced(model, &linear_layer, &residual) {
                found.extend(self.taken_from(path, &weight, &other, with_bias));
            }
            if let Some(order) = self.permuted_columns(path, &linear_layer, &residual) {
                found.push(order);
            }
        }
        found
    }

    /// What usually goes wrong with the module of a point, whatever the numbers say.
    fn usual(&self, path: &str) -> Vec<Hypothesis> {
        let model = self.model;
        let mut found = Vec::new();
        let (weight, bias) = parameters(model, path);
        let last = path.rsplit('.').next().unwrap_or(path);
        let zero =
            |name: &str| model.values(name).is_some_and(|values| values.iter().all(|&value| value == 0.0));
        if let Some(&[rows, columns]) = model.shape(&weight)
            && !last.ends_with("embeddings")
        {
            if rows == columns {
                found.push(self.transposed(&weight));
            }
            if zero(&weight) {
                let cause = format!("{weight} is all zero");
                found.push(Hypothesis::new("zero-parameter", cause, "convert the original model again"));
            }
            let same = |other: &&str| {
                **other != weight
                    && model.shape(other) == model.shape(&weight)
                    && model.values(other) == model.values(&weight)
            };
            if let Some(other) = model.names().find(same) {
                let cause = format!("{weight} is the same as {other}");
                let repair = "convert the original model again: one of them was written twice";
                found.push(
                    Hypothesis::new("misplaced-parameter", cause, repair).because("every number is equal"),
                );
            }
            let negate = Change::Scale { name: weight.clone(), rows: None, factor: -1.0 };
            let cause = format!("{weight} has the other sign");
            found.push(
                Hypothesis::new("negated-parameter", cause, "restore it from the original model")
                    .undone_by([negate]),
            );
        }
        if let Some(bias) = bias.filter(|bias| zero(bias)) {
            let cause = format!("{bias} is all zero: it may have been dropped");
            let repair = "convert the original model again, with this bias";
            found.push(Hypothesis::new("dropped-bias", cause, repair));
        }
        match (last, self.layer(path)) {
            ("in_proj", Some(layer)) => {
                found.extend(self.splits(layer));
                found.extend(self.scales(layer));
                if self.section.want(path).is_none() {
                    found.extend(self.exchanged_heads(layer, false));
                }
                if self.section.want(path).is_none() || self.section.stage == Stage::Whole {
                    let others = (0..model.config.num_hidden_layers).filter(|&other| other != layer).take(48);
                    found.extend(others.map(|other| self.swapped(layer, other)));
                }
            }
            ("pos_proj" | "pos_q_proj", _) => found.extend(self.distances(path)),
            ("dense", Some(layer))
                if path.ends_with("attention.output.dense") && self.section.want(path).is_none() =>
            {
                found.extend(self.exchanged_heads(layer, true));
            }
            ("LayerNorm", layer) if self.residual(path).is_none() => {
                found.extend(self.swapped_gamma_beta(path));
                found.extend(self.other_eps());
                found.extend(layer.map(|layer| self.exchanged_norms(layer)));
                if layer.is_none() {
                    found.extend(self.activations(last));
                }
            }
            ("intermediate" | "pooler" | "transform", _) | ("LayerNorm", None) => {
                found.extend(self.activations(last))
            }
            ("embeddings", _) => found.extend(self.other_embeddings()),
            _ => {}
        }
        if path.ends_with("embeddings.LayerNorm") || path.ends_with("embeddings.position_embeddings") {
            found.extend(self.other_embeddings());
        }
        if path.ends_with("embeddings.token_type_embeddings") {
            found.extend(self.other_embeddings());
        }
        found
    }

    /// The input of the linear layer at a path, row by row, for as many rows.
    fn input(&self, path: &str, rows: usize) -> Option<(Cow<'_, [f32]>, usize)> {
        let section = self.section;
        let sibling = |name: &str| section.rows(name).map(|(rows, width)| (Cow::Borrowed(rows), width));
        let entrance = || section.input().map(|(rows, width)| (Cow::Borrowed(rows), width));
        if let Some(layer) = self.layer(path) {
            let layer = self.model.layer(layer);
            return match path.strip_prefix(&layer)? {
                ".attention.self.in_proj" if section.stage != Stage::Whole => entrance(),
                ".attention.self.pos_proj" | ".attention.self.pos_q_proj" => {
                    let name = format!("{}encoder.rel_embeddings.weight", self.model.base());
                    let &[all, width] = self.model.shape(&name)? else { return None };
                    let start = (all / 2).checked_sub(rows / 2)?;
                    let table = self.model.values(&name)?.get(start * width..(start + rows) * width)?;
                    Some((Cow::Borrowed(table), width))
                }
                ".attention.output.dense" => sibling(&format!("{layer}.attention.self")),
                ".intermediate.dense" => ["attention", "attention.output", "attention.output.LayerNorm"]
                    .iter()
                    .find_map(|name| sibling(&format!("{layer}.{name}"))),
                ".output.dense" => sibling(&format!("{layer}.intermediate")),
                _ => None,
            };
        }
        if section.stage == Stage::Whole {
            return None;
        }
        match path {
            "cls.predictions.transform.dense" | "lm_predictions.lm_head.dense" | "qa_outputs" => entrance(),
            "classifier" if self.model.class.head == Head::TokenClassification => entrance(),
            "classifier" => sibling("pooler"),
            "cls.predictions.decoder" | "cls.predictions" | "cls" => ["", ".LayerNorm"]
                .iter()
                .find_map(|name| sibling(&format!("cls.predictions.transform{name}"))),
            "lm_predictions.lm_head" | "lm_predictions" => sibling("lm_predictions.lm_head.LayerNorm"),
            "pooler.dense" => {
                let (states, width) = section.input()?;
                let each = states.len() / width.max(1) / rows.max(1) * width;
                let first = states.chunks(each.max(1)).flat_map(|states| states.iter().take(width).copied());
                Some((Cow::Owned(first.collect()), width))
            }
            _ => None,
        }
    }

    /// The row of a table that every position reads.
    fn looked_up(&self, last: &str, path: &str) -> Option<Vec<usize>> {
        let inputs = self.divergence.inputs;
        let rows = residual_rows(self.section, path);
        let all = |ids: &ndarray::Array2<i64>| -> Option<Vec<usize>> {
            ids.iter().map(|&id| usize::try_from(id).ok()).collect()
        };
        match last {
            "word_embeddings" => all(inputs.input_ids.as_ref()?),
            "token_type_embeddings" => match &inputs.token_type_ids {
                Some(types) => all(types),
                None => Some(vec![0; rows]),
            },
            _ => match &inputs.position_ids {
                Some(ids) => all(ids),
                None => {
                    let n = inputs.input_ids.as_ref().map(|ids| ids.dim().1);
                    let n = n.or(inputs.inputs_embeds.as_ref().map(|embeds| embeds.dim().1))?;
                    Some((0..rows).map(|row| row % n.max(1)).collect())
                }
            },
        }
    }
}

/// The weight and the bias of the module at a path.
fn parameters(model: &Model, path: &str) -> (String, Option<String>) {
    let (weight, bias) = match path {
        "cls" | "cls.predictions" | "cls.predictions.decoder" => {
            let own = "cls.predictions.decoder.weight".to_owned();
            let tied = || format!("{}embeddings.word_embeddings.weight", model.base());
            let weight = if model.shape(&own).is_some() { own } else { tied() };
            (weight, "cls.predictions.bias".to_owned())
        }
        "lm_predictions" | "lm_predictions.lm_head" => (
            format!("{}embeddings.word_embeddings.weight", model.base()),
            "lm_predictions.lm_head.bias".to_owned(),
        ),
        _ => (format!("{path}.weight"), format!("{path}.bias")),
    };
    let there = model.shape(&bias).is_some();
    (weight, there.then_some(bias))
}

/// How many rows a point of the golden has.
fn residual_rows(section: &Section<'_>, path: &str) -> usize {
    section.rows(path).map_or(0, |(values, width)| values.len() / width.max(1))
}

fn setting(kind: &'static str, setting: Setting, own: &str) -> Hypothesis {
    let line = setting.line();
    Hypothesis::new(kind, format!("the configuration has {own}; the golden was computed with {line}"), line)
        .undone_by([Change::Config(setting)])
}

fn permuted_heads(name: &str, order: &[usize]) -> Hypothesis {
    let moved: Vec<String> = order
        .iter()
        .enumerate()
        .filter(|(at, head)| at != *head)
        .map(|(at, head)| format!("{head} for {at}"))
        .take(6)
        .collect();
    Hypothesis::new(
        "permuted-heads",
        format!("{name}: heads are in another order: {}", moved.join(", ")),
        "restore the order of the heads from the original model",
    )
}

/// The order of rows for an order of blocks.
fn rows_of(blocks: &[usize], width: usize) -> Vec<usize> {
    blocks.iter().flat_map(|block| (0..width).map(move |at| block * width + at)).collect()
}

/// The name inside of a layer.
fn in_layer(name: &str) -> &str {
    let rest = name.split_once("encoder.layer.").and_then(|(_, rest)| rest.split_once('.'));
    rest.map_or(name, |(_, name)| name)
}
