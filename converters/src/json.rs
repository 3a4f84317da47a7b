//! Reading the small JSON files beside weights: `config.json`, shard indexes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::containers::{Container, by_bytes};
use crate::error::{Error, Printable, Result};
use crate::opening;

/// The largest configuration or shard index that is read.
const LARGEST_JSON: u64 = 4 << 20;

/// Reads a small text file, refusing what is not a regular file or is absurdly large.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    opening::read_text(path, LARGEST_JSON)
}

/// An object as Python writes it, in which no key may occur twice: of two values, one program would take the first and
/// another the last. NaN and infinity, which JSON has not and Python's module writes, become texts that [`to_text`] knows.
pub(crate) fn read_object(text: &str) -> serde_json::Result<Map<String, Value>> {
    let text = replace_bare_words(text, |word| format!("\"{MARK}{word}\""));
    require_unique_keys(text.as_bytes())?;
    serde_json::from_str(&text)
}

/// The text of an object, as Python reads it.
pub(crate) fn to_text(object: &Map<String, Value>) -> serde_json::Result<String> {
    Ok(as_python(serde_json::to_string_pretty(object)?) + "\n")
}

/// A text with values of [`read_object`] in it, JSON or a message, with NaN and infinity as Python writes them.
pub(crate) fn as_python(mut text: String) -> String {
    for word in BARE_WORDS {
        text = text.replace(&format!("\"{MARK}{word}\""), word);
    }
    text
}

/// The numbers that Python's module writes as words; no word is the start of a later one.
const BARE_WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// What the text starts with that stands for such a number: a character that no text means anything by.
const MARK: char = '\u{10fffd}';

/// The text with others in the place of the words that stand for numbers.
fn replace_bare_words(text: &str, replacement: impl Fn(&str) -> String) -> Cow<'_, str> {
    let mut replaced = String::new();
    let (mut copied, mut at) = (0, 0);
    let (mut in_string, mut escaped) = (false, false);
    while let Some(&byte) = text.as_bytes().get(at) {
        let word =
            BARE_WORDS.into_iter().find(|word| text.get(at..).is_some_and(|rest| rest.starts_with(word)));
        match (in_string, byte, word) {
            (true, _, _) if escaped => escaped = false,
            (true, b'\\', _) => escaped = true,
            (_, b'"', _) => in_string = !in_string,
            (false, _, Some(word)) => {
                replaced.push_str(text.get(copied..at).unwrap_or_default());
                replaced.push_str(&replacement(word));
                at += word.len();
                copied = at;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    replaced.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(replaced)
}

/// Reads JSON to its end and refuses a key that an object has twice, however it is written.
pub(crate) fn require_unique_keys(json: &[u8]) -> serde_json::Result<()> {
    struct Unique;
    impl<'de> DeserializeSeed<'de> for Unique {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
            deserializer.deserialize_any(self)
        }
    }
    impl<'de> Visitor<'de> for Unique {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<(), A::Error> {
            let mut keys = HashSet::new();
            while let Some(key) = access.next_key::<String>()? {
                access.next_value_seed(Unique)?;
                if let Some(key) = keys.replace(key) {
                    let key = Printable(&key);
                    return Err(A::Error::custom(format!("the key \"{key}\" occurs twice in an object")));
                }
            }
            Ok(())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> std::result::Result<(), A::Error> {
            while access.next_element_seed(Unique)?.is_some() {}
            Ok(())
        }

        fn visit_bool<E>(self, _: bool) -> std::result::Result<(), E> {
            Ok(())
        }

        fn visit_i64<E>(self, _: i64) -> std::result::Result<(), E> {
            Ok(())
        }

        fn visit_u64<E>(self, _: u64) -> std::result::Result<(), E> {
            Ok(())
        }

        fn visit_f64<E>(self, _: f64) -> std::result::Result<(), E> {
            Ok(())
        }

        fn visit_str<E>(self, _: &str) -> std::result::Result<(), E> {
            Ok(())
        }

        fn visit_unit<E>(self) -> std::result::Result<(), E> {
            Ok(())
        }
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Unique.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// What a text is that should have been JSON: something well known, or else `otherwise`.
pub(crate) fn not_json(text: &str, otherwise: impl FnOnce() -> Error) -> Error {
    if text.trim_start().starts_with(['{', '[']) {
        return otherwise();
    }
    by_bytes(text.as_bytes()).map(Container::refusal).unwrap_or_else(otherwise)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes_for_numbers_that_json_has_not_is_read_and_written() {
        let text = "{\n  \"a\": [\n    -Infinity,\n    1.5\n  ],\n  \"NaN\": \"Infinity \\\" NaN\",\n  \"c\": NaN\n}\n";
        let object = read_object(text).unwrap();
        assert_eq!(object["NaN"], "Infinity \" NaN");
        assert!(object["c"].is_string() && object["a"][0].is_string());
        assert_eq!(to_text(&object).unwrap(), text);
        assert!(read_object("{\"a\": nan}").is_err() && read_object("{\"a\": NaNs}").is_err());
    }

    #[test]
    fn a_key_that_occurs_twice_is_refused_however_it_is_written() {
        for text in [r#"{"a": 1, "a": 1}"#, r#"{"ae": 1, "a\u0065": 1}"#, r#"{"x": [{"b": 1, "b": 2}]}"#] {
            let error = read_object(text).unwrap_err().to_string();
            assert!(error.contains("occurs twice"), "{text}: {error}");
        }
        assert!(read_object(r#"{"a": {"b": 1}, "b": 1}"#).is_ok());
    }
}
