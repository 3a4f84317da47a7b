//! What may be wrong where numbers first diverge: first what the numbers themselves say, then what is known to go wrong.

use deberta_reference::{Module, Param, Part, Rows, Stage};

use super::divergence::Divergence;
use super::factors::{Scaled, of_bias, scaled};
use super::hypothesis::Hypothesis;
use super::lookup::table;
use super::norm::norm;
use super::residual::{Linear, Residual, linear, misplaced, moved_bias, shifted};
use super::section::Section;
use crate::fault::{Change, Model, Setting, dropped};
use crate::trace::file::Trace;
use crate::trace::points::Point;
use known::negated;

mod convolution;
mod formulas;
mod heads;
mod inputs;
mod known;
mod layers;
mod lost;
mod positions;
mod settings;
mod table;

/// The modules that look rows up in a table.
const LOOKED_UP: [Module; 3] =
    [Module::WordEmbeddings, Module::PositionEmbeddings, Module::TokenTypeEmbeddings];

/// The hypotheses for the first divergence of a section, the likeliest first. Those of which there are hundreds, any two heads
/// exchanged and any two layers, come after all others of as much weight: only they are lost to a limit.
pub(super) fn of(model: &Model, section: &Section<'_>, divergence: &Divergence<'_>) -> Vec<Hypothesis> {
    let free = section.run(model, false).unwrap_or_default();
    let isolated = section.run(model, true).unwrap_or_else(|_| free.clone());
    let mut at = section.diverging(&isolated).first().copied();
    if at.is_none() {
        at = section.diverging(&free).first().copied();
    }
    let Some(at) = at else { return Vec::new() };
    let suspects = section.suspects(at).to_vec();
    let params = model.params();
    let search = Search { model, params: &params, section, divergence, isolated: &isolated, free: &free };
    let mut found: Vec<Hypothesis> = search.fresh_head().into_iter().collect();
    found.extend(search.rounded(&suspects));
    found.extend(search.gone(&suspects));
    found.extend(search.more_layers());
    found.extend(suspects.iter().flat_map(|point| search.evidence(point)));
    found.extend(suspects.iter().flat_map(|point| search.usual(point)));
    let suspected = |modules: &[Module]| suspects.iter().any(|point| modules.contains(&point.module));
    use Module::{C2c, C2p, P2c, PosKeyProj, PosProj, PosQProj, PosQueryProj, Probs, Scores, SelfAttention};
    // Between the projections and the context.
    let mut exchanged: Vec<&Point> = suspects.iter().collect();
    if suspected(&[C2c, C2p, P2c, Scores, Probs, SelfAttention]) {
        found.extend(search.scores());
        exchanged
            .extend(search.unseen().filter(|point| suspects.iter().all(|known| known.name != point.name)));
    } else if suspected(&[PosProj, PosQProj, PosKeyProj, PosQueryProj]) {
        found.extend(search.terms());
    }
    found.extend(exchanged.into_iter().flat_map(|point| search.exchanges(point)));
    found.sort_by_key(|hypothesis| !hypothesis.proves);
    found
}

/// The hypotheses for padding that differs where tokens agree.
pub(super) fn of_padding(model: &Model) -> Vec<Hypothesis> {
    formulas::of_convolution(model)
}

struct Search<'s> {
    model: &'s Model,
    /// Its parameters.
    params: &'s [Param],
    section: &'s Section<'s>,
    divergence: &'s Divergence<'s>,
    /// What every module computes from the golden's input.
    isolated: &'s Trace,
    /// What the section computes from the golden's input.
    free: &'s Trace,
}

impl Search<'_> {
    /// The parameter of that name.
    fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|param| param.name == name)
    }

    /// The parts of every head that the rows of a parameter are, if they are any.
    fn parts(&self, name: &str) -> Option<&'static [Part]> {
        match self.param(name)?.rows {
            Rows::Heads(parts) => Some(parts),
            Rows::Plain => None,
        }
    }

    fn residual(&self, path: &str) -> Option<Residual<'_>> {
        self.section.pair(self.isolated, path).map(Residual::new)
    }

    /// What the numbers at a point say about its parameters.
    fn evidence(&self, point: &Point) -> Vec<Hypothesis> {
        let &Point { ref name, stage, module, .. } = point;
        let path = name.as_str();
        let Some(residual) = self.residual(path) else { return Vec::new() };
        let model = self.model;
        let mut found = Vec::new();
        let (weight, bias) = parameters(model, point);
        match (module, stage) {
            (Module::SelfAttention, Stage::Layer(layer)) => {
                let Some(bias) = model.bias_of(Part::Value, layer) else { return found };
                let values = model.values(&bias).unwrap_or_default();
                let d = model.config.head_size();
                if let Some(order) = moved_bias(&residual, d, values) {
                    let change = Change::Rows { name: bias.clone(), order: rows_of(&order, d) };
                    found.push(permuted_heads(&bias, &order).undone_by([change]));
                }
                found.extend(of_bias(model, self.params, &bias, &residual));
                found.extend(shifted(model, self.params, &bias, &residual, &residual.channels()));
                return found;
            }
            _ if LOOKED_UP.contains(&module) => {
                return match self.looked_up(point) {
                    Some(rows) => table(model, &weight, &rows, &residual),
                    None => Vec::new(),
                };
            }
            (Module::Conv, _) => return self.convolved(point),
            (Module::Decoder, _) => found.extend(self.tied()),
            _ if module.is_norm() => {
                if module == Module::TableLayerNorm {
                    found.extend(self.normed_rows(&residual));
                    found.extend(self.negated_table(&weight));
                }
                found.extend(self.swapped_gamma_beta(path));
                found.extend(self.other_eps());
                found.extend(self.factors(point, &residual));
                found.extend(norm(model, self.params, path, &residual));
                return found;
            }
            (_, Stage::Layer(layer)) => {
                if matches!(module, Module::PosKeyProj | Module::PosQueryProj) {
                    // Before a single projection is taken for one of the tokens.
                    found.extend(self.sharing().filter(|_| !model.config.share_att_key));
                    found.extend(self.without_position_biases());
                }
                found.extend(self.moved_heads(layer, &weight, bias.as_deref(), &residual))
            }
            _ => {}
        }
        if matches!(module, Module::Classifier | Module::QaOutputs | Module::MaskPredictionsClassifier) {
            found.extend(self.labels(point, Some(&residual)));
        }
        found.extend(self.factors(point, &residual));
        if let Some((input, width)) = self.input(point, residual_rows(self.section, path)) {
            let linear_layer = Linear { weight: &weight, bias: bias.as_deref(), input: &input, width };
            found.extend(linear(model, self.params, &linear_layer, &residual));
            for (other, with_bias) in misplaced(model, &linear_layer, &residual) {
                found.extend(self.taken_from(path, &weight, &other, with_bias));
            }
            if let Some(order) = self.permuted_columns(point, &linear_layer, &residual) {
                found.push(order);
            }
        } else if let Some(bias) = bias {
            found.extend(shifted(model, self.params, &bias, &residual, &residual.channels()));
        }
        found
    }

    /// The parameters of a module as multiples of what they should be, and its bias as that of another one.
    fn factors(&self, point: &Point, residual: &Residual<'_>) -> Vec<Hypothesis> {
        let (weight, bias) = parameters(self.model, point);
        let parts = [self.parts(&weight).map_or(1, <[Part]>::len), self.model.config.head_size()];
        let of = Scaled { weight: &weight, bias: bias.as_deref(), parts };
        let mut found = Vec::new();
        if let Some(bias) = &bias {
            found.extend(of_bias(self.model, self.params, bias, residual));
        }
        if self.model.shape(&weight).is_some() && residual.channels().len() > 1 {
            found.extend(scaled(self.model, &of, residual));
        }
        found
    }

    /// What usually goes wrong with the module of a point, whatever the numbers say.
    fn usual(&self, point: &Point) -> Vec<Hypothesis> {
        let model = self.model;
        let mut found = Vec::new();
        let &Point { ref name, stage, module, .. } = point;
        let path = name.as_str();
        let (weight, bias) = parameters(model, point);
        if let Some(&[rows, columns]) = model.shape(&weight)
            && !LOOKED_UP.contains(&module)
        {
            if rows == columns {
                found.push(self.transposed(&weight));
            } else {
                found.extend(self.reshaped(&weight));
            }
            found.extend(self.zero(&weight));
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
            found.push(negated(&weight));
        } else if module.is_norm() || LOOKED_UP.contains(&module) {
            found.extend(self.zero(&weight));
        }
        if let Some(bias) = bias.filter(|bias| model.is_zero(bias)) {
            let cause = format!("{bias} is all zero: it may have been dropped");
            let repair = "convert the original model again, with this bias";
            let rows = self.param(&bias).map_or(Rows::Plain, |param| param.rows);
            found.push(Hypothesis::new(dropped(rows), cause, repair));
        }
        match (module, stage) {
            (Module::PosProj | Module::PosQProj | Module::PosKeyProj | Module::PosQueryProj, _) => {
                found.extend(self.distances(point));
                found.extend(self.norm_of_table());
                found.extend(self.sharing());
                found.extend(self.zero(&model.weight(Module::RelEmbeddings, 0)));
                if let (Module::PosQProj | Module::PosQueryProj, Stage::Layer(layer)) = (module, stage) {
                    found.extend(self.scales(layer));
                }
                found.extend(self.exchanged_projections(path));
                if self.residual(path).is_none() {
                    found.extend(self.without_position_biases());
                }
            }
            (
                Module::InProj | Module::QueryProj | Module::KeyProj | Module::ValueProj,
                Stage::Layer(layer),
            ) => {
                if module == model.projection(Part::Query) {
                    found.extend(self.splits(layer, &weight));
                    found.extend(self.scales(layer));
                }
                found.extend(self.exchanged_projections(path));
            }
            (Module::TableLayerNorm, _) => {
                found.extend(self.relative_attention());
                found.extend(self.distances(point));
                found.extend(self.norm_of_table());
                if self.residual(path).is_none() {
                    found.extend(self.swapped_gamma_beta(path));
                    found.extend(self.other_eps());
                }
            }
            (Module::Conv, _) => {
                found.extend(self.kernels(&weight));
                found.extend(self.settings_of_convolution());
            }
            (Module::Classifier | Module::QaOutputs, _) if self.residual(path).is_none() => {
                found.extend(self.labels(point, None));
            }
            (Module::WordEmbeddings, _) if self.residual(path).is_none() => {
                found.extend(self.moved_words(&weight));
            }
            (Module::Convolution, _) => found.extend(self.settings_of_convolution()),
            (Module::Decoder, _) if self.residual(path).is_none() => found.extend(self.tied()),
            (Module::Layer, Stage::Layer(0)) if model.config.convolution.is_none() => {
                found.extend(self.settings_of_convolution());
            }
            (_, stage) if module.is_norm() => {
                let unseen = self.residual(path).is_none();
                if unseen {
                    found.extend(self.swapped_gamma_beta(path));
                    found.extend(self.other_eps());
                }
                match stage {
                    _ if module == Module::ConvLayerNorm => found.extend(self.settings_of_convolution()),
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

    /// Any two layers, and any two heads of a projection, where the golden does not show which.
    fn exchanges(&self, point: &Point) -> Vec<Hypothesis> {
        let &Point { ref name, stage: Stage::Layer(layer), module, .. } = point else { return Vec::new() };
        let (weight, _) = parameters(self.model, point);
        let unseen = self.section.want(name).is_none();
        let mut found = Vec::new();
        if module == self.model.projection(Part::Query) && (unseen || self.section.stage.is_none()) {
            let others = (0..self.model.config.num_hidden_layers).filter(|&other| other != layer).take(48);
            found.extend(others.map(|other| self.swapped(layer, other)));
            found.extend(self.one_layer_more());
        }
        if module == self.model.projection(Part::Query) && unseen {
            found.extend(self.exchanged_with_others(layer));
        }
        match module {
            Module::InProj | Module::QueryProj | Module::KeyProj | Module::ValueProj if unseen => {
                found.extend(self.exchanged_heads(&weight, false));
            }
            Module::AttentionDense if unseen => found.extend(self.exchanged_heads(&weight, true)),
            _ => {}
        }
        found
    }
}

/// The weight and the bias of the module at a point.
fn parameters(model: &Model, point: &Point) -> (String, Option<String>) {
    let words = || model.weight(Module::WordEmbeddings, 0);
    let (weight, bias) = match (point.module, point.stage) {
        (Module::Cls | Module::Predictions | Module::Decoder, _) => {
            let own = model.weight(Module::Decoder, 0);
            let tied = model.config.tie_word_embeddings || model.shape(&own).is_none();
            let weight = if tied { words() } else { own };
            (weight, model.path(Module::Predictions, 0) + ".bias")
        }
        (Module::LmPredictions | Module::LmHead, _) => (words(), model.path(Module::LmHead, 0) + ".bias"),
        (Module::PosKeyProj, Stage::Layer(layer)) => {
            of_module(model, model.projecting(Part::PositionKey), layer)
        }
        (Module::PosQueryProj, Stage::Layer(layer)) => {
            of_module(model, model.projecting(Part::PositionQuery), layer)
        }
        _ => (format!("{}.weight", point.name), format!("{}.bias", point.name)),
    };
    let there = model.shape(&bias).is_some();
    (weight, there.then_some(bias))
}

fn of_module(model: &Model, module: Module, layer: usize) -> (String, String) {
    let path = model.path(module, layer);
    (format!("{path}.weight"), format!("{path}.bias"))
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

pub(super) fn permuted_heads(name: &str, order: &[usize]) -> Hypothesis {
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

/// Queries, keys and values of heads in other places of a projection that has all of them.
fn permuted_blocks(name: &str, order: &[usize], parts: Option<&[Part]>) -> Hypothesis {
    let parts = parts.unwrap_or_default();
    let word = |block: usize| {
        let part = parts.get(block % parts.len().max(1)).map_or("row block", |part| match part {
            Part::Query | Part::PositionQuery => "q",
            Part::Key | Part::PositionKey => "k",
            Part::Value => "v",
        });
        format!("{part} of head {}", block / parts.len().max(1))
    };
    let moved = order.iter().enumerate().filter(|(at, block)| at != *block);
    let moved: Vec<String> =
        moved.map(|(at, &block)| format!("{} for {}", word(block), word(at))).take(6).collect();
    Hypothesis::new(
        "permuted-heads",
        format!("{name}: rows of heads are in another order: {}", moved.join(", ")),
        "restore the order of q, k and v from the original model",
    )
}

/// The order of rows for an order of blocks.
fn rows_of(blocks: &[usize], width: usize) -> Vec<usize> {
    blocks.iter().flat_map(|block| (0..width).map(move |at| block * width + at)).collect()
}
