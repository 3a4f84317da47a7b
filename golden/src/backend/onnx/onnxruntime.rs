//! ONNX Runtime, by `ort`, which loads its library when it is needed: graphs are optimized as they are in production.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use deberta_converters::error::{Error, Kind as ErrorKind, Result};
use half::{bf16, f16};
use ndarray::ArrayViewD;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::{OutputSelector, RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, TensorElementType, ValueType};

use super::feed::{Given, Input, Kind, Numbers};
use super::library::{VARIABLE, library};
use super::runtime::{Runtime, no_numbers, not_run, not_taken};
use crate::trace::tensor::{Data, Tensor};

/// The environment of the process, which can be made once, and is kept.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// A graph that ONNX Runtime has loaded.
pub(super) struct OnnxRuntime {
    /// Runs one at a time.
    session: Mutex<Session>,
    inputs: Vec<(String, ValueType)>,
    outputs: Vec<String>,
}

impl OnnxRuntime {
    /// Loads the graph of a file. ONNX Runtime opens the files beside it by itself.
    ///
    /// # Errors
    /// No library; operators that ONNX Runtime does not know, among others.
    pub(super) fn load(path: &Path) -> Result<OnnxRuntime> {
        let environment = environment()?;
        let built = || -> ort::Result<Session> {
            Session::builder(&environment)?
                .with_log_level(LogLevel::Fatal)?
                .with_intra_threads(rayon::current_num_threads())?
                .commit_from_file(path)
        };
        let session = built().map_err(|error| not_taken(&error))?;
        let inputs =
            session.inputs().iter().map(|input| (input.name().to_owned(), input.dtype().clone())).collect();
        let outputs = session.outputs().iter().map(|output| output.name().to_owned()).collect();
        Ok(OnnxRuntime { session: Mutex::new(session), inputs, outputs })
    }
}

fn environment() -> Result<Environment> {
    let mut known = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = known.as_ref() {
        return Ok(environment.clone());
    }
    let refused = |why: String| {
        Error::new(
            ErrorKind::Request,
            format!(
                "{why}; pip install onnxruntime brings ONNX Runtime's library, 1.24 or later; --ort-library or {VARIABLE} \
                 names another one: docs/formats/onnx.md"
            ),
        )
    };
    let path = library().ok_or_else(|| refused("--backend onnxruntime: no library was found".to_owned()))?;
    let builder = ort::init_from(&path).map_err(|error| refused(format!("{}: {error}", path.display())))?;
    let made = builder.with_name("deberta-verify").with_telemetry(false).build();
    let made = made.map_err(|error| refused(format!("ONNX Runtime does not start: {error}")))?;
    made.set_log_level(LogLevel::Fatal);
    Ok(known.insert(made).clone())
}

impl Runtime for OnnxRuntime {
    fn producer(&self) -> String {
        // git-branch=rel-1.32.0, git-commit-id=…
        let version = ort::info().split_once("rel-").and_then(|(_, rest)| rest.split([',', ' ']).next());
        format!("onnxruntime {}", version.unwrap_or("of unknown version"))
    }

    fn inputs(&self) -> Result<Vec<Input>> {
        let input = |(name, of): &(String, ValueType)| {
            let kind = match of.tensor_type() {
                Some(TensorElementType::Int64) => Kind::I64,
                Some(TensorElementType::Int32) => Kind::I32,
                Some(TensorElementType::Float32) => Kind::F32,
                _ => {
                    let why = format!("the graph has an input {name:?} of {of}: no model has one of it");
                    return Err(Error::unsupported(why));
                }
            };
            // Free dimensions are -1.
            let shape =
                of.tensor_shape().map(|shape| shape.iter().map(|&n| usize::try_from(n).ok()).collect());
            Ok(Input { name: name.clone(), kind, shape })
        };
        self.inputs.iter().map(input).collect()
    }

    fn outputs(&self) -> Vec<String> {
        self.outputs.clone()
    }

    fn run(&self, given: Vec<Given>, outputs: &[String]) -> Result<Vec<Tensor>> {
        let mut values: Vec<(String, SessionInputValue<'_>)> = Vec::with_capacity(given.len());
        for Given { name, shape, numbers } in given {
            let value = match numbers {
                Numbers::I64(numbers) => ort::value::Tensor::from_array((shape, numbers)).map(DynValue::from),
                Numbers::I32(numbers) => ort::value::Tensor::from_array((shape, numbers)).map(DynValue::from),
                Numbers::F32(numbers) => ort::value::Tensor::from_array((shape, numbers)).map(DynValue::from),
            };
            values.push((name, value.map_err(|error| not_run(&error))?.into()));
        }
        let selected = outputs.iter().fold(OutputSelector::no_default(), |all, name| all.with(name));
        let options = RunOptions::new().map_err(|error| not_run(&error))?.with_outputs(selected);
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let computed = session.run_with_options(values, &options).map_err(|error| not_run(&error))?;
        let value = |name: &String| computed.get(name).ok_or_else(|| not_run(&format!("no output {name}")));
        outputs.iter().map(|name| tensor(name, value(name)?)).collect()
    }
}

fn tensor(name: &str, value: &DynValue) -> Result<Tensor> {
    let wrong = |error: ort::Error| not_run(&error);
    let floats = |shape: &[usize], numbers: Vec<f32>| (shape.to_vec(), Data::Floats(numbers));
    let (shape, data) = match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => {
            let values: ArrayViewD<'_, f32> = value.try_extract_array().map_err(wrong)?;
            floats(values.shape(), values.iter().copied().collect())
        }
        Some(TensorElementType::Float16) => {
            let values: ArrayViewD<'_, f16> = value.try_extract_array().map_err(wrong)?;
            floats(values.shape(), values.iter().map(|value| value.to_f32()).collect())
        }
        Some(TensorElementType::Bfloat16) => {
            let values: ArrayViewD<'_, bf16> = value.try_extract_array().map_err(wrong)?;
            floats(values.shape(), values.iter().map(|value| value.to_f32()).collect())
        }
        Some(TensorElementType::Int64) => {
            let values: ArrayViewD<'_, i64> = value.try_extract_array().map_err(wrong)?;
            (values.shape().to_vec(), Data::Integers(values.iter().copied().collect()))
        }
        _ => return Err(no_numbers(name, value.dtype())),
    };
    Ok(Tensor { name: name.to_owned(), shape, data })
}
