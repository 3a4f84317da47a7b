//! What an HDF5 file contains: its groups, its datasets, and the names that its attributes list.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hdf5_pure::{AttrValue, Dataset, Datatype, File, FormatError, Group};

use super::DEEPEST;
use super::source::Metered;
use crate::error::{Error, Kind, Printable, Result};
use crate::mapped::Mapped;

/// Everything that hard links lead to, by path without a leading slash. The root group is `""`.
///
/// Soft and external links are not followed, so nothing outside the file is ever read.
pub(super) struct Contents {
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) datasets: BTreeMap<String, Dataset>,
}

/// Most groups and datasets in a file. Also what ends a walk in circles.
const MOST_OBJECTS: usize = 1 << 16;

impl Contents {
    /// Walks `file`.
    pub(super) fn read(file: &Arc<Mapped>) -> Result<Self> {
        let hdf5 = File::from_source(Metered::new(Arc::clone(file))).map_err(refused)?;
        let end = hdf5.superblock().eof_address;
        if end > file.len() as u64 {
            return Err(Error::malformed(format!(
                "truncated: {} bytes, its superblock says {end}",
                file.len()
            )));
        }
        let mut contents = Contents { groups: BTreeMap::new(), datasets: BTreeMap::new() };
        let mut waiting = vec![(String::new(), hdf5.root())];
        while let Some((path, group)) = waiting.pop() {
            for (name, dataset) in group.iter_datasets().map_err(|error| in_group(&path, reason(&error)))? {
                if contents.datasets.insert(join(&path, &name)?, dataset).is_some() {
                    return Err(in_group(&path, format!("two links called \"{}\"", Printable(&name))));
                }
            }
            for (name, child) in group.iter_groups().map_err(|error| in_group(&path, reason(&error)))? {
                waiting.push((join(&path, &name)?, child));
            }
            if path.split('/').count() > DEEPEST {
                return Err(Error::malformed(format!(
                    "groups nest deeper than {DEEPEST}: \"{}\"",
                    Printable(&path)
                )));
            }
            contents.groups.insert(path, group);
            if contents.groups.len() + contents.datasets.len() + waiting.len() > MOST_OBJECTS {
                return Err(Error::malformed(format!("over {MOST_OBJECTS} groups and datasets")));
            }
        }
        Ok(contents)
    }

    /// The names that `attribute` of the group at `path` lists, joined if they are split; `None` without one.
    pub(super) fn names(&self, path: &str, attribute: &str) -> Result<Option<Vec<String>>> {
        let Some(group) = self.groups.get(path) else { return Ok(None) };
        let attributes = Attributes::read(group).map_err(|error| in_group(path, reason(&error)))?;
        if let Some(names) = attributes.names(path, attribute)? {
            return Ok(Some(names));
        }
        let mut joined = None;
        for part in 0.. {
            let Some(names) = attributes.names(path, &format!("{attribute}{part}"))? else { break };
            joined.get_or_insert_with(Vec::new).extend(names);
        }
        Ok(joined)
    }
}

/// The attributes of a group, decoded.
struct Attributes {
    /// Every attribute's type, those included that could not be decoded.
    types: HashMap<String, Datatype>,
    values: HashMap<String, AttrValue>,
}

impl Attributes {
    fn read(group: &Group) -> Result<Self, hdf5_pure::Error> {
        Ok(Attributes { types: group.attr_datatypes()?, values: group.attrs()? })
    }

    /// The names in `attribute`; `None` without one.
    fn names(&self, path: &str, attribute: &str) -> Result<Option<Vec<String>>> {
        if !self.types.contains_key(attribute) {
            return Ok(None);
        }
        let wrong = |what: &str| Err(in_group(path, format!("attribute {attribute} {what}")));
        let Some(value) = self.values.get(attribute) else {
            return wrong("cannot be decoded: it is damaged, or its strings are");
        };
        if let Some(names) = value.as_strings() {
            // What hdf5-pure puts in the place of what is not UTF-8.
            if names.iter().any(|name| name.contains(char::REPLACEMENT_CHARACTER)) {
                return wrong("holds a name that is not UTF-8");
            }
            return Ok(Some(names.iter().map(|name| name.trim_end_matches('\0').to_owned()).collect()));
        }
        match value.to_f64s() {
            // What numpy makes of an empty list of names.
            Some(numbers) if numbers.is_empty() => Ok(Some(Vec::new())),
            _ => wrong(&format!("holds {}, not a list of names", value.type_name())),
        }
    }
}

/// The path of what the link `name` in the group at `path` leads to.
fn join(path: &str, name: &str) -> Result<String> {
    // The last is what hdf5-pure puts in the place of what is not UTF-8: two names may have become one.
    if name.is_empty() || name.contains(['/', '\0', char::REPLACEMENT_CHARACTER]) {
        return Err(in_group(path, format!("a link cannot be called \"{}\"", Printable(name))));
    }
    Ok(if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") })
}

fn in_group(path: &str, what: impl std::fmt::Display) -> Error {
    Error::malformed(format!("group \"/{}\": {what}", Printable(path)))
}

/// What `hdf5-pure` says about a file, without its own prefixes.
fn reason(error: &hdf5_pure::Error) -> String {
    match error {
        hdf5_pure::Error::Format(FormatError::Source(why)) => why.clone(),
        hdf5_pure::Error::Format(why) => why.to_string(),
        other => other.to_string(),
    }
}

/// A file that `hdf5-pure` refuses, because it is damaged or because it uses what `hdf5-pure` does not know.
pub(super) fn refused(error: hdf5_pure::Error) -> Error {
    use FormatError::{
        InvalidLayoutVersion, UnsupportedExternalStorage, UnsupportedMessage, UnsupportedVersion,
        UnsupportedVirtualLayout,
    };
    let kind = match &error {
        hdf5_pure::Error::Format(
            UnsupportedVersion(_)
            | UnsupportedMessage(_)
            | UnsupportedVirtualLayout
            | UnsupportedExternalStorage,
        ) => Kind::Unsupported,
        hdf5_pure::Error::Format(InvalidLayoutVersion(5)) => {
            return Error::unsupported(
                "stored in the newest format of HDF5 2.0; write the file with libver=\"v114\"",
            );
        }
        _ => Kind::Malformed,
    };
    Error::new(kind, reason(&error)).caused_by(error)
}
