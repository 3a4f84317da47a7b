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

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the attributes and their lengths, which numpy.array_split was asked for.
    #[test]
    fn long_lists_are_split_as_numpy_splits_them() {
        let name = "n".repeat(100);
        let parts = |count| list("weight_names", &vec![name.as_str(); count]).unwrap().len();
        assert_eq!([0, 1, 645, 646, 1290, 1291, 6450].map(parts), [1, 1, 1, 2, 2, 3, 10]);
    }

    #[test]
    fn a_name_that_no_attribute_holds_is_refused() {
        let error = list("weight_names", &["n".repeat(70_000).as_str()]).err().unwrap().to_string();
        assert_eq!(error, "a name of 70000 bytes, an attribute of a Keras file holds 64512");
    }
}
