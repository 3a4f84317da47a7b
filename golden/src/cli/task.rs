//! `task`: how good a model is at what it was trained for.

use std::path::PathBuf;

use clap::Args;
use deberta_converters::cli::{Bar, Output, print_json, print_text};
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::Format;
use deberta_converters::hub::{Wanted, resolve};
use deberta_converters::output;
use serde_json::Value;

use super::exit_status::ExitStatus;
use super::library::LibraryArgs;
use super::terminal::StatusLine;
use super::threads::ThreadsArgs;
use crate::backend::BackendName;
use crate::task::metric::threshold::Threshold;
use crate::task::model::ModelPlace;
use crate::task::names::{TaskName, TaskOptions};
use crate::task::{TaskRequest, evaluate};

/// Arguments of `task`.
#[derive(Debug, Args)]
pub(super) struct TaskArgs {
    /// The task
    #[arg(value_enum)]
    task: TaskName,
    /// Model folder, weight file, shard index or hub id
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Files with examples, in the formats of docs/tasks.md
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Branch, tag or commit of a model of the hub; main when not given
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    /// Configuration of the model; found beside the weights when not given
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the tokenizer; that of the weights when not given
    #[arg(long, value_name = "FOLDER")]
    tokenizer: Option<PathBuf>,
    /// What computes: the reference with the weights, or the graph of an ONNX file
    #[arg(long, value_enum, default_value_t = BackendName::Reference)]
    backend: BackendName,
    /// Another model, or another weight file of this one, that must answer alike
    #[arg(long, value_name = "MODEL")]
    against: Option<String>,
    /// What computes the other model; this model by another backend when --against is not given
    #[arg(long, value_enum, value_name = "BACKEND")]
    against_backend: Option<BackendName>,
    /// Examples of each file; all when not given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit: Option<usize>,
    /// Tokens of a sequence, at most; as many as the model has positions when not given, and at most 384 for squad
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_length: Option<usize>,
    /// Sequences that are run at a time
    #[arg(long, value_name = "N", default_value = "8", value_parser = at_least_one)]
    batch_size: usize,
    /// Fail if a metric is below a number: accuracy=0.9; may be repeated
    #[arg(long, value_name = "METRIC=NUMBER")]
    min: Vec<Threshold>,
    /// Fail if a metric is above a number: pseudo_perplexity=5, flips=0; may be repeated
    #[arg(long, value_name = "METRIC=NUMBER")]
    max: Vec<Threshold>,
    /// Write what was predicted, a line of JSON an example, and replace what is there
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    format: Output,
    #[command(flatten)]
    library: LibraryArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
    #[command(flatten)]
    options: TaskOptions,
}

fn at_least_one(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number from 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

impl TaskArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let mut task = self.task.read(&self.data, self.limit, &self.options)?;
        if let Some(path) = &self.predictions {
            // Before anything is computed.
            output::check(path)?;
        }
        self.library.select()?;
        self.threads.start()?;
        let request = TaskRequest {
            task: self.task,
            model: self.place(&self.model, self.backend)?,
            against: self.against()?,
            max_length: self.max_length,
            batch_size: self.batch_size,
            min: self.min.clone(),
            max: self.max.clone(),
        };
        let progress = StatusLine::new();
        let evaluated = evaluate(task.as_mut(), &request, &progress);
        drop(progress);
        let (report, predictions) = evaluated?;
        if let Some(path) = &self.predictions {
            output::replace(path, lines(&predictions).as_bytes())?;
        }
        match self.format {
            Output::Json => print_json(&report)?,
            Output::Text => print_text(report.text().trim_end())?,
        }
        Ok(report.outcome.into())
    }

    /// The model that must answer alike.
    fn against(&self) -> Result<Option<ModelPlace>> {
        match (&self.against, self.against_backend) {
            (None, None) => Ok(None),
            (None, Some(backend)) if backend == self.backend => {
                let message = "--against-backend: the model and its backend are the same, nothing to compare";
                Err(Error::new(Kind::Request, message))
            }
            (other, backend) => {
                let model = other.as_deref().unwrap_or(&self.model);
                self.place(model, backend.unwrap_or(self.backend)).map(Some)
            }
        }
    }

    fn place(&self, model: &str, backend: BackendName) -> Result<ModelPlace> {
        let wanted = match backend {
            BackendName::Onnx => Wanted::as_located(Some(Format::Onnx), None),
            _ => Wanted::any(),
        };
        let path = resolve(model, self.revision.as_deref(), &wanted, &Bar::default())?;
        let (config, tokenizer) = (self.config.clone(), self.tokenizer.clone());
        Ok(ModelPlace { name: model.to_owned(), path, config, tokenizer, backend })
    }
}

fn lines(predictions: &[Value]) -> String {
    predictions.iter().map(|prediction| format!("{prediction}\n")).collect()
}
