//! The selftest with random faults: how often a fault is seen, where it is, whether it is named, and whether any cause that is
//! called confirmed is wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::progress::Progress;
use serde::Serialize;

use super::cut::{Cut, alike, cut_down, other_tokens};
use super::{Fate, FaultReport, Injected, Recorded, Subject, as_class, in_place, report_of, said, seen};
use crate::diagnose::{Repaired, diagnose_and_repair, first_divergence};
use crate::fault::{Culprit, Dice, Fault, Model, RandomFault, random_fault, unknowns};
use crate::judge::tolerance::Precision;
use crate::judge::verdict::PointReport;
use crate::trace::points::rank;

/// The schema of the JSON report.
pub(super) const SCHEMA: &str = "deberta-verify-random-1";

/// What the selftest found with random faults in one model.
#[derive(Clone, Debug, Serialize)]
pub struct RandomReport {
    /// `deberta-verify-random-1`.
    pub schema: &'static str,
    /// The model.
    pub model: String,
    /// What the faults were drawn by.
    pub seed: u64,
    /// How many were put into the model.
    pub drawn: usize,
    /// The figures, by what was left of the golden.
    pub counts: BTreeMap<Cut, Counts>,
    /// One entry for every fault.
    pub faults: Vec<RandomFate>,
}

/// How many of the random faults.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Were seen.
    pub killed: usize,
    /// Were not seen, although points that the golden has differ.
    pub survived: usize,
    /// No comparison of these numbers can see.
    pub not_visible: usize,
    /// Were seen where they are.
    pub in_place: usize,
    /// Were seen, and the golden tells them from other causes ([`RandomFate::alike`]).
    pub nameable: usize,
    /// The diagnosis named, of those.
    pub named: usize,
    /// Had a confirmed cause that is not theirs.
    pub wrongly_confirmed: usize,
}

/// What became of one random fault.
#[derive(Clone, Debug, Serialize)]
pub struct RandomFate {
    /// Its number: with the seed, what it is drawn by.
    pub number: usize,
    /// What was left of the golden.
    pub cut: Cut,
    /// The golden.
    pub golden: String,
    /// The words by which a diagnosis may name it.
    pub kinds: Vec<&'static str>,
    /// Why the golden does not tell the fault from other causes, if it was not named.
    pub alike: Option<String>,
    /// Why a confirmed cause is wrong, if one is.
    pub wrong: Option<String>,
    /// The rest.
    #[serde(flatten)]
    pub report: FaultReport,
}

impl RandomFate {
    /// Whether a diagnosis can name the fault: hypotheses know its kind, and the golden tells it from other causes.
    fn nameable(&self) -> bool {
        !self.kinds.is_empty() && (self.report.diagnosed || self.alike.is_none())
    }
}

impl RandomReport {
    /// Whether every visible fault was seen, where it is, and no confirmed cause is wrong.
    pub fn passes(&self) -> bool {
        self.counts.values().all(|counts| {
            counts.survived == 0 && counts.wrongly_confirmed == 0 && counts.in_place == counts.killed
        })
    }
}

impl fmt::Display for RandomReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} random faults, seed {}", self.model, self.drawn, self.seed)?;
        let notable = |fate: &&RandomFate| {
            let report = &fate.report;
            let unnamed = fate.nameable() && !report.diagnosed;
            report.fate == Fate::Survived
                || (report.fate == Fate::Killed && (!report.in_place || unnamed || fate.wrong.is_some()))
        };
        for fate in self.faults.iter().filter(notable) {
            let report = &fate.report;
            writeln!(
                f,
                "  {} ({:?}, {}) {}: {}",
                fate.number, fate.cut, fate.golden, report.kind, report.description
            )?;
            let place = report.first_divergence.as_deref().unwrap_or("nowhere");
            writeln!(
                f,
                "      seen at {place}{}",
                if report.in_place { "" } else { ", which is not where it is" }
            )?;
            writeln!(f, "      diagnosis: {}", report.diagnoses.first().map_or("nothing", String::as_str))?;
            if let Some(wrong) = &fate.wrong {
                writeln!(f, "      WRONGLY CONFIRMED: {wrong}")?;
            }
        }
        for (cut, counts) in &self.counts {
            writeln!(
                f,
                "  {cut:?}: {} killed, {} survived, {} not visible; {} in place; {} of {} named; {} wrongly confirmed",
                counts.killed,
                counts.survived,
                counts.not_visible,
                counts.in_place,
                counts.named,
                counts.nameable,
                counts.wrongly_confirmed
            )?;
        }
        Ok(())
    }
}

/// Puts `count` random faults into a model, one or two at a time.
///
/// # Errors
/// A model that cannot be run, or has no golden.
pub fn selftest_random(
    subject: &Subject,
    count: usize,
    seed: u64,
    progress: &dyn Progress,
) -> Result<RandomReport> {
    let mut report = RandomReport {
        schema: SCHEMA,
        model: subject.name.clone(),
        seed,
        drawn: 0,
        counts: BTreeMap::new(),
        faults: Vec::new(),
    };
    for number in 0..count {
        let mut dice =
            Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(number as u64) ^ hash(&subject.name));
        let golden = dice.of(&subject.goldens);
        let golden = golden.ok_or_else(|| Error::new(Kind::Request, "no golden to compare with"))?;
        let own = as_class(&subject.model, golden);
        let cut = Cut::draw(&mut dice).of(golden);
        let recorded = cut_down(&own, golden, cut, &mut dice)?;
        let drawn = random_fault(&own, &recorded.inputs, &mut dice);
        let RandomFault { fault, kinds, composed } = drawn;
        progress.step(&format!("{}: {number}: {}", subject.name, fault.description));
        let Some(faulty) = own.with(&fault.changes) else { continue };
        let trial = Trial { subject, golden, recorded: &recorded, own: &own, faulty: &faulty, composed, cut };
        let Some(said) = trial.run(&fault, &kinds, &mut dice)? else { continue };
        report.drawn += 1;
        let Said { report: fate, wrong, alike } = said;
        let fate = RandomFate { number, cut, golden: golden.name.clone(), kinds, alike, wrong, report: fate };
        report.counts.entry(cut).or_default().add(&fate);
        report.faults.push(fate);
    }
    Ok(report)
}

impl Counts {
    fn add(&mut self, fate: &RandomFate) {
        let seen = fate.report.fate == Fate::Killed;
        self.killed += usize::from(seen);
        self.survived += usize::from(fate.report.fate == Fate::Survived);
        self.not_visible += usize::from(fate.report.fate == Fate::NotVisible);
        self.in_place += usize::from(seen && fate.report.in_place);
        self.nameable += usize::from(seen && fate.nameable());
        self.named += usize::from(seen && fate.nameable() && fate.report.diagnosed);
        self.wrongly_confirmed += usize::from(seen && fate.wrong.is_some());
    }
}

/// A number for a name, so that models have faults of their own (FNV-1a).
fn hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// What came of a fault.
struct Said {
    report: FaultReport,
    /// Why a confirmed cause is wrong.
    wrong: Option<String>,
    /// Why the golden does not tell the fault from other causes.
    alike: Option<String>,
}

/// A fault in a model, and what it is compared with.
struct Trial<'t> {
    subject: &'t Subject,
    golden: &'t Recorded,
    recorded: &'t Recorded,
    own: &'t Model,
    faulty: &'t Model,
    composed: bool,
    cut: Cut,
}

impl Trial<'_> {
    /// What becomes of the fault; nothing if the model cannot be run with it, which is another matter.
    fn run(&self, fault: &Fault, kinds: &[&'static str], dice: &mut Dice) -> Result<Option<Said>> {
        let mut report = report_of(fault);
        let Ok(injected) = self.injected(fault) else { return Ok(None) };
        let Ok(points) = self.subject.compare(&injected) else { return Ok(None) };
        let Some(point) = points.iter().find(|point| seen(point)) else {
            let share = points
                .iter()
                .filter_map(|point| point.real.as_ref())
                .map(|part| part.share)
                .fold(0.0, f64::max);
            report.fate = Fate::NotVisible;
            report.reason = Some(format!("the largest change is {:.1} % of what is allowed", 100.0 * share));
            return Ok(Some(Said { report, wrong: None, alike: None }));
        };
        report.fate = Fate::Killed;
        let names = injected.trace.tensors.iter().map(|tensor| tensor.name.as_str());
        // Points between the place of the fault and the one that shows it were compared, and agree.
        let later = fault.places.first().is_none_or(|place| rank(place) <= rank(&point.name));
        report.in_place = later || in_place(fault, &point.name, names);
        report.first_divergence = Some(point.name.clone());
        let padding = injected.padding();
        let divergence = injected.divergence(self.subject.comparison(&padding));
        let (diagnoses, repaired) = diagnose_and_repair(&divergence)?;
        let another = diagnoses
            .iter()
            .find(|diagnosis| diagnosis.confirmed && !kinds.contains(&diagnosis.kind.as_str()))
            .map(|diagnosis| format!("{}: {}", diagnosis.kind, diagnosis.cause));
        let confirmed = diagnoses.iter().any(|diagnosis| diagnosis.confirmed);
        let agrees = first_divergence(&divergence.compare(&repaired.model)?).is_none();
        // Of two faults the golden may show one, and a part of a fault by a few points, or in half precision.
        let restored =
            !confirmed || !agrees || !self.exact() || self.restores(fault, &repaired.model, dice)?;
        let wrong = another.or_else(|| {
            (!restored).then(|| "the repaired model computes something else from other tokens".to_owned())
        });
        said(&mut report, fault, diagnoses);
        report.diagnosed = report
            .diagnoses
            .iter()
            .any(|said| kinds.iter().any(|kind| said.split([':', ' ']).next() == Some(kind)));
        report.wrongly_confirmed = wrong.is_some();
        let alike = if report.diagnosed { None } else { self.alike(fault, &points, &repaired, agrees) };
        Ok(Some(Said { report, wrong, alike }))
    }

    /// Why nobody could tell the fault by this golden. Another cause makes all of its numbers agree, too, and is as simple: it
    /// took no more numbers to undo. Or more numbers were lost than there are in the golden to find them by.
    fn alike(
        &self,
        fault: &Fault,
        points: &[PointReport],
        repaired: &Repaired,
        agrees: bool,
    ) -> Option<String> {
        let unknown = unknowns(self.own, &fault.changes);
        let differ: usize =
            points.iter().filter_map(|point| point.real.as_ref()).map(|part| part.beyond).sum();
        if agrees && repaired.fitted <= unknown {
            let fitted = repaired.fitted;
            return Some(format!(
                "another cause explains all numbers by {fitted} fitted, the fault by {unknown}"
            ));
        }
        (unknown > 0 && unknown >= differ)
            .then(|| format!("{unknown} numbers were lost, and {differ} of the golden differ"))
    }

    /// Whether a repair must bring back all that the fault changed.
    fn exact(&self) -> bool {
        !self.composed && self.cut != Cut::Points && self.subject.precision == Precision::F32
    }

    fn injected(&self, fault: &Fault) -> Result<Injected<'_>> {
        if fault.of == Culprit::Model {
            let trace = Cow::Borrowed(&self.recorded.trace);
            return Ok(Injected { model: self.faulty.clone(), trace, inputs: &self.recorded.inputs });
        }
        self.subject.injected(fault, self.faulty, self.recorded)
    }

    /// Whether a repaired model computes what the good one does, from other tokens too.
    fn restores(&self, fault: &Fault, repaired: &Model, dice: &mut Dice) -> Result<bool> {
        let Some(inputs) = other_tokens(&self.recorded.inputs, &self.golden.inputs, dice) else {
            return Ok(true);
        };
        let right = if fault.of == Culprit::Model { self.own } else { self.faulty };
        let Ok(found) = repaired.run(&inputs, &[], Vec::new()) else { return Ok(false) };
        Ok(alike(&right.run(&inputs, &[], Vec::new())?, &found))
    }
}
