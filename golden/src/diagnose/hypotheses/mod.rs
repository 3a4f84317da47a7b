//! What may be wrong where numbers first diverge: first what the numbers themselves say, then what is known to go wrong.

use std::borrow::Cow;

use deberta_reference::{Head, Module, Param, Stage, locate};

use super::attention::value_bias;
use super::divergence::Divergence;
use super::hypothesis::Hypothesis;
use super::residual::{Linear, Residual, block_order, linear, misplaced, norm, table};
use super::section::Section;
use crate::fault::{Change, Model, Setting};
use crate::trace::file::Trace;
use crate::trace::inputs::dims;

mod heads;
mod known;
mod positions;

/// The modules that look rows up in a table.
const LOOKED_UP: [Module; 3] =
    [Module::WordEmbeddings, Module::PositionEmbeddings, Module::TokenTypeEmbeddings];

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
    let suspected = |modules: &[Module]| {
        suspects.iter().any(|path| locate(path).is_some_and(|(_, module)| modules.contains(&module)))
    };
    use Module::{C2c, C2p, P2c, PosProj, PosQProj, Probs, Scores, SelfAttention};
    // Between the projections and the context.
    if suspected(&[C2c, C2p, P2c, Scores, Probs, SelfAttention]) {
        found.extend(search.scores());
    } else if suspected(&[PosProj, PosQProj]) {
        found.extend(search.terms());
    }
    found.sort_by_key(|hypothesis| !hypothesis.proves);
    found
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
    /// The parameter of that name.
    fn param(&self, name: &str) -> Option<Param> {
        self.model.params().into_iter().find(|param| param.name == name)
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
        let Some((stage, module)) = locate(path) else { return found };
        let (weight, bias) = parameters(model, path);
        match (module, stage) {
            (Module::SelfAttention, Stage::Layer(layer)) => {
                let pair = self.section.pair(self.isolated, path);
                return pair.and_then(|pair| value_bias(model, layer, pair)).into_iter().collect();
            }
            _ if LOOKED_UP.contains(&module) => {
                return match self.looked_up(module, path) {
                    Some(rows) => table(model, &weight, &rows, &residual),
                    None => Vec::new(),
                };
            }
            _ if module.is_norm() => {
                found.extend(self.swapped_gamma_beta(path));
                found.extend(self.other_eps());
                found.extend(norm(model, path, &residual));
                return found;
            }
            (Module::InProj, Stage::Layer(layer)) => found.extend(self.moved_heads(layer, &residual)),
            (Module::PosProj | Module::PosQProj, _) => {
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
        let Some((stage, module)) = locate(path) else { return found };
        let (weight, bias) = parameters(model, path);
        let zero =
            |name: &str| model.values(name).is_some_and(|values| values.iter().all(|&value| value == 0.0));
        if let Some(&[rows, columns]) = model.shape(&weight)
            && !LOOKED_UP.contains(&module)
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
        match (module, stage) {
            (Module::InProj, Stage::Layer(layer)) => {
                found.extend(self.splits(layer));
                found.extend(self.scales(layer));
                if self.section.want(path).is_none() {
                    found.extend(self.exchanged_heads(layer, false));
                }
                if self.section.want(path).is_none() || self.section.stage.is_none() {
                    let others = (0..model.config.num_hidden_layers).filter(|&other| other != layer).take(48);
                    found.extend(others.map(|other| self.swapped(layer, other)));
                }
            }
            (Module::PosProj | Module::PosQProj, _) => found.extend(self.distances(path)),
            (Module::AttentionDense, Stage::Layer(layer)) if self.section.want(path).is_none() => {
                found.extend(self.exchanged_heads(layer, true));
            }
            (_, stage) if module.is_norm() => {
                let unseen = self.residual(path).is_none();
                if unseen {
                    found.extend(self.swapped_gamma_beta(path));
                    found.extend(self.other_eps());
                }
                match stage {
                    Stage::Layer(layer) if unseen => found.push(self.exchanged_norms(layer)),
                    Stage::Layer(_) => {}
                    _ => found.extend(self.activations(module)),
                }
            }
            (Module::Intermediate | Module::Pooler | Module::Transform, _) => {
                found.extend(self.activations(module));
            }
            (Module::Embeddings, _) => found.extend(self.other_embeddings()),
            _ => {}
        }
        if let Module::EmbeddingsLayerNorm | Module::PositionEmbeddings | Module::TokenTypeEmbeddings = module
        {
            found.extend(self.other_embeddings());
        }
        found
    }

    /// The input of the linear layer at a path, row by row, for as many rows.
    fn input(&self, path: &str, rows: usize) -> Option<(Cow<'_, [f32]>, usize)> {
        let section = self.section;
        let (stage, module) = locate(path)?;
        let sibling = |module: Module| {
            let (rows, width) = section.rows(&stage.path(self.model.base(), module))?;
            Some((Cow::Borrowed(rows), width))
        };
        let entrance = || section.input().map(|(rows, width)| (Cow::Borrowed(rows), width));
        match (stage, module) {
            (Stage::Layer(_), Module::InProj) if section.stage.is_some() => entrance(),
            (Stage::Layer(_), Module::PosProj | Module::PosQProj) => {
                let name = self.model.weight(Module::RelEmbeddings, 0);
                let &[all, width] = self.model.shape(&name)? else { return None };
                let start = (all / 2).checked_sub(rows / 2)?;
                let table = self.model.values(&name)?.get(start * width..(start + rows) * width)?;
                Some((Cow::Borrowed(table), width))
            }
            (Stage::Layer(_), Module::AttentionDense) => sibling(Module::SelfAttention),
            (Stage::Layer(_), Module::IntermediateDense) => {
                let same = [Module::Attention, Module::AttentionOutput, Module::AttentionLayerNorm];
                same.into_iter().find_map(sibling)
            }
            (Stage::Layer(_), Module::OutputDense) => sibling(Module::Intermediate),
            _ if section.stage.is_none() => None,
            (_, Module::TransformDense | Module::LmDense | Module::QaOutputs) => entrance(),
            (_, Module::Classifier) if self.model.class.head == Head::TokenClassification => entrance(),
            (_, Module::Classifier) => sibling(Module::Pooler),
            (_, Module::Decoder | Module::Predictions | Module::Cls) => {
                [Module::Transform, Module::TransformLayerNorm].into_iter().find_map(sibling)
            }
            (_, Module::LmHead | Module::LmPredictions) => sibling(Module::LmLayerNorm),
            (_, Module::PoolerDense) => {
                let (states, width) = section.input()?;
                let each = states.len() / width.max(1) / rows.max(1) * width;
                let first = states.chunks(each.max(1)).flat_map(|states| states.iter().take(width).copied());
                Some((Cow::Owned(first.collect()), width))
            }
            _ => None,
        }
    }

    /// The row of a table that every position reads.
    fn looked_up(&self, module: Module, path: &str) -> Option<Vec<usize>> {
        let inputs = self.divergence.inputs;
        let rows = residual_rows(self.section, path);
        let all = |ids: &ndarray::Array2<i64>| -> Option<Vec<usize>> {
            ids.iter().map(|&id| usize::try_from(id).ok()).collect()
        };
        match module {
            Module::WordEmbeddings => all(inputs.input_ids.as_ref()?),
            Module::TokenTypeEmbeddings => match &inputs.token_type_ids {
                Some(types) => all(types),
                None => Some(vec![0; rows]),
            },
            _ => match &inputs.position_ids {
                Some(ids) => all(ids),
                None => {
                    let (_, n) = dims(inputs)?;
                    Some((0..rows).map(|row| row % n.max(1)).collect())
                }
            },
        }
    }
}

/// The weight and the bias of the module at a path.
fn parameters(model: &Model, path: &str) -> (String, Option<String>) {
    let words = || model.weight(Module::WordEmbeddings, 0);
    let (weight, bias) = match locate(path) {
        Some((_, Module::Cls | Module::Predictions | Module::Decoder)) => {
            let own = model.weight(Module::Decoder, 0);
            let weight = if model.shape(&own).is_some() { own } else { words() };
            (weight, model.path(Module::Predictions, 0) + ".bias")
        }
        Some((_, Module::LmPredictions | Module::LmHead)) => {
            (words(), model.path(Module::LmHead, 0) + ".bias")
        }
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
