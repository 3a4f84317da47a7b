//! A model that can be changed.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::loading::Parameters;
use deberta_reference::{
    DebertaConfig, MaskedRows, Module, Param, Part, Role, Rows, Tensor, TensorSource, params,
};

use super::Mistake;
use crate::backend::Reference;
use crate::trace::class::Class;

/// A model that can be changed: what it takes to build it. A copy shares the numbers that were not changed.
#[derive(Clone)]
pub struct Model {
    /// The configuration.
    pub config: DebertaConfig,
    /// The class.
    pub class: Class,
    /// What becomes of attention rows whose every key is masked.
    pub masked_rows: MaskedRows,
    /// A formula that is computed wrongly, if one is.
    pub(crate) mistake: Option<Mistake>,
    parameters: BTreeMap<String, Tensor>,
}

impl Model {
    /// Reads all parameters of a class from a source.
    ///
    /// # Errors
    /// What the source reports.
    pub fn read(parameters: &Parameters, class: Class, masked_rows: MaskedRows) -> Result<Model> {
        let mut model = Model::empty(parameters.checkpoint().config.clone(), class, masked_rows);
        for param in model.params() {
            let tensor =
                parameters.tensor(&param.name).map_err(|error| Error::new(Kind::Model, error.to_string()))?;
            if let Some(tensor) = tensor {
                model.parameters.insert(param.name, tensor);
            }
        }
        Ok(model)
    }

    /// A base model of the same code and with the same mistake, with another configuration and no parameters.
    pub(crate) fn empty_base(&self, config: DebertaConfig) -> Model {
        let class = self.class.base(config.family);
        Model { mistake: self.mistake, ..Model::empty(config, class, self.masked_rows) }
    }

    /// A model without parameters.
    pub(crate) fn empty(config: DebertaConfig, class: Class, masked_rows: MaskedRows) -> Model {
        Model { config, class, masked_rows, mistake: None, parameters: BTreeMap::new() }
    }

    /// Every parameter that the class has with this configuration.
    pub fn params(&self) -> Vec<Param> {
        params(&self.config, self.class.head)
    }

    /// What the names of the base model start with.
    pub fn base(&self) -> &'static str {
        self.class.head.base_prefix()
    }

    /// The path of a module; of one that every layer has, in that layer.
    pub fn path(&self, module: Module, layer: usize) -> String {
        module.at(self.base(), layer)
    }

    /// The name of the weight of a module, which is at [`Model::path`].
    pub fn weight(&self, module: Module, layer: usize) -> String {
        self.path(module, layer) + ".weight"
    }

    /// The parameters of a layer whose rows are those of heads.
    pub(crate) fn of_heads(&self, layer: usize) -> impl Iterator<Item = (Param, &'static [Part])> {
        let params = self.params().into_iter().filter(move |param| param.layer == Some(layer));
        params.filter_map(|param| match param.rows {
            Rows::Heads(parts) => Some((param, parts)),
            Rows::Plain => None,
        })
    }

    /// The module whose output is a part of the attention, with others in version 1: `in_proj` for its keys.
    pub(crate) fn projection(&self, part: Part) -> Module {
        match (part, self.config.has_in_proj()) {
            (Part::PositionKey, true) => Module::PosProj,
            (Part::PositionQuery, true) => Module::PosQProj,
            (Part::Query | Part::Key | Part::Value, true) => Module::InProj,
            (Part::PositionKey, false) => Module::PosKeyProj,
            (Part::PositionQuery, false) => Module::PosQueryProj,
            (Part::Query, false) => Module::QueryProj,
            (Part::Key, false) => Module::KeyProj,
            (Part::Value, false) => Module::ValueProj,
        }
    }

    /// The module that has the parameters of [`Model::projection`]: that of the tokens, where positions share it.
    pub(crate) fn projecting(&self, part: Part) -> Module {
        let shared = |part| if self.config.share_att_key { self.tokens_part(part) } else { part };
        self.projection(shared(part))
    }

    /// The part of the tokens whose projection the positions may share.
    fn tokens_part(&self, part: Part) -> Part {
        match part {
            Part::PositionKey => Part::Key,
            Part::PositionQuery => Part::Query,
            part => part,
        }
    }

    /// The first point that shows the relative position table.
    pub(crate) fn table_point(&self) -> Module {
        match self.config.norm_rel_ebd && self.config.relative_attention {
            true => Module::TableLayerNorm,
            false if self.config.c2p() => self.projection(Part::PositionKey),
            false => self.projection(Part::PositionQuery),
        }
    }

    /// The name of the bias of the queries, or of the values, of a layer; nothing if the model has none.
    pub(crate) fn bias_of(&self, part: Part, layer: usize) -> Option<String> {
        let mut biases = self.of_heads(layer).filter(|(param, _)| param.role == Role::Bias);
        biases.find(|(_, parts)| *parts == [part]).map(|(param, _)| param.name)
    }

    /// The numbers of a parameter, if the model has it.
    pub fn values(&self, name: &str) -> Option<&[f32]> {
        self.parameters.get(name).map(|tensor| (*tensor.values).as_ref())
    }

    /// Whether the model has a parameter whose numbers are all 0.
    pub(crate) fn is_zero(&self, name: &str) -> bool {
        self.values(name).is_some_and(|values| values.iter().all(|&value| value == 0.0))
    }

    /// The length of each axis of a parameter.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.parameters.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// The names of all parameters.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parameters.keys().map(String::as_str)
    }

    /// A parameter, whose numbers are shared.
    pub(crate) fn parameter(&self, name: &str) -> Option<&Tensor> {
        self.parameters.get(name)
    }

    /// Adds or replaces a parameter.
    pub(crate) fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.parameters.insert(name.into(), tensor);
    }

    /// Takes old layers for the new ones.
    pub(super) fn take_layers(&mut self, order: &[usize]) -> Option<()> {
        let old = self.clone();
        order.iter().all(|&layer| layer < old.config.num_hidden_layers).then_some(())?;
        for param in old.params().into_iter().filter(|param| param.layer.is_some()) {
            self.parameters.remove(&param.name);
        }
        self.config.num_hidden_layers = order.len();
        for param in self.params() {
            let Some(&from) = param.layer.and_then(|layer| order.get(layer)) else { continue };
            let name = Param { layer: Some(from), ..param.clone() }.name_under(self.base());
            if let Some(tensor) = old.parameter(&name) {
                self.insert(param.name, tensor.clone());
            }
        }
        Some(())
    }

    /// Removes the parameters that the class does not have with its configuration.
    pub(super) fn forget_unused(&mut self) {
        let used: BTreeSet<String> = self.params().into_iter().map(|param| param.name).collect();
        self.parameters.retain(|name, _| used.contains(name));
    }

    /// Whether another model computes the same for any input: the configuration, the formulas and all numbers are equal.
    pub(crate) fn is(&self, other: &Model) -> bool {
        let names = || self.names().chain(other.names());
        self.config == other.config
            && self.mistake == other.mistake
            && names().all(|name| {
                self.values(name)
                    .zip(other.values(name))
                    .is_some_and(|(own, others)| std::ptr::eq(own, others) || own == others)
            })
    }

    /// Makes the model that computes.
    ///
    /// # Errors
    /// Missing and misshapen parameters; a configuration that the class cannot be built from.
    pub fn build(&self) -> Result<Reference> {
        Reference::of(self.config.clone(), self, self.class, self.masked_rows)
    }
}

impl TensorSource for Model {
    fn names(&self) -> Vec<String> {
        self.parameters.keys().cloned().collect()
    }

    fn tensor(&self, name: &str) -> std::result::Result<Option<Tensor>, Box<dyn StdError + Send + Sync>> {
        Ok(self.parameters.get(name).cloned())
    }
}
