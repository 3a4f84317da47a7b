//! `inspect`: what a checkpoint holds.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::arguments::ModelArgs;
use super::exit_status::ExitStatus;
use super::print::{Output, print_json, print_text};
use crate::checkpoint::{Checkpoint, held_config};
use crate::error::{Kind, Printable, Result};
use crate::format::{Extra, Format, TensorFile};
use crate::matching::Problem;
use crate::source::Source;

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Weight file, shard index, model folder or hub id
    input: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// How the findings are printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Output,
}

/// What `inspect --format json` prints.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    schema: &'static str,
    path: PathBuf,
    format: String,
    files: Vec<PathBuf>,
    /// The class; null when there is no configuration.
    class: Option<&'static str>,
    /// Whether this is a complete checkpoint of its class.
    complete: bool,
    parameters: usize,
    /// The weight digest; null when the checkpoint is not complete.
    digest: Option<String>,
    tensors: Vec<Tensor>,
    copies: Vec<Repetition>,
    kept_aside: Vec<Extra>,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Tensor {
    /// The canonical name; null when it is not known what the tensor is.
    name: Option<String>,
    stored_name: String,
    dtype: String,
    /// The canonical shape, or the stored one when `name` is null.
    shape: Vec<usize>,
    transposed: bool,
    digest: Option<String>,
}

#[derive(Debug, Serialize)]
struct Repetition {
    stored_name: String,
    of: String,
}

impl InspectArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let report = self.report()?;
        match self.format {
            Output::Json => print_json(&report)?,
            Output::Text => print_text(report.text().trim_end())?,
        }
        Ok(ExitStatus::Success)
    }

    /// Looks at the checkpoint.
    pub(super) fn report(&self) -> Result<Report> {
        let source = self.model.hub.locate(&self.input, None)?;
        let (format, files) = source.open()?;
        let held = files.iter().find_map(|file| held_config(file.as_ref()));
        let config = match self.model.config(&source, held) {
            Ok(config) => config,
            Err(error)
                if self.model.config.is_none()
                    && error.kind() == Kind::Config
                    && error.tensor().is_none() =>
            {
                let mut report = Report::without_config(&source, format, &files);
                report.notes.push(error.to_string());
                return Ok(report);
            }
            Err(error) => return Err(error),
        };
        let mut checkpoint = Checkpoint::from_files(
            source,
            format,
            files,
            &config.config,
            self.model.part.selection(self.model.head),
        )?;
        checkpoint.check_copies()?;
        checkpoint.notes.extend(config.config.warnings());
        Report::of(&checkpoint)
    }
}

impl Report {
    fn new(source: &Source, format: Format) -> Report {
        Report {
            schema: "deberta-inspect-1",
            path: source.path.clone(),
            format: format.to_string(),
            files: source.files.clone(),
            ..Report::default()
        }
    }

    /// The bare tensors: without a configuration nothing says what they should be.
    fn without_config(source: &Source, format: Format, files: &[Box<dyn TensorFile>]) -> Report {
        let mut report = Report::new(source, format);
        for file in files {
            report.tensors.extend(file.tensors().iter().map(|info| Tensor {
                name: None,
                stored_name: info.name.clone(),
                dtype: info.dtype.to_string(),
                shape: info.shape.clone(),
                transposed: false,
                digest: None,
            }));
            report.kept_aside.extend_from_slice(file.extras());
        }
        report.parameters = report.tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        report
    }

    fn of(checkpoint: &Checkpoint) -> Result<Report> {
        let mut report = Report::new(&checkpoint.source, checkpoint.format);
        let digests = checkpoint.tensor_digests(&())?;
        report.class = Some(checkpoint.class_name());
        report.complete = checkpoint.problems.is_empty();
        report.parameters = checkpoint.parameter_count();
        report.digest = report.complete.then(|| checkpoint.digest(&digests).to_string());
        report.tensors = checkpoint
            .bound
            .iter()
            .zip(&digests)
            .map(|(bound, digest)| Tensor {
                name: Some(bound.param.name.clone()),
                stored_name: bound.stored_name.clone(),
                dtype: bound.dtype.to_string(),
                shape: bound.param.shape.clone(),
                transposed: bound.transposed,
                digest: Some(digest.values.to_string()),
            })
            .collect();
        let name = |index: usize| {
            checkpoint.bound.get(index).map_or(String::new(), |bound| bound.param.name.clone())
        };
        report.copies = checkpoint
            .copies
            .iter()
            .map(|copy| Repetition { stored_name: copy.stored_name.clone(), of: name(copy.of) })
            .collect();
        report.kept_aside = checkpoint.aside.clone();
        report.problems = checkpoint.problems.clone();
        report.notes = checkpoint.notes.clone();
        Ok(report)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let files =
            if self.files.len() == 1 { String::new() } else { format!(", {} files", self.files.len()) };
        writeln!(out, "file        {} ({}{files})", self.path.display(), self.format)?;
        writeln!(out, "class       {}", self.class.unwrap_or("unknown"))?;
        writeln!(out, "parameters  {} in {} tensors", self.parameters, self.tensors.len())?;
        match (&self.digest, self.class) {
            (Some(digest), _) => writeln!(out, "digest      {digest}")?,
            (None, Some(_)) => writeln!(out, "digest      none: {} problems", self.problems.len())?,
            (None, None) => {}
        }
        for note in &self.notes {
            writeln!(out, "note        {note}")?;
        }
        if !self.problems.is_empty() {
            writeln!(out, "\nproblems")?;
            for problem in &self.problems {
                writeln!(out, "  {}: {}", Printable(&problem.tensor), problem.what)?;
            }
        }
        if !self.kept_aside.is_empty() {
            writeln!(out, "\nnot part of the model")?;
            for aside in &self.kept_aside {
                writeln!(out, "  {}: {}", Printable(&aside.name), Printable(&aside.what))?;
            }
        }
        if !self.copies.is_empty() {
            writeln!(out, "\nrepetitions, found equal")?;
            for copy in &self.copies {
                writeln!(out, "  {} = {}", Printable(&copy.stored_name), copy.of)?;
            }
        }
        writeln!(out, "\ntensors")?;
        for tensor in &self.tensors {
            let name = tensor.name.as_deref().unwrap_or(&tensor.stored_name);
            write!(out, "  {:4} {:16} {}", tensor.dtype, format!("{:?}", tensor.shape), Printable(name))?;
            if tensor.name.as_ref().is_some_and(|name| *name != tensor.stored_name) {
                let transposed = if tensor.transposed { ", transposed" } else { "" };
                write!(out, "  ({}{transposed})", Printable(&tensor.stored_name))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}
