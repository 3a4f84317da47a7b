//! The program that is started for a graph: this one once more.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

static PROGRAM: OnceLock<(PathBuf, Vec<OsString>)> = OnceLock::new();

/// Takes a program to run graphs in processes of their own, for the rest of this process: one that gives
/// [`serve`](super::serve()) what stands behind [`ARGUMENT`](super::ARGUMENT), which comes after these arguments. `deberta-verify` and the Python package name themselves. Where
/// there is none, as in a program that uses this library without its command line, graphs run on a thread of this process.
pub fn use_graph_program(path: PathBuf, arguments: Vec<OsString>) {
    // Whoever names two gets the first.
    let _ = PROGRAM.set((path, arguments));
}

/// A command of that program.
pub(super) fn command() -> Option<Command> {
    let (path, arguments) = PROGRAM.get()?;
    let mut command = Command::new(path);
    command.args(arguments);
    Some(command)
}
