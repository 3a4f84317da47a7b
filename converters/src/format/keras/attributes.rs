//! Lists of names as attributes, split as Keras splits them.

use super::LONGEST_ATTRIBUTE;
use super::header::{Message, empty_attribute, strings_attribute};
use crate::error::{Error, Kind, Result};

/// The attributes that hold the list `names` under `name`: one, or `name0`, `name1`, … when one would be longer
/// than Keras allows (`save_attributes_to_hdf5_group` in tf-keras).
pub(super) fn list(name: &str, names: &[&str]) -> Result<Vec<Message>> {
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max(1);
    if names.is_empty() {
        return Ok(vec![empty_attribute(name)?]);
    }
    if width > LONGEST_ATTRIBUTE {
        return Err(Error::new(
            Kind::Request,
            format!("a name of {width} bytes, an attribute of a Keras file holds {LONGEST_ATTRIBUTE}"),
        ));
    }
    // Each part holds `per_part` names or one fewer, so the fewest parts are those of the longest part that fits.
    let parts = names.len().div_ceil(LONGEST_ATTRIBUTE / width);
    if parts == 1 {
        return Ok(vec![strings_attribute(name, names, width)?]);
    }
    let (quotient, remainder) = (names.len() / parts, names.len() % parts);
    let mut rest = names;
    (0..parts)
        .map(|part| {
            // As numpy.array_split does: the first parts take the remainder.
            let (here, after) = rest.split_at(quotient + usize::from(part < remainder));
            rest = after;
            strings_attribute(&format!("{name}{part}"), here, width)
        })
        .collect()
}
