//! Lower case as Python 3.11 has it, which knows Unicode 14.0.
//!
//! Source: transformers 4.57.6, `tokenization_utils.py`, `PreTrainedTokenizer.tokenize`, where `do_lower_case` is set.

/// Characters that have been given a lower case since, by Unicode 16.0 and 17.0, as inclusive ranges.
const NEWER: [(char, char); 9] = [
    ('\u{1c89}', '\u{1c89}'),
    ('\u{a7cb}', '\u{a7cc}'),
    ('\u{a7ce}', '\u{a7ce}'),
    ('\u{a7d2}', '\u{a7d2}'),
    ('\u{a7d4}', '\u{a7d4}'),
    ('\u{a7da}', '\u{a7da}'),
    ('\u{a7dc}', '\u{a7dc}'),
    ('\u{10d50}', '\u{10d65}'),
    ('\u{16ea0}', '\u{16eb8}'),
];

fn is_newer(character: char) -> bool {
    !character.is_ascii() && NEWER.iter().any(|(first, last)| (*first..=*last).contains(&character))
}

/// `str.lower`
pub(super) fn lower(text: &str) -> String {
    let mut lower = String::with_capacity(text.len());
    for piece in text.split_inclusive(is_newer) {
        let newer = piece.chars().next_back().filter(|last| is_newer(*last));
        let known = piece.len() - newer.map_or(0, char::len_utf8);
        lower.push_str(&piece.get(..known).unwrap_or_default().to_lowercase());
        lower.extend(newer);
    }
    lower
}

/// Every character in lower case by itself, but for the texts in `kept`, the first of which that stands in a place is left
/// as it is.
///
/// `Σ` at the end of a word becomes `σ` so, not `ς`, which `str.lower` makes of it.
pub(super) fn lower_outside(text: &str, kept: &[String]) -> String {
    let mut lower = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let stands = |kept: &&String| !kept.is_empty() && rest.starts_with(kept.as_str());
        let length = if let Some(kept) = kept.iter().find(stands) {
            lower.push_str(kept);
            kept.len()
        } else {
            if is_newer(first) {
                lower.push(first);
            } else {
                lower.extend(first.to_lowercase());
            }
            first.len_utf8()
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_and_new_letters_stay() {
        let kept = ["[MASK]", "[M"].map(str::to_owned);
        assert_eq!(lower_outside("A[MASK]B [Mx ΣΑΣ\u{a7dc}İ", &kept), "a[MASK]b [Mx σασ\u{a7dc}i\u{307}");
        assert_eq!(lower("ΣΑΣ\u{a7dc}ÄΣ"), "σας\u{a7dc}äς");
        assert_eq!(lower(""), "");
    }
}
