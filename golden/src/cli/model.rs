//! Which model to run: `record` and `bench` take a class that computes with weights, or a graph in its place.

use std::path::PathBuf;

use clap::Args;
use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::cli::Bar;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::Format;
use deberta_converters::hub::{Wanted, resolve};
use deberta_converters::loading::Parameters;
use deberta_converters::source::Source;
use deberta_reference::{DebertaConfig, Head, Inputs, MaskedRows};

use super::library::LibraryArgs;
use super::terminal::say;
use super::threads::ThreadsArgs;
use crate::backend::{Arithmetic, Backend, BackendName, Graph, Reference};
use crate::trace::class::Class;
use crate::trace::inputs::for_loss;

/// Which model to run, and as what.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    /// Model folder, weight file, shard index or hub id
    #[arg(long, value_name = "MODEL")]
    pub(super) model: PathBuf,
    /// Branch, tag or commit of a model of the hub; main when not given
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    /// Configuration of the model; found beside the weights when not given
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// What computes
    #[arg(long, value_enum, default_value_t = BackendName::Reference)]
    pub(super) backend: BackendName,
    /// What the reference computes in
    #[arg(long, value_enum, default_value_t)]
    pub(super) precision: Arithmetic,
    #[command(flatten)]
    library: LibraryArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
}

/// A model file that holds a graph.
pub(super) struct GraphFile {
    source: Source,
    /// As the file, or what is beside it, tells it.
    pub(super) config: DebertaConfig,
    /// What the graph computes, as far as its weights and names show.
    class: Class,
}

impl ModelArgs {
    /// Opens the checkpoint, for `class` if it is given, else for the class that the configuration or the tensors
    /// show. Returns the class too.
    pub(super) fn open(&self, class: Option<Class>) -> Result<(Checkpoint, Class)> {
        let (checkpoint, found) = self.open_head(class.map(|class| class.head))?;
        let class = class.unwrap_or(found);
        class.require(&checkpoint)?;
        Ok((checkpoint, class))
    }

    /// Finds the weights, after a model of the hub was downloaded: where the model is, and its files.
    pub(super) fn locate(&self) -> Result<(PathBuf, Source)> {
        self.backend.require()?;
        self.library.select()?;
        self.threads.start()?;
        let model = resolve(&self.model, self.revision.as_deref(), &Wanted::any(), &Bar::default())?;
        let source = Source::locate(&model, None, None)?;
        Ok((model, source))
    }

    /// Opens the checkpoint for a head, or for the one that the configuration or the tensors show.
    pub(super) fn open_head(&self, head: Option<Head>) -> Result<(Checkpoint, Class)> {
        let (_, source) = self.locate()?;
        let (config, mut checkpoint) = Checkpoint::open(source, self.config.as_deref(), head)?;
        for warning in config.config.warnings() {
            say(&format!("warning: {}: {warning}", config.path.display()));
        }
        checkpoint.check_copies()?;
        let class = Class::of_checkpoint(&checkpoint);
        Ok((checkpoint, class))
    }

    /// Checks that the backend computes in the precision that is asked for.
    fn check_precision(&self) -> Result<()> {
        match (self.precision, self.backend) {
            (Arithmetic::F32, _) | (_, BackendName::Reference) => Ok(()),
            (Arithmetic::F64, backend) => {
                let message = format!("--backend {}: the reference alone computes in f64", backend.as_str());
                Err(Error::new(Kind::Request, message))
            }
        }
    }

    /// Loads the model, and says which of its weights are no numbers.
    pub(super) fn load(
        &self,
        checkpoint: Checkpoint,
        class: Class,
        masked_rows: MaskedRows,
    ) -> Result<Box<dyn Backend>> {
        self.check_precision()?;
        if let Err(error) = checkpoint.require_whole_encoder() {
            say(&format!("warning: {error}"));
        }
        let parameters = Parameters::new(checkpoint)?;
        let model: Box<dyn Backend> = match self.backend {
            BackendName::Reference => {
                let model = Reference::load(&parameters, class, masked_rows)?;
                Box::new(model.computing_in(self.precision))
            }
            backend => backend.load(&parameters, class, masked_rows)?,
        };
        let Some(report) = model.report() else { return Ok(model) };
        if let [first, ..] = report.unexpected.as_slice() {
            let count = report.unexpected.len();
            say(&format!(
                "note: {class} has no use for {count} tensors of the checkpoint, {first} among them"
            ));
        }
        for bad in model.not_finite() {
            say(&format!("warning: {bad}"));
        }
        Ok(model)
    }

    /// Finds the file with the graph.
    pub(super) fn graph_file(&self) -> Result<GraphFile> {
        self.backend.require()?;
        self.check_precision()?;
        self.library.select()?;
        self.threads.start()?;
        let wanted = Wanted::Every(vec![Format::Onnx]);
        let model = resolve(&self.model, self.revision.as_deref(), &wanted, &Bar::default())?;
        let source = Source::locate(&model, Some(Format::Onnx), None)?;
        let (_, checkpoint) = Checkpoint::open(source.clone(), self.config.as_deref(), None)?;
        Ok(GraphFile { source, config: checkpoint.config.clone(), class: Class::of_checkpoint(&checkpoint) })
    }

    /// Loads the graph. It is of one class, which is neither framework's, with one convention for masked rows: those that are
    /// asked for must be these.
    pub(super) fn load_graph(
        &self,
        file: &GraphFile,
        class: Option<Class>,
        masked_rows: Option<MaskedRows>,
    ) -> Result<(Box<dyn Graph>, Class)> {
        let path = &file.source.path;
        let graph = self.backend.open(path, self.config.as_deref())?;
        let of = graph.class().unwrap_or(file.class);
        let differs = |what: String| Error::new(Kind::Request, what).in_file(path);
        if let Some(class) = class.filter(|&class| class.head != of.head) {
            return Err(differs(format!("the graph computes {of}, not {class}")).wanting(class, of));
        }
        if let Some(rows) = masked_rows.filter(|&rows| rows != graph.masked_rows()) {
            let (have, want) = (graph.masked_rows(), rows);
            let error = differs(format!("the graph computes masked rows as {have}, not {want}"));
            return Err(error.wanting(want, have));
        }
        if !graph.unknown().is_empty() {
            let unknown = graph.unknown().join(", ");
            say(&format!("note: outputs of the graph that no trace has are left out: {unknown}"));
        }
        Ok((graph, of))
    }
}

impl GraphFile {
    /// What the graph can be given of a trace's inputs, and the names of those that it is not: labels make nothing but a
    /// loss, and a model without token types ignores them.
    pub(super) fn given(&self, inputs: Inputs) -> (Inputs, Vec<&'static str>) {
        let mut left_out: Vec<&str> = for_loss(&inputs).collect();
        let mut inputs = Inputs { labels: None, start_positions: None, end_positions: None, ..inputs };
        if self.config.type_vocab_size == 0 && inputs.token_type_ids.take().is_some() {
            left_out.push("token_type_ids");
        }
        (inputs, left_out)
    }
}
