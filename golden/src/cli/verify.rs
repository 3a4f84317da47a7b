//! Without a subcommand: a model against its goldens.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use deberta_converters::cli::{Bar, print, print_json};
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::hub::Wanted;
use deberta_converters::source::{self, Format};

use super::{progress, start_threads};
use crate::goldens::Golden;
use crate::report::Report;
use crate::verify::{Request, verify};

/// Arguments without a subcommand.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Model folder, weight file, shard index or hub id; the model of the golden when not given
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Folder with a golden, or the name of one that comes with this program; may be repeated. When not given: what is
    /// in the model's folder, and what comes with this program for a hub id
    #[arg(long, value_name = "GOLDEN")]
    golden: Vec<String>,
    /// Configuration of the model; found beside the weights when not given
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Branch, tag or commit of a model of the hub; main when not given
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    /// Give every module the golden's input, so that one fault shows in one place
    #[arg(long)]
    isolate: bool,
    /// Threads to compute with; as many as there are processors when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl VerifyArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        start_threads(self.threads)?;
        let goldens = self.golden.iter().map(|name| named(name)).collect::<Result<Vec<_>>>()?;
        let (name, model) = self.model(&goldens)?;
        let goldens = if goldens.is_empty() { found(&name, &model)? } else { goldens };
        let request =
            Request { name, model, config: self.config, goldens, isolate: self.isolate, diagnose: true };
        let report = verify(&request, &progress())?;
        show(&report, self.json)
    }

    /// The model's name, and where it is.
    fn model(&self, goldens: &[Golden]) -> Result<(String, PathBuf)> {
        if let Some(model) = &self.model {
            return Ok((model.clone(), self.fetched(model)?));
        }
        let [golden] = goldens else {
            let message = "which model? --model names it, or one --golden whose case.yaml does";
            return Err(Error::new(Kind::Request, message));
        };
        match (golden.model_folder()?, golden.hub_id()) {
            (Some(folder), _) => Ok((golden.name.clone(), folder)),
            (None, Some(id)) => Ok((id.to_owned(), self.fetched(id)?)),
            (None, None) => {
                let message = "the golden does not say which model it is of: --model names it";
                Err(Error::new(Kind::Request, message))
            }
        }
    }

    /// Where a model is: a path, or the folder that a model of the hub was downloaded to, with every weight file.
    fn fetched(&self, model: &str) -> Result<PathBuf> {
        source::resolve(
            model,
            self.revision.as_deref(),
            &Wanted::Every(Format::ALL.to_vec()),
            &Bar::default(),
        )
    }
}

/// Prints a report; the exit status is its outcome.
pub(super) fn show(report: &Report, json: bool) -> Result<ExitCode> {
    if json {
        print_json(report)?;
    } else {
        for file in &report.files {
            for run in &file.runs {
                let line = format!(
                    "{} {:?} {:?} {} points {:?} {:?}",
                    file.file,
                    run.trace,
                    run.outcome,
                    run.points.len(),
                    run.first_divergence,
                    run.findings
                );
                print(&line)?;
            }
            print(&format!("{} {:?} {:?}", file.file, file.outcome, file.findings))?;
        }
        print(&format!("{:?} {:?}", report.outcome, report.findings))?;
    }
    Ok(ExitCode::from(report.outcome.exit_code()))
}

/// The golden in a folder, or the one of that name that comes with this program.
fn named(name: &str) -> Result<Golden> {
    let folder = PathBuf::from(name);
    match Golden::shipped(name)? {
        Some(golden) if !folder.exists() => Ok(golden),
        _ => Golden::open(&folder),
    }
}

/// The goldens of a model: in its folder, and those that come with this program.
fn found(name: &str, model: &std::path::Path) -> Result<Vec<Golden>> {
    let folder = if model.is_dir() { model } else { model.parent().unwrap_or(model) };
    let mut goldens: Vec<Golden> = Golden::find(folder)?.into_iter().collect();
    goldens.extend(Golden::shipped(name)?);
    match goldens.is_empty() {
        false => Ok(goldens),
        true => {
            let message = "no golden for this model: there is none in its folder, and none came with this program; \
                           --golden names one, deberta-verify record makes one";
            Err(Error::new(Kind::Request, message).in_file(model))
        }
    }
}
