//! `deberta-verify selftest`: does the comparison see faults?

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::cli::{print_json, print_text};
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::loading::Parameters;
use deberta_converters::recipe::Size;
use deberta_converters::source::Source;
use deberta_reference::Inputs;
use serde::Serialize;

use super::exit_status::ExitStatus;
use super::terminal::StatusLine;
use super::threads::ThreadsArgs;
use crate::fault::Model;
use crate::goldens::Golden;
use crate::judge::tolerance::Precision;
use crate::report::name_of;
use crate::selftest::{
    Fate, Recorded, SampledGolden, SelftestReport, SizeReport, Step, Subject, graph_faults, precision,
    releases, selftest, selftest_at, selftest_random, sizes, subjects, tokenizers,
};
use crate::trace::class::{Class, masked_rows_of};
use crate::trace::file::{Trace, TraceFile};
use crate::trace::inputs::{dims, inputs};

/// Arguments of `deberta-verify selftest`.
#[derive(Debug, Args)]
pub(super) struct SelftestArgs {
    /// Folder of a good model; small ones that are made in memory when not given
    #[arg(long, value_name = "FOLDER", requires = "golden")]
    model: Option<PathBuf>,
    /// Folder with its golden
    #[arg(long, value_name = "FOLDER", requires = "model")]
    golden: Option<PathBuf>,
    /// Draw this many random faults, one or two at a time, each judged by a golden that is whole or cut down, instead of the
    /// faults of the catalogue
    #[arg(long, value_name = "COUNT", requires = "model")]
    random: Option<usize>,
    /// What random faults are drawn by: the same for the same number
    #[arg(long, value_name = "NUMBER", requires = "random", default_value_t = 1)]
    seed: u64,
    #[arg(long, value_name = "SIZE", conflicts_with = "model", value_parser = size, help = help_on_size())]
    size: Option<Size>,
    /// Folder to make it in; where temporary files go when not given
    #[arg(long, value_name = "FOLDER", requires = "size")]
    folder: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = SelftestFormat::Text)]
    format: SelftestFormat,
    #[command(flatten)]
    threads: ThreadsArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SelftestFormat {
    /// One line for every fault
    Text,
    /// For programs
    Json,
}

impl SelftestArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        self.threads.start()?;
        if let Some(size) = self.size {
            let report = selftest_at(size, self.folder.as_deref(), &StatusLine::new())?;
            return self.show(&report, text_of_size(&report), report.passes());
        }
        let progress = StatusLine::new();
        let report = match (&self.model, &self.golden) {
            (Some(model), Some(golden)) => {
                let subject = open(model.clone(), &Golden::open(golden)?)?;
                if let Some(count) = self.random {
                    let report = selftest_random(&subject, count, self.seed, &progress)?;
                    drop(progress);
                    return self.show(&report, report.to_string(), report.passes());
                }
                selftest(&[subject], &progress)?
            }
            _ => {
                let graphs = graph_faults(&progress)?;
                let mut report = SelftestReport { graphs, ..selftest(&subjects()?, &progress)? };
                tokenizers(&progress)?.into_iter().for_each(|subject| report.add(subject));
                report.add(releases(&progress)?);
                report.add(precision(&progress)?);
                report
            }
        };
        drop(progress);
        self.show(&report, text(&report), report.passes())
    }

    fn show(&self, report: &impl Serialize, text: String, passes: bool) -> Result<ExitStatus> {
        match self.format {
            SelftestFormat::Json => print_json(report)?,
            SelftestFormat::Text => print_text(&text)?,
        }
        Ok(if passes { ExitStatus::Success } else { ExitStatus::Failure })
    }
}

fn size(name: &str) -> std::result::Result<Size, String> {
    let known = sizes().find(|size| size.name() == name);
    known.ok_or_else(|| format!("expected one of {}", names_of_sizes()))
}

fn names_of_sizes() -> String {
    sizes().map(Size::name).collect::<Vec<_>>().join(", ")
}

fn help_on_size() -> String {
    format!(
        "Make a model of a published size ({}), convert it through all formats, compare each with what PyTorch computed, \
         and put faults into it; takes three times the disk that its weights do, 1.7 GB at base size, which is given back",
        names_of_sizes()
    )
}

fn text_of_size(report: &SizeReport) -> String {
    let megabytes = |of: Option<f64>| of.map_or_else(|| "?".to_owned(), |of| format!("{of:.0}"));
    let mut lines = vec![
        format!("deberta-{}, {} parameters, digest {}", report.size, report.parameters, report.digest),
        String::new(),
        "        seconds  anonymous MB  resident MB".to_owned(),
    ];
    for step in &report.steps {
        lines.push(format!(
            "{:<6} {:>8.1} {:>13} {:>12}  {}\n{:>45}{}",
            if step.passes { "ok" } else { "FAILED" },
            step.cost.seconds,
            megabytes(step.cost.anonymous_mb),
            megabytes(step.cost.resident_mb),
            step.name,
            "",
            step.detail
        ));
    }
    let failed = report.steps.iter().filter(|step| !step.passes).count();
    let seconds: f64 = report.steps.iter().map(|step| step.cost.seconds).sum();
    let peak = |of: fn(&Step) -> Option<f64>| megabytes(report.steps.iter().filter_map(of).reduce(f64::max));
    let outcome = if report.passes() { "pass" } else { "FAILED" };
    lines.push(format!(
        "{outcome}: {} steps, {failed} failed, {seconds:.0} s; at most {} MB of anonymous memory, {} MB with the pages of files",
        report.steps.len(),
        peak(|step| step.cost.anonymous_mb),
        peak(|step| step.cost.resident_mb)
    ));
    lines.join("\n")
}

/// A model in a folder, and what its golden has.
fn open(model: PathBuf, golden: &Golden) -> Result<Subject> {
    let name = model.display().to_string();
    let source = Source::locate(&model, None, None)?;
    let (mut goldens, mut sampled) = (Vec::new(), Vec::new());
    for path in &golden.traces {
        let file = TraceFile::open(path)?;
        // Of a golden that has samples alone.
        let trace = if file.is_sampled() { file.inputs()? } else { Trace::read(path)? };
        let given = inputs(&trace).map_err(|error| error.in_file(path))?;
        let class = match Class::of(&trace)? {
            Some(class) => class,
            None => Class::of_checkpoint(&Checkpoint::open(source.clone(), None, None)?.1),
        };
        let masked_rows = masked_rows_of(&trace)?.unwrap_or(class.masked_rows());
        let name = name_of(path);
        let inputs = Inputs { output_hidden_states: true, output_attentions: true, ..given };
        if file.is_sampled() {
            sampled.push(SampledGolden { name, file, inputs, class, masked_rows });
        } else {
            goldens.push(Recorded { name, trace, inputs, class, masked_rows });
        }
    }
    sampled.sort_by_key(|golden| dims(&golden.inputs).map(|(b, n)| b * n));
    let whole = goldens.iter().map(|golden| (golden.class, golden.masked_rows));
    let mut all = whole.chain(sampled.iter().map(|golden| (golden.class, golden.masked_rows)));
    let Some((class, masked_rows)) = all.next() else {
        return Err(Error::new(Kind::Request, "the golden has no trace").in_file(&model));
    };
    let (_, checkpoint) = Checkpoint::open(source, None, Some(class.head))?;
    let precision = Precision::of(checkpoint.bound.iter().map(|bound| bound.dtype));
    let model = Model::read(&Parameters::new(checkpoint)?, class, masked_rows)?;
    let tolerances = golden.tolerances.clone();
    Ok(Subject { name, model, goldens, sampled, tolerances, precision, sensitive: false })
}

fn text(report: &SelftestReport) -> String {
    let mut lines = Vec::new();
    for subject in &report.subjects {
        lines.push(subject.model.clone());
        for fault in &subject.faults {
            let fate = match fault.fate {
                Fate::Killed => "killed     ",
                Fate::Survived => "SURVIVED   ",
                Fate::NotVisible => "not visible",
            };
            lines.push(format!("  {fate}  {:<22}  {}", fault.kind, fault.description));
            if let Some(point) = &fault.first_divergence {
                let place = if fault.in_place { "" } else { ", which is not where the fault is" };
                lines.push(format!(
                    "               seen at {}{place}",
                    point.trim_start_matches("activations.")
                ));
                let said = fault.diagnoses.first().map_or("nothing", String::as_str);
                let named = if fault.diagnosed { "" } else { "another: " };
                lines.push(format!("               diagnosis: {named}{said}"));
            }
            if let Some(reason) = &fault.reason {
                lines.push(format!("               {reason}"));
            }
        }
        for absent in &subject.absent {
            lines.push(format!("  no such      {:<22}  {}", absent.kind, absent.reason));
        }
    }
    for graph in &report.graphs {
        let right = if graph.right { "right      " } else { "WRONG      " };
        lines.push(format!(
            "  {right}  {:<22}  {}: {:?}, {}",
            graph.kind, graph.model, graph.outcome, graph.description
        ));
        lines.extend(graph.said.iter().map(|said| format!("               {said}")));
    }
    let visible = report.killed + report.survived;
    let rate = 100.0 * report.killed as f64 / visible.max(1) as f64;
    lines.push(format!(
        "{} of {visible} faults killed ({rate:.1} %), {} of them seen where they are, {} named by the diagnosis; {} not visible",
        report.killed, report.in_place, report.diagnosed, report.not_visible
    ));
    lines.join("\n")
}
