//! A model that can be changed.

use std::collections::BTreeMap;
use std::error::Error as StdError;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::loading::Parameters;
use deberta_reference::{
    DebertaConfig, MaskedRows, Module, Param, Part, Role, Rows, Tensor, TensorSource, params,
};

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

    /// A base model of the same code with another configuration and no parameters.
    pub(crate) fn empty_base(&self, config: DebertaConfig) -> Model {
        let class = self.class.base(config.family);
        Model::empty(config, class, self.masked_rows)
    }

    /// A model without parameters.
    pub(crate) fn empty(config: DebertaConfig, class: Class, masked_rows: MaskedRows) -> Model {
        Model { config, class, masked_rows, parameters: BTreeMap::new() }
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

    /// The name of the bias of the queries, or of the values, of a layer; nothing if the model has none.
    pub(crate) fn bias_of(&self, part: Part, layer: usize) -> Option<String> {
        let mut biases = self.of_heads(layer).filter(|(param, _)| param.role == Role::Bias);
        biases.find(|(_, parts)| *parts == [part]).map(|(param, _)| param.name)
    }

    /// The numbers of a parameter, if the model has it.
    pub fn values(&self, name: &str) -> Option<&[f32]> {
        self.parameters.get(name).map(|tensor| (*tensor.values).as_ref())
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
