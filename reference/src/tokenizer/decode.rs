//! Tokens to text, as far as it does not matter how they spell it.
//!
//! Source: transformers 4.57.6, `tokenization_utils.py`, `PreTrainedTokenizer._decode`, and
//! `tokenization_utils_base.py`, `PreTrainedTokenizerBase.clean_up_tokenization`.

use crate::error::Result;

/// A token that is to be decoded.
pub(super) struct Decoded<'t> {
    /// The token as the vocabulary spells it.
    pub(super) token: &'t str,
    /// Whether it is text already and stands between spaces, as an added token does that is not special. The others
    /// spell a text together with their neighbours.
    pub(super) stands_alone: bool,
}

/// The text of tokens; `spell` gives that of neighbours that spell it together.
///
/// For example `lo`, `wer`, `<x>`, `Ġa`, of which `<x>` stands alone, make `lower <x>  a`.
pub(super) fn join<'t>(
    tokens: impl Iterator<Item = Result<Decoded<'t>>>,
    spell: impl Fn(&[&str]) -> Result<String>,
) -> Result<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut neighbours: Vec<&str> = Vec::new();
    for decoded in tokens {
        let Decoded { token, stands_alone } = decoded?;
        if stands_alone {
            let text = spell(&std::mem::take(&mut neighbours))?;
            texts.extend(Some(text).filter(|text| !text.is_empty()));
            texts.push(token.to_string());
        } else {
            neighbours.push(token);
        }
    }
    if !neighbours.is_empty() {
        texts.push(spell(&neighbours)?);
    }
    Ok(texts.join(" "))
}

/// What `clean_up_tokenization_spaces` replaces, one after another.
const CLEAN_UP: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// Removes the space before punctuation and English contractions.
pub(crate) fn clean_up_tokenization(text: &str) -> String {
    CLEAN_UP.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}
