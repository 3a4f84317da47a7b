//! The diagnosis of a divergence: which known cause explains it.
//!
//! The part of the model that first goes wrong (the embeddings, a layer, the head) is run alone on the golden's input.
//! What the numbers say there, and what is known to go wrong there, gives hypotheses; each is tested by undoing it and
//! running the part again, and the first that makes it agree by running the whole model. `docs/diagnosis.md` lists the causes.

use std::time::{Duration, Instant};

use deberta_converters::error::Result;
use deberta_reference::Stage;

use crate::fault::Model;
use crate::judge::verdict::PointReport;
use crate::report::Diagnosis;
use crate::trace::points::rank;

mod attention;
mod divergence;
mod evidence;
mod factors;
mod hidden;
mod hypotheses;
mod hypothesis;
mod layers;
mod lookup;
mod norm;
mod part;
mod residual;
mod rounding;
mod section;
mod trial;

pub use divergence::Divergence;
pub(crate) use divergence::first_divergence;
use divergence::short;
pub(crate) use evidence::Evidence;
use hypothesis::Hypothesis;
use section::Section;
use trial::{Cause, EPS};

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
    Ok(diagnose_and_repair(divergence)?.0)
}

/// The model in which the causes are undone, as far as they are known.
pub(crate) struct Repaired {
    pub(crate) model: Model,
    /// How many numbers of it were computed from the golden's.
    pub(crate) fitted: usize,
}

/// As [`diagnose`], with what comes of it.
pub(crate) fn diagnose_and_repair(divergence: &Divergence<'_>) -> Result<(Vec<Diagnosis>, Repaired)> {
    let started = Instant::now();
    let repaired = Repaired { model: divergence.model.clone(), fitted: 0 };
    let mut search = Search { divergence: *divergence, started, tried: 0, cut_short: None, repaired };
    // Hundreds of small runs: a thread of the pool starts each without waking another one.
    let found = rayon::scope(|_| search.run())?;
    Ok((found, search.repaired))
}

struct Search<'d> {
    divergence: Divergence<'d>,
    started: Instant,
    tried: usize,
    cut_short: Option<Cut>,
    /// The model, what was found so far being undone in it.
    repaired: Repaired,
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
        if let Some(lacking) = self.dropped_layers(&model, &points) {
            return Ok(vec![lacking]);
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
            let fitted = self.repaired.fitted + cause.hypothesis.fitted;
            self.repaired = Repaired { model: model.clone(), fitted };
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
            let mut alike = cause.hypothesis.alike.as_slice();
            if let Some(values) = cause.hypothesis.other_values() {
                found = format!("{found}; the same for these tokens: {values}");
                alike = &[];
            }
            let enough = cause.hypothesis.shown || cause.evidence.suffices();
            let fits = self.has_as_many_layers();
            // Noise in all numbers looks there as if the largest one were off.
            let hides = cause.evidence.fitted > 0 && self.divergence.allows_halves();
            if !alike.is_empty() {
                found.push_str("; but these tokens do not tell it from another cause, which is listed too");
            } else if !enough {
                found = format!("{found}; {}", cause.evidence.lack());
            } else if hides {
                found.push_str("; but the tolerance of half precision may hide more that differs");
            } else if !fits {
                found.push_str("; but the golden has another number of layers");
            }
            // All normalisations have one ε: it is not wrong in one of them.
            let everywhere = cause.hypothesis.kind == EPS;
            let agrees = remaining.is_none() || (cause.whole && !everywhere);
            let scaled = cause.scaled_instead(&self.divergence.model.config);
            let scaled = scaled.filter(|_| !self.divergence.weights_known);
            if scaled.is_some() {
                found.push_str(
                    "; but one normalisation does not tell another ε from what it is given being scaled",
                );
            }
            let alone = alike.is_empty() && scaled.is_none();
            let confirmed = cause.hypothesis.proves && alone && enough && !hides && fits && agrees;
            diagnoses.push(cause.hypothesis.diagnosis(&found, confirmed));
            diagnoses.extend(scaled.map(|scaled| scaled.diagnosis("", false)));
            diagnoses.extend(alike.iter().map(|other| other.diagnosis(&found, false)));
        }
        diagnoses.extend(rest.into_iter().map(|hypothesis| hypothesis.diagnosis("", false)));
        if let (Some(_), Some(last)) = (self.cut_short, diagnoses.last_mut())
            && last.kind != "unknown"
        {
            last.evidence = format!("{}; {}", last.evidence, self.tested());
        }
        diagnoses.sort_by_key(|diagnosis| !diagnosis.confirmed);
        Ok(diagnoses)
    }

    /// How many hypotheses were tested, and why not all.
    fn tested(&self) -> String {
        let tested = match self.tried {
            1 => "1 hypothesis was tested".to_owned(),
            tried => format!("{tried} hypotheses were tested"),
        };
        match self.cut_short {
            Some(cut) => format!("{tested}, and there were more: {}", cut.reason()),
            None => tested,
        }
    }

    /// What there is to say if nothing explains it.
    fn unknown(&self, section: &Section<'_>, model: &Model, first: &PointReport) -> Hypothesis {
        let at = section.first_divergence(model).map_or(short(&first.name), |at| section.point(at));
        let evidence = match section.spread(model, at) {
            Some(spread) => format!("{spread}; {}", self.tested()),
            None => self.tested(),
        };
        let cause = format!("{at}: no known cause explains it");
        let repair = "compare the parameters of this module with those of the original model";
        Hypothesis::new("unknown", cause, repair).because(evidence)
    }
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
