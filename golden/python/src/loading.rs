//! What computes a model: the reference implementation with its weights, or a runtime with its graph.

use std::path::PathBuf;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::Format;
use deberta_converters::hub::{Wanted, resolve};
use deberta_converters::loading::Parameters;
use deberta_converters::progress::Progress;
use deberta_converters::source::Source;
use deberta_golden::backend::{Arithmetic, Backend, BackendName, Graph as _, Onnx, Reference, use_library};
use deberta_golden::trace::class::Class;
use deberta_golden::trace::file::Trace;
use deberta_reference::{DebertaConfig, Inputs, MaskedRows};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::call::Told;

/// What Python can ask to compute.
const BACKENDS: [BackendName; 3] = [BackendName::Reference, BackendName::Onnx, BackendName::OnnxRuntime];

/// The backend of a name.
pub(crate) fn backend(name: &Bound<'_, PyAny>) -> PyResult<Option<BackendName>> {
    let Some(name) = name.extract::<Option<String>>()? else { return Ok(None) };
    let found = BACKENDS.into_iter().find(|backend| backend.as_str() == name);
    let names = BACKENDS.map(|backend| format!("{:?}", backend.as_str())).join(", ");
    found.map(Some).ok_or_else(|| PyValueError::new_err(format!("backend={name:?}: one of {names}")))
}

/// Which model to load, and how.
pub(crate) struct Request {
    pub(crate) model: PathBuf,
    pub(crate) config: Option<PathBuf>,
    pub(crate) revision: Option<String>,
    pub(crate) class_name: Option<String>,
    pub(crate) masked_rows: Option<MaskedRows>,
    /// Whether to compute in double precision.
    pub(crate) double: bool,
    /// What computes: if nothing is asked for, the graph where the model is a file with one, else the reference.
    pub(crate) backend: Option<BackendName>,
    pub(crate) ort_library: Option<PathBuf>,
}

/// A model that can run.
pub(crate) struct Loaded {
    computation: Computation,
    pub(crate) class: Class,
    pub(crate) config: DebertaConfig,
    /// Why there is none, for graphs whose weights are not those of the class as they are.
    pub(crate) digest: Result<String>,
}

enum Computation {
    Reference(Reference),
    Graph(Box<Onnx>),
}

impl Request {
    /// Loads the model.
    ///
    /// # Errors
    /// Files that cannot be read, and that are no model of the class; a graph that the runtime does not take, and one that is asked
    /// for what graphs do not do.
    pub(crate) fn load(&self, told: &Told) -> Result<Loaded> {
        if let Some(library) = &self.ort_library {
            use_library(library)?;
        }
        let graph = self.backend.is_some_and(BackendName::runs_graphs);
        let wanted = if graph { Wanted::as_located(Some(Format::Onnx), None) } else { Wanted::any() };
        let path = resolve(&self.model, self.revision.as_deref(), &wanted, told)?;
        let source = Source::locate(&path, graph.then_some(Format::Onnx), None)?;
        let class = self.class_name.as_deref().map(Class::from_name).transpose()?;
        let (read, checkpoint) =
            Checkpoint::open(source, self.config.as_deref(), class.map(|class| class.head))?;
        for warning in read.config.warnings() {
            told.warn(&format!("{}: {warning}", read.path.display()));
        }
        let of_the_file = (path.is_file() && checkpoint.format == Format::Onnx).then_some(BackendName::Onnx);
        match self.backend.or(of_the_file).unwrap_or(BackendName::Reference) {
            BackendName::Reference => self.reference(checkpoint, class, told),
            backend => self.graph(&checkpoint, class, backend, told),
        }
    }

    fn reference(&self, mut checkpoint: Checkpoint, class: Option<Class>, told: &Told) -> Result<Loaded> {
        checkpoint.check_copies()?;
        let class = class.unwrap_or_else(|| Class::of_checkpoint(&checkpoint));
        class.require(&checkpoint)?;
        let digest = digest(&checkpoint, told)?;
        told.step("loading");
        let config = checkpoint.config.clone();
        let parameters = Parameters::new(checkpoint)?;
        let model = Reference::load(&parameters, class, self.masked_rows.unwrap_or(class.masked_rows()))?;
        for bad in model.not_finite() {
            told.warn(&bad);
        }
        let model = model.computing_in(if self.double { Arithmetic::F64 } else { Arithmetic::F32 });
        Ok(Loaded { computation: Computation::Reference(model), class, config, digest: Ok(digest) })
    }

    fn graph(
        &self,
        checkpoint: &Checkpoint,
        class: Option<Class>,
        backend: BackendName,
        told: &Told,
    ) -> Result<Loaded> {
        let path = &checkpoint.source.path;
        let refused = |argument: &str, what: String| {
            let why =
                format!("{argument}: {what}; backend=\"reference\" computes with the weights of the file");
            Error::new(Kind::Request, why).naming(argument).in_file(path)
        };
        if self.double {
            return Err(refused("precision", "the graph computes in the precision that it has".to_owned()));
        }
        told.step("loading");
        let graph = Onnx::open(path, backend)?;
        let of = graph.class().unwrap_or_else(|| Class::of_checkpoint(checkpoint));
        if let Some(class) = class.filter(|class| class.head != of.head) {
            let error = refused("class_name", format!("the graph computes {of}, not {class}"));
            return Err(error.wanting(class, of));
        }
        let rows = graph.masked_rows();
        if let Some(asked) = self.masked_rows.filter(|&asked| asked != rows) {
            let error = refused("masked_rows", format!("the graph computes them as {rows}, not {asked}"));
            return Err(error.wanting(asked, rows));
        }
        let digest = checkpoint.require_complete().and_then(|()| digest(checkpoint, told));
        let computation = Computation::Graph(Box::new(graph));
        Ok(Loaded { computation, class: of, config: checkpoint.config.clone(), digest })
    }
}

fn digest(checkpoint: &Checkpoint, told: &Told) -> Result<String> {
    told.start("hashing", checkpoint.data_len());
    Ok(checkpoint.digest(&checkpoint.tensor_digests(told)?).to_string())
}

impl Loaded {
    /// What computes.
    pub(crate) fn backend(&self) -> &'static str {
        match &self.computation {
            Computation::Reference(model) => model.name(),
            Computation::Graph(graph) => graph.name(),
        }
    }

    /// Runs the model: the outputs, and the activations whose names one of `points` matches. A graph puts out what it has, also
    /// under names that no class of transformers has.
    ///
    /// # Errors
    /// Inputs that do not fit the model; hidden states and attentions of a graph that puts out none.
    pub(crate) fn run(&self, inputs: Inputs, points: &[&str]) -> Result<Trace> {
        let graph = match &self.computation {
            Computation::Reference(model) => return model.run(&inputs, points, Vec::new()),
            Computation::Graph(graph) => graph,
        };
        // As the classes of models without token types do.
        let has_types = self.config.type_vocab_size > 0;
        let token_type_ids = inputs.token_type_ids.filter(|_| has_types);
        let named: Vec<(String, String)> =
            graph.unknown().iter().map(|name| (name.clone(), format!("outputs.{name}"))).collect();
        let asked =
            [(inputs.output_hidden_states, "hidden_states"), (inputs.output_attentions, "attentions")];
        let exposed = || graph.exposed().into_iter().chain(named.iter().map(|(_, traced)| traced.as_str()));
        for (_, group) in asked.into_iter().filter(|(asked, _)| *asked) {
            if !exposed().any(|name| name.starts_with(&format!("outputs.{group}"))) {
                let has = exposed().filter_map(|name| name.strip_prefix("outputs.")).collect::<Vec<_>>();
                let argument = format!("output_{group}");
                let why = format!("{argument}: the graph puts out {} and no {group}", has.join(", "));
                return Err(Error::new(Kind::Request, why).naming(&argument));
            }
        }
        let inputs = Inputs { token_type_ids, ..inputs };
        match graph.with_outputs(&named) {
            Some(all) => all.run(&inputs, points, Vec::new()),
            None => graph.run(&inputs, points, Vec::new()),
        }
    }
}
