//! From a checkpoint to the parameters of a model: one trait for all formats, one check for all classes.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::ops::{LayerNorm, Linear};
use crate::params::{Head, Param};

/// Numbers that are held somewhere: in a vector, or in a file that is mapped into memory.
pub type Floats = Arc<dyn AsRef<[f32]> + Send + Sync>;

/// A tensor of a checkpoint in the canonical layout, as f32.
#[derive(Clone)]
pub struct Tensor {
    /// The length of each axis.
    pub shape: Vec<usize>,
    /// The numbers in row-major order, as many as the shape says.
    pub values: Floats,
}

impl Tensor {
    /// A tensor that owns its numbers.
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Tensor {
        Tensor { shape, values: Arc::new(values) }
    }
}

/// A checkpoint of any format, by canonical names.
///
/// The base model's names may start with `deberta.` or not, whatever the class that is loaded.
pub trait TensorSource {
    /// The canonical names of all tensors.
    fn names(&self) -> Vec<String>;

    /// The tensor of that name, converted to f32 if it is of another type; nothing if there is none.
    ///
    /// # Errors
    /// Whatever keeps the source from reading the tensor.
    fn tensor(
        &self,
        name: &str,
    ) -> std::result::Result<Option<Tensor>, Box<dyn std::error::Error + Send + Sync>>;
}

/// What a checkpoint and a model have not in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// The class that was loaded.
    pub class: &'static str,
    /// Parameters of the model that the checkpoint lacks.
    pub missing: Vec<String>,
    /// Parameters that have another shape in the checkpoint.
    pub wrong_shape: Vec<WrongShape>,
    /// Tensors of the checkpoint that the model has no use for.
    pub unexpected: Vec<String>,
    /// Parameters with numbers that are NaN or infinite.
    pub not_finite: Vec<NotFinite>,
}

/// A parameter that has another shape in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongShape {
    /// The canonical name.
    pub name: String,
    /// The shape that the configuration asks for.
    pub expected: Vec<usize>,
    /// The shape in the checkpoint.
    pub found: Vec<usize>,
}

/// A parameter with numbers that are NaN or infinite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// The canonical name.
    pub name: String,
    /// How many numbers are NaN or infinite.
    pub count: usize,
    /// Where the first of them is, in row-major order.
    pub first: usize,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class)?;
        list(f, "missing", &self.missing, |name| name.clone())?;
        list(f, "of the wrong shape", &self.wrong_shape, |wrong| {
            format!("{} is {:?}, expected {:?}", wrong.name, wrong.found, wrong.expected)
        })?;
        list(f, "unexpected", &self.unexpected, |name| name.clone())?;
        list(f, "with NaN or infinity", &self.not_finite, |bad| {
            format!("{} ({} numbers, first at {})", bad.name, bad.count, bad.first)
        })
    }
}

/// Writes the number of items and the first few.
fn list<T>(f: &mut fmt::Formatter<'_>, what: &str, items: &[T], show: impl Fn(&T) -> String) -> fmt::Result {
    const SHOWN: usize = 4;
    if items.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = items.iter().take(SHOWN).map(show).collect();
    let more = if items.len() > SHOWN { ", …" } else { "" };
    write!(f, "; {} {what}: {}{more}", items.len(), shown.join(", "))
}

/// A matrix [rows, columns] of a checkpoint.
#[derive(Clone)]
pub(crate) struct Matrix {
    values: Floats,
    /// The first axis.
    pub(crate) rows: usize,
    /// The second axis.
    pub(crate) columns: usize,
}

impl Matrix {
    /// All numbers in row-major order.
    pub(crate) fn values(&self) -> &[f32] {
        (*self.values).as_ref()
    }
}

/// The parameters of one class, complete and of the right shapes.
pub struct Weights {
    tensors: HashMap<String, Tensor>,
}

impl Weights {
    /// Reads the required ones of `params` from `source`.
    ///
    /// # Errors
    /// Missing parameters, parameters of the wrong shape, whatever the source reports. NaN and infinity are no
    /// error, but they are in the report.
    pub fn read(head: Head, params: &[Param], source: &dyn TensorSource) -> Result<(Weights, LoadReport)> {
        let names: HashSet<String> = source.names().into_iter().collect();
        let stored = Stored::new(head, &names);
        let mut report = LoadReport { class: head.class_name(), ..LoadReport::default() };
        let mut tensors = HashMap::new();
        for param in params.iter().filter(|param| param.required) {
            let name = stored.name(&param.name);
            let tensor =
                source.tensor(&name).map_err(|error| Error::Source { tensor: name.clone(), error })?;
            match tensor {
                None => report.missing.push(param.name.clone()),
                Some(tensor) if !fits(&tensor, &param.shape) => report.wrong_shape.push(WrongShape {
                    name: param.name.clone(),
                    expected: param.shape.clone(),
                    found: tensor.shape,
                }),
                Some(tensor) => drop(tensors.insert(param.name.clone(), tensor)),
            }
        }
        let known: HashSet<String> = params.iter().map(|param| stored.name(&param.name)).collect();
        report.unexpected =
            names.into_iter().filter(|name| !known.contains(name) && !carries_nothing(name)).collect();
        report.unexpected.sort_unstable();
        report.not_finite = not_finite(&tensors);
        if report.missing.is_empty() && report.wrong_shape.is_empty() {
            Ok((Weights { tensors }, report))
        } else {
            Err(Error::Incomplete(Box::new(report)))
        }
    }

    /// The parameter of that canonical name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The parameters whose names start with `path`.
    pub(crate) fn at(&self, path: impl Into<String>) -> Scope<'_> {
        Scope { weights: self, path: path.into() }
    }
}

/// The name under which a source holds a parameter: with or without the prefix of the base model.
struct Stored {
    head: Head,
    prefixed: bool,
}

impl Stored {
    const PREFIX: &str = "deberta.";

    fn new(head: Head, names: &HashSet<String>) -> Stored {
        Stored { head, prefixed: names.iter().any(|name| name.starts_with(Stored::PREFIX)) }
    }

    fn name(&self, canonical: &str) -> String {
        match (self.head, self.prefixed) {
            (Head::Base, true) => format!("{}{canonical}", Stored::PREFIX),
            (_, false) => canonical.strip_prefix(Stored::PREFIX).unwrap_or(canonical).to_owned(),
            (_, true) => canonical.to_owned(),
        }
    }
}

/// Whether the tensor has that shape, and as many numbers as it says.
fn fits(tensor: &Tensor, shape: &[usize]) -> bool {
    let count = shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length));
    tensor.shape == shape && count == Some((*tensor.values).as_ref().len())
}

/// Whether a tensor of a checkpoint may be left aside: a buffer of old versions, or a second name of a parameter.
fn carries_nothing(name: &str) -> bool {
    name.ends_with("embeddings.position_ids")
        || name == "cls.predictions.decoder.weight"
        || name == "cls.predictions.decoder.bias"
}

fn not_finite(tensors: &HashMap<String, Tensor>) -> Vec<NotFinite> {
    const BLOCK: usize = 1 << 16;
    let finite = |block: &[f32]| block.iter().fold(true, |all, value| all & value.is_finite());
    let mut found: Vec<NotFinite> = tensors
        .par_iter()
        .filter_map(|(name, tensor)| {
            let values = (*tensor.values).as_ref();
            if values.par_chunks(BLOCK).all(finite) {
                return None;
            }
            let first = values.iter().position(|value| !value.is_finite())?;
            let count = values.iter().filter(|value| !value.is_finite()).count();
            Some(NotFinite { name: name.clone(), count, first })
        })
        .collect();
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The parameters below one path.
pub(crate) struct Scope<'w> {
    weights: &'w Weights,
    path: String,
}

impl Scope<'_> {
    /// The parameters of the part `name`.
    pub(crate) fn at(&self, name: &str) -> Scope<'_> {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Scope { weights: self.weights, path }
    }

    /// A linear layer `weight` [out, in] with the `bias` [out].
    pub(crate) fn linear(&self, name: &str) -> Result<Linear> {
        let scope = self.at(name);
        Ok(Linear { weight: scope.matrix("weight")?, bias: Some(scope.vector("bias")?) })
    }

    /// A linear layer `weight` [out, in] without bias.
    pub(crate) fn linear_without_bias(&self, name: &str) -> Result<Linear> {
        Ok(Linear { weight: self.at(name).matrix("weight")?, bias: None })
    }

    /// A layer normalisation, `weight` and `bias`.
    pub(crate) fn layer_norm(&self, name: &str, eps: f64) -> Result<LayerNorm> {
        let scope = self.at(name);
        Ok(LayerNorm { weight: scope.vector("weight")?, bias: scope.vector("bias")?, eps })
    }

    /// The matrix `name`.
    pub(crate) fn matrix(&self, name: &str) -> Result<Matrix> {
        let tensor = self.tensor(name)?;
        match tensor.shape[..] {
            [rows, columns] => Ok(Matrix { values: Arc::clone(&tensor.values), rows, columns }),
            _ => Err(self.missing(name)),
        }
    }

    /// The vector `name`.
    pub(crate) fn vector(&self, name: &str) -> Result<Vec<f32>> {
        Ok((*self.tensor(name)?.values).as_ref().to_vec())
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.weights.tensors.get(&self.at(name).path).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> Error {
        let missing = vec![self.at(name).path];
        Error::Incomplete(Box::new(LoadReport { missing, ..LoadReport::default() }))
    }
}
