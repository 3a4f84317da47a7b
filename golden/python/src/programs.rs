//! The programs.

use std::ffi::OsString;
use std::path::PathBuf;

use deberta_golden::backend::use_graph_program;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Runs a program on its arguments, and returns its exit status. It prints as the program does.
#[pyfunction]
pub(crate) fn run(py: Python<'_>, program: &str, arguments: Vec<OsString>) -> PyResult<u8> {
    let arguments = std::iter::once(program.into()).chain(arguments);
    match program {
        "deberta-convert" => Ok(py.detach(|| deberta_converters::cli::program(arguments))),
        "deberta-verify" => Ok(py.detach(|| deberta_golden::cli::program(arguments))),
        _ => Err(PyValueError::new_err(format!("no such program: {program}"))),
    }
}

/// What Python runs in a process for a graph: the program, from the package in the folder that is its first argument, and nothing
/// that stands beside it or in the folder of work.
const PROGRAM: &str = "import sys
sys.path.insert(0, sys.argv.pop(1))
from deberta_verify.programs import verify
sys.exit(verify())";

/// Names this Python as the program that runs graphs in processes of their own, if it says where it is.
pub(crate) fn name_for_graphs(py: Python<'_>) -> PyResult<()> {
    let python: Option<PathBuf> = py.import("sys")?.getattr("executable")?.extract()?;
    let package: PathBuf = py.import("deberta_verify")?.getattr("__path__")?.get_item(0)?.extract()?;
    if let (Some(python), Some(folder)) = (python.filter(|path| path.is_file()), package.parent()) {
        // -I: no variable and no folder of work decides what is imported; -S: nothing is needed that is installed.
        let arguments = ["-I", "-S", "-c", PROGRAM].map(OsString::from).into_iter();
        use_graph_program(python, arguments.chain([folder.into()]).collect());
    }
    Ok(())
}
