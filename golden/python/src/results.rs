//! What subcommands of deberta-convert find.

use std::ffi::OsString;

use pyo3::prelude::*;

use crate::call::{Call, Told};

/// Does what `deberta-convert` does with these arguments, and returns the result as JSON.
#[pyfunction]
#[pyo3(signature = (arguments, progress=None))]
pub(crate) fn result(
    py: Python<'_>,
    arguments: Vec<OsString>,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    Call { progress, threads: None }.run(py, move |told: &Told| {
        let arguments = std::iter::once("deberta-convert".into()).chain(arguments);
        Ok(deberta_converters::cli::result(arguments, told)?.to_string())
    })
}
