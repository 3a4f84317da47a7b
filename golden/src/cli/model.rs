//! A graph in the place of a class that computes with weights: what `record` and `bench` run by the backends that do so.

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::cli::Bar;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::Format;
use deberta_converters::hub::{Wanted, resolve};
use deberta_converters::source::Source;
use deberta_reference::{DebertaConfig, Inputs, MaskedRows};

use super::{ModelArgs, say, start_threads};
use crate::backend::Graph;
use crate::trace::class::{Class, masked_rows_name};

/// A model file that holds a graph.
pub(super) struct GraphFile {
    source: Source,
    /// As the file, or what is beside it, tells it.
    pub(super) config: DebertaConfig,
    /// What the graph computes, as far as its weights and names show.
    class: Class,
}

impl ModelArgs {
    /// Finds the file with the graph.
    pub(super) fn graph_file(&self) -> Result<GraphFile> {
        self.backend.require()?;
        self.check_precision()?;
        start_threads(self.threads)?;
        let wanted = Wanted::Every(vec![Format::Onnx]);
        let model = resolve(&self.model, self.revision.as_deref(), &wanted, &Bar::default())?;
        let source = Source::locate(&model, Some(Format::Onnx), None)?;
        let (_, checkpoint) = Checkpoint::open(source.clone(), self.config.as_deref(), None)?;
        Ok(GraphFile { source, config: checkpoint.config.clone(), class: Class::of_head(checkpoint.head) })
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
        let differs = |what: String| Err(Error::new(Kind::Request, what).in_file(path));
        if let Some(class) = class.filter(|&class| class.head != of.head) {
            return differs(format!("the graph computes {of}, not {class}"));
        }
        if let Some(rows) = masked_rows.filter(|&rows| rows != graph.masked_rows()) {
            let (have, want) = (masked_rows_name(graph.masked_rows()), masked_rows_name(rows));
            return differs(format!("the graph computes masked rows as {have}, not {want}"));
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
        let mut left_out = Vec::new();
        left_out.extend(inputs.labels.is_some().then_some("labels"));
        left_out.extend(inputs.start_positions.is_some().then_some("start_positions"));
        left_out.extend(inputs.end_positions.is_some().then_some("end_positions"));
        let mut inputs = Inputs { labels: None, start_positions: None, end_positions: None, ..inputs };
        if self.config.type_vocab_size == 0 && inputs.token_type_ids.take().is_some() {
            left_out.push("token_type_ids");
        }
        (inputs, left_out)
    }
}
