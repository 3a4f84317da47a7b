//! Goldens cut down to what some people have: a few points, a few tokens, the answers alone.

use deberta_converters::error::Result;
use deberta_reference::Inputs;
use ndarray::Slice;
use serde::Serialize;

use super::Recorded;
use crate::fault::{Dice, Model};
use crate::trace::file::Trace;
use crate::trace::inputs::dims;
use crate::trace::points::Named;

/// What is left of a golden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// All of it.
    #[default]
    Whole,
    /// The outputs of the layers and of the head, attention probabilities included where the golden has no activations.
    States,
    /// One to four of its points.
    Points,
    /// All points of the first one to three tokens of some sequences.
    Tokens,
    /// The outputs of the head; of a model without one, the last hidden state.
    Answers,
}

impl Cut {
    /// One of them, the whole as often as all others.
    pub(super) fn draw(dice: &mut Dice) -> Cut {
        let cuts = [Cut::States, Cut::Points, Cut::Tokens, Cut::Answers];
        if dice.chance(2) { Cut::Whole } else { dice.of(&cuts).copied().unwrap_or_default() }
    }

    /// What that leaves of a golden: one without activations is one of states to begin with.
    pub(super) fn of(self, golden: &Recorded) -> Cut {
        let activations =
            || golden.trace.tensors.iter().any(|tensor| tensor.name.starts_with("activations."));
        if self == Cut::Whole && !activations() { Cut::States } else { self }
    }
}

/// A golden cut down. Fewer tokens are recorded anew, by the reference implementation.
///
/// # Errors
/// A good model that cannot be run on fewer tokens.
pub(super) fn cut_down(good: &Model, golden: &Recorded, cut: Cut, dice: &mut Dice) -> Result<Recorded> {
    let mut trace = golden.trace.clone();
    let mut inputs = golden.inputs.clone();
    match cut {
        Cut::Whole => {}
        Cut::States if trace.tensors.iter().all(|tensor| !tensor.name.starts_with("activations.")) => {}
        Cut::States => trace
            .tensors
            .retain(|tensor| matches!(Named::of(&tensor.name), Some(Named::State(_) | Named::Output(_)))),
        Cut::Answers => {
            let answers = |name: &str| matches!(Named::of(name), Some(Named::Output(_)));
            trace.tensors.retain(|tensor| answers(&tensor.name));
        }
        Cut::Points => {
            let names: Vec<String> = trace.tensors.iter().map(|tensor| tensor.name.clone()).collect();
            let kept: Vec<&String> = (0..1 + dice.below(4)).filter_map(|_| dice.of(&names)).collect();
            trace.tensors.retain(|tensor| kept.contains(&&tensor.name));
        }
        Cut::Tokens => {
            let tokens = 1 + dice.below(3);
            if let Some(fewer) = first_tokens(&inputs, 1 + dice.below(3), tokens) {
                trace = good.run(&fewer, &["*"], Vec::new())?;
                inputs = fewer;
            }
        }
    }
    Ok(Recorded { name: golden.name.clone(), trace, inputs, ..*golden })
}

/// The first tokens of the first sequences, all of them there; nothing where the inputs are no plain tokens.
fn first_tokens(inputs: &Inputs, sequences: usize, tokens: usize) -> Option<Inputs> {
    let (ids, (b, n)) = (inputs.input_ids.as_ref()?, dims(inputs)?);
    if inputs.choices.is_some() {
        return None;
    }
    let (b, n) = (b.min(sequences), n.min(tokens));
    let first = |ids: &ndarray::Array2<i64>| {
        let rows = ids.slice_axis(ndarray::Axis(0), Slice::from(..b.min(ids.nrows())));
        rows.slice_axis(ndarray::Axis(1), Slice::from(..n)).to_owned()
    };
    Some(Inputs {
        input_ids: Some(first(ids)),
        token_type_ids: inputs.token_type_ids.as_ref().map(first),
        position_ids: inputs.position_ids.as_ref().map(first),
        output_hidden_states: true,
        output_attentions: true,
        ..Inputs::default()
    })
}

/// The same tokens in another order, as many and as long as in a golden: what a repair must compute, too.
pub(super) fn other_tokens(known: &Inputs, shape: &Inputs, dice: &mut Dice) -> Option<Inputs> {
    let ids: Vec<i64> = known.input_ids.as_ref()?.iter().copied().collect();
    let mut other = shape.clone();
    (other.labels, other.start_positions, other.end_positions) = (None, None, None);
    other.input_ids.as_mut()?.iter_mut().for_each(|id| *id = dice.of(&ids).copied().unwrap_or(*id));
    Some(other)
}

/// Whether two runs have the same points with nearly the same numbers.
pub(super) fn alike(one: &Trace, other: &Trace) -> bool {
    one.tensors.iter().filter(|tensor| !tensor.name.starts_with("inputs.")).all(|tensor| {
        let Some(found) = other.get(&tensor.name) else { return false };
        let (Some(want), Some(got)) = (tensor.data.floats(), found.data.floats()) else { return true };
        let largest = want.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        want.len() == got.len()
            && want.iter().zip(got.iter()).all(|(want, got)| (want - got).abs() <= 2e-3 * largest.max(0.1))
    })
}
