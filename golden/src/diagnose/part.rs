//! Small models that compute what parts of a larger one do.

use std::ops::Range;

use deberta_reference::{DebertaConfig, Inputs, Module, Param, Stage, Tensor as Parameter};
use ndarray::Array3;

use super::section::Section;
use crate::fault::Model;
use crate::trace::inputs::dims;

/// A small model for a part of another one, and what its points are called there.
pub(super) struct Part {
    pub(super) model: Model,
    pub(super) inputs: Inputs,
    /// The point that is replaced by the input of the part.
    pub(super) entrance: String,
    /// Prefixes: in the whole model, and in the part.
    names: Vec<(String, String)>,
    outputs: Vec<(String, String)>,
}

impl Part {
    pub(super) fn of(section: &Section<'_>, model: &Model) -> Part {
        let inputs = section.inputs();
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

    /// What a path of the whole model is called here.
    pub(super) fn inside(&self, path: &str) -> String {
        let renamed =
            self.names.iter().find_map(|(whole, part)| Some(format!("{part}{}", path.strip_prefix(whole)?)));
        renamed.unwrap_or_else(|| path.to_owned())
    }

    /// What a tensor of the part's trace is called in the whole model.
    pub(super) fn outside(&self, name: &str) -> String {
        let renamed = match name.strip_prefix("activations.") {
            Some(path) => self.names.iter().find_map(|(whole, part)| {
                Some(format!("activations.{whole}{}", path.strip_prefix(part.as_str())?))
            }),
            None => self.outputs.iter().find(|(_, part)| part == name).map(|(whole, _)| whole.clone()),
        };
        renamed.unwrap_or_else(|| name.to_owned())
    }
}

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
    let given = section.inputs();
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
