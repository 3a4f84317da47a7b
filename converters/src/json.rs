//! Reading the small JSON files beside weights: `config.json`, shard indexes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::format::foreign;

/// The largest configuration or shard index that is read.
const LARGEST_JSON: u64 = 4 << 20;

/// Reads a small text file, refusing what is not a regular file or is absurdly large.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let metadata = fs::metadata(path).map_err(|error| Error::io(path, "open", error))?;
    if !metadata.is_file() {
        return Err(Error::unsupported("not a regular file").in_file(path));
    }
    if metadata.len() > LARGEST_JSON {
        return Err(Error::malformed(format!("{} bytes, at most {LARGEST_JSON} are read", metadata.len()))
            .in_file(path));
    }
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| Error::io(path, "open", error))?;
    file.take(LARGEST_JSON)
        .read_to_string(&mut text)
        .map_err(|error| Error::io(path, "read as text", error))?;
    Ok(text)
}

/// What a text is that should have been JSON: something well known, or else `otherwise`.
pub(crate) fn not_json(text: &str, otherwise: impl FnOnce() -> Error) -> Error {
    if text.trim_start().starts_with(['{', '[']) {
        return otherwise();
    }
    foreign(text.as_bytes()).unwrap_or_else(otherwise)
}

/// A map in which a repeated key is an error instead of a silent choice.
pub(crate) fn unique_keys<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    struct Unique;
    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object from tensor names to shard names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((name, shard)) = access.next_entry::<String, String>()? {
                if map.contains_key(&name) {
                    return Err(serde::de::Error::custom(format!("tensor \"{name}\" is listed twice")));
                }
                map.insert(name, shard);
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(Unique)
}
