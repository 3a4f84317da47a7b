//! The tasks of a policy: how good a model must be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deberta_converters::error::{Error, Result};
use deberta_converters::progress::Progress;
use serde::Deserialize;

use crate::backend::BackendName;
use crate::case::CaseModel;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind};
use crate::task::metric::threshold::Threshold;
use crate::task::model::ModelPlace;
use crate::task::names::{TaskName, TaskOptions};
use crate::task::{TaskReport, TaskRequest, evaluate};
use crate::yaml::confined;

/// What is asked of a model in a task.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskPolicy {
    task: TaskName,
    /// Files beside the policy.
    data: Vec<CaseModel>,
    /// What metrics must not be below.
    #[serde(default)]
    min: BTreeMap<String, f64>,
    /// What metrics must not be above.
    #[serde(default)]
    max: BTreeMap<String, f64>,
    limit: Option<usize>,
    max_length: Option<usize>,
    #[serde(default)]
    options: TaskOptions,
}

/// Sequences that are run at a time.
const BATCH_SIZE: usize = 8;

impl TaskPolicy {
    /// What is wrong with it.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if self.data.is_empty() {
            return Err("data: the list is empty, nothing to judge".to_owned());
        }
        if let Some(id) = self.data.iter().find(|data| matches!(data, CaseModel::Hub(_))) {
            return Err(format!("data: {id}: a file starts with ./"));
        }
        if self.min.is_empty() && self.max.is_empty() {
            return Err("neither min nor max: nothing is asked".to_owned());
        }
        let mut limits = self.min.iter().chain(&self.max);
        if let Some((metric, limit)) = limits.find(|(_, limit)| !limit.is_finite()) {
            return Err(format!("{metric}: {limit} is no limit"));
        }
        if self.limit == Some(0) || self.max_length == Some(0) {
            return Err("limit and max_length: at least 1 is needed".to_owned());
        }
        self.task.check(&self.options).map_err(|error| error.to_string())
    }

    /// Runs the model on the task. What came of it is a finding, whatever it is.
    pub(super) fn judge(&self, name: &str, model: &Path, folder: &Path, progress: &dyn Progress) -> Finding {
        match self.run(name, model, folder, progress) {
            Ok(report) => Finding::new(FindingKind::Task, report.outcome, described(&report)),
            Err(error) => {
                Finding::new(FindingKind::Task, Outcome::Undecided, format!("task {}: {error}", self.task))
            }
        }
    }

    fn run(&self, name: &str, model: &Path, folder: &Path, progress: &dyn Progress) -> Result<TaskReport> {
        let file = |data: &CaseModel| match data {
            CaseModel::Folder(path) => confined(folder, path),
            other => Err(Error::malformed(format!("{other}: a file starts with ./"))),
        };
        let files = self.data.iter().map(file).collect::<Result<Vec<PathBuf>>>()?;
        let mut task = self.task.read(&files, self.limit, &self.options)?;
        let thresholds = |limits: &BTreeMap<String, f64>| {
            let limits = limits.iter();
            limits.map(|(metric, &limit)| Threshold { metric: metric.clone(), limit }).collect()
        };
        let request = TaskRequest {
            task: self.task,
            model: ModelPlace {
                name: name.to_owned(),
                path: model.to_owned(),
                config: None,
                tokenizer: None,
                backend: BackendName::Reference,
            },
            against: None,
            max_length: self.max_length,
            batch_size: BATCH_SIZE,
            min: thresholds(&self.min),
            max: thresholds(&self.max),
        };
        evaluate(task.as_mut(), &request, progress).map(|(report, _)| report)
    }
}

/// `task mnli, 600 examples: accuracy 0.9750, at least 0.9 is asked`
fn described(report: &TaskReport) -> String {
    let asked: Vec<String> = report.thresholds.iter().map(ToString::to_string).collect();
    format!("task {}, {} examples: {}", report.task, report.examples, asked.join("; "))
}
