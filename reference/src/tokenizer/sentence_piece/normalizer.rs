//! From a text to what is cut into pieces: characters mapped, spaces merged and written `▁`.
//!
//! Source: sentencepiece 0.2.3, `normalizer.cc`, `Normalizer::Normalize`.

use super::charsmap::Charsmap;
use super::model::NormalizerSpec;
use super::trie::Trie;

/// How pieces spell a space.
pub(super) const SPACE_SYMBOL: &str = "▁";

/// A normalizer.
#[derive(Debug)]
pub(super) struct Normalizer {
    charsmap: Option<Charsmap>,
    /// The user-defined pieces, which are left as they are; none if there are none.
    kept: Option<Trie>,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    treat_whitespace_as_suffix: bool,
    /// How a space is written.
    space: &'static str,
}

impl Normalizer {
    /// # Errors
    /// What is wrong with the map of characters.
    pub(super) fn new(
        spec: &NormalizerSpec,
        kept: Option<Trie>,
        treat_whitespace_as_suffix: bool,
    ) -> Result<Normalizer, String> {
        let blob = spec.precompiled_charsmap();
        Ok(Normalizer {
            charsmap: if blob.is_empty() { None } else { Some(Charsmap::new(blob)?) },
            kept,
            add_dummy_prefix: spec.add_dummy_prefix(),
            remove_extra_whitespaces: spec.remove_extra_whitespaces(),
            treat_whitespace_as_suffix,
            space: if spec.escape_whitespaces() { SPACE_SYMBOL } else { " " },
        })
    }

    /// What is cut into pieces.
    pub(super) fn normalize(&self, text: &str) -> String {
        let mut rest = text;
        while self.remove_extra_whitespaces && !rest.is_empty() {
            let (length, prefix) = self.prefix(rest);
            if prefix != " " {
                break;
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        if rest.is_empty() {
            return String::new();
        }

        let mut normalized = String::with_capacity(rest.len() * 5 / 4 + 8);
        if self.add_dummy_prefix && !self.treat_whitespace_as_suffix {
            normalized.push_str(self.space);
        }
        let mut after_space = self.remove_extra_whitespaces;
        while !rest.is_empty() {
            let (plain, behind) = rest.split_at_checked(self.plain(rest)).unwrap_or(("", rest));
            if !plain.is_empty() {
                normalized.push_str(plain);
                (rest, after_space) = (behind, false);
                continue;
            }
            let (length, mut prefix) = self.prefix(rest);
            rest = rest.get(length..).unwrap_or_default();
            if after_space {
                prefix = prefix.trim_start_matches(' ');
            }
            if !prefix.is_empty() {
                self.push(&mut normalized, prefix);
                after_space = self.remove_extra_whitespaces && prefix.ends_with(' ');
            }
        }
        if self.remove_extra_whitespaces {
            normalized.truncate(normalized.trim_end_matches(self.space).len());
        }
        if self.add_dummy_prefix && self.treat_whitespace_as_suffix {
            normalized.push_str(self.space);
        }
        normalized
    }

    /// How many bytes at the beginning of a text stand for themselves and are no spaces; at least as many as this do.
    fn plain(&self, text: &str) -> usize {
        match (&self.kept, &self.charsmap) {
            (Some(_), _) => 0,
            (None, Some(charsmap)) => charsmap.plain_prefix(text.as_bytes()),
            (None, None) => text.find(' ').unwrap_or(text.len()),
        }
    }

    /// Appends a text whose spaces are not written yet.
    fn push(&self, normalized: &mut String, text: &str) {
        let mut words = text.split(' ');
        normalized.push_str(words.next().unwrap_or_default());
        for word in words {
            normalized.push_str(self.space);
            normalized.push_str(word);
        }
    }

    /// How many bytes at the beginning of a text, at least one character, are normalized together, and to what.
    fn prefix<'t>(&'t self, text: &'t str) -> (usize, &'t str) {
        if let Some(kept) = &self.kept
            && let Some((kept, length)) =
                kept.longest(text.as_bytes()).and_then(|n| Some((text.get(..n)?, n)))
        {
            return (length, kept);
        }
        if let Some(charsmap) = &self.charsmap
            && let Some(mapped) = charsmap.longest(text)
        {
            return mapped;
        }
        let character = text.chars().next().map_or(0, char::len_utf8);
        (character, text.get(..character).unwrap_or_default())
    }
}
