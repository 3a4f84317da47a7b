//! Words: how GPT-2's pattern cuts a text before byte-pair encoding.
//!
//! ```text
//! 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```
//!
//! The first alternative that matches wins, and some alternative matches everywhere, so the words are the text.

use super::unicode::{LETTERS, NUMBERS, SINCE_16};

/// What the pattern distinguishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`
    Space,
    /// `[^\s\p{L}\p{N}]`
    Other,
}

/// `'s|'t|'re|'ve|'m|'ll|'d`
const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// Whose letters and numbers there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unicode {
    /// Unicode 16.0
    V16,
    /// Unicode 18.0
    V18,
}

/// Cuts a text into words.
pub(crate) fn words(text: &str, unicode: Unicode) -> Words<'_> {
    Words { rest: text, unicode }
}

/// The words of a text, in order.
pub(crate) struct Words<'t> {
    rest: &'t str,
    unicode: Unicode,
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let (word, rest) = self.rest.split_at_checked(self.unicode.first_word(self.rest)?)?;
        self.rest = rest;
        Some(word)
    }
}

impl Unicode {
    /// The length in bytes of the first word; none if there is no text left.
    fn first_word(self, text: &str) -> Option<usize> {
        if text.starts_with('\'')
            && let Some(contraction) = CONTRACTIONS.iter().find(|c| text.starts_with(**c))
        {
            return Some(contraction.len());
        }
        // ` ?`: a word takes the space before it, if only one is left.
        let space = usize::from(text.starts_with(' '));
        let start = match text.get(space..).and_then(|text| self.class_at(text)) {
            Some((Class::Space, _)) | None => 0,
            Some(_) => space,
        };
        let (class, first) = self.class_at(text.get(start..)?)?;
        let (end, last) = self.run(text, start + first, class, first);
        // `\s+(?!\S)`: spaces before a word leave it the last one.
        if class == Class::Space && end < text.len() && end > last { Some(end - last) } else { Some(end) }
    }

    /// Where the run of one class that reaches `at` ends, and the length of its last character, `last` so far.
    fn run(self, text: &str, mut at: usize, class: Class, mut last: usize) -> (usize, usize) {
        while let Some((next, size)) = text.get(at..).and_then(|text| self.class_at(text))
            && next == class
        {
            at += size;
            last = size;
        }
        (at, last)
    }

    /// The class of the first character, and its length in bytes.
    fn class_at(self, text: &str) -> Option<(Class, usize)> {
        let byte = *text.as_bytes().first()?;
        if let Some(&class) = ASCII.get(usize::from(byte)) {
            return Some((class, 1));
        }
        let character = text.chars().next()?;
        Some((self.class_of(character), character.len_utf8()))
    }

    /// The class of a character outside ASCII.
    fn class_of(self, character: char) -> Class {
        if character.is_whitespace() {
            Class::Space
        } else if self == Unicode::V16 && contains(&SINCE_16, character) {
            Class::Other
        } else if contains(&LETTERS, character) {
            Class::Letter
        } else if contains(&NUMBERS, character) {
            Class::Number
        } else {
            Class::Other
        }
    }
}

/// Whether ascending ranges contain a character.
fn contains(ranges: &[(u32, u32)], character: char) -> bool {
    let code = u32::from(character);
    let after = ranges.partition_point(|&(first, _)| first <= code);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|&(_, last)| code <= last)
}

/// The classes of ASCII. `\s` is U+0009 to U+000D and the space, not U+001C to U+001F.
const ASCII: [Class; 128] = {
    let mut classes = [Class::Other; 128];
    let mut code = 0;
    while code < 128 {
        classes[code] = match code as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b'\t'..=b'\r' | b' ' => Class::Space,
            _ => Class::Other,
        };
        code += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        let words: Vec<&str> = words(text, Unicode::V18).collect();
        assert_eq!(words.concat(), text);
        words
    }

    #[test]
    fn words_take_one_space() {
        assert_eq!(cut("Hello world"), ["Hello", " world"]);
        assert_eq!(cut("a  b"), ["a", " ", " b"]);
        assert_eq!(cut("a \n b"), ["a", " \n", " b"]);
        assert_eq!(cut("a\nb"), ["a", "\n", "b"]);
        assert_eq!(cut("a\n\nb"), ["a", "\n", "\n", "b"]);
        assert_eq!(cut("a   "), ["a", "   "]);
        assert_eq!(cut(" "), [" "]);
        assert_eq!(cut(""), [""; 0]);
    }

    #[test]
    fn classes_do_not_mix() {
        assert_eq!(cut("x1 y22!? z"), ["x", "1", " y", "22", "!?", " z"]);
        assert_eq!(cut("é\u{301}½²"), ["é", "\u{301}", "½²"]);
        assert_eq!(cut("a\u{1c}b\u{85}c\u{3000}d"), ["a", "\u{1c}", "b", "\u{85}", "c", "\u{3000}", "d"]);
    }

    #[test]
    fn letters_are_those_of_a_version() {
        let text = "a\u{558}b";
        assert_eq!(words(text, Unicode::V18).collect::<Vec<_>>(), [text]);
        assert_eq!(words(text, Unicode::V16).collect::<Vec<_>>(), ["a", "\u{558}", "b"]);
    }

    #[test]
    fn contractions_are_lower_case_and_first() {
        assert_eq!(cut("we'll it's I'M 're"), ["we", "'ll", " it", "'s", " I", "'", "M", " '", "re"]);
        assert_eq!(cut("''s 'd"), ["''", "s", " '", "d"]);
        assert_eq!(cut("'session"), ["'s", "ession"]);
    }
}
