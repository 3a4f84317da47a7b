//! The command line of `deberta-verify`: one file a subcommand.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use deberta_converters::cli::{console, shell, signals};
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::progress::Progress;

mod bench;
mod bless;
mod compare;
mod exit_status;
mod library;
mod list;
mod merge;
mod model;
mod output;
mod record;
mod selftest;
mod task;
mod terminal;
mod threads;
mod tokenize;
mod verify;

use crate::backend;
use exit_status::ExitStatus;
use terminal::say;
pub use verify::Verified;

/// Verifies DeBERTa models, layer by layer, against recorded outputs.
#[derive(Debug, Parser)]
#[command(name = "deberta-verify", bin_name = "deberta-verify", version, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(after_help = exit_status::HELP)]
struct Cli {
    #[command(flatten)]
    console: console::ConsoleArgs,
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
    /// Tokenizes texts, a line each of standard input: a line of JSON each, as transformers' tokenizers do
    Tokenize(tokenize::TokenizeArgs),
    /// Puts faults into a good model, and tests that the comparison sees them
    Selftest(selftest::SelftestArgs),
    /// Prints completions for a shell
    Completions(shell::CompletionsArgs),
    /// Writes the manual pages
    Man(shell::ManArgs),
}

/// Runs the program on the arguments of the process, and graphs in processes of their own by the same program.
pub fn main() -> ExitCode {
    signals::take_faults();
    if let Some(file) = own_program() {
        backend::use_graph_program(file, Vec::new());
    }
    threads::fewer_if_need_be();
    program(std::env::args_os()).into()
}

/// Runs the program as [`run`] does, in a process that is there for it alone: signals are attended to.
pub fn program(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    signals::attend(ExitStatus::Error.into());
    run(arguments)
}

/// The file of this program.
fn own_program() -> Option<PathBuf> {
    // Which Linux finds even where the file has been replaced meanwhile.
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Some(running) } else { std::env::current_exe().ok() }
}

/// Runs the program on its arguments, the first of which is its own name, and returns its exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.get(1).is_some_and(|first| first == backend::GRAPH_PROCESS) {
        return backend::serve(arguments.split_off(2));
    }
    let arguments = console::subcommand_first(Cli::command, arguments);
    let Cli { console, verify, command } = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(told) => return shell::tell(&told),
    };
    console.apply();
    let result = match command {
        None => verify.run(),
        Some(Command::Record(args)) => args.run(),
        Some(Command::Compare(args)) => args.run(),
        Some(Command::Bless(args)) => args.run(),
        Some(Command::Merge(args)) => args.run(),
        Some(Command::List(args)) => args.run(),
        Some(Command::Bench(args)) => args.run(),
        Some(Command::Task(args)) => args.run(),
        Some(Command::Tokenize(args)) => args.run(),
        Some(Command::Selftest(args)) => args.run(),
        Some(Command::Completions(args)) => args.run(Cli::command()).map(|_| ExitStatus::Success),
        Some(Command::Man(args)) => args.run(Cli::command()).map(|_| ExitStatus::Success),
    };
    let status = result.unwrap_or_else(|error| {
        say(&format!("error: {error}"));
        ExitStatus::Error
    });
    status.into()
}

/// Verifies as the program does with these arguments and no subcommand, and returns the report in place of showing it, for callers
/// that do not want to start a process.
///
/// # Errors
/// Arguments that are not understood, or of a subcommand; a model or golden that is not there; a policy that is wrong.
pub fn verified(arguments: impl IntoIterator<Item = OsString>, progress: &dyn Progress) -> Result<Verified> {
    let wrong = |why: String| Error::new(Kind::Request, why);
    match Cli::try_parse_from(arguments).map_err(|told| wrong(shell::said(&told)))? {
        Cli { verify, command: None, .. } => verify.verified(progress),
        _ => Err(wrong("a subcommand verifies nothing".to_owned())),
    }
}
