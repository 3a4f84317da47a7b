//! `record`: a model on the inputs of a trace, every probe point and output; or a golden of texts.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args};
use deberta_converters::cli::print;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::output::Staged;
use deberta_reference::probe::matches;
use deberta_reference::{Head, Inputs, MaskedRows, Module};

mod golden;
mod texts;

use golden::GoldenArgs;
use texts::TextsArgs;

use super::exit_status::ExitStatus;
use super::model::ModelArgs;
use super::terminal::say;
use crate::backend::Backend;
use crate::report::beyond_f16;
use crate::trace::class::{Class, masked_rows_of};
use crate::trace::file::{Trace, TraceFile};
use crate::trace::inputs::{for_loss, inputs};
use crate::trace::points::POINTS;

/// Arguments of `record`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("given").required(true).multiple(true).args(["inputs", "text", "texts"]))]
pub(super) struct RecordArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Trace whose inputs.* are given to the model
    #[arg(long, value_name = "TRACE", conflicts_with_all = texts::ALL)]
    inputs: Option<PathBuf>,
    #[command(flatten)]
    texts: TextsArgs,
    #[command(flatten)]
    golden: GoldenArgs,
    /// Trace to write; of texts, the folder of the golden
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Class to run: DebertaModel, TFDebertaForMaskedLM, EnhancedMaskDecoder, …; the class of the trace, or else of
    /// the model, when not given
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// What becomes of attention rows whose every key is masked; what the trace says, or else the class does,
    /// when not given
    #[arg(long, value_parser = masked_rows())]
    masked_rows: Option<MaskedRows>,
    /// Activations to record, as patterns in which * stands for any text; none for the outputs alone. All when not given,
    /// of texts as far as they are short
    #[arg(long, value_name = "PATTERN")]
    points: Vec<String>,
    /// Replace the output if it exists
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
        let named = self.class.as_deref().map(Class::from_name).transpose()?;
        match self.inputs.clone() {
            Some(inputs) => self.record_trace(&inputs, named),
            None => self.record_golden(named),
        }
    }

    /// Records a trace of the inputs of another one.
    fn record_trace(mut self, given: &Path, named: Option<Class>) -> Result<ExitStatus> {
        if self.points.is_empty() {
            self.points.push("*".to_owned());
        }
        if self.output.exists() && !self.force {
            return Err(
                Error::new(Kind::Request, "exists already; --force replaces it").in_file(&self.output)
            );
        }
        // Before anything is computed: a device or a folder may be there.
        drop(Staged::create(&self.output)?);
        let recorded = TraceFile::open(given)?.inputs()?;
        let class = match named {
            Some(class) => Some(class),
            None => Class::of(&recorded).map_err(|error| error.in_file(given))?,
        };
        let inputs = inputs(&recorded).map_err(|error| error.in_file(given))?;
        let model: Box<dyn Backend>;
        let (inputs, mut left_out, class, layers) = if self.model.backend.runs_graphs() {
            let file = self.model.graph_file()?;
            let (graph, class) = self.model.load_graph(&file, class, self.masked_rows)?;
            model = graph;
            let (inputs, left_out) = file.given(inputs);
            (inputs, left_out, class, file.config.num_hidden_layers)
        } else {
            let (checkpoint, class) = self.model.open(class)?;
            let told = masked_rows_of(&recorded).map_err(|error| error.in_file(given))?;
            // The trace states the convention of its own class, for TensorFlow's `zero`; --class may name another class.
            let told = told.filter(|_| named.is_none());
            let masked_rows = self.masked_rows.or(told).unwrap_or(class.masked_rows());
            let layers = checkpoint.config.num_hidden_layers;
            model = self.model.load(checkpoint, class, masked_rows)?;
            (inputs, Vec::new(), class, layers)
        };
        // n x n numbers of every head and layer: for long texts gigabytes, which need not be asked for.
        let asked = |probs: String| self.points.iter().any(|pattern| matches(pattern, &probs));
        let output_attentions =
            (0..layers).any(|layer| asked(Module::Probs.at(class.head.base_prefix(), layer)));
        let inputs = Inputs { output_hidden_states: true, output_attentions, ..inputs };
        let points: Vec<&str> = self.points.iter().map(String::as_str).collect();
        let (mut trace, magnitudes) =
            model.run_and_measure(&inputs, &points).map_err(|error| error.in_file(given))?;
        self.check_points(&trace)?;
        left_out.extend(for_loss(&inputs).filter(|name| !takes(class.head, name, &trace)));
        if !left_out.is_empty() {
            let what =
                if self.model.backend.runs_graphs() { "the graph".to_owned() } else { class.to_string() };
            let names = left_out.join(", ");
            say(&format!("note: {what} does not take, and the trace does not get: {names}"));
        }
        let mut kept = recorded.tensors;
        kept.retain(|tensor| {
            tensor.name.strip_prefix("inputs.").is_some_and(|input| !left_out.contains(&input))
        });
        trace.metadata.push((POINTS.to_owned(), self.meant(&trace)));
        trace.tensors.splice(0..0, kept);
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

    /// Checks that every pattern that was asked for matches an activation.
    fn check_points(&self, trace: &Trace) -> Result<()> {
        let names = || trace.tensors.iter().filter_map(|tensor| tensor.name.strip_prefix("activations."));
        // Without --points, a graph records what it exposes, which may be nothing.
        let mut asked = self.points.iter().filter(|pattern| !["*", "none"].contains(&pattern.as_str()));
        match asked.find(|pattern| !names().any(|name| matches(pattern, name))) {
            Some(pattern) => {
                let message = format!(
                    "--points {pattern:?}: no activation has such a name; docs/activations.md lists them, and * stands \
                     for any text"
                );
                Err(Error::new(Kind::Request, message))
            }
            None => Ok(()),
        }
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

/// Whether a class with this head takes what is given for a loss: it returned one, and this is what it is made of.
fn takes(head: Head, name: &str, trace: &Trace) -> bool {
    trace.get("outputs.loss").is_some() && (name == "labels") == (head != Head::QuestionAnswering)
}
