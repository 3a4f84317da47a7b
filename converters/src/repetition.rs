//! Tensors of a graph that repeat a parameter without having its name.

use crate::error::Result;
use crate::matching::{Matched, Matcher, Place, Problem, Repetition};

impl Matcher<'_> {
    /// Takes a tensor of a graph that no name was found for, as one that repeats a parameter, if it is equal to it to the bit: a
    /// tool may store a weight once for each of its uses.
    pub(crate) fn take_repetition(
        &self,
        place: Place,
        matched: &mut Matched,
        unexpected: &mut Vec<Problem>,
    ) -> Result<()> {
        let Some(file) = self.files.get(place.file) else { return Ok(()) };
        let Some(info) = file.tensors().get(place.index) else { return Ok(()) };
        let mut bytes = None;
        for (of, bound) in matched.bound.iter().enumerate() {
            let Some(other) = self.files.get(bound.place.file) else { continue };
            let alike = other
                .tensors()
                .get(bound.place.index)
                .is_some_and(|known| known.dtype == info.dtype && known.shape == info.shape);
            if !alike {
                continue;
            }
            let bytes = match &bytes {
                Some(bytes) => bytes,
                None => bytes.insert(file.read(place.index)?),
            };
            if other.read(bound.place.index)? == *bytes {
                matched.copies.push(Repetition {
                    stored_name: info.name.clone(),
                    of,
                    dtype: info.dtype,
                    transposed: bound.transposed,
                    place,
                });
                unexpected.retain(|problem| problem.tensor != info.name);
                break;
            }
        }
        Ok(())
    }
}
