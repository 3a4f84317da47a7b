//! Faults: the ways in which models go wrong, as changes of a configuration and of parameters.
//!
//! A [`Change`] does one thing to a [`Model`]; a [`Fault`] is a few of them with a name. The selftest injects faults, the
//! diagnosis tries changes that undo them.

mod catalogue;
mod change;
mod formulas;
mod mistake;
mod model;
mod orders;
mod random;
mod rows;
mod setting;
mod unknown;

pub use catalogue::{Absent, Listed, faults};
pub(crate) use catalogue::{Noise, dropped, other_activations};
pub use change::{Change, KernelOrder};
pub(crate) use change::{scaled_part, scaled_queries, swapped_layers};
pub(crate) use formulas::{
    Formula, RowsOfTerms, convolutions, position_biases_dropped, rows as other_rows, rows_of_terms, scales,
};
pub use mistake::Mistake;
pub use model::Model;
pub(crate) use orders::{by_head_to_parts, exchange, inverse, orders_of_heads, permutations};
pub(crate) use random::{Dice, RandomFault, random_fault};
pub use rows::RowRule;
pub use setting::Setting;
pub(crate) use unknown::unknowns;

/// Something that goes wrong with models.
#[derive(Clone, Debug)]
pub struct Fault {
    /// A word for programs, the same as in diagnoses.
    pub kind: &'static str,
    /// What is wrong, where.
    pub description: String,
    /// The names of activations that feel it first start with one of these.
    pub places: Vec<String>,
    /// What the fault does to a model.
    pub changes: Vec<Change>,
    /// Who has the fault.
    pub of: Culprit,
}

/// Who has a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// The model: its weights or its configuration.
    Model,
    /// The code that computed what a good model is compared with: one of its formulas.
    Golden,
}
