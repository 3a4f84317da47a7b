//! Without a subcommand: a model against its goldens.

use std::path::{Path, PathBuf};

use clap::Args;
use deberta_converters::cli::Bar;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::Format;
use deberta_converters::hub::{self, Listed, Located, Wanted};
use deberta_converters::output;
use deberta_converters::progress::Progress;

use super::exit_status::ExitStatus;
use super::library::LibraryArgs;
use super::output::OutputArgs;
use super::terminal::StatusLine;
use super::threads::ThreadsArgs;
use crate::backend::{Arithmetic, BackendName};
use crate::case::CaseModel;
use crate::goldens::Golden;
use crate::policy::Policy;
use crate::report::{Document, PolicyShard, Report, Rules, UnjudgedRule};
use crate::verify::{VerifyRequest, verify, verify_self};
use crate::workshop::Workshop;

/// Arguments without a subcommand.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The model, as --model names it
    #[arg(value_name = "MODEL", value_parser = place, conflicts_with_all = ["model", "policy"])]
    place: Option<String>,
    /// Model folder, weight file, shard index or hub id; the model of the golden when not given
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Folder with a golden, or the name of one that comes with this program; may be repeated. When not given: what is
    /// in the model's folder, and what comes with this program for a hub id
    #[arg(long, value_name = "GOLDEN")]
    golden: Vec<String>,
    /// Compare the files of the model's folder with each other, without a golden: formats, graphs, tokenizers. It does not
    /// show that they are the model that was trained
    #[arg(long = "self", conflicts_with_all = ["golden", "policy"])]
    by_itself: bool,
    /// Configuration of the model; found beside the weights when not given
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Branch, tag or commit of a model of the hub; main when not given
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    /// Verify what a policy asks for (verify.yaml, see docs/gate.md)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "golden", "config", "revision", "isolate"])]
    policy: Option<PathBuf>,
    /// Verify only part I of N of the policy's models, as 2/8: the JSON reports of all parts make one with merge
    #[arg(long, value_name = "I/N", requires = "policy", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Give every module the golden's input, so that one fault shows in one place
    #[arg(long)]
    isolate: bool,
    /// What computes: the reference with the weights, or the graph of an ONNX file; when not given, the reference, and
    /// for ONNX files the graph too
    #[arg(long, value_enum, conflicts_with = "policy")]
    backend: Option<BackendName>,
    /// f64: the reference computes in double precision, too, and says of points that differ, or nearly, whose error is
    /// larger: the golden's or the model's
    #[arg(long, value_enum, default_value_t, conflicts_with = "policy")]
    precision: Arithmetic,
    /// Fail if a file of the release was not judged, also one of a format that nothing here reads: such files are else
    /// named, and pass
    #[arg(long, conflicts_with = "policy")]
    strict: bool,
    /// Find which nodes of quantized graphs lose most by rounding, also where that is within limits, and write their names
    /// to FILE, one a line: those to leave in f32 (nodes_to_exclude of ONNX Runtime's quantizers)
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    nodes_to_exclude: Option<PathBuf>,
    /// Do not look for the causes of a divergence
    #[arg(long)]
    no_diagnosis: bool,
    #[command(flatten)]
    library: LibraryArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl VerifyArgs {
    pub(super) fn run(mut self) -> Result<ExitStatus> {
        self.model = self.model.or(self.place.take());
        self.library.select()?;
        self.threads.start()?;
        match &self.policy {
            Some(path) => match Policy::open(path) {
                Ok(policy) => run_policy(&policy, self.shard, &self.output),
                Err(error) => {
                    let name = path.display().to_string();
                    let report = Report::failed(&name, &error);
                    let document = Document { policy: Some(&name), ..Document::of(&report) };
                    self.output.open(Vec::new())?.show_failure(&document)?;
                    Err(error)
                }
            },
            None => self.run_model(),
        }
    }

    /// Verifies one model. That it could not be done is reported, too.
    fn run_model(self) -> Result<ExitStatus> {
        let output = self.output.open(Vec::new())?;
        self.nodes_to_exclude.as_deref().map_or(Ok(()), output::check)?;
        let progress = StatusLine::new();
        let verified = self.report(&progress);
        drop(progress);
        let named = self.model.or_else(|| self.golden.into_iter().next()).unwrap_or_default();
        match verified {
            Ok(verified) => {
                if let Some(path) = &self.nodes_to_exclude {
                    output::replace(path, verified.nodes_to_exclude().as_bytes())?;
                }
                output.show(&verified.document())
            }
            Err(error) => {
                output.show_failure(&Document::of(&Report::failed(named, &error)))?;
                Err(error)
            }
        }
    }

    /// Verifies what is asked for, and shows nothing.
    pub(super) fn verified(&self, progress: &dyn Progress) -> Result<Verified> {
        match &self.policy {
            Some(path) => Verified::of_policy(&Policy::open(path)?, self.shard, progress),
            None => self.report(progress),
        }
    }

    /// Verifies one model.
    fn report(&self, progress: &dyn Progress) -> Result<Verified> {
        let unjudged = if self.strict { UnjudgedRule::Fail } else { Rules::DEFAULT.unjudged };
        let rules = Rules { unjudged, ..Rules::DEFAULT };
        // Goes with its folder when the verification is over.
        let mut workshop = None;
        let request = self.request(&mut workshop, progress)?;
        let mut report =
            if self.by_itself { verify_self(&request, progress)? } else { verify(&request, progress)? };
        rules.judge(&mut report);
        Ok(Verified { policy: None, shard: None, rules, reports: vec![report] })
    }

    fn request(&self, workshop: &mut Option<Workshop>, progress: &dyn Progress) -> Result<VerifyRequest> {
        let goldens = self.golden.iter().map(|name| named(name)).collect::<Result<Vec<_>>>()?;
        let (name, Located { path: model, listed }) = self.model(&goldens, workshop, progress)?;
        let goldens =
            if goldens.is_empty() && !self.by_itself { Golden::of_model(&name, &model)? } else { goldens };
        Ok(VerifyRequest {
            name,
            model,
            config: self.config.clone(),
            goldens,
            isolate: self.isolate,
            diagnose: !self.no_diagnosis,
            find_losses: self.nodes_to_exclude.is_some(),
            precision: self.precision,
            backend: self.backend,
            listed,
            unjudged: Vec::new(),
        })
    }

    /// The model's name, and where it is; one that a golden has the recipe of is made in a workshop.
    fn model(
        &self,
        goldens: &[Golden],
        workshop: &mut Option<Workshop>,
        progress: &dyn Progress,
    ) -> Result<(String, Located)> {
        let at = |path: PathBuf| Located { path, listed: Listed::Folder };
        if let Some(model) = &self.model {
            return Ok((model.clone(), fetched(model, self.revision.as_deref())?));
        }
        let [golden] = goldens else {
            let message = "which model? --model names it, or one --golden whose case.yaml does";
            return Err(Error::new(Kind::Request, message));
        };
        if let Some(recipe) = golden.recipe()? {
            progress.step(&format!("{}: making the weights", golden.name));
            let workshop = workshop.insert(Workshop::new(None, recipe.byte_len() / 100 * 105)?);
            let (folder, _) = workshop.make(&recipe, "model", &())?;
            return Ok((golden.name.clone(), at(folder)));
        }
        match (golden.model_folder()?, golden.hub_id()) {
            (Some(folder), _) => Ok((golden.name.clone(), at(folder))),
            (None, Some(id)) => Ok((id.to_owned(), fetched(id, self.revision.as_deref())?)),
            (None, None) => {
                let message = "the golden does not say which model it is of: --model names it";
                Err(Error::new(Kind::Request, message))
            }
        }
    }
}

/// Where a model is: a path, or the folder that a model of the hub was downloaded to, with every weight file.
fn fetched(model: &str, revision: Option<&str>) -> Result<Located> {
    hub::locate(model, revision, &Wanted::Every(Format::ALL.to_vec()), &Bar::default())
}

/// Verifies the models of a policy.
fn run_policy(policy: &Policy, part: Option<(usize, usize)>, output: &OutputArgs) -> Result<ExitStatus> {
    let output = output.open(policy.reports()?)?;
    let progress = StatusLine::new();
    let verified = Verified::of_policy(policy, part, &progress);
    drop(progress);
    output.show(&verified?.document())
}

/// What was verified, and by which rules.
#[derive(Debug)]
pub struct Verified {
    policy: Option<String>,
    shard: Option<PolicyShard>,
    rules: Rules,
    reports: Vec<Report>,
}

impl Verified {
    fn of_policy(policy: &Policy, part: Option<(usize, usize)>, progress: &dyn Progress) -> Result<Verified> {
        let shard = part.map(|(index, count)| policy.shard(index, count)).transpose()?;
        let reports = policy.verify(shard, &|id| fetched(id, None), progress);
        Error::unless_stopped()?;
        Ok(Verified { policy: Some(policy.name.clone()), shard, rules: policy.rules(), reports })
    }

    /// The nodes of quantized graphs to leave in f32, a name a line.
    fn nodes_to_exclude(&self) -> String {
        let files = self.reports.iter().flat_map(|report| &report.files);
        let found = files.filter_map(|file| file.quantization.as_ref()?.losses.as_ref());
        let mut names: Vec<&str> = Vec::new();
        for name in found.flat_map(|losses| &losses.nodes_to_exclude) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names.into_iter().map(|name| format!("{name}\n")).collect()
    }

    /// What every format of the report is made of.
    pub fn document(&self) -> Document<'_> {
        let Verified { policy, shard, rules, reports } = self;
        Document { policy: policy.as_deref(), shard: *shard, rules: *rules, reports }
    }
}

/// Reads I/N.
fn shard(text: &str) -> std::result::Result<(usize, usize), String> {
    let parts =
        text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
    match parts {
        Some((index, count)) if (1..=count).contains(&index) => Ok((index, count)),
        _ => Err("expected I/N with I from 1 to N, as 2/8".to_owned()),
    }
}

/// A model that is named without an option: a path that is there, or an id of the hub with its organisation. Else it may be a
/// misspelled subcommand.
fn place(text: &str) -> std::result::Result<String, String> {
    let is_id = || {
        text.split('/').count() == 2 && matches!(CaseModel::try_from(text.to_owned()), Ok(CaseModel::Hub(_)))
    };
    if Path::new(text).exists() || is_id() {
        return Ok(text.to_owned());
    }
    Err("neither a subcommand, nor a file or folder that is there, nor ORGANISATION/MODEL on the hub"
        .to_owned())
}

/// The golden in a folder, or the one of that name that comes with this program.
fn named(name: &str) -> Result<Golden> {
    let folder = PathBuf::from(name);
    if folder.is_file() {
        let of = folder.parent().filter(|of| !of.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let message = format!("a file: --golden names the folder of a golden, here {}", of.display());
        return Err(Error::new(Kind::Request, message).in_file(&folder));
    }
    match Golden::shipped(name)? {
        Some(golden) if !folder.exists() => Ok(golden),
        _ => Golden::open(&folder),
    }
}
