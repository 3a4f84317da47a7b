//! The command line of `deberta-verify`: one file a subcommand.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::cli::{Bar, shell};
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::hub::{Wanted, resolve};
use deberta_converters::loading::Parameters;
use deberta_converters::source::Source;
use deberta_reference::MaskedRows;

use crate::backend::{Arithmetic, Backend, BackendName, Reference};
use crate::trace::class::Class;

mod bench;
mod bless;
mod compare;
mod list;
mod merge;
mod model;
mod output;
mod record;
mod selftest;
mod task;
mod verify;

/// Verifies DeBERTa models, layer by layer, against recorded outputs.
#[derive(Debug, Parser)]
#[command(name = "deberta-verify", bin_name = "deberta-verify", version, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 everything agrees, 1 something differs, 2 something could not be judged."
)]
struct Cli {
    #[command(flatten)]
    verify: verify::VerifyArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a model on the inputs of a trace and records every activation and output
    Record(record::RecordArgs),
    /// Compares a recorded run with another one
    Compare(compare::CompareArgs),
    /// Shows what would change if a model's numbers became the golden, and with --write makes them so
    Bless(bless::BlessArgs),
    /// Makes one report of those of a policy's shards
    Merge(merge::MergeArgs),
    /// Lists goldens and what they hold
    List(list::ListArgs),
    /// Measures how long a model takes to load and to run
    Bench(bench::BenchArgs),
    /// Measures how good a model is at a task, and whether two answer alike
    Task(Box<task::TaskArgs>),
    /// Puts faults into a good model, and tests that the comparison sees them
    Selftest(selftest::SelftestArgs),
    /// Prints completions for a shell
    Completions(shell::CompletionsArgs),
    /// Writes the manual pages
    Man(shell::ManArgs),
}

/// Could not judge: bad input, nothing compared.
const FAILED: u8 = 2;

/// Runs the program on the arguments of the process.
pub fn main() -> ExitCode {
    let Cli { verify, command } = Cli::parse();
    let result = match command {
        None => verify.run(),
        Some(Command::Record(args)) => args.run(),
        Some(Command::Compare(args)) => args.run(),
        Some(Command::Bless(args)) => args.run(),
        Some(Command::Merge(args)) => args.run(),
        Some(Command::List(args)) => args.run(),
        Some(Command::Bench(args)) => args.run(),
        Some(Command::Task(args)) => args.run(),
        Some(Command::Selftest(args)) => args.run(),
        Some(Command::Completions(args)) => args.run(Cli::command()),
        Some(Command::Man(args)) => args.run(Cli::command()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Which model to run, and as what.
#[derive(Debug, Args)]
struct ModelArgs {
    /// Model folder, weight file, shard index or hub id
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Branch, tag or commit of a model of the hub; main when not given
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    /// Configuration of the model; found beside the weights when not given
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What computes
    #[arg(long, value_enum, default_value_t = BackendName::Reference)]
    backend: BackendName,
    /// What the reference computes in
    #[arg(long, value_enum, default_value_t)]
    precision: Arithmetic,
    /// Threads to compute with; as many as there are processors when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

impl ModelArgs {
    /// Opens the checkpoint, for `class` if it is given, else for the class that the configuration or the tensors
    /// show. Returns the class too.
    fn open(&self, class: Option<Class>) -> Result<(Checkpoint, Class)> {
        self.backend.require()?;
        start_threads(self.threads)?;
        let model = resolve(&self.model, self.revision.as_deref(), &Wanted::any(), &Bar::default())?;
        let source = Source::locate(&model, None, None)?;
        let (config, mut checkpoint) =
            Checkpoint::open(source, self.config.as_deref(), class.map(|class| class.head))?;
        for warning in config.config.warnings() {
            say(&format!("warning: {}: {warning}", config.path.display()));
        }
        checkpoint.check_copies()?;
        let class = class.unwrap_or(Class::of_head(checkpoint.head));
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
    fn load(
        &self,
        checkpoint: Checkpoint,
        class: Class,
        masked_rows: MaskedRows,
    ) -> Result<Box<dyn Backend>> {
        self.check_precision()?;
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
        for bad in &report.not_finite {
            let (count, first) = (bad.count, bad.first);
            say(&format!("warning: {}: {count} numbers are NaN or infinite, the first at {first}", bad.name));
        }
        Ok(model)
    }
}

/// Computes with so many threads.
fn start_threads(threads: Option<u16>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.into())
        .build_global()
        .map_err(|error| Error::new(Kind::Request, format!("cannot start {threads} threads: {error}")))
}

/// Says on a terminal what is being done, in one line that the next replaces.
fn progress() -> impl Fn(&str) {
    let terminal = std::io::stderr().is_terminal();
    move |text| {
        if terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K{text}");
        }
    }
}

/// Says something on standard error.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
