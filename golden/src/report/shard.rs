//! Shards: a policy whose models are verified by several machines.

use deberta_converters::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// The part of a policy's models that one machine verifies: of the models 0, 1, 2, … those that leave `index` - 1 when
/// divided by `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyShard {
    /// Which part, from 1.
    pub index: usize,
    /// How many parts there are.
    pub count: usize,
    /// How many models the policy has.
    pub models: usize,
}

impl PolicyShard {
    /// A part of that many models.
    ///
    /// # Errors
    /// A part without a model: nothing compared is never a success.
    pub fn of(index: usize, count: usize, models: usize) -> Result<PolicyShard> {
        let shard = PolicyShard { index, count, models };
        match shard.len() {
            0 => {
                let why = format!(
                    "--shard {index}/{count}: the policy has {models} models, so that this shard has none: make at \
                     most {models} shards"
                );
                Err(Error::new(Kind::Request, why))
            }
            _ => Ok(shard),
        }
    }

    /// The numbers of its models, from 0.
    pub fn places(&self) -> impl ExactSizeIterator<Item = usize> {
        (self.index - 1..self.models).step_by(self.count)
    }

    /// How many models it has.
    pub(super) fn len(&self) -> usize {
        self.places().len()
    }

    /// Whether there can be such a part: a report may say anything.
    pub(super) fn is_valid(&self) -> bool {
        (1..=self.count.min(self.models)).contains(&self.index)
    }
}

impl std::fmt::Display for PolicyShard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "shard {} of {}", self.index, self.count)
    }
}
