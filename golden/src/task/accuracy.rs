//! Examples whose answer is one of several: how many are right, of all and of each group.

use std::collections::BTreeMap;

use deberta_converters::error::Result;
use serde_json::json;

use super::metric::confusion::Confusion;
use super::metric::{largest, margin, share};
use super::{Choice, Judged, misshapen, numbers, prediction};

/// An example with the answers to choose from, and their logits.
pub(super) struct Candidates<'e> {
    pub(super) place: &'e str,
    /// The group that it is counted in: `accuracy.matched`, ….
    pub(super) group: &'e str,
    /// What the file of predictions calls the right answer.
    pub(super) what: &'static str,
    pub(super) names: &'e [String],
    pub(super) expected: usize,
    pub(super) logits: Vec<f32>,
}

/// Chooses the largest logit of every example. The metrics are the accuracy of all, and of each group if there are several.
///
/// # Errors
/// Logits that are not one for each name.
pub(super) fn accuracy<'e>(examples: impl Iterator<Item = Candidates<'e>>) -> Result<Judged> {
    let (mut judged, mut groups) = (Judged::default(), BTreeMap::<&str, (usize, usize)>::new());
    for Candidates { place, group, what, names, expected, logits } in examples {
        let chosen = largest(&logits).filter(|_| logits.len() == names.len());
        let chosen = chosen.and_then(|at| Some((at, names.get(at)?)));
        let (at, name) = chosen.ok_or_else(|| misshapen(place, logits.len(), names.len()))?;
        let (right, all) = groups.entry(group).or_default();
        *right += usize::from(at == expected);
        *all += 1;
        judged.examples += 1;
        judged.predictions.push(prediction([
            ("example", json!(place)),
            (what, json!(names.get(expected))),
            ("predicted", json!(name)),
            ("logits", numbers(&logits)),
        ]));
        let (example, chosen) = (place.to_owned(), name.clone());
        judged.choices.push(Choice { example, chosen, margin: margin(&logits) });
    }
    let right = groups.values().map(|(right, _)| right).sum();
    judged.metrics.push(("accuracy".to_owned(), share(right, judged.examples)));
    if groups.len() > 1 {
        let groups = groups.into_iter();
        let each = groups.map(|(name, (right, all))| (format!("accuracy.{name}"), share(right, all)));
        judged.metrics.extend(each);
    }
    Ok(judged)
}

/// As [`accuracy`] of examples that have one of the same labels, and which of these are taken for which. `places` are the
/// places and groups of the examples, `expected` their labels by number, `kept` their logits.
///
/// # Errors
/// Logits that are not one for each label.
pub(super) fn labelled<'e>(
    places: impl Iterator<Item = (&'e str, &'e str)>,
    labels: &'e [String],
    expected: &[usize],
    kept: &[Vec<f32>],
) -> Result<Judged> {
    let examples = places.zip(expected.iter().zip(kept));
    let mut judged = accuracy(examples.map(|((place, group), (&expected, logits))| Candidates {
        place,
        group,
        what: "label",
        names: labels,
        expected,
        logits: logits.clone(),
    }))?;
    let pairs =
        expected.iter().zip(kept).filter_map(|(&expected, logits)| Some((expected, largest(logits)?)));
    judged.confusion = Some(Confusion::of(labels, pairs));
    Ok(judged)
}
