//! The selftest at a published size: a model is made, converted through all formats, verified in each, and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::convert::convert;
use deberta_converters::error::{Error, Result};
use deberta_converters::format::Format;
use deberta_converters::forward;
use deberta_converters::loading::Parameters;
use deberta_converters::mapped::Mapped;
use deberta_converters::progress::Progress;
use deberta_converters::recipe::Size;
use deberta_converters::request::{OnnxRequest, Request as Conversion};
use deberta_converters::source::Source;
use deberta_reference::{Head, Inputs, Module};
use serde::Serialize;

use super::memory::{Cost, measured};
use super::{Fate, FaultReport, in_place, report_of, said, seen};
use crate::backend::{Backend as _, BackendName};
use crate::diagnose::{Divergence, diagnose};
use crate::fault::{Fault, Model, faults};
use crate::goldens::Golden;
use crate::judge::compare::Comparison;
use crate::judge::tolerance::Precision;
use crate::judge::verdict::Outcome;
use crate::report::Report;
use crate::trace::class::Class;
use crate::trace::file::{Trace, TraceFile};
use crate::trace::inputs::inputs;
use crate::trace::padding::Padding;
use crate::verify::{VerifyRequest, verify};
use crate::workshop::Workshop;

mod committed;

pub use committed::sizes;

/// Below how many bytes of weights the graph itself is run, as at base size: the runtime holds all weights in memory, twice.
const GRAPH_IS_RUN: u64 = 800 << 20;

/// The schema of the JSON report.
const SCHEMA: &str = "deberta-verify-selftest-size-1";

/// What the selftest found at a size.
#[derive(Clone, Debug, Serialize)]
pub struct SizeReport {
    /// `deberta-verify-selftest-size-1`.
    pub schema: &'static str,
    /// The name of the [`Size`].
    pub size: &'static str,
    /// How many numbers the base model has.
    pub parameters: usize,
    /// Its weight digest.
    pub digest: String,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// What became of the faults.
    pub faults: Vec<FaultReport>,
}

/// A step, and what it took.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// Whether that came of it which must.
    pub passes: bool,
    /// What there is to say.
    pub detail: String,
    /// Time and memory.
    #[serde(flatten)]
    pub cost: Cost,
}

impl SizeReport {
    /// Whether every step came out as it must, and every fault was seen where it is and named.
    pub fn passes(&self) -> bool {
        let named = |fault: &FaultReport| fault.fate == Fate::Killed && fault.in_place && fault.diagnosed;
        self.steps.iter().all(|step| step.passes) && !self.faults.is_empty() && self.faults.iter().all(named)
    }
}

/// Makes the model of a size in a folder of its own in `folder`, or where temporary files go, converts it from format to
/// format, compares each with what PyTorch computed, and puts faults into it. `progress` is told what is being done.
///
/// # Errors
/// Too little room on the disk; files that cannot be written; a model that cannot be run.
pub fn selftest_at(size: Size, folder: Option<&Path>, progress: &dyn Progress) -> Result<SizeReport> {
    let main = committed::recipe(size.name(), Path::new(size.name()))?;
    // The first file, the last one, and the one that it is made from; some hundredths for what is not weights.
    let workshop = Workshop::new(folder, main.byte_len() / 100 * 305)?;
    let mut run = Run { size, workshop: &workshop, progress, steps: Vec::new() };

    let golden = run.golden(size.name())?;
    let (first, ledger) = run.make(&golden)?;
    run.through_all_formats(&first, &golden)?;
    let faults = run.faults(&first, &golden)?;
    remove(&first)?;
    for name in committed::others(size) {
        let golden = run.golden(name)?;
        let (model, _) = run.make(&golden)?;
        run.verify(&model, &golden, BackendName::Reference)?;
        remove(&model)?;
    }
    Ok(SizeReport {
        schema: SCHEMA,
        size: size.name(),
        parameters: ledger.parameters,
        digest: ledger.output.digest,
        steps: run.steps,
        faults,
    })
}

struct Run<'r> {
    size: Size,
    workshop: &'r Workshop,
    progress: &'r dyn Progress,
    steps: Vec<Step>,
}

impl Run<'_> {
    /// Does a step: what it returns says whether that came of it which must, and what there is to say.
    fn step<R>(&mut self, name: String, work: impl FnOnce() -> Result<(R, bool, String)>) -> Result<R> {
        self.progress.step(&format!("{}: {name}", self.size.name()));
        let (done, cost) = measured(work);
        let (result, passes, detail) = done?;
        self.steps.push(Step { name, passes, detail, cost });
        Ok(result)
    }

    /// A committed golden, in the folder of this run.
    fn golden(&self, name: &str) -> Result<Golden> {
        let folder = self.workshop.path().join("goldens").join(name);
        committed::write(name, &folder)?;
        Golden::open(&folder)
    }

    /// Makes the model of a golden.
    fn make(&mut self, golden: &Golden) -> Result<(PathBuf, deberta_converters::ledger::Ledger)> {
        let workshop = self.workshop;
        let recipe = golden.recipe()?.ok_or_else(|| Error::malformed("the golden names no recipe"))?;
        self.step(format!("make {}", golden.name), || {
            let (folder, ledger) = workshop.make(&recipe, &golden.name, &())?;
            let same = golden.digest() == Some(&ledger.output.digest);
            let digest = if same {
                "the digest is that of numpy's weights"
            } else {
                "ANOTHER DIGEST than numpy's weights"
            };
            Ok(((folder.join(Format::Safetensors.file_name()), ledger), same, digest.to_owned()))
        })
    }

    /// Converts from format to format until it is safetensors again, verifies each, and removes what was converted.
    fn through_all_formats(&mut self, first: &Path, golden: &Golden) -> Result<()> {
        const ORDER: [Format; 4] = [Format::PyTorch, Format::TensorFlow, Format::Onnx, Format::Safetensors];
        let folder = self.workshop.path().join("converted");
        fs::create_dir(&folder).map_err(|error| Error::io(&folder, "create", error))?;
        let config = first.with_file_name("config.json");
        let beside = folder.join("config.json");
        fs::copy(&config, &beside).map_err(|error| Error::io(&beside, "write", error))?;

        self.verify(first, golden, BackendName::Reference)?;
        let mut last = first.to_owned();
        for to in ORDER {
            let (from, output) = (last.clone(), folder.join(to.file_name()));
            self.step(format!("convert to {to}"), || converted(&from, &output, to))?;
            if to == Format::Onnx && fs::metadata(first).is_ok_and(|file| file.len() < GRAPH_IS_RUN) {
                self.verify(&output, golden, BackendName::Onnx)?;
            }
            self.verify(&output, golden, BackendName::Reference)?;
            if last != first {
                remove(&last)?;
            }
            last = output;
        }
        self.step("compare the last file with the first".to_owned(), || {
            let equal = Mapped::open(first)?[..] == Mapped::open(&last)?[..];
            Ok(((), equal, if equal { "the same bytes" } else { "OTHER BYTES" }.to_owned()))
        })?;
        remove(&last)
    }

    fn verify(&mut self, model: &Path, golden: &Golden, backend: BackendName) -> Result<()> {
        let format = Source::locate(model, None, None)?.open()?.0;
        let by = if backend == BackendName::Onnx { ", the graph itself" } else { "" };
        let name = match golden.name == self.size.name() {
            true => format!("verify {format}{by}"),
            false => format!("verify {}", golden.name),
        };
        let request = VerifyRequest {
            name: golden.name.clone(),
            model: model.to_owned(),
            goldens: vec![golden.clone()],
            backend: Some(backend),
            ..VerifyRequest::default()
        };
        self.step(name, || {
            let report = verify(&request, &())?;
            Ok(((), report.outcome == Outcome::Pass, described(&report)))
        })
    }

    /// Puts faults into the second layer or the middle one and into the last but one, and looks whether they are seen there,
    /// and named. The weights stay in the file; a fault costs the memory of the parameter that it changes.
    fn faults(&mut self, model: &Path, golden: &Golden) -> Result<Vec<FaultReport>> {
        let path = golden.traces.first().ok_or_else(|| Error::malformed("the golden has no trace"))?;
        let file = TraceFile::open(path)?;
        let given = inputs(&file.inputs()?)?;
        let given = Inputs { output_hidden_states: true, output_attentions: true, ..given };
        let parameters = Parameters::open(model, Head::Base)?;
        let class = Class::of_checkpoint(parameters.checkpoint());
        let good = Model::read(&parameters, class, class.masked_rows())?;
        // The committed golden says where; to find out why takes all numbers, which the good model has.
        let whole = good.build()?.run(&given, &["*"], Vec::new())?;
        let subject = Subject { good, file, whole, inputs: given, class, golden };
        let mut reports = Vec::new();
        for fault in subject.faults() {
            let name = format!("fault: {}", fault.description);
            let report = self.step(name, || {
                let report = subject.inject(&fault)?;
                let passes = report.fate == Fate::Killed && report.in_place && report.diagnosed;
                let first = report.first_divergence.as_deref().unwrap_or("nowhere");
                let said = report.diagnoses.first().map_or("nothing", String::as_str);
                let detail = format!("seen at {}; {said}", first.trim_start_matches("activations."));
                Ok((report, passes, detail))
            })?;
            reports.push(report);
        }
        Ok(reports)
    }
}

/// A good model, the samples of it that were committed, and all numbers of one run.
struct Subject<'s> {
    good: Model,
    file: TraceFile,
    whole: Trace,
    inputs: Inputs,
    class: Class,
    golden: &'s Golden,
}

impl Subject<'_> {
    /// A fault of the second layer or the middle one, and two of the last but one.
    fn faults(&self) -> Vec<Fault> {
        let layers = self.good.config.num_hidden_layers;
        let early = if self.good.config.has_in_proj() {
            (1.min(layers.saturating_sub(1)), "naive-split", Module::InProj)
        } else {
            (layers / 2, "permuted-heads", Module::AttentionDense)
        };
        let chosen = [
            early,
            (layers.saturating_sub(2), "transposed-kernel", Module::AttentionDense),
            (layers.saturating_sub(2), "changed-weight", Module::AttentionDense),
        ];
        let listed = chosen.into_iter().filter_map(|(layer, kind, module)| {
            let place = self.good.path(module, layer);
            let mut faults = faults(&self.good, &self.inputs, layer).faults.into_iter();
            faults.find(|fault| fault.kind == kind && fault.places.contains(&place))
        });
        listed.collect()
    }

    fn inject(&self, fault: &Fault) -> Result<FaultReport> {
        let mut report = report_of(fault);
        let Some(faulty) = self.good.with(&fault.changes) else {
            report.reason = Some("the fault could not be put into the model".to_owned());
            return Ok(report);
        };
        let padding = Padding::of(&self.inputs, self.class.head);
        let tolerances = &self.golden.tolerances;
        let comparison = Comparison { tolerances, precision: Precision::F32, padding: &padding };
        let names: Vec<&str> =
            self.file.names().filter_map(|name| name.strip_prefix("activations.")).collect();
        let candidate = faulty.build()?.run(&self.inputs, &names, Vec::new())?;
        let points = comparison.traces(&self.file, candidate, None)?;
        let Some(first) = points.into_iter().find(seen) else {
            report.reason = Some("every sample and statistic agrees".to_owned());
            return Ok(report);
        };
        report.fate = Fate::Killed;
        report.in_place = in_place(fault, &first.name, self.file.names());
        report.first_divergence = Some(first.name);
        let divergence = Divergence {
            model: &faulty,
            golden: &self.whole,
            inputs: &self.inputs,
            comparison,
            weights_known: false,
        };
        said(&mut report, fault, diagnose(&divergence)?);
        Ok(report)
    }
}

/// Converts a file, and says whether the weights stayed what they were.
fn converted(from: &Path, output: &Path, to: Format) -> Result<((), bool, String)> {
    let (config, mut checkpoint) = Checkpoint::open(Source::locate(from, None, None)?, None, None)?;
    let forward = forward::Options { config: Some(config.text), ..forward::Options::default() };
    let request = Conversion {
        to,
        output: output.to_owned(),
        companions: Vec::new(),
        dtype: None,
        max_shard_size: None,
        replace: false,
        onnx: OnnxRequest { forward, external_data: false },
    };
    let ledger = convert(&mut checkpoint, &request, &())?;
    let same = ledger.input.digest == ledger.output.digest;
    let files =
        if ledger.output.files > 1 { format!(" in {} files", ledger.output.files) } else { String::new() };
    let detail = format!(
        "{} MB{files}, the digest {}",
        ledger.output.bytes / 1_000_000,
        if same { "stays" } else { "CHANGES" }
    );
    Ok(((), same, detail))
}

/// Removes the weights of a model: the file, and the one with the data of an ONNX model.
fn remove(path: &Path) -> Result<()> {
    let data =
        path.with_file_name(format!("{}.data", path.file_name().unwrap_or_default().to_string_lossy()));
    for path in [path, &data] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(path, "remove", error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a verification came to, in a line.
fn described(report: &Report) -> String {
    let runs = || report.files.iter().flat_map(|file| &file.runs);
    let points = runs().map(|run| run.points.len()).sum::<usize>();
    let shares = runs().flat_map(|run| &run.points).flat_map(|point| {
        let of = |part: &Option<crate::judge::difference::Difference>| part.as_ref().map(|part| part.share);
        [of(&point.real), of(&point.padded), point.statistic.as_ref().map(|statistic| statistic.share)]
    });
    let largest = shares.flatten().fold(0.0, f64::max);
    let traces = runs().count();
    let mut text =
        format!("{traces} runs, {points} points; largest error {:.0} % of the tolerance", 100.0 * largest);
    let first =
        runs().find_map(|run| Some((run.trace.as_deref().unwrap_or("?"), run.first_divergence.as_deref()?)));
    if let Some((trace, point)) = first {
        text.push_str(&format!("; DIVERGES at {point} of {trace}"));
    }
    let findings = report.files.iter().flat_map(|file| &file.findings);
    let findings = findings.chain(&report.findings).chain(runs().flat_map(|run| &run.findings));
    for finding in findings.filter(|finding| finding.outcome != Outcome::Pass) {
        text.push_str(&format!("; {}", finding.message));
    }
    text
}
