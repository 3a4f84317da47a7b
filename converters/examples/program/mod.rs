//! The frame of every example: its arguments, its usage, its errors.

use std::error::Error;
use std::process::ExitCode;

use deberta_reference::tokenizer::Tokenizer;

/// Runs `work` on the arguments of the process. It returns nothing if they are too few or too many; `--help` alone
/// prints `usage`.
pub(crate) fn run(usage: &str, work: impl FnOnce(&[&str]) -> Option<Result<(), Box<dyn Error>>>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if arguments == ["--help"] {
        println!("{usage}");
        return ExitCode::SUCCESS;
    }
    match work(&arguments).unwrap_or_else(|| Err(usage.into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The tokenizer of a model's folder. Prints what a reader should know of its files.
pub(crate) fn tokenizer(folder: &str) -> Result<Tokenizer, Box<dyn Error>> {
    let tokenizer = Tokenizer::from_pretrained(folder)?;
    tokenizer.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(tokenizer)
}
