//! What may be wrong where numbers first diverge: first what the numbers themselves say, then what is known to go wrong.

use std::borrow::Cow;

use deberta_reference::config::Activation;
use deberta_reference::{Head, Role};

use super::attention::{query_bias, value_bias};
use super::residual::{Linear, Residual, block_order, linear, misplaced, norm, table};
use super::section::{Section, Stage};
use super::{Divergence, Hypothesis};
use crate::fault::{
    Change, Model, Setting, by_head_to_thirds, exchange, inverse, same_activation, scaled_queries,
    swapped_layers,
};
use crate::trace_file::Trace;

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
                if self.section.want(path).is_none() || self.section.stage == Stage::Whole {
                    let others = (0..model.config.num_hidden_layers).filter(|&other| other != layer).take(48);
                    found.extend(others.map(|other| self.swapped(layer, other)));
                }
            }
            ("pos_proj" | "pos_q_proj", _) => found.extend(self.distances(path)),
            ("LayerNorm", _) if self.residual(path).is_none() => {
                found.extend(self.swapped_gamma_beta(path));
                found.extend(self.other_eps());
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
            "classifier" if self.model.class.head() == Head::TokenClassification => entrance(),
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

    fn transposed(&self, weight: &str) -> Hypothesis {
        let model = self.model;
        let square = |param: &deberta_reference::Param| {
            param.role == Role::LinearWeight && matches!(param.shape[..], [rows, columns] if rows == columns)
        };
        let kernels: Vec<String> =
            model.params().into_iter().filter(square).map(|param| param.name).collect();
        let alike = |name: &&String| in_layer(name) == in_layer(weight);
        let turn = |names: Vec<String>| names.into_iter().map(Change::Transpose).collect::<Vec<_>>();
        let same: Vec<String> = kernels.iter().filter(alike).cloned().collect();
        Hypothesis::new(
            "transposed-kernel",
            format!("{weight} is transposed"),
            "convert the original model again with deberta-convert, which transposes every kernel of Keras; square ones \
             do not show it in their shape",
        )
        .undone_by([Change::Transpose(weight.to_owned())])
        .wider(", and so it is in the other layers", turn(same))
        .wider(", and so is every square kernel", turn(kernels))
    }

    fn swapped_gamma_beta(&self, path: &str) -> Option<Hypothesis> {
        let swap = |path: &str| Change::Swap(format!("{path}.weight"), format!("{path}.bias"));
        self.model.shape(&format!("{path}.weight"))?;
        let norms = self.model.names().filter_map(|name| name.strip_suffix(".weight"));
        let norms = norms.filter(|name| name.ends_with("LayerNorm")).map(swap).collect();
        Some(
            Hypothesis::new(
                "swapped-gamma-beta",
                format!("{path}: γ (weight) and β (bias) are exchanged"),
                "exchange weight and bias of this normalisation",
            )
            .undone_by([swap(path)])
            .wider(", and so are those of every normalisation", norms),
        )
    }

    fn other_eps(&self) -> Vec<Hypothesis> {
        let own = self.model.config.layer_norm_eps;
        let usual = [1e-7, 1e-12, 1e-5, 1e-6, 1e-8, 1e-3].into_iter().filter(|eps| *eps != own);
        usual
            .map(|eps| setting("layer-norm-eps", Setting::Eps(eps), &format!("layer_norm_eps {own:e}")))
            .collect()
    }

    fn activations(&self, last: &str) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let pooler = last == "pooler";
        let own = if pooler { config.pooler_hidden_act } else { config.hidden_act };
        let mut tried = vec![own];
        let mut found = Vec::new();
        for name in Activation::NAMES {
            let Some(activation) = Activation::from_name(name) else { continue };
            if tried.iter().any(|&known| same_activation(known, activation)) {
                continue;
            }
            tried.push(activation);
            let own = if pooler { Setting::PoolerAct(own) } else { Setting::HiddenAct(own) };
            let other = if pooler { Setting::PoolerAct(activation) } else { Setting::HiddenAct(activation) };
            found.push(setting("hidden-act", other, &own.line()));
        }
        found
    }

    fn other_embeddings(&self) -> Vec<Hypothesis> {
        let (model, base) = (self.model, self.model.base());
        let mut found = Vec::new();
        let biased = model.config.position_biased_input;
        if model.shape(&format!("{base}embeddings.position_embeddings.weight")).is_some() {
            let own = format!("position_biased_input {biased}");
            found.push(setting("position-biased-input", Setting::PositionBiased(!biased), &own));
        }
        let types = model
            .shape(&format!("{base}embeddings.token_type_embeddings.weight"))
            .and_then(|shape| shape.first());
        if let Some(&types) = types {
            let own = model.config.type_vocab_size;
            let other = if own == 0 { types } else { 0 };
            found.push(setting(
                "type-vocab-size",
                Setting::TokenTypes(other),
                &format!("type_vocab_size {own}"),
            ));
        }
        found
    }

    /// Rows of in_proj in another order.
    fn moved_heads(&self, layer: usize, residual: &Residual<'_>) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let (h, d) = (config.num_attention_heads, config.head_size());
        let Some(order) = block_order(residual, d) else { return Vec::new() };
        let rows = rows_of(&order, d);
        let split = |thirds: &[usize]| rows == thirds;
        let thirds = by_head_to_thirds(h, d);
        if split(&thirds) || split(&inverse(&thirds)) {
            return self.splits(layer);
        }
        let path = self.model.layer(layer);
        let name = format!("{path}.attention.self.in_proj.weight");
        let only = Change::Rows { name: name.clone(), order: rows };
        let heads: Vec<usize> = order.iter().step_by(3).map(|block| block / 3).collect();
        let whole = order
            .iter()
            .enumerate()
            .all(|(at, block)| heads.get(at / 3).map(|head| head * 3 + at % 3) == Some(*block));
        let mut found =
            vec![permuted_heads(&name, if whole { &heads } else { &order }).undone_by([only.clone()])];
        if whole {
            let order = rows_of(&heads, d);
            let attention = format!("{path}.attention.self");
            let rows =
                |name: &str| Change::Rows { name: format!("{attention}.{name}"), order: order.clone() };
            let mut all = vec![only, rows("q_bias"), rows("v_bias")];
            if config.c2p() {
                all.push(rows("pos_proj.weight"));
            }
            if config.p2c() {
                all.extend([rows("pos_q_proj.weight"), rows("pos_q_proj.bias")]);
            }
            let biases = all.iter().take(3).cloned().collect::<Vec<_>>();
            let dense = Change::Columns { name: format!("{path}.attention.output.dense.weight"), order };
            let with_dense = all.iter().cloned().chain([dense]).collect::<Vec<_>>();
            for changes in [biases, all, with_dense] {
                found.push(permuted_heads(&attention, &heads).undone_by(changes));
            }
        }
        found
    }

    /// Columns of a kernel that takes heads, in another order: two heads exchanged.
    fn permuted_columns(
        &self,
        path: &str,
        layer: &Linear<'_>,
        residual: &Residual<'_>,
    ) -> Option<Hypothesis> {
        let config = &self.model.config;
        if !path.ends_with("attention.output.dense") || residual.channels().len() < 2 {
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

    fn splits(&self, layer: usize) -> Vec<Hypothesis> {
        let config = &self.model.config;
        if config.num_attention_heads < 2 {
            return Vec::new();
        }
        let thirds = by_head_to_thirds(config.num_attention_heads, config.head_size());
        let back = inverse(&thirds);
        let name = |layer| format!("{}.attention.self.in_proj.weight", self.model.layer(layer));
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
    fn scales(&self, layer: usize) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let terms = 1 + config.pos_att_type.len();
        let numbers =
            [(terms, "the number of terms of the scores"), (config.head_size(), "the size of a head")];
        let numbers = numbers.into_iter().filter(|(number, _)| *number > 1);
        let undone = |layer, factor| scaled_queries(self.model, layer, factor);
        numbers
            .flat_map(|(number, what)| [(number, what, true), (number, what, false)])
            .map(|(number, what, large)| {
                let root = (number as f32).sqrt();
                let factor = if large { 1.0 / root } else { root };
                let how = if large { "not divided" } else { "divided twice" };
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

    fn swapped(&self, layer: usize, other: usize) -> Hypothesis {
        Hypothesis::new(
            "permuted-layers",
            format!("layers {layer} and {other} are exchanged"),
            "restore the order of the layers: names are sorted as text somewhere, 10 before 2",
        )
        .undone_by(swapped_layers(self.model, layer, other))
    }

    fn taken_from(&self, path: &str, weight: &str, other: &str, with_bias: bool) -> Vec<Hypothesis> {
        let mut found = Vec::new();
        if let (Some(layer), Some(elsewhere)) = (self.layer(path), self.layer(other))
            && in_layer(weight) == in_layer(other)
        {
            found.push(self.swapped(layer, elsewhere));
        }
        let bias = |name: &str| format!("{}bias", name.trim_end_matches("weight"));
        let hypothesis = || {
            let cause = format!("{other} belongs to {weight}");
            let repair = "convert the original model again: parameters were mixed up";
            Hypothesis::new("misplaced-parameter", cause, repair)
                .because(format!("{path} of the golden was computed with {other}"))
        };
        let mut swap = vec![Change::Swap(other.to_owned(), weight.to_owned())];
        let mut copy = vec![Change::Copy { from: other.to_owned(), to: weight.to_owned() }];
        if with_bias {
            swap.push(Change::Swap(bias(other), bias(weight)));
            copy.push(Change::Copy { from: bias(other), to: bias(weight) });
        }
        found.push(hypothesis().undone_by(swap));
        found.push(hypothesis().undone_by(copy));
        found
    }

    /// Other relative distances than the golden's.
    fn distances(&self, path: &str) -> Vec<Hypothesis> {
        let name = format!("{}encoder.rel_embeddings.weight", self.model.base());
        let Some(&[rows, width]) = self.model.shape(&name) else { return Vec::new() };
        let h = self.model.config.num_attention_heads;
        let mut found = Vec::new();
        let of_heads = |span: usize| if span == h { ": the number of heads, taken for a length" } else { "" };
        let span_of = |shape: &[usize]| shape.iter().rev().nth(1).map(|rows| rows / 2);
        let want = self.section.want(path);
        let got = want.and_then(|want| self.free.get(&want.name));
        if let (Some(want), Some(got)) =
            (want.and_then(|want| span_of(&want.shape)), got.and_then(|got| span_of(&got.shape)))
        {
            if want > got {
                found.push(Hypothesis::new(
                    "span",
                    format!(
                        "the model knows relative distances up to {got}, the golden up to {want} or more{}",
                        of_heads(got)
                    ),
                    "correct max_relative_positions, and take all rows of rel_embeddings from the original model",
                ));
            } else if want < got {
                let order = (rows / 2 - want.min(rows / 2)..rows / 2 + want.min(rows / 2)).collect();
                let change = Change::Rows { name: name.clone(), order };
                found.push(
                    Hypothesis::new(
                        "span",
                        format!(
                            "the golden knows relative distances up to {want}, the model up to {got}{}",
                            of_heads(want)
                        ),
                        format!("{}, if the golden is right", Setting::MaxRelative(want).line()),
                    )
                    .undone_by([change, Change::Config(Setting::MaxRelative(want))]),
                );
            }
        }
        let reversed: Vec<usize> = (0..rows).rev().collect();
        let shifted = (0..rows).map(|row| (rows - row).min(rows - 1)).collect();
        for order in [reversed, shifted] {
            found.push(
                Hypothesis::new(
                    "reversed-positions",
                    "relative distances are j - i for i - j: the table is upside down",
                    "reverse the rows of rel_embeddings",
                )
                .undone_by([Change::Rows { name: name.clone(), order }]),
            );
        }
        // A single row of the table: its projection differs in one row.
        if let Some(pair) = self.section.pair(self.isolated, path) {
            let differing: Vec<usize> = pair
                .want
                .chunks_exact(pair.width)
                .zip(pair.got.chunks_exact(pair.width))
                .enumerate()
                .filter(|(_, (want, got))| {
                    want.iter().zip(*got).any(|(&want, &got)| !pair.allowed.allows(want, got))
                })
                .map(|(row, _)| row)
                .collect();
            let (weight, _) = parameters(self.model, path);
            if let ([row], Some(kernel)) = (differing.as_slice(), self.model.values(&weight)) {
                let at = |values: &[f32]| {
                    values.get(row * pair.width..(row + 1) * pair.width).map(<[f32]>::to_vec)
                };
                let (want, got) = (at(pair.want).unwrap_or_default(), at(pair.got).unwrap_or_default());
                let table_row = rows / 2 + row - pair.want.len() / pair.width / 2;
                for column in 0..width {
                    let k = || kernel.iter().skip(column).step_by(width).map(|&k| f64::from(k));
                    let off = || want.iter().zip(&got).map(|(&want, &got)| f64::from(want) - f64::from(got));
                    let energy: f64 = k().map(|k| k * k).sum();
                    let slope =
                        k().zip(off()).map(|(k, off)| k * off).sum::<f64>() / energy.max(f64::MIN_POSITIVE);
                    let explained = k().zip(off()).zip(&want).all(|((k, off), &want)| {
                        (off - slope * k).abs() <= 2.0 * pair.allowed.allowance(want)
                    });
                    if explained {
                        found.push(
                            Hypothesis::new(
                                "changed-weight",
                                format!("{name}[{table_row}, {column}] is off by {:.3e}", -slope),
                                format!("restore {name} from the original model"),
                            )
                            .because(format!("only row {row} of {path} differs"))
                            .undone_by([Change::Add(
                                name.clone(),
                                vec![(table_row * width + column, slope as f32)],
                            )]),
                        );
                    }
                }
            }
        }
        found
    }

    /// What goes wrong between the projections and the context.
    fn scores(&self) -> Vec<Hypothesis> {
        let model = self.model;
        let mut found = Vec::new();
        let layer = match self.section.stage {
            Stage::Layer(layer) => layer,
            _ => 0,
        };
        found.extend(query_bias(model, self.section, self.free, layer).into_iter().flatten());
        found.extend(self.terms());
        found.extend(self.scales(layer));
        for name in ["q_bias", "v_bias"] {
            let name = format!("{}.attention.self.{name}", model.layer(layer));
            if model.values(&name).is_some_and(|values| values.iter().all(|&value| value == 0.0)) {
                let kind = if name.ends_with("q_bias") { "dropped-q-bias" } else { "dropped-v-bias" };
                let cause = format!("{name} is all zero: it may have been dropped");
                found.push(Hypothesis::new(kind, cause, "convert the original model again, with this bias"));
            }
        }
        found
    }

    /// Other position terms.
    fn terms(&self) -> Vec<Hypothesis> {
        let config = &self.model.config;
        let mut found = Vec::new();
        let own = format!("pos_att_type {:?}", config.pos_att_type.join("|"));
        for terms in [&["c2p", "p2c"][..], &["c2p"], &["p2c"], &[]] {
            let terms: Vec<String> = terms.iter().map(|&term| term.to_owned()).collect();
            if terms != config.pos_att_type {
                let relative = config.relative_attention || !terms.is_empty();
                found.push(
                    setting("pos-att-type", Setting::Terms(terms.clone()), &own)
                        .undone_by([Setting::Terms(terms), Setting::Relative(relative)].map(Change::Config)),
                );
            }
        }
        let mut more = config.pos_att_type.clone();
        more.push("p2p".to_owned());
        found.push(setting("pos-att-type", Setting::Terms(more), &own));
        found
    }

    /// A head that was never trained.
    fn fresh_head(&self) -> Option<Hypothesis> {
        let model = self.model;
        if self.section.stage != Stage::Head {
            return None;
        }
        let mut kernels = Vec::new();
        for param in model.params().into_iter().filter(|param| !param.name.starts_with("deberta.")) {
            let values = model.values(&param.name)?;
            let all = |expected: f32| values.iter().all(|&value| value == expected);
            match param.role {
                Role::LayerNormScale if !all(1.0) => return None,
                Role::Bias | Role::LayerNormShift if !all(0.0) => return None,
                Role::LinearWeight => kernels.extend_from_slice(values),
                _ => {}
            }
        }
        let energy: f64 = kernels.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        let deviation = (energy / kernels.len().max(1) as f64).sqrt();
        let evidence = format!(
            "every bias is exactly 0, every γ exactly 1, and the weights have a standard deviation of {deviation:.4} \
             (initializer_range {})",
            model.config.initializer_range
        );
        let repair =
            "load the head from the checkpoint that has it: its parameters were missing or had other names";
        Some(Hypothesis::new("random-head", "the head is as before training", repair).because(evidence))
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
    .because("the numbers of every head are there, in the wrong place")
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
