//! `record`: a model on the inputs of a trace, every probe point and output.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use deberta_converters::cli::print;
use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Inputs, MaskedRows};

use super::ModelArgs;
use crate::class::{Class, masked_rows_of};
use crate::complete::POINTS;
use crate::inputs::inputs;
use crate::trace_file::TraceFile;

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
    #[arg(long, value_enum)]
    masked_rows: Option<MaskedRowsName>,
    /// Activations to record, as patterns in which * stands for any text
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    points: Vec<String>,
    /// Replace the output file if it exists
    #[arg(long)]
    force: bool,
}

/// Masked rows by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum MaskedRowsName {
    /// All keys get the same probability, as in transformers since 4.47
    Uniform,
    /// All keys get 0, as in TensorFlow and Microsoft's code
    Zero,
}

impl RecordArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
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
        let (checkpoint, class) = self.model.open(class)?;
        let masked_rows = match self.masked_rows {
            Some(MaskedRowsName::Uniform) => MaskedRows::Uniform,
            Some(MaskedRowsName::Zero) => MaskedRows::Zero,
            // What the trace says belongs to its own class.
            None if named.is_some() => class.masked_rows(),
            None => masked_rows_of(&recorded)
                .map_err(|error| error.in_file(&self.inputs))?
                .unwrap_or(class.masked_rows()),
        };
        let model = self.model.load(checkpoint, class, masked_rows)?;

        let inputs = Inputs { output_hidden_states: true, output_attentions: true, ..inputs };
        let points: Vec<&str> = self.points.iter().map(String::as_str).collect();
        let mut trace =
            model.run(&inputs, &points, Vec::new()).map_err(|error| error.in_file(&self.inputs))?;
        let given = recorded.tensors.into_iter().filter(|tensor| tensor.name.starts_with("inputs."));
        trace.metadata.push((POINTS.to_owned(), self.points.join(" ")));
        trace.tensors.splice(0..0, given);
        trace.write(&self.output)?;

        let count =
            |prefix: &str| trace.tensors.iter().filter(|tensor| tensor.name.starts_with(prefix)).count();
        let (activations, outputs) = (count("activations."), count("outputs."));
        print(&format!("{}: {class}, {activations} activations, {outputs} outputs", self.output.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
