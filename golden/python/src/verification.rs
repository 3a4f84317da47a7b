//! A verification, and its report in every format.

use std::ffi::OsString;
use std::path::PathBuf;

use deberta_golden::cli::{Verified, verified};
use deberta_golden::judge::verdict::{Amount, PointReport};
use deberta_golden::report::{ReportFormat, Style, Subject};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::call::{Call, Told};

/// What `deberta-verify` found.
#[pyclass(frozen, module = "deberta_verify._native")]
pub(crate) struct Verification(Verified);

/// What [`Verification::first_divergence`] returns.
type First = (String, Option<String>, Option<String>, Option<String>, Option<Found>, Option<Found>);

/// A number or a shape.
#[derive(IntoPyObject)]
enum Found {
    Number(f64),
    Shape(Vec<usize>),
}

impl Found {
    fn of(amount: Amount) -> Found {
        match amount {
            Amount::Number(number) => Found::Number(number),
            Amount::Shape(shape) => Found::Shape(shape),
        }
    }
}

/// The formats of a report, by their names.
const FORMATS: [(&str, ReportFormat); 6] = [
    ("text", ReportFormat::Text),
    ("json", ReportFormat::Json),
    ("junit", ReportFormat::Junit),
    ("markdown", ReportFormat::Markdown),
    ("html", ReportFormat::Html),
    ("card", ReportFormat::Card),
];

/// The format that the name of a file stands for.
#[pyfunction]
pub(crate) fn format_of(path: PathBuf) -> Option<&'static str> {
    let format = ReportFormat::of_file(&path)?;
    FORMATS.into_iter().find(|(_, known)| *known == format).map(|(name, _)| name)
}

/// Verifies as `deberta-verify` does with these arguments.
#[pyfunction]
#[pyo3(signature = (arguments, threads=None, progress=None))]
pub(crate) fn verify(
    py: Python<'_>,
    arguments: Vec<OsString>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Verification> {
    Call { progress, threads }.run(py, move |told: &Told| {
        let arguments = std::iter::once("deberta-verify".into()).chain(arguments);
        verified(arguments, told).map(Verification)
    })
}

#[pymethods]
impl Verification {
    /// The report in a format: text, json, junit, markdown, html, card.
    #[pyo3(signature = (format, *, all_points=false))]
    fn render(&self, py: Python<'_>, format: &str, all_points: bool) -> PyResult<String> {
        let (_, format) = FORMATS
            .into_iter()
            .find(|(name, _)| *name == format)
            .ok_or_else(|| PyValueError::new_err(format!("no such format: {format}")))?;
        Ok(py.detach(|| format.render(&self.0.document(), Style { all_points, ..Style::default() })))
    }

    /// Where to look first: the model, the weight file, the trace, the point, what was expected there and what was found; nothing
    /// if everything passes.
    fn first_divergence(&self) -> Option<First> {
        let document = self.0.document();
        let headline = document.headline()?;
        let point = match headline.subject {
            Subject::Point(point) => Some(point),
            Subject::Finding(_) => None,
        };
        let numbers = point.and_then(PointReport::want_and_got);
        let (want, got) = numbers.map(|(want, got)| (Found::of(want), Found::of(got))).unzip();
        let file = headline.file.map(|file| file.file.clone());
        let trace = headline.run.and_then(|run| run.trace.clone());
        let point = point.map(|point| point.name.clone());
        Some((headline.report.model.clone(), file, trace, point, want, got))
    }
}
