//! The digest of a file's weights against that of a golden.

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::digest::checkpoint_digest;
use deberta_converters::error::Result;
use deberta_reference::Head;

use super::candidate::{Candidate, WeightFile};
use super::configured::{config_of, differing_lines, is_same};
use super::{built, configured};
use crate::goldens::Golden;
use crate::judge::tolerance::Precision;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind};

/// The digest of a file's weights.
pub(super) struct WeightDigest {
    /// Over all parameters that the class knows: what `deberta-convert digest` prints.
    pub(super) whole: String,
    /// Over those of them that the class computes with.
    pub(super) used: String,
    /// The others, by their names in the file: positions that nothing adds, a second head.
    unused: Vec<String>,
    /// The class that it is of.
    head: Head,
    /// How many tensors it lacks.
    incomplete: usize,
}

impl WeightDigest {
    /// Reads the weights.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub(super) fn of(checkpoint: &Checkpoint) -> Result<WeightDigest> {
        let digests = checkpoint.tensor_digests(&())?;
        let bound = || checkpoint.bound.iter().zip(digests.iter().copied());
        let used = bound().filter(|(bound, _)| bound.param.required);
        let unused = checkpoint.bound.iter().filter(|bound| !bound.param.required);
        Ok(WeightDigest {
            whole: checkpoint.digest(&digests).to_string(),
            used: checkpoint_digest(used.map(|(bound, digest)| (bound.param.name.as_str(), digest)))
                .to_string(),
            unused: unused.map(|bound| bound.stored_name.clone()).collect(),
            head: checkpoint.head,
            incomplete: built::incomplete(checkpoint),
        })
    }

    /// The one that a golden has, if it has one of these two: a model with a tensor that it does not compute with is the same
    /// model.
    pub(super) fn for_golden(&self, golden: &Golden) -> &str {
        let is = |own: &str| golden.digest().is_some_and(|digest| digest.eq_ignore_ascii_case(own));
        if is(&self.used) { &self.used } else { &self.whole }
    }

    /// What there is to say where it is not the golden's. One of rounded weights cannot be, nor one of a part of them.
    pub(super) fn finding(&self, candidate: &Candidate<'_>) -> Option<Finding> {
        let (golden, digest) = (candidate.golden, &self.whole);
        let expected = golden.digest().filter(|expected| !expected.eq_ignore_ascii_case(digest))?;
        let name = &golden.name;
        if expected.eq_ignore_ascii_case(&self.used) {
            let message = format!(
                "{} in the file, which the model does not compute with: all that it does compute with has the digest of golden \
                 {name}",
                listed(&self.unused)
            );
            return Some(Finding::new(FindingKind::Note, Outcome::Pass, message));
        }
        if let Some(lacking) = self.lacks_unused(candidate, expected) {
            let message = format!(
                "{} not in the file, and the model does not compute with it: the tensors that it does compute with are those of \
                 golden {name}",
                listed(&lacking)
            );
            return Some(Finding::new(FindingKind::Note, Outcome::Pass, message));
        }
        if candidate.precision != Precision::F32 {
            let precision = candidate.precision;
            let message =
                format!("weights stored as {precision}: their digest cannot be that of golden {name}");
            return Some(Finding::new(FindingKind::HalfPrecision, Outcome::Pass, message));
        }
        if let Some(lines) = lines_that_read_others(candidate.file, golden, expected) {
            let message = format!(
                "the weights are those of golden {name}, and the configuration reads other parameters of them ({lines}): with \
                 the configuration of the golden they have its digest"
            );
            return Some(Finding::new(FindingKind::ConfigDiffers, Outcome::Divergence, message));
        }
        Some(if self.incomplete > 0 {
            let message = format!(
                "digest {digest} is of a part of the weights: {} tensors are missing, of another shape, or left out by the \
                 configuration. It tells nothing of those of golden {name}, which had {expected}",
                self.incomplete
            );
            Finding::new(FindingKind::WeightsDiffer, Outcome::Undecided, message)
        } else {
            let message = format!(
                "digest {digest}, those of golden {name} had {expected}: the weights are not the same"
            );
            Finding::new(FindingKind::WeightsDiffer, Outcome::Divergence, message)
        })
    }

    /// What the golden's model has besides, if its weights are at hand, and these are all of them that the class computes
    /// with: transformers' classes leave out the positions that pre-training decodes from.
    fn lacks_unused(&self, candidate: &Candidate<'_>, expected: &str) -> Option<Vec<String>> {
        let (original, _) = candidate.original(self.head).ok()??;
        // Most goldens' models have nothing of this kind, and need not be read.
        if original.bound.iter().all(|bound| bound.param.required) {
            return None;
        }
        let original = WeightDigest::of(&original).ok()?;
        let is_the_golden_s = expected.eq_ignore_ascii_case(&original.whole) && original.used == self.used;
        is_the_golden_s.then_some(original.unused)
    }
}

/// `a is`, `a and b are`, `a and 5 more are`.
fn listed(names: &[String]) -> String {
    match names {
        [] => "nothing is".to_owned(),
        [one] => format!("{one} is"),
        [one, other] => format!("{one} and {other} are"),
        [first, rest @ ..] => format!("{first} and {} more are", rest.len()),
    }
}

/// The lines of the configuration that are not those of the golden's, if with the golden's the weights have its digest.
fn lines_that_read_others(file: &WeightFile<'_>, golden: &Golden, expected: &str) -> Option<String> {
    let other = config_of(golden)?;
    let own = configured::own_config(file).filter(|own| !is_same(&own.path, &other.path))?;
    let mut lines = differing_lines(&own.config, &other.config);
    let named = [&own, &other].map(|config| format!("\"architectures\": {:?}", config.config.architectures));
    lines.extend((named[0] != named[1]).then_some(named));
    if lines.is_empty() {
        return None;
    }
    let (_, checkpoint) = Checkpoint::open(file.source.clone(), Some(&other.path), None).ok()?;
    let digest = checkpoint.digest(&checkpoint.tensor_digests(&()).ok()?).to_string();
    digest.eq_ignore_ascii_case(expected).then(|| configured::compared(&lines))
}
