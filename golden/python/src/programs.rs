//! The programs.

use std::ffi::OsString;

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
