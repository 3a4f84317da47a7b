//! The module `deberta_verify._native`: what of the Python package is Rust. Its types are in `_native.pyi`, what it does in
//! `docs/python.md`.
//!
//! ```text
//! programs       deberta-verify and deberta-convert, on given arguments
//! results        what they find, as JSON
//! verification   the report of a verification
//! model          a model that runs on numpy's arrays
//! loading        what computes it: the reference, or a graph
//! tokenizer      texts to tokens
//! call           work without the interpreter's lock, which Ctrl-C stops
//! told           what that work tells of its progress
//! raised         errors as exceptions
//! ```

use pyo3::prelude::*;

mod call;
mod loading;
mod model;
mod programs;
mod raised;
mod results;
mod tokenizer;
mod told;
mod verification;

/// What of the package is Rust.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::model::Model;
    #[pymodule_export]
    use super::programs::run;
    #[pymodule_export]
    use super::results::result;
    #[pymodule_export]
    use super::tokenizer::{Tokenizer, tokenizer_digest};
    #[pymodule_export]
    use super::verification::{Verification, format_of, verify};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::programs::name_for_graphs(module.py())
    }
}
