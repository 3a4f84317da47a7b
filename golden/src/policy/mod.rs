//! `verify.yaml`: which models a release must have verified, by what, and what fails. The schema is in `docs/gate.md`.

use std::path::{Path, PathBuf};

use deberta_converters::error::{Error, Result};
use deberta_converters::format::Format;
use deberta_converters::hub::{Listed, Located};
use deberta_converters::progress::Progress;
use serde::Deserialize;

use crate::backend::BackendName;
use crate::case::CaseModel;
use crate::goldens::Golden;
use crate::judge::tolerance::Tolerances;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind, PaddingRule, PolicyShard, Report, Rule, Rules, UnjudgedRule};
use crate::verify::{VerifyRequest, verify, verify_self};
use crate::yaml::{self, confined};

mod tasks;

use tasks::TaskPolicy;

/// A policy and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What reports call it: the path of the file.
    pub name: String,
    /// The folder that all paths in it are relative to.
    folder: PathBuf,
    text: Text,
}

/// The text of a policy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    models: Vec<ModelPolicy>,
    #[serde(default)]
    undecided: Rule,
    #[serde(default)]
    padding: PaddingRule,
    notes: Option<Rule>,
    half_precision: Option<Rule>,
    coverage: Option<Rule>,
    unjudged: Option<Unjudged>,
    reports: Option<Vec<String>>,
}

/// Which files of a release need not be judged.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Unjudged {
    /// All of them, or none.
    Rule(Rule),
    /// Those of these paths in the model's folder, in which `*` stands for any text.
    Files(Vec<String>),
}

/// What is asked of a model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelPolicy {
    /// A folder or a weight file beside the policy (`.`, `./release`), or an id of the hub.
    model: CaseModel,
    /// The formats that must be there.
    formats: Option<Vec<Format>>,
    /// Folders of goldens, or ids of models whose goldens come with this program.
    goldens: Option<Vec<CaseModel>>,
    /// Whether its files are compared with each other, and not with a golden.
    #[serde(default, rename = "self")]
    by_itself: bool,
    /// How far numbers may be off, instead of what the goldens say.
    tolerances: Option<Tolerances>,
    /// Whether to give every module the golden's input.
    #[serde(default)]
    isolate: bool,
    /// What computes, instead of the reference, and of an ONNX file's own graph too.
    backend: Option<BackendName>,
    /// How good it must be.
    tasks: Option<Vec<TaskPolicy>>,
}

/// Where the model of an id of the hub is.
pub type Locate<'l> = dyn Fn(&str) -> Result<Located> + 'l;

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// No such file; more than a megabyte; text that is not YAML or not of the schema, with line and column; a policy
    /// that checks nothing; a path out of its folder; a tolerance that is negative or no number.
    pub fn open(path: &Path) -> Result<Policy> {
        let text = yaml::read(path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let text = Text::from_yaml(&text).map_err(|error| error.in_file(path))?;
        Ok(Policy { name: path.display().to_string(), folder: folder.to_owned(), text })
    }

    /// What fails.
    pub fn rules(&self) -> Rules {
        let Text { undecided, padding, notes, half_precision, coverage, .. } = self.text;
        let unjudged = match &self.text.unjudged {
            Some(Unjudged::Rule(Rule::Allow)) => UnjudgedRule::Allow,
            _ => UnjudgedRule::Fail,
        };
        Rules {
            undecided,
            padding,
            notes: notes.unwrap_or(Rules::DEFAULT.notes),
            half_precision: half_precision.unwrap_or(Rules::DEFAULT.half_precision),
            coverage: coverage.unwrap_or(Rules::DEFAULT.coverage),
            unjudged,
        }
    }

    /// The reports to write.
    ///
    /// # Errors
    /// A folder that is not there, or leads out of the policy's by a link.
    pub fn reports(&self) -> Result<Vec<PathBuf>> {
        let resolved = |text: &String| {
            let path = Path::new(text);
            let folder = confined(&self.folder, path.parent().unwrap_or(Path::new("")))?;
            Ok(folder.join(path.file_name().unwrap_or_default()))
        };
        self.text.reports.iter().flatten().map(resolved).collect()
    }

    /// The part number `index` of `count` parts of its models.
    ///
    /// # Errors
    /// A part without a model.
    pub fn shard(&self, index: usize, count: usize) -> Result<PolicyShard> {
        PolicyShard::of(index, count, self.text.models.len())
            .map_err(|error| error.in_file(Path::new(&self.name)))
    }

    /// Verifies every model, or those of a shard, and judges what was found by the rules. What goes wrong with a model is
    /// in its report. `locate` finds the model of an id of the hub.
    pub fn verify(
        &self,
        shard: Option<PolicyShard>,
        locate: &Locate<'_>,
        progress: &dyn Progress,
    ) -> Vec<Report> {
        let models = &self.text.models;
        let places = shard.map_or((0..models.len()).collect::<Vec<_>>(), |shard| shard.places().collect());
        let asked = places.into_iter().filter_map(|at| models.get(at));
        asked.map(|model| self.verify_model(model, locate, progress)).collect()
    }

    fn verify_model(&self, asked: &ModelPolicy, locate: &Locate<'_>, progress: &dyn Progress) -> Report {
        let name = asked.model.to_string();
        let verified = self.request(asked, locate).and_then(|request| {
            if asked.by_itself { verify_self(&request, progress) } else { verify(&request, progress) }
        });
        let mut report = verified.unwrap_or_else(|error| Report::failed(name, &error));
        for format in asked.formats.iter().flatten() {
            let there = report.files.iter().filter_map(|file| file.format.as_deref());
            if !there.map(str::to_ascii_lowercase).any(|name| name == format.word()) {
                let message = format!("the policy asks for weights in {}: none were verified", format.word());
                report.findings.push(Finding::new(FindingKind::FormatMissing, Outcome::Undecided, message));
            }
        }
        report.findings.extend(self.judge_tasks(asked, locate, progress));
        report.place = self.folder.join(&report.model);
        self.rules().judge(&mut report);
        report
    }

    /// What came of the tasks that are asked of a model.
    fn judge_tasks(&self, asked: &ModelPolicy, locate: &Locate<'_>, progress: &dyn Progress) -> Vec<Finding> {
        let Some(tasks) = &asked.tasks else { return Vec::new() };
        // Once for all tasks: for an id of the hub this is a request.
        let model = self.model(asked, locate);
        let judged = tasks.iter().map(|task| match &model {
            Ok(model) => task.judge(&asked.model.to_string(), &model.path, &self.folder, locate, progress),
            Err(error) => Finding::error(error),
        });
        judged.collect()
    }

    fn model(&self, asked: &ModelPolicy, locate: &Locate<'_>) -> Result<Located> {
        match &asked.model {
            CaseModel::Folder(path) => {
                Ok(Located { path: confined(&self.folder, path)?, listed: Listed::Folder })
            }
            CaseModel::Hub(id) => locate(id),
            CaseModel::Recipe(_) => Err(no_recipe()),
        }
    }

    fn request(&self, asked: &ModelPolicy, locate: &Locate<'_>) -> Result<VerifyRequest> {
        let name = asked.model.to_string();
        let Located { path: model, listed } = self.model(asked, locate)?;
        let mut goldens = match &asked.goldens {
            Some(goldens) => goldens.iter().map(|golden| self.golden(golden)).collect::<Result<_>>()?,
            None if asked.by_itself => Vec::new(),
            None => Golden::of_model(&name, &model)?,
        };
        if let Some(tolerances) = &asked.tolerances {
            goldens.iter_mut().for_each(|golden| golden.tolerances = tolerances.clone());
        }
        Ok(VerifyRequest {
            name,
            model,
            config: None,
            goldens,
            isolate: asked.isolate,
            backend: asked.backend,
            diagnose: true,
            listed,
            unjudged: match &self.text.unjudged {
                Some(Unjudged::Files(files)) => files.clone(),
                _ => Vec::new(),
            },
            ..VerifyRequest::default()
        })
    }

    fn golden(&self, golden: &CaseModel) -> Result<Golden> {
        match golden {
            CaseModel::Folder(path) => Golden::open(&confined(&self.folder, path)?),
            CaseModel::Hub(id) => Golden::shipped(id)?.ok_or_else(|| {
                let known: Vec<&str> = Golden::shipped_ids().collect();
                let known = known.join(", ");
                Error::malformed(format!(
                    "no golden {id:?} comes with this program, only {known}; a folder starts with ./"
                ))
            }),
            CaseModel::Recipe(_) => Err(no_recipe()),
        }
    }
}

fn no_recipe() -> Error {
    Error::malformed("a policy is about models that there are: a recipe stands in case.yaml")
}

impl Text {
    fn from_yaml(text: &str) -> Result<Text> {
        let policy: Text = yaml::parse(text, "policy")?;
        policy.check().map_err(Error::malformed)?;
        Ok(policy)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.models.is_empty() {
            return Err("models: the list is empty, nothing to verify".to_owned());
        }
        for (index, model) in self.models.iter().enumerate() {
            model.check().map_err(|error| format!("models[{index}].{error}"))?;
            if self.models.iter().take(index).any(|other| other == model) {
                return Err(format!("models[{index}]: {} is listed twice", model.model));
            }
        }
        for (index, report) in self.reports.iter().flatten().enumerate() {
            let path = Path::new(report);
            if !yaml::is_inside(report) || path.file_name().is_none() {
                return Err(format!("reports[{index}]: {report:?} is no file in the folder of the policy"));
            }
            if crate::report::ReportFormat::of_file(path).is_none() {
                return Err(format!(
                    "reports[{index}]: {report:?}: expected a name that ends in .txt, .json, .xml, .md or .html"
                ));
            }
        }
        if matches!(&self.unjudged, Some(Unjudged::Files(files)) if files.is_empty()) {
            return Err("unjudged: the list is empty: leave it out".to_owned());
        }
        match &self.reports {
            Some(reports) if reports.is_empty() => Err("reports: the list is empty: leave it out".to_owned()),
            _ => Ok(()),
        }
    }
}

impl ModelPolicy {
    fn check(&self) -> std::result::Result<(), String> {
        if self.formats.as_ref().is_some_and(Vec::is_empty) {
            return Err("formats: the list is empty: leave it out if every format will do".to_owned());
        }
        if self.goldens.as_ref().is_some_and(Vec::is_empty) {
            return Err("goldens: the list is empty, nothing to compare with".to_owned());
        }
        if self.by_itself && (self.goldens.is_some() || self.tolerances.is_some()) {
            return Err(
                "self: the files are compared with each other: neither goldens nor tolerances".to_owned()
            );
        }
        if self.tasks.as_ref().is_some_and(Vec::is_empty) {
            return Err("tasks: the list is empty: leave it out".to_owned());
        }
        for (index, task) in self.tasks.iter().flatten().enumerate() {
            task.check().map_err(|error| format!("tasks[{index}].{error}"))?;
        }
        self.tolerances.as_ref().map_or(Ok(()), Tolerances::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Text::from_yaml(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_said_is_strict() {
        let text = Text::from_yaml("models: [{model: ./release}]").unwrap();
        let policy = Policy { name: String::new(), folder: PathBuf::new(), text };
        assert_eq!(policy.rules(), Rules { unjudged: UnjudgedRule::Fail, ..Rules::DEFAULT });
    }

    #[test]
    fn a_policy_that_checks_nothing_is_refused() {
        assert!(error("").contains("models"));
        assert!(error("{}").contains("missing field `models`"));
        assert!(error("models: []").contains("nothing to verify"));
        assert!(error("models: [{model: ., goldens: []}]").contains("models[0].goldens: the list is empty"));
        assert!(error("models: [{model: ., self: true, goldens: [./g]}]").contains("models[0].self: "));
        assert!(error("models: [{model: ., formats: []}]").contains("models[0].formats: the list is empty"));
        assert!(error("models: [{model: .}]\nreports: []").contains("reports: the list is empty"));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(error("models: [{model: .}]\npading: allow").contains("unknown field `pading`"));
        assert!(error("models: [{model: ., golden: ./g}]").contains("unknown field `golden`"));
        assert!(error("models: [{model: ., formats: [hdf]}]").contains("hdf"));
        assert!(error("models: [{model: .}]\nundecided: explained").contains("unknown variant `explained`"));
        assert!(error("models: [{model: .}, {model: .}]").contains("listed twice"));
        let tolerances = "models: [{model: ., tolerances: {default: {atol: -1}}}]";
        assert!(error(tolerances).contains("models[0].tolerances.default.atol: expected a number from 0"));
    }

    #[test]
    fn a_task_that_asks_nothing_is_refused() {
        let with = |task: &str| error(&format!("models: [{{model: ., tasks: [{task}]}}]"));
        assert!(error("models: [{model: ., tasks: []}]").contains("models[0].tasks: the list is empty"));
        assert!(with("{task: mnli, data: [./a]}").contains("tasks[0].neither min nor max, nor against"));
        assert!(
            with("{task: mnli, data: [], min: {accuracy: 1}}").contains("tasks[0].data: the list is empty")
        );
        assert!(with("{task: mnli, data: [a/b], min: {accuracy: 1}}").contains("a file starts with ./"));
        assert!(with("{task: mnli, data: [./../a], min: {accuracy: 1}}").contains("leads out"));
        assert!(with("{task: mnli, data: [./a], min: {accuracy: .nan}}").contains("is no limit"));
        assert!(with("{task: cola, data: [./a], min: {accuracy: 1}}").contains("unknown variant `cola`"));
        let option = with("{task: mnli, data: [./a], min: {accuracy: 1}, options: {scheme: iob2}}");
        assert!(option.contains("scheme is an option of tokens, not of mnli"), "{option}");
        let option = with("{task: squad, data: [./a], min: {f1: 1}, options: {null_threshold: high}}");
        assert!(option.contains("expected a number, best-exact or best-f1"), "{option}");
    }

    #[test]
    fn paths_stay_in_the_folder() {
        for model in ["./../x", "/etc", "./a/../../b"] {
            assert!(error(&format!("models: [{{model: {model}}}]")).starts_with("not a policy"), "{model}");
        }
        for report in ["../r.json", "/tmp/r.json", "a/../../r.json", "r.png", ".."] {
            let error = error(&format!("models: [{{model: .}}]\nreports: [{report}]"));
            assert!(error.starts_with("reports[0]: "), "{report}: {error}");
        }
    }

    #[test]
    fn a_yaml_bomb_ends_in_an_error() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let previous = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", [previous.as_str(); 9].join(", ")));
        }
        assert!(error(&text).starts_with("not a policy: "));
        assert!(error(&"[".repeat(10_000)).starts_with("not a policy: "));
    }
}
