//! Hypotheses, tested one after the other.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use deberta_converters::error::Result;
use deberta_reference::{DebertaConfig, Stage};

use super::evidence::Evidence;
use super::hidden::Hidden;
use super::section::Section;
use super::{Cut, HYPOTHESES, Hypothesis, PATIENCE, Search, first_divergence, hypotheses, in_words};
use crate::fault::{Change, Model, Setting};
use crate::judge::verdict::PointReport;
use crate::trace::points::rank;

/// The most hypotheses that are tested after one that explains everything, to see whether another one does.
const RIVALS: usize = 200;
/// The most time that they are tested for.
const RIVALRY: Duration = Duration::from_secs(5);

/// What all normalisations have, and one alone does not show: LN(c x; ε) = LN(x; ε/c²).
pub(super) const EPS: &str = "layer-norm-eps";

/// Causes that leave nothing to undo.
const LOST: [&str; 2] = ["zero-parameter", "int8-weights"];

/// A hypothesis that made numbers agree.
pub(super) struct Cause {
    pub(super) hypothesis: Hypothesis,
    pub(super) evidence: Evidence,
    pub(super) stage: String,
    pub(super) point: String,
    /// Whether all of the section agrees then.
    pub(super) whole: bool,
    /// How many normalisations show it, each given the golden's input; 1 but for what all normalisations have.
    pub(super) places: usize,
}

impl Cause {
    /// What looks as another ε does where one normalisation alone shows it: what it is given is c times what it should be, and ε
    /// in effect c² times as small.
    pub(super) fn scaled_instead(&self, own: &DebertaConfig) -> Option<Hypothesis> {
        let &[Change::Config(Setting::Eps(eps))] = self.hypothesis.changes.as_slice() else { return None };
        let cause = format!(
            "{}: what it is given may be about {:.2} times what it should be: a table, or a kernel",
            self.point,
            (eps / own.layer_norm_eps).sqrt()
        );
        let hypothesis = Hypothesis::new("scaled-parameter", cause, "restore it from the original model");
        (self.places < 2).then(|| hypothesis.because("LN(c x; ε) = LN(x; ε/c²)"))
    }
}

/// A hypothesis whose undoing made numbers agree.
struct Tried {
    hypothesis: Hypothesis,
    repaired: Model,
    tested: usize,
    /// The first place that differs still; nothing if all of the section agrees.
    then: Option<usize>,
}

/// The hypotheses of one divergence that were tested.
struct Trial<'t, 'd> {
    model: &'t Model,
    section: &'t Section<'d>,
    /// The first place that differs.
    before: usize,
    /// The places that differ though they are given what the golden has.
    off: Vec<usize>,
    tried: Vec<Tried>,
    tested: usize,
    /// How many were tested since one explained everything.
    since: usize,
    /// When the first one did.
    found: Option<Instant>,
}

impl<'t, 'd> Trial<'t, 'd> {
    fn new(model: &'t Model, section: &'t Section<'d>, before: usize) -> Trial<'t, 'd> {
        let off = section.diverging_alone(model);
        Trial { model, section, before, off, tried: Vec::new(), tested: 0, since: 0, found: None }
    }

    /// How many numbers were fitted at least to explain everything; nothing if nothing does so far.
    fn fewest(&self) -> Option<usize> {
        let whole = self.tried.iter().filter(|tried| tried.then.is_none());
        whole.map(|tried| tried.hypothesis.fitted).min()
    }

    /// Undoes a hypothesis, and keeps it if more agrees then; false if it cannot be undone.
    fn test(&mut self, hypothesis: Hypothesis) -> bool {
        let Some(repaired) = self.model.with(&hypothesis.changes) else { return false };
        let explained = self.found.is_some();
        (self.tested, self.since) = (self.tested + 1, self.since + usize::from(explained));
        let then = self.section.first_divergence(&repaired);
        // Nothing that was right alone may be wrong then.
        let breaks = || self.section.diverging_alone(&repaired).iter().any(|place| !self.off.contains(place));
        let further = then.is_some_and(|then| then > self.before && !explained) && !breaks();
        if then.is_none() || further {
            self.found = self.found.or_else(|| then.is_none().then(Instant::now));
            self.tried.push(Tried { hypothesis, repaired, tested: self.tested, then });
        }
        true
    }
}

impl Search<'_> {
    /// The hypothesis that makes the section agree, or else the one that makes it agree further than before. Where another one
    /// does as well, with as few numbers fitted, neither is proved.
    pub(super) fn cause(
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
        let mut trial = Trial::new(model, section, before);
        let known = hypotheses::of(model, section, &self.divergence);
        if self.test(&mut trial, known, rest) {
            return Ok(None);
        }
        // Where that explains nothing, or with numbers fitted alone: parameters whose output the golden does not show.
        if trial.fewest() != Some(0) {
            self.test(&mut trial, Hidden::of(model, section, before).as_wholes(), rest);
        }
        if trial.fewest().is_none_or(|fewest| fewest > 1) {
            self.test(&mut trial, Hidden::of(model, section, before).as_numbers(), rest);
        }
        let Some((best, rivals)) = self.best(trial.tried)? else { return Ok(None) };
        // What was computed from the golden makes up for numbers that are lost, too.
        if best.hypothesis.fitted > 0 && rest.iter().any(|known| LOST.contains(&known.kind)) {
            rest.retain(|known| LOST.contains(&known.kind));
            return Ok(None);
        }
        rest.clear();
        let Tried { mut hypothesis, repaired, tested, then } = best;
        hypothesis.alike.extend(rivals.into_iter().map(|rival| rival.hypothesis));
        let explained = section.explained(model, &repaired);
        let tested = tested + hypothesis.chosen_from;
        let everywhere = hypothesis.kind == EPS;
        let places = if everywhere { self.places(model, &repaired) } else { 1 };
        Ok(Some(Cause {
            evidence: Evidence { explained, fitted: hypothesis.fitted, tested },
            hypothesis,
            stage: in_words(section.stage),
            point: section.point(before).to_owned(),
            whole: then.is_none(),
            places,
        }))
    }

    /// How many normalisations, each given the golden's input, differ in one model and agree in another.
    fn places(&self, model: &Model, repaired: &Model) -> usize {
        let mut known = Vec::new();
        let mut places = BTreeSet::new();
        for tensor in &self.divergence.golden.tensors {
            let section = Section::of(&self.divergence, model, &tensor.name);
            if section.stage.is_none() || known.contains(&section.stage) {
                continue;
            }
            known.push(section.stage);
            let (before, after) = (section.diverging_alone(model), section.diverging_alone(repaired));
            let explained: Vec<usize> = before.into_iter().filter(|place| !after.contains(place)).collect();
            places.extend(section.normalisations(model, &explained));
        }
        places.len()
    }

    /// Tests hypotheses, one after the other. Those that leave nothing to undo are noted; true if one says that there is nothing
    /// to look for.
    fn test(
        &mut self,
        trial: &mut Trial<'_, '_>,
        hypotheses: Vec<Hypothesis>,
        rest: &mut Vec<Hypothesis>,
    ) -> bool {
        for (at, hypothesis) in hypotheses.into_iter().enumerate() {
            if hypothesis.changes.is_empty() {
                // Of a head that was never trained the numbers say nothing.
                let lost = hypothesis.kind == "random-head" && hypothesis.proves;
                rest.push(hypothesis);
                if lost {
                    return true;
                }
                continue;
            }
            let fewest = trial.fewest();
            let in_time = self.started.elapsed() <= PATIENCE;
            let long = trial.found.is_some_and(|found| found.elapsed() > RIVALRY);
            if fewest.is_some() && (trial.since >= RIVALS || long || !in_time) {
                break;
            }
            if !in_time || at >= HYPOTHESES {
                self.cut_short = Some(if in_time { Cut::Number } else { Cut::Time });
                break;
            }
            if fewest.is_none_or(|fewest| hypothesis.fitted <= fewest) {
                self.tried += usize::from(trial.test(hypothesis));
            }
        }
        false
    }

    /// The hypothesis that explains most with the fewest numbers fitted, and the others that explain as much with as few and
    /// undo something else.
    fn best(&self, tried: Vec<Tried>) -> Result<Option<(Tried, Vec<Tried>)>> {
        let whole = tried.iter().any(|tried| tried.then.is_none());
        let furthest = tried.iter().filter_map(|tried| tried.then).max();
        let mut left: Vec<Tried> = tried
            .into_iter()
            .filter(|tried| if whole { tried.then.is_none() } else { tried.then == furthest })
            .collect();
        if left.len() > 1 {
            // None: everything agrees.
            let mut ranks: Vec<Option<(Stage, usize)>> = Vec::new();
            for tried in &left {
                let points = self.divergence.compare(&tried.repaired)?;
                ranks.push(first_divergence(&points).map(|point| rank(&point.name)));
            }
            let later = |one: &Option<(Stage, usize)>, other: &Option<(Stage, usize)>| match (one, other) {
                (None, _) => true,
                (_, None) => false,
                (Some(one), Some(other)) => one >= other,
            };
            let latest = |rank: &Option<(Stage, usize)>| ranks.iter().all(|other| later(rank, other));
            let kept: Vec<bool> = ranks.iter().map(latest).collect();
            let mut kept = kept.into_iter();
            left.retain(|_| kept.next() == Some(true));
        }
        let Some(fewest) = left.iter().map(|tried| tried.hypothesis.fitted).min() else { return Ok(None) };
        let mut left = left.into_iter().filter(|tried| tried.hypothesis.fitted == fewest);
        let Some(best) = left.next() else { return Ok(None) };
        let mut rivals: Vec<Tried> = Vec::new();
        for other in left {
            let known = |known: &Tried| {
                known.repaired.is(&other.repaired) || known.hypothesis.says_as_much(&other.hypothesis)
            };
            if !known(&best) && !rivals.iter().any(known) {
                rivals.push(other);
            }
        }
        Ok(Some((best, rivals)))
    }

    /// Undoes a cause where it was found, and in more places if that makes more points agree.
    pub(super) fn everywhere(
        &mut self,
        model: &Model,
        cause: &mut Cause,
    ) -> Result<(Model, Vec<PointReport>)> {
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
}
