//! The command line of `deberta-convert`: one file a subcommand.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::format::Format;
use crate::printable::lines;
use crate::progress::Progress;

mod arguments;
mod audit;
mod bar;
pub mod console;
mod convert;
mod diff;
mod digest;
mod exit_status;
mod init;
mod inspect;
mod names;
mod print;
pub mod shell;

pub use bar::Bar;
pub use print::{Output, print, print_as_it_is, print_json, print_text};

use console::ConsoleArgs;
use exit_status::ExitStatus;

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
#[command(after_help = exit_status::HELP)]
struct Cli {
    #[command(flatten)]
    console: ConsoleArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Between(Between),
    /// Converts any format, told by the file's content, to the one that --to names
    Convert {
        /// Format of the output; several with commas between them, which are written from one reading
        #[arg(long, value_name = "FORMAT", value_delimiter = ',', required = true)]
        to: Vec<Format>,
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

/// Declares [`Between`]: a subcommand for every pair of formats.
macro_rules! between {
    ($($name:ident: $from:ident to $to:ident;)*) => {
        /// Conversions from one format to another.
        #[derive(Debug, Subcommand)]
        enum Between {
            $(
                #[command(about = about(Format::$from, Format::$to))]
                $name(convert::ConvertArgs),
            )*
        }

        impl Between {
            fn run(self) -> Result<ExitStatus> {
                match self {
                    $(Between::$name(args) => args.run(Some(Format::$from), &[Format::$to]),)*
                }
            }
        }
    };
}

between! {
    Tf2pt: TensorFlow to PyTorch; Pt2tf: PyTorch to TensorFlow;
    Tf2st: TensorFlow to Safetensors; St2tf: Safetensors to TensorFlow;
    Pt2st: PyTorch to Safetensors; St2pt: Safetensors to PyTorch;
    Pt2onnx: PyTorch to Onnx; Tf2onnx: TensorFlow to Onnx; St2onnx: Safetensors to Onnx;
    Onnx2pt: Onnx to PyTorch; Onnx2tf: Onnx to TensorFlow; Onnx2st: Onnx to Safetensors;
}

/// What the help says of a conversion; the file of safetensors is called like the format.
fn about(from: Format, to: Format) -> String {
    let [from, to] = [from, to].map(|format| match format {
        Format::Safetensors => format.to_string(),
        _ => format!("{format} ({})", format.file_name()),
    });
    format!("Converts {from} to {to}")
}

/// Runs the program on the arguments of the process.
pub fn main() -> ExitCode {
    run(std::env::args_os()).into()
}

/// Runs the program on its arguments, the first of which is its own name, and returns its exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(told) => return shell::tell(&told),
    };
    cli.console.apply();
    let result = match cli.command {
        Command::Between(conversion) => conversion.run(),
        Command::Convert { to, args } => args.run(None, &to),
        Command::Inspect(args) => args.run(),
        Command::Diff(args) => args.run(),
        Command::Digest(args) => args.run(),
        Command::Init(args) => args.run(),
        Command::Names(args) => args.run(),
        Command::Audit(args) => args.run(),
        Command::Completions(args) => args.run(Cli::command()).map(|_| ExitStatus::Success),
        Command::Man(args) => args.run(Cli::command()).map(|_| ExitStatus::Success),
    };
    let status = result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "{}", lines(&format!("error: {error}"), false));
        ExitStatus::Failure
    });
    status.into()
}

/// Does what a subcommand does, and returns as JSON what it prints with `--format json`, for callers that do not want to start a
/// process. Of `digest`, which prints no JSON, it is the list of the digests.
///
/// # Errors
/// Arguments that are not understood; a subcommand that only prints; what the subcommand reports.
pub fn result(arguments: impl IntoIterator<Item = OsString>, progress: &dyn Progress) -> Result<Value> {
    let cli = Cli::try_parse_from(arguments).map_err(|told| Error::new(Kind::Request, shell::said(&told)))?;
    match cli.command {
        Command::Convert { to, args } => match args.ledgers(None, &to, progress, |_| Ok(()))?.as_slice() {
            [ledger] => json(ledger),
            ledgers => json(ledgers),
        },
        Command::Inspect(args) => json(args.report()?),
        Command::Diff(args) => json(args.report(progress)?),
        Command::Digest(args) => json(args.all(progress)?),
        Command::Audit(args) => json(args.report()?),
        _ => Err(Error::new(Kind::Request, "this subcommand has no result: it prints")),
    }
}

fn json(result: impl Serialize) -> Result<Value> {
    serde_json::to_value(result).map_err(|error| Error::new(Kind::Io, error.to_string()))
}
