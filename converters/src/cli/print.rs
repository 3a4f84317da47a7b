//! Printing results, for people and for programs.

use std::io::Write;

use clap::ValueEnum;

use super::console::laid_out;
use crate::error::{Error, Kind, Result};
use crate::printable::{json, lines};

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Prints a result, in which names from files may be: [`lines`]. A reader that has seen enough and closed the pipe is no error.
///
/// # Errors
/// A standard output that cannot be written to.
pub fn print(text: &str) -> Result<()> {
    print_as_it_is(&lines(text, false))
}

/// Prints what is safe to print: JSON, a report.
///
/// # Errors
/// As [`print()`].
pub fn print_as_it_is(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Io, format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a result for people: on a terminal, in lines that fit it.
///
/// # Errors
/// As [`print()`].
pub fn print_text(text: &str) -> Result<()> {
    print(&laid_out(text))
}

/// Prints a result as JSON.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value);
    print_as_it_is(&json(&text.map_err(|error| Error::new(Kind::Io, format!("cannot print: {error}")))?))
}
