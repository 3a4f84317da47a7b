//! `record`: a model on the inputs of a trace, every probe point and output.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use deberta_converters::cli::print;
use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Inputs, MaskedRows};

use super::exit_status::ExitStatus;
use super::model::ModelArgs;
use super::terminal::say;
use crate::backend::Backend;
use crate::report::beyond_f16;
use crate::trace::class::{Class, masked_rows_of};
use crate::trace::file::{Trace, TraceFile};
use crate::trace::inputs::inputs;
use crate::trace::points::POINTS;

/// Arguments of `record`.
#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Trace whose inputs.* are given to the model
    #[arg(long, value_name = "TRACE")]
    inputs: PathBuf,
    /// Trace to write
    #[arg(short, long, value_name = "TRACE")]
    output: PathBuf,
    /// Class to run: DebertaModel, TFDebertaForMaskedLM, EnhancedMaskDecoder, …; the class of the trace, or else of
    /// the model, when not given
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// What becomes of attention rows whose every key is masked; what the trace says, or else the class does,
    /// when not given
    #[arg(long, value_parser = masked_rows())]
    masked_rows: Option<MaskedRows>,
    /// Activations to record, as patterns in which * stands for any text
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    points: Vec<String>,
    /// Replace the output file if it exists
    #[arg(long)]
    force: bool,
}

/// The words for masked rows, with what they mean.
fn masked_rows() -> impl TypedValueParser<Value = MaskedRows> {
    let help = |rows| match rows {
        MaskedRows::Uniform => "All keys get the same probability, as in transformers since 4.47",
        MaskedRows::Zero => "All keys get 0, as in TensorFlow and Microsoft's code",
    };
    PossibleValuesParser::new(MaskedRows::ALL.map(|rows| PossibleValue::new(rows.word()).help(help(rows))))
        .map(|word| MaskedRows::from_word(&word).unwrap_or_default())
}

impl RecordArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        if self.output.exists() && !self.force {
            return Err(
                Error::new(Kind::Request, "exists already; --force replaces it").in_file(&self.output)
            );
        }
        let recorded = TraceFile::open(&self.inputs)?.inputs()?;
        let named = self.class.as_deref().map(Class::from_name).transpose()?;
        let class = match named {
            Some(class) => Some(class),
            None => Class::of(&recorded).map_err(|error| error.in_file(&self.inputs))?,
        };
        let inputs = inputs(&recorded).map_err(|error| error.in_file(&self.inputs))?;
        let model: Box<dyn Backend>;
        let (inputs, left_out, class) = if self.model.backend.runs_graphs() {
            let file = self.model.graph_file()?;
            let (graph, class) = self.model.load_graph(&file, class, self.masked_rows)?;
            model = graph;
            let (inputs, left_out) = file.given(inputs);
            (inputs, left_out, class)
        } else {
            let (checkpoint, class) = self.model.open(class)?;
            let told = masked_rows_of(&recorded).map_err(|error| error.in_file(&self.inputs))?;
            // The trace states the convention of its own class, for TensorFlow's `zero`; --class may name another class.
            let told = told.filter(|_| named.is_none());
            let masked_rows = self.masked_rows.or(told).unwrap_or(class.masked_rows());
            model = self.model.load(checkpoint, class, masked_rows)?;
            (inputs, Vec::new(), class)
        };
        if !left_out.is_empty() {
            say(&format!(
                "note: the graph is not given, and the trace does not get: {}",
                left_out.join(", ")
            ));
        }

        let inputs = Inputs { output_hidden_states: true, output_attentions: true, ..inputs };
        let points: Vec<&str> = self.points.iter().map(String::as_str).collect();
        let (mut trace, magnitudes) =
            model.run_and_measure(&inputs, &points).map_err(|error| error.in_file(&self.inputs))?;
        let mut given = recorded.tensors;
        given.retain(|tensor| {
            tensor.name.strip_prefix("inputs.").is_some_and(|input| !left_out.contains(&input))
        });
        trace.metadata.push((POINTS.to_owned(), self.meant(&trace)));
        trace.tensors.splice(0..0, given);
        trace.write(&self.output)?;

        let count =
            |prefix: &str| trace.tensors.iter().filter(|tensor| tensor.name.starts_with(prefix)).count();
        let (activations, outputs) = (count("activations."), count("outputs."));
        if let Some(said) = beyond_f16(&magnitudes) {
            say(&format!("note: {said}"));
        }
        print(&format!("{}: {class}, {activations} activations, {outputs} outputs", self.output.display()))?;
        Ok(ExitStatus::Success)
    }

    /// Which activations the trace is meant to have: those of the patterns, or what a graph exposes of them.
    fn meant(&self, trace: &Trace) -> String {
        if !self.model.backend.runs_graphs() {
            return self.points.join(" ");
        }
        let names = trace.tensors.iter().filter_map(|tensor| tensor.name.strip_prefix("activations."));
        names.collect::<Vec<_>>().join(" ")
    }
}
