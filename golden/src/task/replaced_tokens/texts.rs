//! Texts of which some tokens were replaced: the replaced text beside the original one, or replacements that are drawn.

use std::path::PathBuf;

use deberta_converters::error::Result;
use deberta_converters::recipe::Stream;
use deberta_reference::{FastTokenizer, PreTrainedTokenizerBase};
use serde::Deserialize;

use crate::task::data::{Line, Table, read_all};
use crate::task::model::{Pieces, Texts};

/// A text, and what became of it.
pub(super) struct Text {
    pub(super) place: String,
    original: String,
    /// The text with other words in it; where absent, tokens are drawn.
    replaced: Option<String>,
}

/// A line of JSON.
#[derive(Deserialize)]
struct Record {
    original: String,
    replaced: String,
}

/// How many of a text's tokens are replaced where they are drawn: as many as masked language models are trained with.
const RATE: f32 = 0.15;

/// Reads files, of each as many examples as `limit` says: lines of JSON, tables, or a text a line.
pub(super) fn read(files: &[PathBuf], limit: Option<usize>) -> Result<Vec<Text>> {
    read_all(files, limit, |file, limit| {
        if file.looks_like_json() {
            let of_line = |line: Line<'_>| {
                let Record { original, replaced } = line.json()?;
                pair(line, &original, &replaced)
            };
            return file.texts().take(limit).map(of_line).collect();
        }
        if file.lines().next().is_some_and(|line| line.text.contains('\t')) {
            let table = Table::open(file, &["original", "replaced"])?;
            let of_row = |row: Result<crate::task::data::Row<'_, '_>>| {
                let row = row?;
                pair(row.line, row.get("original"), row.get("replaced"))
            };
            return table.rows().take(limit).map(of_row).collect();
        }
        let text =
            |line: Line<'_>| Text { place: line.place(), original: line.text.to_owned(), replaced: None };
        Ok(file.texts().take(limit).map(text).collect())
    })
}

fn pair(line: Line<'_>, original: &str, replaced: &str) -> Result<Text> {
    let [words, others] = [original, replaced].map(|text| text.split_whitespace().count());
    if words != others || words == 0 {
        let message = format!("original has {words} words, replaced {others}: a word is replaced by a word");
        return Err(line.error(&message));
    }
    let (original, replaced) = (original.to_owned(), Some(replaced.to_owned()));
    Ok(Text { place: line.place(), original, replaced })
}

impl Text {
    /// The tokens of the text, and which of them were replaced. `drawn` gives those that are drawn.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub(super) fn tokens(&self, texts: &Texts, drawn: &mut Drawn) -> Result<(Vec<u32>, Vec<bool>)> {
        let original = texts.pieces(&self.original)?;
        let Some(text) = &self.replaced else { return Ok(drawn.replace(original.0)) };
        let replaced = texts.pieces(text)?;
        let flags = differences(&self.original, &original, text, &replaced);
        Ok((replaced.0, flags))
    }
}

/// Which tokens of a text stand for others than in the original, word by word: those that differ where both words have as
/// many tokens, all of the word where they have not.
fn differences(original: &str, of_original: &Pieces, replaced: &str, of_replaced: &Pieces) -> Vec<bool> {
    let (before, after) = (by_word(original, of_original), by_word(replaced, of_replaced));
    let mut flags = Vec::with_capacity(of_replaced.0.len());
    let none = Vec::new();
    for (word, tokens) in after.iter().enumerate() {
        let known = before.get(word).unwrap_or(&none);
        let alike = known.len() == tokens.len();
        flags.extend(tokens.iter().enumerate().map(|(at, token)| !alike || known.get(at) != Some(token)));
    }
    flags
}

/// The tokens of every word. A token belongs to the word that its last character is in, since pieces of versions 2 and 3
/// have the space before a word: "▁Selby".
fn by_word(text: &str, (ids, offsets): &Pieces) -> Vec<Vec<u32>> {
    let mut ends = Vec::new();
    let mut inside = false;
    let mut length = 0;
    for (at, character) in text.chars().enumerate() {
        if inside && character.is_whitespace() {
            ends.push(at);
        }
        inside = !character.is_whitespace();
        length = at + 1;
    }
    if inside {
        ends.push(length);
    }
    let mut words = vec![Vec::new(); ends.len()];
    let mut word = 0;
    for (&id, &(_, end)) in ids.iter().zip(offsets) {
        // Tokens stand in their order, whatever normalization does to their places.
        let found = ends.partition_point(|&last| last < end).min(ends.len().saturating_sub(1));
        word = found.max(word);
        if let Some(tokens) = words.get_mut(word) {
            tokens.push(id);
        }
    }
    words
}

/// Replacements from the vocabulary.
pub(super) struct Drawn {
    stream: Stream,
    vocabulary: Vec<u32>,
    at: u64,
}

impl Drawn {
    /// Draws by a seed from all tokens that are not special.
    pub(super) fn new(seed: u64, tokenizer: &FastTokenizer) -> Drawn {
        let every: Vec<u32> = (0..).take(tokenizer.len()).collect();
        let special = tokenizer.get_special_tokens_mask(&every);
        let names = tokenizer.convert_ids_to_tokens(&every, false);
        let known = every.into_iter().zip(special).zip(names);
        let vocabulary = known.filter(|((_, special), name)| *special == 0 && name.is_some());
        Drawn {
            stream: Stream::new(seed, "replaced tokens"),
            vocabulary: vocabulary.map(|((id, _), _)| id).collect(),
            at: 0,
        }
    }

    /// Replaces every token by another one with the probability [`RATE`]: two random numbers a token, of which the first
    /// decides whether, the second by which.
    fn replace(&mut self, mut ids: Vec<u32>) -> (Vec<u32>, Vec<bool>) {
        let flags = ids.iter_mut().map(|id| {
            let (whether, which) = (self.stream.uniform(self.at), self.stream.word(self.at + 1));
            self.at += 2;
            let others = self.vocabulary.len() as u64;
            let at = which.checked_rem(others).and_then(|at| usize::try_from(at).ok());
            let other = at.and_then(|at| self.vocabulary.get(at)).copied();
            match other.filter(|other| whether < RATE && other != id) {
                Some(other) => {
                    *id = other;
                    true
                }
                None => false,
            }
        });
        let flags = flags.collect();
        (ids, flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_word_by_word() {
        // "▁Ada" "▁lives" "▁in" "▁Sel" "by", and two other towns of two and of one token.
        let original = (vec![1, 2, 3, 4, 5], vec![(0, 3), (3, 9), (9, 12), (12, 16), (16, 18)]);
        let alike = (vec![1, 2, 3, 6, 5], vec![(0, 3), (3, 9), (9, 12), (12, 16), (16, 18)]);
        let flags =
            |replaced: &str, pieces: &Pieces| differences("Ada lives in Selby", &original, replaced, pieces);
        assert_eq!(flags("Ada lives in Kelby", &alike), [false, false, false, true, false]);
        let shorter = (vec![1, 2, 3, 7], vec![(0, 3), (3, 9), (9, 12), (12, 18)]);
        assert_eq!(flags("Ada lives in Upton", &shorter), [false, false, false, true]);
    }
}
