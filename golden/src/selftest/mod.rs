//! The selftest: faults are put into a good model, one at a time, and the comparison must see each of them.

use std::borrow::Cow;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::progress::Progress;
use deberta_reference::{Inputs, MaskedRows, Module};
use serde::Serialize;

use crate::diagnose::{Divergence, diagnose};
use crate::fault::{Absent, Culprit, Fault, Model, faults};
use crate::judge::compare::Comparison;
use crate::judge::verdict::{Outcome, PointReport};
use crate::report::Diagnosis;
use crate::trace::class::Class;
use crate::trace::file::{Trace, TraceFile};
use crate::trace::padding::Padding;
use crate::trace::points::{Named, rank};

mod built_in;
mod cut;
mod files;
mod graph_changes;
mod graphs;
pub(crate) mod memory;
mod precision;
mod quantized_graphs;
mod random;
mod releases;
mod sampled;
mod size;
mod subject;
mod tokenizers;

pub use built_in::{graph_faults, subjects};
pub use graphs::GraphReport;
pub use memory::Cost;
pub use precision::precision;
pub use random::{RandomReport, selftest_random};
pub use releases::releases;
pub use sampled::SampledGolden;
use sampled::Sighting;
pub use size::{SizeReport, Step, selftest_at, sizes};
pub use subject::{Recorded, Subject};
pub use tokenizers::tokenizers;

/// The schema of the JSON report.
pub const SCHEMA: &str = "deberta-verify-selftest-1";

/// What the selftest found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SelftestReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// How many faults were seen.
    pub killed: usize,
    /// How many of those were seen where they are.
    pub in_place: usize,
    /// How many of those the diagnosis named.
    pub diagnosed: usize,
    /// For how many the diagnosis confirmed another cause, and did not name them.
    pub wrongly_confirmed: usize,
    /// How many were not seen.
    pub survived: usize,
    /// How many no comparison of these numbers can see.
    pub not_visible: usize,
    /// One entry for every model.
    pub subjects: Vec<SubjectReport>,
    /// One entry for every change of a graph.
    pub graphs: Vec<GraphReport>,
}

/// What the selftest found with one model.
#[derive(Clone, Debug, Serialize)]
pub struct SubjectReport {
    /// The model.
    pub model: String,
    /// One entry for every fault.
    pub faults: Vec<FaultReport>,
    /// Faults that the model cannot have.
    pub absent: Vec<Absent>,
}

/// What became of one fault.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FaultReport {
    /// The word for it.
    pub kind: &'static str,
    /// What is wrong, where.
    pub description: String,
    /// Whether it was seen.
    pub fate: Fate,
    /// The first point that diverges.
    pub first_divergence: Option<String>,
    /// Whether that is where the fault is, as far as the golden has points.
    pub in_place: bool,
    /// Whether the diagnosis named it.
    pub diagnosed: bool,
    /// Whether the diagnosis confirmed another cause and did not name this one.
    pub wrongly_confirmed: bool,
    /// What the diagnosis said: the kinds, the confirmed ones first.
    pub diagnoses: Vec<String>,
    /// Why it was not seen.
    pub reason: Option<String>,
}

/// Whether a fault was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// The comparison diverges.
    Killed,
    /// The comparison agrees, although the fault changes what the model computes.
    #[default]
    Survived,
    /// The fault changes no number by more than the tolerance.
    NotVisible,
}

impl SelftestReport {
    /// Whether every visible fault was seen, and there was one; of graphs, whether the right thing was blamed, and nothing of
    /// good ones.
    pub fn passes(&self) -> bool {
        self.survived == 0 && self.killed > 0 && self.graphs.iter().all(|graph| graph.right)
    }

    /// Counts what became of the faults of one model, tokenizer or release.
    pub fn add(&mut self, subject: SubjectReport) {
        for fault in &subject.faults {
            match fault.fate {
                Fate::Killed => self.killed += 1,
                Fate::Survived => self.survived += 1,
                Fate::NotVisible => self.not_visible += 1,
            }
            self.in_place += usize::from(fault.in_place);
            self.diagnosed += usize::from(fault.diagnosed);
            self.wrongly_confirmed += usize::from(fault.wrongly_confirmed);
        }
        self.subjects.push(subject);
    }
}

/// Puts every fault into every model. `progress` is told what is being done.
///
/// # Errors
/// A model that differs from its goldens to begin with.
pub fn selftest(subjects: &[Subject], progress: &dyn Progress) -> Result<SelftestReport> {
    let mut report = SelftestReport { schema: SCHEMA, ..SelftestReport::default() };
    for subject in subjects {
        report.add(subject.test(progress)?);
    }
    Ok(report)
}

impl Subject {
    fn test(&self, progress: &dyn Progress) -> Result<SubjectReport> {
        let inputs = || {
            let whole = self.goldens.iter().map(|golden| &golden.inputs);
            whole.chain(self.sampled.iter().map(|golden| &golden.inputs))
        };
        let Some(first) = inputs().find(|inputs| inputs.input_ids.is_some()).or(inputs().next()) else {
            return Err(Error::new(Kind::Request, format!("{}: no golden to compare with", self.name)));
        };
        let differs = |golden: &str, point: &str| {
            let message = format!(
                "the model must agree with its golden before faults are put into it, and {point} does not: \
                 deberta-verify says more"
            );
            Err(Error::new(Kind::Request, message).in_tensor(golden))
        };
        for golden in &self.goldens {
            let model = as_class(&self.model, golden);
            let good = Injected { model, trace: Cow::Borrowed(&golden.trace), inputs: &golden.inputs };
            if let Some(point) = self.compare(&good)?.iter().find(|point| seen(point)) {
                return differs(&golden.name, &point.name);
            }
        }
        for golden in &self.sampled {
            progress.step(&format!("{}: {}", self.name, golden.name));
            if let Some(point) = self.first_in(golden, &self.model)? {
                return differs(&golden.name, &point);
            }
        }
        let listed = faults(&self.model, first, self.model.config.num_hidden_layers / 2);
        let mut reports = Vec::with_capacity(listed.faults.len());
        for fault in listed.faults {
            progress.step(&format!("{}: {}", self.name, fault.description));
            reports.push(self.inject(fault)?);
        }
        Ok(SubjectReport { model: self.name.clone(), faults: reports, absent: listed.absent })
    }

    fn inject(&self, fault: Fault) -> Result<FaultReport> {
        let mut report = report_of(&fault);
        let Some(faulty) = self.model.with(&fault.changes) else {
            report.reason = Some("the fault could not be put into the model".to_owned());
            return Ok(report);
        };
        let mut first: Option<(Injected<'_>, String)> = None;
        for golden in &self.goldens {
            let injected = self.injected(&fault, &faulty, golden)?;
            let points = self.compare(&injected)?;
            let Some(point) = points.iter().find(|point| seen(point)) else { continue };
            if first.as_ref().is_none_or(|(_, known)| rank(&point.name) < rank(known)) {
                first = Some((injected, point.name.clone()));
            }
        }
        let whole = first.as_ref().map(|(injected, point)| {
            let names = injected.trace.tensors.iter().map(|tensor| tensor.name.as_str());
            Sighting { in_place: in_place(&fault, point, names), point: point.clone(), golden: None }
        });
        let Some(sighting) = self.sighted(&fault, &faulty, whole)? else {
            (report.fate, report.reason) = self.unseen(&faulty)?;
            return Ok(report);
        };
        report.fate = Fate::Killed;
        report.in_place = sighting.in_place;
        report.first_divergence = Some(sighting.point);
        // Why, only whole numbers tell: those of a golden that shows the fault, or those of the good model.
        let injected = match (first, sighting.golden) {
            (Some((injected, _)), _) => injected,
            (None, Some(golden)) => golden.injected(&fault, &self.model, &faulty)?,
            (None, None) => return Ok(report),
        };
        let padding = injected.padding();
        let diagnoses = diagnose(&injected.divergence(self.comparison(&padding)))?;
        said(&mut report, &fault, diagnoses);
        Ok(report)
    }

    /// What a fault makes of the model, or of the golden.
    fn injected<'g>(&self, fault: &Fault, faulty: &Model, golden: &'g Recorded) -> Result<Injected<'g>> {
        let (of_fault, own) = (as_class(faulty, golden), as_class(&self.model, golden));
        let inputs = &golden.inputs;
        if fault.of == Culprit::Model {
            return Ok(Injected { model: of_fault, trace: Cow::Borrowed(&golden.trace), inputs });
        }
        let points: Vec<&str> = golden
            .trace
            .tensors
            .iter()
            .filter_map(|tensor| tensor.name.strip_prefix("activations."))
            .collect();
        let mut trace = of_fault.run(inputs, &points, Vec::new())?;
        trace.tensors.retain(|tensor| golden.trace.get(&tensor.name).is_some());
        Ok(Injected { model: own, trace: Cow::Owned(trace), inputs })
    }

    /// Whether a fault that no golden shows changes any number of the model at all.
    fn unseen(&self, faulty: &Model) -> Result<(Fate, Option<String>)> {
        let mut largest: Option<(f64, String)> = None;
        let whole = self.goldens.iter().map(|golden| {
            let run = |model: &Model| as_class(model, golden).run(&golden.inputs, &["*"], Vec::new());
            let padding = Padding::of(&golden.inputs, golden.class.head);
            Ok((run(&self.model)?, run(faulty)?, padding, None))
        });
        let sampled = self.sampled.iter().map(|golden| {
            let padding = Padding::of(&golden.inputs, golden.class.head);
            Ok((golden.whole(&self.model)?, golden.whole(faulty)?, padding, Some(&golden.file)))
        });
        for runs in whole.chain(sampled) {
            let (good, bad, padding, samples): (_, _, _, Option<&TraceFile>) = runs?;
            for want in &good.tensors {
                let point = self.comparison(&padding).tensors(want, bad.get(&want.name));
                if seen(&point) && samples.is_some_and(|file| file.shape(&point.name).is_some()) {
                    let reason = format!("{} differs, of which the samples show nothing", point.name);
                    return Ok((Fate::Survived, Some(reason)));
                }
                if seen(&point) {
                    let fate = if self.sensitive { Fate::Survived } else { Fate::NotVisible };
                    return Ok((fate, Some(format!("only {} differs, which the golden lacks", point.name))));
                }
                let share = [&point.real, &point.padded].into_iter().flatten().map(|part| part.share);
                let share = share.fold(0.0, f64::max);
                if largest.as_ref().is_none_or(|(known, _)| share > *known) {
                    largest = Some((share, point.name));
                }
            }
        }
        let (share, point) = largest.unwrap_or_default();
        let reason = format!("the largest change is {:.1} % of what is allowed, at {point}", 100.0 * share);
        Ok((if self.sensitive { Fate::Survived } else { Fate::NotVisible }, Some(reason)))
    }

    fn comparison<'c>(&'c self, padding: &'c Padding) -> Comparison<'c> {
        Comparison { tolerances: &self.tolerances, precision: self.precision, padding }
    }

    fn compare(&self, injected: &Injected<'_>) -> Result<Vec<PointReport>> {
        let padding = injected.padding();
        injected.divergence(self.comparison(&padding)).compare(&injected.model)
    }
}

/// A model and what it is compared with, one of which has a fault.
struct Injected<'g> {
    model: Model,
    trace: Cow<'g, Trace>,
    inputs: &'g Inputs,
}

impl Injected<'_> {
    fn padding(&self) -> Padding {
        Padding::of(self.inputs, self.model.class.head)
    }

    fn divergence<'i>(&'i self, comparison: Comparison<'i>) -> Divergence<'i> {
        let (model, golden, inputs) = (&self.model, &self.trace, self.inputs);
        Divergence { model, golden, inputs, comparison, weights_known: false }
    }
}

/// The report of a fault of which nothing is known yet.
fn report_of(fault: &Fault) -> FaultReport {
    FaultReport { kind: fault.kind, description: fault.description.clone(), ..FaultReport::default() }
}

/// Notes what the diagnosis of a fault said.
fn said(report: &mut FaultReport, fault: &Fault, diagnoses: Vec<Diagnosis>) {
    report.diagnosed = diagnoses.iter().any(|diagnosis| diagnosis.kind == fault.kind);
    report.wrongly_confirmed = !report.diagnosed && diagnoses.iter().any(|diagnosis| diagnosis.confirmed);
    report.diagnoses = diagnoses
        .into_iter()
        .map(|diagnosis| match diagnosis.confirmed {
            true => format!("{}: {}", diagnosis.kind, diagnosis.cause),
            false => format!("{} (not confirmed): {}", diagnosis.kind, diagnosis.cause),
        })
        .collect();
}

fn as_class(model: &Model, golden: &Recorded) -> Model {
    of_class(model, golden.class, golden.masked_rows)
}

fn of_class(model: &Model, class: Class, masked_rows: MaskedRows) -> Model {
    let mut model = model.clone();
    (model.class, model.masked_rows) = (class, masked_rows);
    model
}

fn seen(point: &PointReport) -> bool {
    point.verdict.outcome() == Outcome::Divergence
}

/// Whether a fault was seen at the first point that can show it, of those that the golden has.
fn in_place<'n>(fault: &Fault, seen: &str, golden: impl Iterator<Item = &'n str>) -> bool {
    let Some(place) = fault.places.first() else { return true };
    let named = |name: &str| name.strip_prefix("activations.").unwrap_or(name).to_owned();
    if fault.places.contains(&named(seen)) {
        return true;
    }
    // Probabilities come before the context of their layer.
    let computed = |name: &str| match Named::of(name) {
        Some(Named::Attentions(layer)) => rank(&Module::Probs.at("", layer)),
        _ => rank(name),
    };
    let place = rank(&format!("activations.{place}"));
    let names = golden.filter(|name| !name.starts_with("inputs.") && computed(name) >= place);
    let first = names.min_by_key(|name| computed(name));
    first.is_some_and(|first| computed(first) == computed(seen))
}
