//! Hypotheses, tested one after the other.

use std::time::{Duration, Instant};

use deberta_converters::error::Result;
use deberta_reference::Stage;

use super::evidence::Evidence;
use super::section::Section;
use super::{Cut, HYPOTHESES, Hypothesis, PATIENCE, Search, first_divergence, hypotheses, in_words};
use crate::fault::Model;
use crate::judge::verdict::PointReport;
use crate::trace::points::rank;

/// The most hypotheses that are tested after one that explains everything, to see whether another one does.
const RIVALS: usize = 200;
/// The most time that they are tested for.
const RIVALRY: Duration = Duration::from_secs(5);

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
}

/// A hypothesis whose undoing made numbers agree.
struct Tried {
    hypothesis: Hypothesis,
    repaired: Model,
    tested: usize,
    /// The first place that differs still; nothing if all of the section agrees.
    then: Option<usize>,
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
        let off = section.diverging_alone(model);
        let mut tried: Vec<Tried> = Vec::new();
        let (mut tested, mut since, mut found) = (0, 0, None::<Instant>);
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
            let explained = tried.iter().any(|tried| tried.then.is_none());
            let in_time = self.started.elapsed() <= PATIENCE;
            let long = found.is_some_and(|found| found.elapsed() > RIVALRY);
            if explained && (since >= RIVALS || long || !in_time) {
                break;
            }
            if !in_time || at >= HYPOTHESES {
                self.cut_short = Some(if in_time { Cut::Number } else { Cut::Time });
                break;
            }
            let fewest =
                tried.iter().filter(|tried| tried.then.is_none()).map(|tried| tried.hypothesis.fitted).min();
            if fewest.is_some_and(|fewest| hypothesis.fitted > fewest) {
                continue;
            }
            let Some(repaired) = model.with(&hypothesis.changes) else { continue };
            (self.tried, tested, since) = (self.tried + 1, tested + 1, since + usize::from(explained));
            let then = section.first_divergence(&repaired);
            // Nothing that was right alone may be wrong then.
            let breaks = || section.diverging_alone(&repaired).iter().any(|place| !off.contains(place));
            let further = then.is_some_and(|then| then > before && !explained) && !breaks();
            if then.is_none() || further {
                found = found.or_else(|| then.is_none().then(Instant::now));
                tried.push(Tried { hypothesis, repaired, tested, then });
            }
        }
        let Some((best, rivals)) = self.best(tried)? else { return Ok(None) };
        // What was computed from the golden makes up for numbers that are lost, too.
        if best.hypothesis.fitted > 0 && rest.iter().any(|known| LOST.contains(&known.kind)) {
            rest.retain(|known| LOST.contains(&known.kind));
            return Ok(None);
        }
        rest.clear();
        let Tried { mut hypothesis, repaired, tested, then } = best;
        hypothesis.alike.extend(rivals.into_iter().map(|rival| rival.hypothesis));
        let explained = section.explained(model, &repaired);
        Ok(Some(Cause {
            evidence: Evidence { explained, fitted: hypothesis.fitted, tested },
            hypothesis,
            stage: in_words(section.stage),
            point: section.point(before).to_owned(),
            whole: then.is_none(),
        }))
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
            let known = |known: &Tried| known.repaired.is(&other.repaired);
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
