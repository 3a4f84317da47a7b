//! The command line of `deberta-convert`: one file a subcommand.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValue;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use deberta_reference::Head;

use crate::checkpoint::Checkpoint;
use crate::config_file::ConfigFile;
use crate::error::{Error, Kind, Result};
use crate::format::Format;
use crate::hub::{Wanted, resolve};
use crate::source::Source;

mod audit;
mod bar;
pub use bar::Bar;
mod convert;
mod diff;
mod digest;
mod init;
mod inspect;
mod names;
pub mod shell;

/// Converts DeBERTa checkpoints between PyTorch, TensorFlow 2, safetensors and ONNX: faithful or nothing.
///
/// Every tensor of the input becomes a tensor of the output, an alias, or a named entry that is kept aside;
/// anything else is an error. The output is read back and compared with the input before it gets its name.
/// A .bin file is never executed.
///
/// A model is a file, a folder, or else a hub id like microsoft/deberta-base: it is taken from the Hugging Face
/// cache, else downloaded. HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE work as they do in Python.
#[derive(Debug, Parser)]
#[command(name = "deberta-convert", bin_name = "deberta-convert", version, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 done (diff: same model), 1 failed (diff: another model), 2 wrong usage."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Converts TensorFlow (tf_model.h5) to PyTorch (pytorch_model.bin)
    Tf2pt(convert::ConvertArgs),
    /// Converts PyTorch (pytorch_model.bin) to TensorFlow (tf_model.h5)
    Pt2tf(convert::ConvertArgs),
    /// Converts TensorFlow (tf_model.h5) to safetensors
    Tf2st(convert::ConvertArgs),
    /// Converts safetensors to TensorFlow (tf_model.h5)
    St2tf(convert::ConvertArgs),
    /// Converts PyTorch (pytorch_model.bin) to safetensors
    Pt2st(convert::ConvertArgs),
    /// Converts safetensors to PyTorch (pytorch_model.bin)
    St2pt(convert::ConvertArgs),
    /// Converts PyTorch (pytorch_model.bin) to ONNX (model.onnx)
    Pt2onnx(convert::ConvertArgs),
    /// Converts TensorFlow (tf_model.h5) to ONNX (model.onnx)
    Tf2onnx(convert::ConvertArgs),
    /// Converts safetensors to ONNX (model.onnx)
    St2onnx(convert::ConvertArgs),
    /// Converts ONNX (model.onnx) to PyTorch (pytorch_model.bin)
    Onnx2pt(convert::ConvertArgs),
    /// Converts ONNX (model.onnx) to TensorFlow (tf_model.h5)
    Onnx2tf(convert::ConvertArgs),
    /// Converts ONNX (model.onnx) to safetensors
    Onnx2st(convert::ConvertArgs),
    /// Converts any format, told by the file's content, to the one that --to names
    Convert {
        /// Format of the output
        #[arg(long, value_name = "FORMAT")]
        to: FormatName,
        #[command(flatten)]
        args: convert::ConvertArgs,
    },
    /// Shows what a checkpoint holds: tensors, class, parameters, digest, and what is wrong with it
    Inspect(inspect::InspectArgs),
    /// Tells whether two checkpoints, of any formats, are the same model, and where they differ
    Diff(diff::DiffArgs),
    /// Prints the weight digest, which is the same for a model in every format
    Digest(digest::DigestArgs),
    /// Makes a model of any configuration, with weights that behave like trained ones and are the same everywhere
    Init(init::InitArgs),
    /// Prints what every parameter is called in every format
    Names(names::NamesArgs),
    /// Lists what the pickles in a PyTorch file would call if they were executed; executes nothing
    Audit(audit::AuditArgs),
    /// Prints completions for a shell
    Completions(shell::CompletionsArgs),
    /// Writes the manual pages
    Man(shell::ManArgs),
}

/// Runs the program on the arguments of the process.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Tf2pt(args) => args.run(Some(Format::TensorFlow), Format::PyTorch),
        Command::Pt2tf(args) => args.run(Some(Format::PyTorch), Format::TensorFlow),
        Command::Tf2st(args) => args.run(Some(Format::TensorFlow), Format::Safetensors),
        Command::St2tf(args) => args.run(Some(Format::Safetensors), Format::TensorFlow),
        Command::Pt2st(args) => args.run(Some(Format::PyTorch), Format::Safetensors),
        Command::St2pt(args) => args.run(Some(Format::Safetensors), Format::PyTorch),
        Command::Pt2onnx(args) => args.run(Some(Format::PyTorch), Format::Onnx),
        Command::Tf2onnx(args) => args.run(Some(Format::TensorFlow), Format::Onnx),
        Command::St2onnx(args) => args.run(Some(Format::Safetensors), Format::Onnx),
        Command::Onnx2pt(args) => args.run(Some(Format::Onnx), Format::PyTorch),
        Command::Onnx2tf(args) => args.run(Some(Format::Onnx), Format::TensorFlow),
        Command::Onnx2st(args) => args.run(Some(Format::Onnx), Format::Safetensors),
        Command::Convert { to, args } => args.run(None, to.into()),
        Command::Inspect(args) => args.run(),
        Command::Diff(args) => args.run(),
        Command::Digest(args) => args.run(),
        Command::Init(args) => args.run(),
        Command::Names(args) => args.run(),
        Command::Audit(args) => args.run(),
        Command::Completions(args) => args.run(Cli::command()),
        Command::Man(args) => args.run(Cli::command()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Formats by the names that people use.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    /// pytorch_model.bin
    #[value(alias = "pt", alias = "torch", alias = "bin")]
    Pytorch,
    /// tf_model.h5
    #[value(alias = "tensorflow", alias = "tf2", alias = "h5", alias = "keras")]
    Tf,
    /// model.safetensors
    #[value(alias = "st")]
    Safetensors,
    /// model.onnx
    Onnx,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Format {
        match name {
            FormatName::Pytorch => Format::PyTorch,
            FormatName::Tf => Format::TensorFlow,
            FormatName::Safetensors => Format::Safetensors,
            FormatName::Onnx => Format::Onnx,
        }
    }
}

/// A head by its [`Head::word`], and by the other names that people use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeadName(Head);

impl ValueEnum for HeadName {
    fn value_variants<'a>() -> &'a [HeadName] {
        const ALL: [HeadName; Head::ALL.len()] = {
            let mut all = [HeadName(Head::Base); Head::ALL.len()];
            let mut at = 0;
            while at < all.len() {
                all[at] = HeadName(Head::ALL[at]);
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let class = self.0.class_name();
        let (help, aliases): (&str, &[&str]) = match self.0 {
            Head::Base => ("DebertaModel: no head", &["model"]),
            Head::MaskedLm => (class, &["masked-lm", "masked_lm"]),
            Head::MaskDecoder => (
                "The enhanced mask decoder: what lm_predictions was trained for; another computation on the tensors of mlm",
                &["enhanced-mask-decoder"],
            ),
            Head::SequenceClassification => (class, &["sequence-classification"]),
            Head::TokenClassification => (class, &["token-classification"]),
            Head::QuestionAnswering => (class, &["question-answering"]),
        };
        Some(PossibleValue::new(self.0.word()).help(help).aliases(aliases).alias(class))
    }
}

impl From<HeadName> for Head {
    fn from(name: HeadName) -> Head {
        name.0
    }
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

/// What every subcommand needs to know about models on the hub.
#[derive(Clone, Debug, Args)]
struct HubArgs {
    /// Branch, tag or commit of a hub id [default: main]
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
}

impl HubArgs {
    /// Checks that a revision is given only if one of the models is not on this disk.
    fn check(&self, models: &[&Path]) -> Result<()> {
        match (&self.revision, models) {
            (Some(revision), [first, ..]) if models.iter().all(|model| model.exists()) => {
                let why = format!("--revision {revision} is for hub ids, and this is a file or folder");
                Err(Error::new(Kind::Request, why).in_file(first))
            }
            _ => Ok(()),
        }
    }

    /// The path of a model: itself, or what is downloaded for a hub id.
    fn path(&self, model: &Path, wanted: &Wanted) -> Result<PathBuf> {
        resolve(model, self.revision.as_deref(), wanted, &bar::Bar::default())
    }

    /// Finds the weight files of the only model that the user names, as [`Source::locate`] does.
    fn locate(&self, model: &Path, wanted: Option<Format>, unwanted: Option<Format>) -> Result<Source> {
        self.check(&[model])?;
        let path = self.path(model, &Wanted::as_located(wanted, unwanted))?;
        Source::locate(&path, wanted, unwanted)
    }
}

/// What every subcommand needs to know about a checkpoint.
#[derive(Debug, Args)]
struct ModelArgs {
    /// Configuration of the model; found beside the weights when not given
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Class of the model; told by the configuration and the tensors when not given
    #[arg(long, value_name = "HEAD")]
    head: Option<HeadName>,
    #[command(flatten)]
    hub: HubArgs,
}

impl ModelArgs {
    fn config(&self, source: &Source, held: Option<&str>) -> Result<ConfigFile> {
        let held = held.map(|text| (source.path.as_path(), text));
        ConfigFile::find(self.config.as_deref(), source.folder(), held)
    }

    fn open(&self, source: Source) -> Result<(ConfigFile, Checkpoint)> {
        let (config, checkpoint) =
            Checkpoint::open(source, self.config.as_deref(), self.head.map(Head::from))?;
        for warning in config.config.warnings() {
            let _ = writeln!(std::io::stderr(), "warning: {}: {warning}", config.path.display());
        }
        Ok((config, checkpoint))
    }
}

/// Prints a result. A reader that has seen enough and closed the pipe is no error.
///
/// # Errors
/// A standard output that cannot be written to.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Io, format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a result as JSON.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value);
    print(&text.map_err(|error| Error::new(Kind::Io, format!("cannot print: {error}")))?)
}
