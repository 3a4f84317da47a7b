//! The diagnosis of a divergence: which known cause explains it.
//!
//! The part of the model that first goes wrong (the embeddings, a layer, the head) is run alone on the golden's input.
//! What the numbers say there, and what is known to go wrong there, gives hypotheses; each is tested by undoing it and
//! running the part again, and the first that makes it agree by running the whole model. `docs/diagnosis.md` lists the causes.

use std::time::{Duration, Instant};

use deberta_converters::error::Result;
use deberta_reference::Stage;

use crate::fault::Model;
use crate::judge::compare::Comparison;
use crate::judge::tolerance::Precision;
use crate::judge::verdict::{PointReport, Verdict};
use crate::report::Diagnosis;
use crate::trace::points::rank;

mod attention;
mod divergence;
mod hypotheses;
mod hypothesis;
mod residual;
mod section;

pub use divergence::Divergence;
pub(crate) use divergence::first_divergence;
use divergence::short;
use hypothesis::Hypothesis;
use section::Section;

/// The most time that new hypotheses are tested for.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most causes that are looked for, one after the other.
const CAUSES: usize = 64;
/// The most hypotheses that are tested for one cause: any two of 16 heads in five projections are 600, and come last.
const HYPOTHESES: usize = 800;

/// Looks for the causes of a divergence; those that were confirmed come first. Nothing if the tokens agree everywhere, unless
/// a formula explains what differs in padding.
///
/// # Errors
/// The model cannot be built or run at all.
pub fn diagnose(divergence: &Divergence<'_>) -> Result<Vec<Diagnosis>> {
    let started = Instant::now();
    let mut search = Search { divergence: *divergence, started, tried: 0, cut_short: None };
    search.run()
}

struct Search<'d> {
    divergence: Divergence<'d>,
    started: Instant,
    tried: usize,
    cut_short: Option<Cut>,
}

/// Why not all hypotheses were tested.
#[derive(Clone, Copy)]
enum Cut {
    /// More than [`PATIENCE`] went by.
    Time,
    /// There were more than [`HYPOTHESES`].
    Number,
}

impl Cut {
    fn reason(self) -> String {
        match self {
            Cut::Time => format!("it took longer than the limit of {} seconds", PATIENCE.as_secs()),
            Cut::Number => format!("the limit is {HYPOTHESES} for one cause"),
        }
    }
}

impl Search<'_> {
    fn run(&mut self) -> Result<Vec<Diagnosis>> {
        let mut model = self.divergence.model.clone();
        let mut points = self.divergence.compare(&model)?;
        if let Some(rounded) = self.rounded(&model)? {
            return Ok(vec![rounded.diagnosis("", false)]);
        }
        if first_divergence(&points).is_none() {
            return self.padding(&model, &points);
        }
        let mut causes: Vec<Cause> = Vec::new();
        let mut rest = Vec::new();
        for _ in 0..CAUSES {
            let Some(first) = first_divergence(&points) else { break };
            if self.started.elapsed() > PATIENCE {
                self.cut_short = Some(Cut::Time);
                break;
            }
            let before = rank(&first.name);
            let section = Section::of(&self.divergence, &model, &first.name);
            let Some(mut cause) = self.cause(&model, &section, &mut rest)? else {
                if rest.is_empty() {
                    rest.push(self.unknown(&section, &model, first));
                }
                break;
            };
            (model, points) = self.everywhere(&model, &mut cause)?;
            causes.push(cause);
            if first_divergence(&points).is_some_and(|next| rank(&next.name) <= before) {
                break;
            }
        }
        let remaining = first_divergence(&points).map(|point| short(&point.name).to_owned());
        let mut diagnoses: Vec<Diagnosis> = Vec::new();
        for cause in &causes {
            let how = if cause.hypothesis.assumed { "computed so" } else { "undone" };
            let mut found = match (&remaining, cause.whole) {
                (None, _) => format!("{how}, all {} points of the golden agree", points.len()),
                (Some(rest), true) => {
                    format!("{how}, {} agrees as a whole; what differs then first: {rest}", cause.stage)
                }
                (Some(rest), false) => {
                    format!("{how}, {} agrees; what differs then first: {rest}", cause.point)
                }
            };
            let alike = &cause.hypothesis.alike;
            if !alike.is_empty() {
                found.push_str("; but these tokens do not tell it from another cause, which is listed too");
            }
            let confirmed =
                cause.hypothesis.proves && alike.is_empty() && (remaining.is_none() || cause.whole);
            diagnoses.push(cause.hypothesis.diagnosis(&found, confirmed));
            diagnoses.extend(alike.iter().map(|other| other.diagnosis(&found, false)));
        }
        diagnoses.extend(rest.into_iter().map(|hypothesis| hypothesis.diagnosis("", false)));
        if let (Some(cut), Some(last)) = (self.cut_short, diagnoses.last_mut()) {
            let tested = format!(
                "; {} hypotheses were tested in all, and there were more: {}",
                self.tried,
                cut.reason()
            );
            last.evidence.push_str(&tested);
        }
        diagnoses.sort_by_key(|diagnosis| !diagnosis.confirmed);
        Ok(diagnoses)
    }

    /// What explains padding that differs where the tokens agree: a formula, since no weight can.
    fn padding(&self, model: &Model, points: &[PointReport]) -> Result<Vec<Diagnosis>> {
        let differs = |points: &[PointReport]| points.iter().any(|point| point.verdict == Verdict::Padding);
        if !differs(points) {
            return Ok(Vec::new());
        }
        for hypothesis in hypotheses::of_padding(model) {
            let Some(repaired) = model.with(&hypothesis.changes) else { continue };
            let again = self.divergence.compare(&repaired)?;
            if first_divergence(&again).is_none() && !differs(&again) {
                let found =
                    format!("computed so, all {} points of the golden agree, padding too", again.len());
                return Ok(vec![hypothesis.diagnosis(&found, true)]);
            }
        }
        Ok(Vec::new())
    }

    /// Weights that were rounded: they are all numbers of a lower precision, and agree as well as that allows.
    fn rounded(&self, model: &Model) -> Result<Option<Hypothesis>> {
        if self.divergence.comparison.precision != Precision::F32 {
            return Ok(None);
        }
        for precision in [Precision::F16, Precision::Bf16] {
            let exact = |name: &str| {
                let values = model.values(name).unwrap_or_default();
                values.iter().all(|&value| precision.round(value) == value)
            };
            if !model.names().all(exact) {
                continue;
            }
            let comparison = Comparison { precision, ..self.divergence.comparison };
            let points = Divergence { comparison, ..self.divergence }.compare(model)?;
            if first_divergence(&points).is_none() {
                let evidence = format!(
                    "all weights are numbers of {precision} though they are stored as f32, and all {} points agree within \
                     the tolerance for {precision}",
                    points.len()
                );
                let repair = "convert the original weights again, without rounding";
                let cause = format!("the weights were rounded to {precision}");
                return Ok(Some(Hypothesis::new("half-precision", cause, repair).because(evidence)));
            }
        }
        Ok(None)
    }

    /// The hypothesis that makes the section agree, or else the one that makes it agree further than before.
    fn cause(
        &mut self,
        model: &Model,
        section: &Section<'_>,
        rest: &mut Vec<Hypothesis>,
    ) -> Result<Option<Cause>> {
        let Some(before) = section.first_divergence(model) else {
            let cause = "rounding errors add up: given the golden's input, the part agrees";
            rest.push(Hypothesis::new(
                "accumulated-error",
                cause,
                "widen the tolerance, if the golden is right",
            ));
            return Ok(None);
        };
        let mut further: Option<(usize, Hypothesis)> = None;
        for (at, hypothesis) in hypotheses::of(model, section, &self.divergence).into_iter().enumerate() {
            if hypothesis.changes.is_empty() {
                // Of a head that was never trained the numbers say nothing.
                let lost = hypothesis.kind == "random-head" && hypothesis.proves;
                rest.push(hypothesis);
                if lost {
                    return Ok(None);
                }
                continue;
            }
            let in_time = self.started.elapsed() <= PATIENCE;
            if !in_time || at >= HYPOTHESES {
                self.cut_short = Some(if in_time { Cut::Number } else { Cut::Time });
                break;
            }
            let Some(repaired) = model.with(&hypothesis.changes) else { continue };
            self.tried += 1;
            match section.first_divergence(&repaired) {
                None => {
                    rest.clear();
                    let (stage, point) = (in_words(section.stage), section.point(before).to_owned());
                    return Ok(Some(Cause { hypothesis, stage, point, whole: true }));
                }
                Some(at) if at > before && further.as_ref().is_none_or(|(best, _)| at > *best) => {
                    further = Some((at, hypothesis));
                }
                Some(_) => {}
            }
        }
        Ok(further.map(|(_, hypothesis)| {
            rest.clear();
            let (stage, point) = (in_words(section.stage), section.point(before).to_owned());
            Cause { hypothesis, stage, point, whole: false }
        }))
    }

    /// Undoes a cause where it was found, and in more places if that makes more points agree.
    fn everywhere(&mut self, model: &Model, cause: &mut Cause) -> Result<(Model, Vec<PointReport>)> {
        let here = model.with(&cause.hypothesis.changes).unwrap_or_else(|| model.clone());
        let mut points = self.divergence.compare(&here)?;
        let mut best = here;
        for (where_else, changes) in cause.hypothesis.wider.clone() {
            let Some(first) = first_divergence(&points) else { break };
            let Some(wider) = model.with(&changes) else { continue };
            let again = self.divergence.compare(&wider)?;
            if first_divergence(&again).is_none_or(|next| rank(&next.name) > rank(&first.name)) {
                cause.hypothesis.cause.push_str(&where_else);
                (best, points) = (wider, again);
            }
        }
        Ok((best, points))
    }

    /// What there is to say if nothing explains it.
    fn unknown(&self, section: &Section<'_>, model: &Model, first: &PointReport) -> Hypothesis {
        let at = section.first_divergence(model).map_or(short(&first.name), |at| section.point(at));
        let evidence = match section.spread(model, at) {
            Some(spread) => format!("{spread}; {} hypotheses were tested", self.tried),
            None => format!("{} hypotheses were tested", self.tried),
        };
        let cause = format!("{at}: no known cause explains it");
        let repair = "compare the parameters of this module with those of the original model";
        Hypothesis::new("unknown", cause, repair).because(evidence)
    }
}

/// A hypothesis that made numbers agree.
struct Cause {
    hypothesis: Hypothesis,
    stage: String,
    point: String,
    /// Whether all of the section agrees then.
    whole: bool,
}

/// A part of the model, or all of it.
fn in_words(stage: Option<Stage>) -> String {
    match stage {
        Some(Stage::Embeddings) => "the embedding part".to_owned(),
        Some(Stage::Head) => "the head".to_owned(),
        Some(stage) => stage.to_string(),
        None => "the model".to_owned(),
    }
}
