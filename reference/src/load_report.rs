//! What a checkpoint and a model have not in common.

use std::fmt;

/// What a checkpoint and a model have not in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// The class that was loaded.
    pub class: &'static str,
    /// Parameters of the model that the checkpoint lacks.
    pub missing: Vec<String>,
    /// Parameters that have another shape in the checkpoint.
    pub wrong_shape: Vec<WrongShape>,
    /// Tensors of the checkpoint that the model has no use for.
    pub unexpected: Vec<String>,
    /// Parameters with numbers that are NaN or infinite.
    pub not_finite: Vec<NotFinite>,
}

/// A parameter that has another shape in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongShape {
    /// The canonical name.
    pub name: String,
    /// The shape that the configuration asks for.
    pub expected: Vec<usize>,
    /// The shape in the checkpoint.
    pub found: Vec<usize>,
}

/// A parameter with numbers that are NaN or infinite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// The canonical name.
    pub name: String,
    /// How many numbers are NaN or infinite.
    pub count: usize,
    /// Where the first of them is, in row-major order.
    pub first: usize,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class)?;
        list(f, "missing", &self.missing, |name| name.clone())?;
        list(f, "of the wrong shape", &self.wrong_shape, |wrong| {
            format!("{} is {:?}, expected {:?}", wrong.name, wrong.found, wrong.expected)
        })?;
        list(f, "unexpected", &self.unexpected, |name| name.clone())?;
        list(f, "with NaN or infinity", &self.not_finite, |bad| {
            format!("{} ({} numbers, first at {})", bad.name, bad.count, bad.first)
        })
    }
}

/// Writes the number of items and the first few.
fn list<T>(f: &mut fmt::Formatter<'_>, what: &str, items: &[T], show: impl Fn(&T) -> String) -> fmt::Result {
    const SHOWN: usize = 4;
    if items.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = items.iter().take(SHOWN).map(show).collect();
    let more = if items.len() > SHOWN { ", …" } else { "" };
    write!(f, "; {} {what}: {}{more}", items.len(), shown.join(", "))
}
