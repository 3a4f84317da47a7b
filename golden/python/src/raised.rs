//! Errors as exceptions.

use deberta_converters::error::{Error, Kind};
use pyo3::prelude::*;

/// The exception for an error: `deberta_verify.errors` says which.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let kind = match error.kind() {
        Kind::Io => "io",
        Kind::Malformed => "malformed",
        Kind::Refused => "refused",
        Kind::Unsupported => "unsupported",
        Kind::Model => "model",
        Kind::Config => "config",
        Kind::Request => "request",
        Kind::Verification => "verification",
        Kind::Hub => "hub",
        _ => "stopped",
    };
    let make = || {
        let (want, got) = error.want_and_got().unzip();
        let of = (kind, error.to_string(), error.file(), error.tensor(), want, got, error.os_error());
        py.import("deberta_verify.errors")?.call_method1("of_native", of)
    };
    make().map_or_else(|error| error, PyErr::from_value)
}
