//! What a tokenizer may ask for. Its files come from strangers, and what they make of a text can be large and slow.

use std::path::Path;

use super::AddedToken;
use super::files::fault;
use crate::error::{Error, Result};

/// The largest file of a tokenizer other than spm.model, in bytes. That of mDeBERTa's 250,000 tokens has 16 million.
pub(crate) const LARGEST_FILE: u64 = 40 << 20;

/// The longest text, in bytes: one word of so many takes some 340 times as much memory.
pub const LONGEST_TEXT: usize = 1 << 20;

/// The most added tokens.
pub(crate) const MOST_ADDED: usize = 10_000;

/// The longest added token, in bytes.
const LONGEST_ADDED: usize = 4096;

/// The most entries of lists and objects in a file of JSON: each takes some hundred bytes of memory, and may be two in the file.
/// That of mDeBERTa's 250,000 tokens has half a million.
const MOST_ENTRIES: usize = 1_000_000;

/// Checks that a text of JSON does not have more entries than memory is soon full of.
pub(crate) fn check_entries(file: &Path, text: &str) -> Result<()> {
    let commas = text.bytes().filter(|&byte| byte == b',').count();
    if commas > MOST_ENTRIES {
        return Err(fault(file, "", format!("{commas} entries, at most {MOST_ENTRIES} are read")));
    }
    Ok(())
}

/// Checks that a file does not have more added tokens than an automaton is soon made of.
pub(crate) fn check_count(file: &Path, place: &str, count: usize) -> Result<()> {
    if count > MOST_ADDED {
        return Err(fault(file, place, format!("{count} added tokens, at most {MOST_ADDED} are read")));
    }
    Ok(())
}

/// Checks an added token.
pub(crate) fn check_added(file: &Path, place: &str, content: &str) -> Result<()> {
    if content.len() > LONGEST_ADDED {
        let problem = format!("a token of {} bytes, at most {LONGEST_ADDED} are read", content.len());
        return Err(fault(file, place, problem));
    }
    Ok(())
}

/// Checks tokens that a program adds.
pub(crate) fn check_tokens(tokens: &[AddedToken]) -> Result<()> {
    check_count(Path::new(""), "", tokens.len())?;
    tokens.iter().try_for_each(|token| check_added(Path::new(""), "", &token.content))
}

/// Checks that texts are not too long.
pub(crate) fn check_texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<()> {
    match texts.into_iter().map(str::len).max() {
        Some(length) if length > LONGEST_TEXT => Err(Error::Tokenizer(format!(
            "a text of {length} bytes, at most {LONGEST_TEXT} are encoded: cut it before"
        ))),
        _ => Ok(()),
    }
}
