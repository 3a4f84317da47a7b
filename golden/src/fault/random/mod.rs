//! Faults by chance: any kind, anywhere in a model, one or two at a time. The catalogue has each kind in a place where it
//! shows well; here the place and the size of a fault are drawn, and some kinds are ones that no hypothesis knows.

use deberta_reference::{Inputs, Param, Role};

use super::catalogue::List;
use super::{Change, Culprit, Fault, Listed, Model, faults};
use crate::trace::inputs::dims;
use crate::trace::points::rank;

mod dice;
mod orders;
mod settings;
mod weights;

pub(crate) use dice::Dice;

/// A fault that was drawn.
#[derive(Clone, Debug)]
pub(crate) struct RandomFault {
    /// The fault. Where it is felt first is the first of its places.
    pub(crate) fault: Fault,
    /// The words by which a diagnosis names it; none where no hypothesis knows it.
    pub(crate) kinds: Vec<&'static str>,
    /// Whether it is one of two.
    pub(crate) composed: bool,
}

/// A fault of a model, in one of the layers and rows that the inputs reach; of two faults in one of seven.
pub(crate) fn random_fault(model: &Model, inputs: &Inputs, dice: &mut Dice) -> RandomFault {
    let first = Random::of(model, inputs, dice).one();
    if first.fault.of == Culprit::Golden || !dice.chance(7) {
        return first;
    }
    let Some(faulty) = model.with(&first.fault.changes) else { return first };
    let second = Random::of(&faulty, inputs, dice).one();
    if second.fault.of == Culprit::Golden || faulty.with(&second.fault.changes).is_none() {
        return first;
    }
    let (one, other) = (first.fault, second.fault);
    // One that is felt anywhere may be felt first.
    let anywhere = one.places.is_empty() || other.places.is_empty();
    let mut places = if anywhere { Vec::new() } else { [one.places, other.places].concat() };
    places.sort_by_key(|place| rank(place));
    RandomFault {
        fault: Fault {
            kind: one.kind,
            description: format!("{}; and {}", one.description, other.description),
            places,
            changes: [one.changes, other.changes].concat(),
            of: Culprit::Model,
        },
        kinds: [first.kinds, second.kinds].concat(),
        composed: true,
    }
}

/// What a fault is drawn for.
struct Random<'r> {
    list: List<'r>,
    inputs: &'r Inputs,
    dice: &'r mut Dice,
}

impl<'r> Random<'r> {
    fn of(model: &'r Model, inputs: &'r Inputs, dice: &'r mut Dice) -> Random<'r> {
        let layer = dice.below(model.config.num_hidden_layers);
        Random { list: List { model, layer, listed: Listed::default() }, inputs, dice }
    }

    fn one(&mut self) -> RandomFault {
        let draws: &[fn(&mut Self) -> Option<RandomFault>] = &[
            // As often as there are more kinds in them.
            Self::catalogued,
            Self::catalogued,
            Self::catalogued,
            Self::number,
            Self::number,
            Self::row,
            Self::bias,
            Self::norm,
            Self::negated,
            Self::zeroed,
            Self::scaled,
            Self::turned,
            Self::exchanged,
            Self::quantized,
            Self::lost,
            Self::heads,
            Self::heads,
            Self::columns,
            Self::layers,
            Self::other_layers,
            Self::table,
            Self::words,
            Self::labels,
            Self::setting,
            Self::setting,
            Self::setting,
        ];
        loop {
            let drawn = self.dice.of(draws).copied();
            if let Some(fault) = drawn.and_then(|draw| draw(self)) {
                return fault;
            }
        }
    }

    /// A fault of the catalogue, in a layer that is drawn.
    fn catalogued(&mut self) -> Option<RandomFault> {
        let listed = faults(self.list.model, self.inputs, self.list.layer).faults;
        let fault = self.dice.of(&listed)?.clone();
        let kinds = vec![fault.kind];
        Some(RandomFault { fault, kinds, composed: false })
    }

    /// A fault of the model in some parameters, felt where the first of them is.
    fn in_params(
        &self,
        kinds: &[&'static str],
        description: String,
        params: &[&Param],
        changes: Vec<Change>,
    ) -> Option<RandomFault> {
        let places = params.iter().flat_map(|param| self.list.feel(param)).collect();
        self.at(kinds, description, places, changes)
    }

    fn at(
        &self,
        kinds: &[&'static str],
        description: String,
        places: Vec<String>,
        changes: Vec<Change>,
    ) -> Option<RandomFault> {
        let kind = kinds.first().copied().unwrap_or("unknown");
        let mut places = places;
        places.sort_by_key(|place| rank(place));
        let fault = Fault { kind, description, places, changes, of: Culprit::Model };
        Some(RandomFault { fault, kinds: kinds.to_vec(), composed: false })
    }

    /// One of the parameters that the class computes with, outside of the layers or in the one that was drawn.
    fn param(&mut self, wanted: impl Fn(&Param) -> bool) -> Option<Param> {
        let there = |param: &Param| wanted(param) && self.list.model.shape(&param.name).is_some();
        let params: Vec<Param> = self.list.params().into_iter().filter(there).collect();
        self.dice.of(&params).cloned()
    }

    /// The row of a parameter that some input reads, or any one of it if all are.
    fn read_row(&mut self, param: &Param) -> usize {
        let rows = param.shape.first().copied().unwrap_or(1);
        let (_, n) = dims(self.inputs).unwrap_or((1, 1));
        let read = |ids: Option<&ndarray::Array2<i64>>| -> Vec<usize> {
            ids.iter().flat_map(|ids| ids.iter().filter_map(|&id| usize::try_from(id).ok())).collect()
        };
        let rows_read = match param.role {
            Role::WordEmbedding => read(self.inputs.input_ids.as_ref()),
            Role::TokenTypeEmbedding => read(self.inputs.token_type_ids.as_ref()),
            Role::PositionEmbedding if self.inputs.position_ids.is_some() => {
                read(self.inputs.position_ids.as_ref())
            }
            Role::PositionEmbedding => (0..n.min(rows)).collect(),
            Role::RelativeEmbedding => {
                let distances = self.list.model.config.distances();
                (0..n.cast_signed()).flat_map(|far| [distances.row(far), distances.row(-far)]).collect()
            }
            _ => (0..rows).collect(),
        };
        self.dice.of(&rows_read).copied().unwrap_or(0).min(rows.saturating_sub(1))
    }
}
