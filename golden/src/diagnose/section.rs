//! A part of a model, run alone on the golden's input.

use deberta_converters::error::Result;
use deberta_reference::config::Activation;
use deberta_reference::{ConvConfig, DebertaConfig, Head, Inputs, Module, Stage};
use ndarray::ArrayD;

use super::divergence::{Divergence, diverges, short};
use super::in_words;
use super::layers::layers_of;
use super::part::Part;
use crate::fault::Model;
use crate::judge::tolerance::{Precision, Tolerance};
use crate::trace::file::Trace;
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
        if name == "outputs.last_hidden_state" && layers_of(golden).is_some_and(|known| known != layers) {
            // It is that of another layer.
            stage = None;
        }
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

    /// The places of the points that diverge where every module gets the golden's input.
    pub(super) fn diverging_alone(&self, model: &Model) -> Vec<usize> {
        self.run(model, true).map_or_else(|_| Vec::new(), |trace| self.diverging(&trace))
    }

    /// The normalisations that differ where these places do: those whose input the golden shows, by their names. Where it shows
    /// none, the part as a whole stands for one; where the table of relative positions is normalised, for that one.
    pub(super) fn normalisations(&self, model: &Model, places: &[usize]) -> Vec<String> {
        let given = |place: &&usize| {
            let of_norm = self.points.get(**place).is_some_and(|point| point.module.is_norm());
            of_norm && place.checked_sub(1).is_some_and(|at| self.shows(at))
        };
        let shown: Vec<String> =
            places.iter().filter(given).map(|place| self.point(*place).to_owned()).collect();
        match places.first() {
            Some(_) if shown.is_empty() => {
                let of_table =
                    matches!(self.stage, Some(Stage::Layer(_) | Stage::Table)) && model.config.norm_rel_ebd;
                vec![if of_table { in_words(Some(Stage::Table)) } else { in_words(self.stage) }]
            }
            _ => shown,
        }
    }

    /// The numbers of the first point at which a model diverges that differ, and agree in a repaired one: all of the point's where the model lacks it.
    pub(super) fn explained(&self, model: &Model, repaired: &Model) -> usize {
        let (before, after) = (self.run(model, false).unwrap_or_default(), self.run(repaired, false));
        let Ok(after) = after else { return 0 };
        let comparison = &self.divergence.comparison;
        let differs = |want: &Tensor| diverges(&comparison.tensors(want, before.get(&want.name)).verdict);
        let Some((_, want)) = self.wanted.iter().find(|(_, want)| differs(want)) else { return 0 };
        let (Some(wanted), Some(again)) = (floats(want), after.get(&want.name).and_then(floats)) else {
            return 0;
        };
        let allowed = self.allowed(want, wanted);
        let real = comparison.padding.of_tensor(&want.name, &want.shape);
        // The tolerance of half precision lets other causes through as well.
        let clearly = if comparison.precision == Precision::F32 { 1.0 } else { 4.0 };
        let known = before.get(&want.name).filter(|known| known.shape == want.shape).and_then(floats);
        let differed = |at: usize, want: f32| {
            let known = known.and_then(|known| known.get(at));
            known.is_none_or(|&known| {
                known.is_nan() || f64::from((want - known).abs()) > clearly * allowed.allowance(want)
            })
        };
        let is_real = |at: usize| real.as_ref().is_none_or(|real| real.get(at) == Some(&true));
        let numbers = wanted.iter().zip(again).enumerate().filter(|(at, _)| is_real(*at));
        numbers.filter(|(at, (want, again))| differed(*at, **want) && allowed.allows(**want, **again)).count()
    }

    /// What the section is a part of.
    pub(super) fn divergence(&self) -> &Divergence<'d> {
        &self.divergence
    }

    /// The inputs of the golden.
    pub(super) fn inputs(&self) -> &'d Inputs {
        self.divergence.inputs
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
        let at = |place: usize| self.wanted.iter().find(|(at, _)| *at == place).map(|(_, tensor)| *tensor);
        at(place).or_else(|| {
            // What returns the same: the state behind a layer is that of its last normalisation.
            let module = self.points.get(place)?.module;
            let same = self.points.iter().enumerate().skip(place + 1);
            let mut same = same.take_while(|(_, point)| passed_on(module).contains(&point.module));
            same.find_map(|(place, _)| at(place)).or_else(|| self.answer(module))
        })
    }

    /// The output of a head that is what a module returns.
    fn answer(&self, module: Module) -> Option<&'d Tensor> {
        use Module::{Classifier, Cls, Decoder, LmHead, LmPredictions, Predictions};
        let logits = matches!(module, Classifier | Decoder | Predictions | Cls | LmHead | LmPredictions);
        let of_head = self.stage == Some(Stage::Head) && self.divergence.inputs.choices.is_none();
        self.divergence.golden.get("outputs.logits").filter(|_| logits && of_head)
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
        let tensor = self.want(path)?;
        let got = trace.get(&tensor.name).filter(|got| got.shape == tensor.shape)?;
        let width = tensor.shape.last().copied().filter(|&width| width > 0)?;
        let (want, got) = (floats(tensor)?, floats(got)?);
        Some(Pair { want, got, width, allowed: self.allowed(tensor, want) })
    }

    /// What the golden has from a place on.
    pub(super) fn wanted_from(&self, place: usize) -> impl Iterator<Item = &'d Tensor> {
        self.wanted.iter().filter(move |(at, _)| *at >= place).map(|(_, tensor)| *tensor)
    }

    /// The last place before another one at which the golden shows the whole state of the model, and that agrees.
    pub(super) fn state_before(&self, place: usize) -> Option<usize> {
        let state = |at: &usize| self.points.get(*at).is_some_and(|point| STATES.contains(&point.module));
        self.wanted.iter().map(|(at, _)| *at).filter(|at| *at < place && state(at)).max()
    }

    /// The place of a point.
    pub(super) fn place(&self, path: &str) -> Option<usize> {
        self.points.iter().position(|point| point.name == path)
    }

    /// Whether the golden has what a module returns.
    pub(super) fn shows(&self, place: usize) -> bool {
        self.wanted.iter().any(|(at, _)| *at == place)
    }

    /// For every number of a tensor, whether it belongs to tokens; nothing if all do.
    pub(super) fn real_of(&self, tensor: &Tensor) -> Option<Vec<bool>> {
        self.divergence.comparison.padding.of_tensor(&tensor.name, &tensor.shape)
    }

    /// How far the numbers of a tensor may be off.
    pub(super) fn allowed(&self, tensor: &Tensor, want: &[f32]) -> Allowed {
        let comparison = &self.divergence.comparison;
        let tolerance = comparison.tolerances.of(&tensor.name, comparison.precision);
        Allowed { tolerance, largest: want.iter().fold(0.0_f32, |largest, value| largest.max(value.abs())) }
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
        self.watch(model, isolate, &[])
    }

    /// As [`Section::run`], and records points that the golden may lack.
    pub(super) fn watch(&self, model: &Model, isolate: bool, more: &[String]) -> Result<Trace> {
        let part = Part::of(self, model);
        let mut points: Vec<String> = more.iter().map(|path| part.inside(path)).collect();
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

/// The modules whose output is all that the rest of the model gets, but for the relative position table.
const STATES: [Module; 4] =
    [Module::Embeddings, Module::EmbeddingsLayerNorm, Module::Layer, Module::OutputLayerNorm];

/// A convolution, whose points a golden may have where the model has none.
const CONVOLUTION: ConvConfig = ConvConfig { kernel: 1, groups: 1, act: Activation::Tanh };

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

/// The modules that return what a module before them returns, but for rows of padding.
fn passed_on(module: Module) -> &'static [Module] {
    use Module::{
        Attention, AttentionLayerNorm, AttentionOutput, Cls, ConvLayerNorm, Convolution, Decoder, Embeddings,
        EmbeddingsLayerNorm, Layer, LmHead, LmPredictions, Output, OutputLayerNorm, Predictions, Transform,
        TransformLayerNorm,
    };
    match module {
        EmbeddingsLayerNorm => &[Embeddings],
        AttentionLayerNorm | AttentionOutput => &[AttentionOutput, Attention],
        OutputLayerNorm | Output => &[Output, Layer],
        ConvLayerNorm => &[Convolution],
        TransformLayerNorm => &[Transform],
        Decoder | Predictions => &[Predictions, Cls],
        LmHead => &[LmPredictions],
        _ => &[],
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

pub(super) fn floats(tensor: &Tensor) -> Option<&[f32]> {
    match &tensor.data {
        Data::Floats(values) => Some(values),
        Data::Integers(_) | Data::Doubles(_) => None,
    }
}

fn array(tensor: &Tensor) -> Option<ArrayD<f32>> {
    ArrayD::from_shape_vec(tensor.shape.clone(), floats(tensor)?.to_vec()).ok()
}
