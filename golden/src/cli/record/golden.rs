//! A golden of texts and of inputs that exercise the model, in a folder.

use std::path::PathBuf;

use clap::Args;
use deberta_converters::cli::print;
use deberta_converters::error::{Error, Kind, Result};

use super::super::exit_status::ExitStatus;
use super::super::terminal::{StatusLine, say};
use super::RecordArgs;
use crate::backend::{Arithmetic, BackendName};
use crate::record::{RecordRequest, Texts, in_folder, record};
use crate::tokens::files::folder_of;
use crate::trace::class::{Class, Code};

/// How a golden is recorded.
#[derive(Debug, Args)]
pub(super) struct GoldenArgs {
    /// Folder with the tokenizer, if it is not beside the model
    #[arg(long, value_name = "FOLDER", conflicts_with = "inputs")]
    tokenizer: Option<PathBuf>,
    /// Record the texts alone, and no inputs that are made to exercise the model
    #[arg(long, conflicts_with = "inputs")]
    no_cover: bool,
    /// How large the traces may be together: what does not fit is recorded as samples. With a unit, as 500kB, or none
    #[arg(long, value_name = "SIZE", default_value = "1MB", value_parser = size, conflicts_with = "inputs")]
    max_size: u64,
}

impl RecordArgs {
    /// Records the golden.
    pub(super) fn record_golden(self, named: Option<Class>) -> Result<ExitStatus> {
        let refused = |message: &str| Err(Error::new(Kind::Request, message));
        if self.model.backend != BackendName::Reference || self.model.precision != Arithmetic::F32 {
            return refused(
                "--backend and --precision: goldens of texts are recorded by the reference, in f32",
            );
        }
        if named.is_some_and(|class| class.code == Code::TensorFlow) {
            return refused(
                "--class: goldens of texts are recorded by the classes of PyTorch and Microsoft; --inputs takes those of \
                 TensorFlow, and deberta-record runs TensorFlow itself",
            );
        }
        let (model, source) = self.model.locate()?;
        let folder = self.golden.tokenizer.unwrap_or_else(|| folder_of(&model));
        let request = RecordRequest {
            source,
            config: self.model.config,
            class: named,
            masked_rows: self.masked_rows,
            texts: Some(Texts::new(self.texts.read()?, folder)?),
            cover: !self.golden.no_cover,
            points: Some(self.points).filter(|points| !points.is_empty()),
            max_size: self.golden.max_size,
        };
        let progress = StatusLine::new();
        let recorded = in_folder(&self.output, self.force, |folder| record(&request, folder, &progress));
        drop(progress);
        let recorded = recorded?;
        for note in &recorded.notes {
            say(&format!("note: {note}"));
        }
        say(
            "note: the numbers are this program's own arithmetic, not a framework's: they show whether other files compute the \
             same, not whether this one is right; deberta-record records those of PyTorch or TensorFlow (docs/python.md)",
        );
        let count = recorded.traces.len();
        print(&format!(
            "{}: {}, {count} traces, digest {}",
            self.output.display(),
            recorded.class,
            recorded.digest
        ))?;
        Ok(ExitStatus::Success)
    }
}

/// Reads a size: bytes, or with a unit; `none` is no limit.
fn size(text: &str) -> std::result::Result<u64, String> {
    if text == "none" {
        return Ok(u64::MAX);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        _ => None,
    };
    let bytes =
        number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes.ok_or_else(|| "expected a size, as 1MB or 500kB, or none for no limit".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("500kB"), Ok(500_000));
        assert_eq!(size("2 MiB"), Ok(2 << 20));
        assert_eq!((size("7"), size("none")), (Ok(7), Ok(u64::MAX)));
        for wrong in ["", "MB", "1.5MB", "-1", "1TB", "99999999999GB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
