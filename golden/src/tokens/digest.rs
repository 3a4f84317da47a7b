//! The tokenizer digest: the same for all files that make the same tokens of every text.
//!
//! It is BLAKE3 over the lines of the [meaning](deberta_reference::Meaning); `docs/formats/digest.md` describes them.

use std::path::Path;

use deberta_converters::error::Result;
use deberta_reference::Meaning;

use super::files::Kept;

/// The digest of the tokenizer in a folder; nothing if its slow files and tokenizer.json are not one tokenizer, or if there is
/// none.
///
/// # Errors
/// A file that is missing or malformed.
pub fn digest_of_folder(folder: &Path) -> Result<Option<String>> {
    let kinds = Kept::ALL.into_iter().filter(|kept| !kept.files(folder).is_empty());
    let mut digests =
        kinds.map(|kept| Ok(digest(&kept.fast(folder)?.meaning()))).collect::<Result<Vec<_>>>()?;
    digests.dedup();
    Ok(digests.pop().filter(|_| digests.is_empty()))
}

/// The digest of a tokenizer, 64 hexadecimal digits.
pub fn digest(meaning: &Meaning) -> String {
    let mut hasher = blake3::Hasher::new();
    for line in meaning.lines() {
        hasher.update(line.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use deberta_reference::AddedToken;

    /// Pins the definition: goldens hold digests.
    #[test]
    fn a_digest_stays_what_it_is() {
        let meaning = Meaning {
            tokens: vec![(0, "[CLS]".into()), (1, "▁a\"\u{1}".into())],
            scores: Some(vec![0.0, -1.5]),
            merges: None,
            added: vec![(0, AddedToken::new("[CLS]", true))],
            normalizer: vec![r#"{"type":"Lowercase"}"#.into()],
            pre_tokenizer: Vec::new(),
            templates: ["0:0 A:0".into(), "0:0 A:0 B:1".into()],
            options: vec![("cls_token".into(), "0".into())],
        };
        let lines: String = meaning.lines().collect();
        assert_eq!(
            lines,
            concat!(
                "deberta-tokenizer-1\n",
                "token [0,\"[CLS]\",\"00000000\"]\n",
                "token [1,\"▁a\\\"\\u0001\",\"bfc00000\"]\n",
                "added [0,\"[CLS]\",[false,false,false,false,true]]\n",
                "normalize {\"type\":\"Lowercase\"}\n",
                "template \"0:0 A:0\"\n",
                "template \"0:0 A:0 B:1\"\n",
                "option [\"cls_token\",\"0\"]\n",
            )
        );
        assert_eq!(digest(&meaning), blake3::hash(lines.as_bytes()).to_hex().to_string());
    }
}
