//! TorchScript: the program of a traced or scripted model, run as it is.
//!
//! Unlike weights it is code of whoever made it, and libtorch runs it with the rights of this process: it is loaded only when this
//! backend was asked for by name. Our own reader checks the archive first.

use std::path::{Path, PathBuf};

use deberta_converters::config_file::ConfigFile;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::torch;
use deberta_converters::mapped::Mapped;
use deberta_converters::tensor::Dtype;
use deberta_reference::{Head, Inputs, MaskedRows};
use ndarray::{Array2, ArrayD};
use tch::{CModule, IValue};

use super::declaration::{Argument, Declaration};
use super::failure::Failure;
use super::{PRODUCER, tensors};
use crate::backend::interface::{check_choices, metadata};
use crate::backend::reference::flat;
use crate::backend::{Backend, BackendName, Graph};
use crate::judge::tolerance::Precision;
use crate::trace::class::Class;
use crate::trace::file::Trace;
use crate::trace::inputs::{dims, for_loss};
use crate::trace::points::{Named, rank};
use crate::trace::tensor::{Data, Tensor};

/// A program that is run as it is.
pub struct Script {
    path: PathBuf,
    module: CModule,
    arguments: Vec<Argument>,
    class: Class,
    precision: Precision,
    /// The outputs by their names in a trace, as a first run had them; if that failed, those that the class has.
    exposed: Vec<String>,
    unknown: Vec<String>,
}

impl Script {
    /// Loads a program and runs it once, on two tokens, to see what it returns. Its class is that of its own type, or else what
    /// the configuration `config`, or the one beside it, says.
    ///
    /// # Errors
    /// What is no TorchScript program, or one with other arguments than a model has; no class.
    pub fn open(path: &Path, config: Option<&Path>) -> Result<Script> {
        Script::load(path, config).map_err(|error| error.in_file(path))
    }

    fn load(path: &Path, config: Option<&Path>) -> Result<Script> {
        if !torch::is_script(&Mapped::open(path)?) {
            return Err(Error::unsupported("not a TorchScript program"));
        }
        super::use_threads();
        let module = CModule::load(path).map_err(unsupported)?;
        let declaration = match module.forward_is::<IValue>(&[]) {
            Err(error) => Declaration::of_error(&error.to_string())?,
            Ok(_) => return Err(Error::unsupported("the program takes no arguments")),
        };
        let class = match declaration.class() {
            Some(class) => class,
            None => declared_class(path, config)?,
        };
        let parameters = module.named_parameters().map_err(unsupported)?;
        let dtypes = parameters.iter().map(|(_, parameter)| match parameter.f_kind() {
            Ok(tch::Kind::Half) => Dtype::F16,
            Ok(tch::Kind::BFloat16) => Dtype::BF16,
            _ => Dtype::F32,
        });
        let mut script = Script {
            path: path.to_owned(),
            precision: Precision::of(dtypes),
            module,
            arguments: declaration.arguments,
            class,
            exposed: Vec::new(),
            unknown: Vec::new(),
        };
        // A program for one length fails here, and may be right at that length; one of embeddings takes no tokens.
        let two = match class.head {
            Head::MultipleChoice => Inputs { choices: Some(2), ..Inputs::from_ids(Array2::zeros((2, 2))) },
            _ => Inputs::from_ids(Array2::zeros((1, 2))),
        };
        let names: Vec<String> = match script.compute(&two) {
            Ok(computed) => computed.into_iter().map(|(name, _)| name).collect(),
            Err(error) if matches!(error.kind(), Kind::Model | Kind::Request) => {
                outputs_of(class.head).iter().map(|&name| name.to_owned()).collect()
            }
            Err(error) => return Err(error),
        };
        let names = names.into_iter().map(|name| format!("outputs.{name}"));
        (script.exposed, script.unknown) = names.partition(|name| Named::of(name).is_some());
        script.exposed.sort_by_key(|name| rank(name));
        Ok(script)
    }

    /// The outputs by their names in transformers.
    fn compute(&self, inputs: &Inputs) -> Result<Vec<(String, tch::Tensor)>> {
        let values = self.values(inputs)?;
        let value = tch::no_grad(|| self.module.forward_is(&values)).map_err(|error| {
            Error::new(Kind::Model, format!("the program does not run: {}", Failure::Torch(error)))
        })?;
        named(value, self.class)
    }

    /// The values for all arguments: a mask of ones, token types of zero and positions 0, 1, 2, … where none are given.
    ///
    /// # Errors
    /// Inputs that the program does not take, by name.
    fn values(&self, inputs: &Inputs) -> Result<Vec<IValue>> {
        let refusal = |name: &str, why: &str| Error::new(Kind::Request, format!("{name}: {why}"));
        let takes = |name: &str| self.arguments.iter().any(|argument| argument.name == name);
        let Inputs { input_ids, inputs_embeds, attention_mask, token_type_ids, position_ids, .. } = inputs;
        let given = [
            ("input_ids", input_ids.is_some()),
            ("inputs_embeds", inputs_embeds.is_some()),
            ("attention_mask", attention_mask.iter().flatten().any(|&value| value != 1.0)),
            ("token_type_ids", token_type_ids.iter().flatten().any(|&value| value != 0)),
            ("position_ids", position_ids.is_some()),
        ];
        if let Some((name, _)) = given.into_iter().find(|&(name, given)| given && !takes(name)) {
            return Err(refusal(name, "the program has no such argument"));
        }
        if let Some(mask) = attention_mask.as_ref().filter(|mask| mask.ndim() != 2) {
            let why = format!("a program takes [batch, sequence], this has shape {:?}", mask.shape());
            return Err(refusal("attention_mask", &why));
        }
        if let Some(name) = for_loss(inputs).next() {
            return Err(refusal(name, "a program is run without labels"));
        }
        check_choices(self.class, inputs)?;
        let choices = match self.class.head {
            Head::MultipleChoice => Some(inputs.check_choices().map_err(request)?),
            _ => None,
        };
        let shape = dims(inputs).ok_or_else(|| refusal("input_ids", "not given"))?;
        let positions = |ids: &Array2<i64>| match (choices, ids.broadcast(shape)) {
            (Some(_), Some(of_all)) => tensors::tensor(&of_all.to_owned()),
            _ => tensors::tensor(ids),
        };
        let value = |argument: &Argument| -> Result<IValue> {
            let given = match argument.name.as_str() {
                "input_ids" => input_ids.as_ref().map(tensors::tensor),
                "inputs_embeds" => inputs_embeds.as_ref().map(tensors::tensor),
                "attention_mask" => attention_mask.as_ref().map(mask),
                "token_type_ids" => token_type_ids.as_ref().map(tensors::tensor),
                "position_ids" => position_ids.as_ref().map(positions),
                _ => None,
            };
            let otherwise = || match argument.name.as_str() {
                _ if argument.optional => None,
                "attention_mask" => Some(tensors::tensor(&Array2::<i64>::ones(shape))),
                "token_type_ids" => Some(tensors::tensor(&Array2::<i64>::zeros(shape))),
                "position_ids" => Some(positions(&Array2::from_shape_fn((1, shape.1), |(_, at)| at as i64))),
                _ => None,
            };
            match given.or_else(otherwise) {
                Some(tensor) => tensor
                    .and_then(|tensor| by_question(tensor, choices))
                    .map(IValue::Tensor)
                    .map_err(|failure| failure.of(Kind::Request)),
                None if argument.optional => Ok(IValue::None),
                None => Err(refusal(&argument.name, "the program needs it")),
            }
        };
        self.arguments.iter().map(value).collect()
    }
}

impl Backend for Script {
    fn name(&self) -> &'static str {
        BackendName::Tch.as_str()
    }

    fn run(&self, inputs: &Inputs, _points: &[&str], replaced: Vec<(String, ArrayD<f32>)>) -> Result<Trace> {
        if let Some((name, _)) = replaced.first() {
            let why = format!("a program cannot be given the values of {name}: it has no such argument");
            return Err(Error::new(Kind::Request, why).in_file(&self.path));
        }
        let mut tensors = Vec::new();
        for (name, value) in self.compute(inputs)? {
            let name = format!("outputs.{name}");
            let values =
                tensors::array(&value).map_err(|failure| failure.of(Kind::Model).in_tensor(&name))?;
            let shape = values.shape().to_vec();
            tensors.push(Tensor { name, shape, data: Data::Floats(flat(values)) });
        }
        let producer = format!("{PRODUCER}, TorchScript");
        let metadata = metadata(self.name(), producer, Some(self.class), self.masked_rows());
        Ok(Trace { metadata, tensors })
    }

    fn run_only(&self, inputs: &Inputs) -> Result<()> {
        self.compute(inputs).map(drop)
    }
}

impl Graph for Script {
    fn format(&self) -> &'static str {
        "TorchScript"
    }

    fn exposed(&self) -> Vec<&str> {
        self.exposed.iter().map(String::as_str).collect()
    }

    fn unknown(&self) -> &[String] {
        &self.unknown
    }

    fn class(&self) -> Option<Class> {
        Some(self.class)
    }

    fn masked_rows(&self) -> MaskedRows {
        self.class.masked_rows()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn takes(&self, inputs: &Inputs) -> Result<()> {
        self.values(inputs).map(drop)
    }
}

/// The class that the configuration names.
fn declared_class(path: &Path, config: Option<&Path>) -> Result<Class> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let declared = ConfigFile::find(config, folder, None)
        .map(|file| file.config.architectures.iter().find_map(|name| Class::from_name(name).ok()));
    declared.ok().flatten().ok_or_else(|| {
        Error::unsupported(
            "which class is it? The program is of no class of transformers, and no configuration beside it, or given by \
             --config, names one in \"architectures\"",
        )
    })
}

/// What a class returns if it is not asked for more.
fn outputs_of(head: Head) -> &'static [&'static str] {
    match head {
        Head::Base => &["last_hidden_state"],
        Head::QuestionAnswering => &["start_logits", "end_logits"],
        _ => &["logits"],
    }
}

/// The outputs by their names: those that a dictionary has, or those that the class returns, hidden states and attentions behind
/// them.
fn named(value: IValue, class: Class) -> Result<Vec<(String, tch::Tensor)>> {
    let mut values = match value {
        IValue::GenericDict(pairs) => return of_dictionary(pairs),
        IValue::Tuple(values) | IValue::GenericList(values) => values,
        IValue::TensorList(tensors) => tensors.into_iter().map(IValue::Tensor).collect(),
        single => vec![single],
    }
    .into_iter();
    let own = outputs_of(class.head);
    let mut outputs = Vec::new();
    for name in own {
        match values.next() {
            Some(IValue::Tensor(tensor)) => outputs.push(((*name).to_owned(), tensor)),
            _ => return Err(strange(&format!("{class} returns {} first", own.join(" and ")))),
        }
    }
    for layers in values {
        let layers = list(layers)?;
        let name =
            if layers.first().is_some_and(|layer| layer.dim() == 4) { "attentions" } else { "hidden_states" };
        outputs.extend(numbered(name, layers));
    }
    Ok(outputs)
}

fn of_dictionary(pairs: Vec<(IValue, IValue)>) -> Result<Vec<(String, tch::Tensor)>> {
    let mut outputs = Vec::new();
    for pair in pairs {
        match pair {
            (IValue::String(name), IValue::Tensor(tensor)) => outputs.push((name, tensor)),
            (IValue::String(name), layers) => outputs.extend(numbered(&name, list(layers)?)),
            _ => return Err(strange("a dictionary must have names")),
        }
    }
    Ok(outputs)
}

fn numbered(name: &str, layers: Vec<tch::Tensor>) -> impl Iterator<Item = (String, tch::Tensor)> {
    layers.into_iter().enumerate().map(move |(i, layer)| (format!("{name}.{i}"), layer))
}

/// The tensors of a tuple or list.
fn list(value: IValue) -> Result<Vec<tch::Tensor>> {
    let values = match value {
        IValue::TensorList(tensors) => return Ok(tensors),
        IValue::Tuple(values) | IValue::GenericList(values) => values,
        _ => return Err(strange("behind its own outputs a model returns tuples, one tensor a layer")),
    };
    let tensor = |value| match value {
        IValue::Tensor(tensor) => Ok(tensor),
        _ => Err(strange("a tuple must be of tensors")),
    };
    values.into_iter().map(tensor).collect()
}

fn strange(why: &str) -> Error {
    Error::unsupported(format!("the program returns something else than a model: {why}"))
}

/// Whole numbers as integers, which is what models are traced with.
fn mask(mask: &ArrayD<f32>) -> super::failure::Result<tch::Tensor> {
    match mask.iter().all(|value| value.fract() == 0.0 && value.abs() < 1e6) {
        true => tensors::tensor(&mask.mapv(|value| value as i64)),
        false => tensors::tensor(mask),
    }
}

/// An argument [b c, …] of multiple choice as [b, c, …], any other one as it is.
fn by_question(tensor: tch::Tensor, choices: Option<usize>) -> super::failure::Result<tch::Tensor> {
    let (Some(choices), [_, rest @ ..]) = (choices, &tensor.size()[..]) else { return Ok(tensor) };
    Ok(tensor.f_reshape([&[-1, tensors::length(choices)], rest].concat())?)
}

fn request(error: deberta_reference::Error) -> Error {
    Error::new(Kind::Request, error.to_string())
}

fn unsupported(error: tch::TchError) -> Error {
    Error::unsupported(Failure::Torch(error).to_string())
}
