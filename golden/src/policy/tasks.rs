//! The tasks of a policy: how good a model must be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deberta_converters::error::{Error, Result};
use deberta_converters::progress::Progress;
use serde::Deserialize;

use super::Locate;
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
    /// Another model, or another weight file of this one, that must answer alike: beside the policy, or on the hub.
    against: Option<CaseModel>,
    /// What computes.
    backend: Option<BackendName>,
    /// What computes the other model; this one by another backend where `against` is absent.
    against_backend: Option<BackendName>,
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
        let compares = self.against.is_some() || self.against_backend.is_some();
        if self.min.is_empty() && self.max.is_empty() && !compares {
            return Err("neither min nor max, nor against: nothing is asked".to_owned());
        }
        if self.against.is_none() && compares && self.against_backend == Some(self.backend()) {
            return Err(
                "against_backend: the model and its backend are the same, nothing to compare".to_owned()
            );
        }
        if matches!(self.against, Some(CaseModel::Recipe(_))) {
            return Err("against: a path from \"./\" or an id of the hub".to_owned());
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
    pub(super) fn judge(
        &self,
        name: &str,
        model: &Path,
        folder: &Path,
        locate: &Locate<'_>,
        progress: &dyn Progress,
    ) -> Finding {
        match self.run(name, model, folder, locate, progress) {
            Ok(report) => Finding::new(FindingKind::Task, report.outcome, described(&report)),
            Err(error) => {
                Finding::new(FindingKind::Task, Outcome::Undecided, format!("task {}: {error}", self.task))
            }
        }
    }

    fn backend(&self) -> BackendName {
        self.backend.unwrap_or(BackendName::Reference)
    }

    /// The model that must answer alike.
    fn against(&self, own: &ModelPlace, folder: &Path, locate: &Locate<'_>) -> Result<Option<ModelPlace>> {
        let backend = self.against_backend.unwrap_or(own.backend);
        let of = |name: String, path| Some(ModelPlace { name, path, backend, ..own.clone() });
        Ok(match &self.against {
            Some(CaseModel::Folder(path)) => of(path.display().to_string(), confined(folder, path)?),
            Some(CaseModel::Hub(id)) => of(id.clone(), locate(id)?.path),
            Some(CaseModel::Recipe(_)) => None,
            None => self.against_backend.and_then(|_| of(own.name.clone(), own.path.clone())),
        })
    }

    fn run(
        &self,
        name: &str,
        model: &Path,
        folder: &Path,
        locate: &Locate<'_>,
        progress: &dyn Progress,
    ) -> Result<TaskReport> {
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
        let place = ModelPlace {
            name: name.to_owned(),
            path: model.to_owned(),
            config: None,
            tokenizer: None,
            backend: self.backend(),
        };
        let request = TaskRequest {
            task: self.task,
            against: self.against(&place, folder, locate)?,
            model: place,
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
    let against = report.agreement.iter().map(|agreement| {
        let (flips, choices) = (agreement.flips.len(), agreement.choices);
        let others =
            agreement.metrics.first().and_then(|(name, value)| Some(format!(", {name} {:.4}", (*value)?)));
        format!(
            "{flips} of {choices} choices are not those of {}{}",
            agreement.against,
            others.unwrap_or_default()
        )
    });
    let said: Vec<String> = asked.into_iter().chain(against).collect();
    format!("task {}, {} examples: {}", report.task, report.examples, said.join("; "))
}
