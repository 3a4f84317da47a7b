//! A part of a model, run alone on the golden's input.

use std::ops::Range;

use deberta_converters::error::Result;
use deberta_reference::config::Activation;
use deberta_reference::{ConvConfig, DebertaConfig, Head, Inputs, Module, Param, Stage, Tensor as Parameter};
use ndarray::{Array3, ArrayD};

use super::divergence::{Divergence, diverges, short};
use crate::fault::Model;
use crate::judge::tolerance::Tolerance;
use crate::trace::file::Trace;
use crate::trace::inputs::dims;
use crate::trace::points::{Named, Point, points};
use crate::trace::tensor::{Data, Tensor};

/// A part of the model and what the golden has of it.
pub(super) struct Section<'d> {
    /// The part; nothing for all of the model, where the golden lacks the input of a part.
    pub(super) stage: Option<Stage>,
    /// All points of the part, in the order of execution, whether the golden has them or not.
    points: Vec<Point>,
    /// What the golden has, with the place in [`Section::points`].
    wanted: Vec<(usize, &'d Tensor)>,
    divergence: Divergence<'d>,
    /// What the part is given.
    input: Option<&'d Tensor>,
}

/// Both numbers of a point.
#[derive(Clone, Copy)]
pub(super) struct Pair<'p> {
    pub(super) want: &'p [f32],
    pub(super) got: &'p [f32],
    /// The length of the last axis.
    pub(super) width: usize,
    pub(super) allowed: Allowed,
}

/// How far the numbers of a tensor may be off.
#[derive(Clone, Copy)]
pub(super) struct Allowed {
    tolerance: Tolerance,
    largest: f32,
}

impl Allowed {
    pub(super) fn allowance(&self, want: f32) -> f64 {
        self.tolerance.allowance(want, self.largest)
    }

    pub(super) fn allows(&self, want: f32, got: f32) -> bool {
        (f64::from(want) - f64::from(got)).abs() <= self.allowance(want)
    }
}

impl<'d> Section<'d> {
    /// The part that a point belongs to.
    pub(super) fn of(divergence: &Divergence<'d>, model: &Model, name: &str) -> Section<'d> {
        let golden = divergence.golden;
        let layers = model.config.num_hidden_layers;
        let state = |layer: usize| {
            let point = Stage::state_path(model.base(), layer, &model.config);
            golden
                .get(&format!("activations.{point}"))
                .or_else(|| golden.get(&format!("outputs.hidden_states.{layer}")))
        };
        let mut stage = stage_of(name, model);
        let input = match stage {
            None | Some(Stage::Embeddings | Stage::Table | Stage::Step(_)) => None,
            Some(Stage::Layer(layer)) => state(layer),
            Some(Stage::Head) => match model.config.decoder_steps(model.class.head).checked_sub(1) {
                Some(last) => {
                    let output = Stage::Step(last).path(model.base(), Module::Layer);
                    golden.get(&format!("activations.{output}"))
                }
                None => state(layers),
            },
        };
        if input.is_none() && !matches!(stage, Some(Stage::Embeddings | Stage::Table)) {
            stage = None;
        }
        // Every point that there could be: the golden may have some that the model lacks.
        let config = DebertaConfig {
            relative_attention: true,
            pos_att_type: ["c2p", "p2c"].map(str::to_owned).to_vec(),
            position_biased_input: model.class.head != Head::MaskDecoder
                || model.config.position_biased_input,
            type_vocab_size: model.config.type_vocab_size.max(1),
            norm_rel_ebd: !model.config.has_in_proj(),
            convolution: model.config.convolution.or((!model.config.has_in_proj()).then_some(CONVOLUTION)),
            ..model.config.clone()
        };
        let points: Vec<Point> = points(&config, model.class, divergence.inputs)
            .into_iter()
            .filter(|point| stage.is_none_or(|stage| point.stage == stage))
            .collect();
        let mut wanted: Vec<(usize, &Tensor)> = golden
            .tensors
            .iter()
            .filter(|tensor| !tensor.name.starts_with("inputs."))
            .filter(|tensor| stage.is_none() || stage_of(&tensor.name, model) == stage)
            .map(|tensor| (place(&tensor.name, &points, model), tensor))
            .collect();
        wanted.sort_by_key(|(place, tensor)| (*place, &tensor.name));
        Section { stage, points, wanted, divergence: *divergence, input }
    }

    /// The place of the first point that diverges when the model is run on the golden's input, in the order of
    /// execution. A model that cannot be run diverges from the start.
    pub(super) fn first_divergence(&self, model: &Model) -> Option<usize> {
        match self.run(model, false) {
            Ok(trace) => self.diverging(&trace).first().copied(),
            Err(_) => Some(0),
        }
    }

    /// The places of the points that diverge.
    pub(super) fn diverging(&self, trace: &Trace) -> Vec<usize> {
        let comparison = &self.divergence.comparison;
        let differs = |want: &Tensor| diverges(&comparison.tensors(want, trace.get(&want.name)).verdict);
        self.wanted.iter().filter(|(_, want)| differs(want)).map(|(place, _)| *place).collect()
    }

    /// All points of the part, in the order of execution.
    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }

    /// The path of a place.
    pub(super) fn point(&self, place: usize) -> &str {
        self.points.get(place).map_or("the outputs", |point| point.name.as_str())
    }

    /// The points after the last one that agrees, up to the given place.
    pub(super) fn suspects(&self, place: usize) -> &[Point] {
        let before = self.wanted.iter().map(|(at, _)| *at).filter(|&at| at < place).max();
        let start = before.map_or(0, |at| at + 1);
        self.points.get(start..self.points.len().min(place + 1)).unwrap_or_default()
    }

    /// What the golden has of a point.
    pub(super) fn want(&self, path: &str) -> Option<&'d Tensor> {
        let place = self.points.iter().position(|point| point.name == path)?;
        self.wanted.iter().find(|(at, _)| *at == place).map(|(_, tensor)| *tensor)
    }

    /// For every number of a point, whether it belongs to tokens; nothing if all do.
    pub(super) fn real(&self, path: &str) -> Option<Vec<bool>> {
        let want = self.want(path)?;
        self.divergence.comparison.padding.of_tensor(&want.name, &want.shape)
    }

    /// The input of the part, row by row.
    pub(super) fn input(&self) -> Option<(&'d [f32], usize)> {
        let tensor = self.input?;
        Some((floats(tensor)?, tensor.shape.last().copied()?))
    }

    /// The table of relative positions as the golden has it behind its normalisation, row by row.
    pub(super) fn table(&self, path: &str) -> Option<(&'d [f32], usize)> {
        let tensor = self.divergence.golden.get(&format!("activations.{path}"))?;
        Some((floats(tensor)?, tensor.shape.last().copied()?))
    }

    /// What the golden has of a point, row by row.
    pub(super) fn rows(&self, path: &str) -> Option<(&'d [f32], usize)> {
        let tensor = self.want(path)?;
        Some((floats(tensor)?, tensor.shape.last().copied()?))
    }

    /// Both numbers of a point.
    pub(super) fn pair<'p>(&self, trace: &'p Trace, path: &str) -> Option<Pair<'p>>
    where
        'd: 'p,
    {
        let want = self.want(path)?;
        let got = trace.get(&want.name).filter(|got| got.shape == want.shape)?;
        let width = want.shape.last().copied().filter(|&width| width > 0)?;
        let (name, want, got) = (want.name.as_str(), floats(want)?, floats(got)?);
        let comparison = &self.divergence.comparison;
        let tolerance = comparison.tolerances.of(name, comparison.precision);
        let largest = want.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        Some(Pair { want, got, width, allowed: Allowed { tolerance, largest } })
    }

    /// How a difference is spread, in words.
    pub(super) fn spread(&self, model: &Model, path: &str) -> Option<String> {
        let trace = self.run(model, true).or_else(|_| self.run(model, false)).ok()?;
        let pair = self.pair(&trace, path)?;
        let mut channels = std::collections::BTreeSet::new();
        let mut rows = std::collections::BTreeSet::new();
        for (at, (&want, &got)) in pair.want.iter().zip(pair.got).enumerate() {
            if !pair.allowed.allows(want, got) {
                channels.insert(at % pair.width);
                rows.insert(at / pair.width);
            }
        }
        let first: Vec<String> = channels.iter().take(4).map(usize::to_string).collect();
        let more = if channels.len() > 4 { ", …" } else { "" };
        Some(format!(
            "{} of {} channels differ ({}{more}), in {} of {} rows",
            channels.len(),
            pair.width,
            first.join(", "),
            rows.len(),
            pair.want.len() / pair.width
        ))
    }

    /// Runs the part of a model on the golden's input. If `isolate`, every module gets the golden's input.
    pub(super) fn run(&self, model: &Model, isolate: bool) -> Result<Trace> {
        let part = Part::of(self, model);
        let mut points: Vec<String> = Vec::new();
        let mut replaced: Vec<(String, ArrayD<f32>)> = Vec::new();
        let mut probabilities = None;
        if let Some(input) = self.input.and_then(array) {
            replaced.push((part.entrance.clone(), input));
        }
        for (_, want) in &self.wanted {
            if let Some(path) = want.name.strip_prefix("activations.") {
                let path = part.inside(path);
                if isolate && path != part.entrance {
                    replaced.extend(array(want).map(|array| (path.clone(), array)));
                }
                points.push(path);
            } else if let (true, Some(Stage::Layer(layer)), false) =
                (isolate, self.stage, model.config.talking_head)
                && Named::of(&want.name) == Some(Named::Attentions(layer))
            {
                let path = part.inside(&model.path(Module::Probs, layer));
                replaced.extend(array(want).map(|array| (path.clone(), array)));
                points.push(path.clone());
                probabilities = Some((path, want.name.clone()));
            }
        }
        let watched: Vec<&str> = points.iter().map(String::as_str).collect();
        let mut trace = part.model.run(&part.inputs, &watched, replaced)?;
        if let Some((path, output)) = probabilities
            && let Some(computed) = trace.get(&format!("activations.{path}")).cloned()
        {
            trace.tensors.retain(|tensor| Named::of(&tensor.name) != Some(Named::Attentions(0)));
            trace.tensors.push(Tensor { name: output, ..computed });
        }
        for tensor in &mut trace.tensors {
            tensor.name = part.outside(&tensor.name);
        }
        Ok(trace)
    }
}

/// A small model for a part of another one, and what its points are called there.
struct Part {
    model: Model,
    inputs: Inputs,
    /// The point that is replaced by the input of the part.
    entrance: String,
    /// Prefixes: in the whole model, and in the part.
    names: Vec<(String, String)>,
    outputs: Vec<(String, String)>,
}

impl Part {
    fn of(section: &Section<'_>, model: &Model) -> Part {
        let inputs = section.divergence.inputs;
        match section.stage {
            None | Some(Stage::Step(_)) => Part::of_whole(model.clone(), inputs.clone(), String::new()),
            Some(Stage::Table) => Part {
                names: vec![(model.path(Module::TableLayerNorm, 0), Module::TableLayerNorm.at("", 0))],
                ..Part::of_whole(layers(model, 0..0), layer_inputs(section, model), String::new())
            },
            Some(Stage::Embeddings) => {
                let config = DebertaConfig {
                    num_hidden_layers: 0,
                    relative_attention: false,
                    norm_rel_ebd: false,
                    convolution: None,
                    ..model.config.clone()
                };
                let mut part = model.empty_base(config);
                copy(model, &mut part, |param| Stage::Embeddings.has(param.module));
                let inputs =
                    Inputs { labels: None, choices: None, output_attentions: false, ..inputs.clone() };
                let names = vec![(model.path(Module::Embeddings, 0), Module::Embeddings.at("", 0))];
                Part { names, ..Part::of_whole(part, inputs, String::new()) }
            }
            Some(Stage::Layer(layer)) => Part {
                model: layers(model, layer..layer + 1),
                inputs: layer_inputs(section, model),
                entrance: Module::Embeddings.at("", 0),
                names: [Module::Layer, Module::Convolution]
                    .map(|module| (model.path(module, layer), module.at("", 0)))
                    .into(),
                outputs: vec![
                    (format!("outputs.attentions.{layer}"), "outputs.attentions.0".to_owned()),
                    (format!("outputs.hidden_states.{}", layer + 1), "outputs.hidden_states.1".to_owned()),
                ],
            },
            Some(Stage::Head) => {
                let mut part = model.clone();
                part.config.num_hidden_layers = 0;
                Part::of_whole(part, inputs.clone(), model.path(Module::Embeddings, 0))
            }
        }
    }

    /// A model whose points are called as in the whole one.
    fn of_whole(model: Model, inputs: Inputs, entrance: String) -> Part {
        Part { model, inputs, entrance, names: Vec::new(), outputs: Vec::new() }
    }

    fn inside(&self, path: &str) -> String {
        let renamed =
            self.names.iter().find_map(|(whole, part)| Some(format!("{part}{}", path.strip_prefix(whole)?)));
        renamed.unwrap_or_else(|| path.to_owned())
    }

    fn outside(&self, name: &str) -> String {
        let renamed = match name.strip_prefix("activations.") {
            Some(path) => self.names.iter().find_map(|(whole, part)| {
                Some(format!("activations.{whole}{}", path.strip_prefix(part.as_str())?))
            }),
            None => self.outputs.iter().find(|(_, part)| part == name).map(|(whole, _)| whole.clone()),
        };
        renamed.unwrap_or_else(|| name.to_owned())
    }
}

/// A convolution, whose points a golden may have where the model has none.
const CONVOLUTION: ConvConfig = ConvConfig { kernel: 1, groups: 1, act: Activation::Tanh };

/// One layer, or none, under embeddings that cost nothing, and the table of relative positions.
fn layers(model: &Model, range: Range<usize>) -> Model {
    let config = &model.config;
    let hidden = config.hidden_size;
    let config = DebertaConfig {
        num_hidden_layers: range.len(),
        vocab_size: 1,
        embedding_size: hidden,
        position_biased_input: false,
        type_vocab_size: 0,
        pad_token_id: None,
        convolution: config.convolution.filter(|_| range == (0..1)),
        ..config.clone()
    };
    let mut part = model.empty_base(config);
    if part.config.convolution.is_none() && part.mistakes_convolution() {
        part.mistake = None;
    }
    copy(model, &mut part, |param| match param.layer {
        Some(number) => range.contains(&number),
        None => {
            Stage::Table.has(param.module) || range.clone().any(|layer| Stage::Layer(layer).has(param.module))
        }
    });
    part.insert(part.weight(Module::WordEmbeddings, 0), Parameter::new(vec![1, hidden], vec![0.0; hidden]));
    let norm = part.path(Module::EmbeddingsLayerNorm, 0);
    for word in ["weight", "bias"] {
        part.insert(format!("{norm}.{word}"), Parameter::new(vec![hidden], vec![0.0; hidden]));
    }
    part
}

fn layer_inputs(section: &Section<'_>, model: &Model) -> Inputs {
    let given = section.divergence.inputs;
    let (b, n) = dims(given).unwrap_or_default();
    Inputs {
        inputs_embeds: Some(Array3::zeros((b, n, model.config.hidden_size))),
        attention_mask: given.attention_mask.clone(),
        output_hidden_states: true,
        output_attentions: true,
        ..Inputs::default()
    }
}

/// Copies parameters of one layer at most into a base model, in which that layer has the number 0.
fn copy(from: &Model, to: &mut Model, wanted: impl Fn(&Param) -> bool) {
    for param in from.params().iter().filter(|param| wanted(param)) {
        if let Some(tensor) = from.parameter(&param.name) {
            to.insert(Param { layer: Some(0), ..param.clone() }.name_under(""), tensor.clone());
        }
    }
}

/// The part that a tensor of a trace, or a point, belongs to; nothing if it is no part that runs alone.
fn stage_of(name: &str, model: &Model) -> Option<Stage> {
    match Named::of(name) {
        Some(Named::Output("last_hidden_state")) => {
            Some(Stage::Layer(model.config.num_hidden_layers.saturating_sub(1)))
        }
        Some(named) => Some(named.stage()).filter(|stage| !matches!(stage, Stage::Step(_))),
        None => Some(Stage::Head),
    }
}

/// The place of a tensor of a trace among the points.
fn place(name: &str, points: &[Point], model: &Model) -> usize {
    let path = match Named::of(name) {
        Some(Named::State(i)) => Stage::state_path(model.base(), i, &model.config),
        Some(Named::Attentions(layer)) if model.config.talking_head => {
            model.path(Module::HeadWeightsProj, layer)
        }
        Some(Named::Attentions(layer)) => model.path(Module::Probs, layer),
        _ => short(name).to_owned(),
    };
    points.iter().position(|point| point.name == path).unwrap_or(points.len())
}

fn floats(tensor: &Tensor) -> Option<&[f32]> {
    match &tensor.data {
        Data::Floats(values) => Some(values),
        Data::Integers(_) | Data::Doubles(_) => None,
    }
}

fn array(tensor: &Tensor) -> Option<ArrayD<f32>> {
    ArrayD::from_shape_vec(tensor.shape.clone(), floats(tensor)?.to_vec()).ok()
}
