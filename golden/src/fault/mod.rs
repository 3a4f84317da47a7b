//! Faults: the ways in which models go wrong, as changes of a configuration and of parameters.
//!
//! A [`Change`] does one thing to a [`Model`]; a [`Fault`] is a few of them with a name. The selftest injects faults, the
//! diagnosis tries changes that undo them.

mod catalogue;
mod change;
mod model;
mod orders;

pub use catalogue::{Absent, Listed, faults};
pub(crate) use catalogue::{Noise, dropped, other_activations};
pub use change::{Change, Setting};
pub(crate) use change::{scaled_queries, swapped_layers};
pub use model::Model;
pub(crate) use orders::{by_head_to_thirds, exchange, inverse};

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
}
