//! The vocabulary: vocab.json and merges.txt.
//!
//! Source: transformers 4.57.6, `tokenization_deberta.py`, `DebertaTokenizer.__init__` and `save_vocabulary`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::added_tokens::is_python_space;
use crate::error::{Error, Result};

/// A line of merges.txt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MergeLine {
    pub(crate) left: String,
    pub(crate) right: String,
    /// 0 for the second line of the file, and so on.
    pub(crate) rank: u32,
}

impl MergeLine {
    /// The number of the line, from 1.
    pub(crate) fn line(&self) -> u32 {
        self.rank.saturating_add(2)
    }
}

/// A fault in a tokenizer file; `place` is a line or a key, or empty.
pub(crate) fn fault(file: &Path, place: impl Into<String>, problem: impl ToString) -> Error {
    Error::TokenizerFile { file: file.to_path_buf(), place: place.into(), problem: problem.to_string() }
}

/// Reads a text file.
pub(crate) fn read(file: &Path) -> Result<String> {
    let bytes = std::fs::read(file).map_err(|error| fault(file, "", error))?;
    String::from_utf8(bytes)
        .map_err(|error| fault(file, format!("byte {}", error.utf8_error().valid_up_to()), "not UTF-8"))
}

/// Reads a file that holds a JSON object.
pub(crate) fn read_object(file: &Path) -> Result<Map<String, Value>> {
    let text = read(file)?;
    serde_json::from_str(&text).map_err(|error| json_fault(file, error))
}

/// A fault in a JSON file; the message ends with its place.
pub(crate) fn json_fault(file: &Path, error: impl ToString) -> Error {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((message, place)) => fault(file, format!("line {place}"), message),
        None => fault(file, "", message),
    }
}

/// Reads a JSON object of tokens and ids, in its order.
pub(crate) fn read_ids(file: &Path) -> Result<Vec<(String, u32)>> {
    let id = |(token, value): (String, Value)| match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok((token, id)),
        None => Err(fault(
            file,
            format!("{token:?}"),
            format!("{value} is not an id, an integer from 0 to {}", u32::MAX),
        )),
    };
    read_object(file)?.into_iter().map(id).collect()
}

/// Reads merges.txt without its first and its last line, as transformers does: the first is a version, the last
/// is empty.
pub(crate) fn read_merges(file: &Path) -> Result<Vec<MergeLine>> {
    let text = read(file)?.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.split('\n').collect();
    let lines = lines.get(1..lines.len().saturating_sub(1)).unwrap_or_default();
    let mut merges = Vec::with_capacity(lines.len());
    for (rank, line) in (0..).zip(lines) {
        let mut symbols = line.split(is_python_space).filter(|symbol| !symbol.is_empty());
        match (symbols.next(), symbols.next(), symbols.next()) {
            (None, ..) => {}
            (Some(left), Some(right), None) => {
                merges.push(MergeLine { left: left.into(), right: right.into(), rank });
            }
            _ => {
                let problem = format!("{line:?} is not a merge, two symbols with a space between");
                return Err(fault(file, format!("line {}", rank + 2), problem));
            }
        }
    }
    Ok(merges)
}

/// Writes vocab.json and merges.txt into a folder, as `save_vocabulary` does: tokens in order of their characters,
/// two spaces before each. Gives the two paths.
pub(crate) fn save(
    folder: &Path,
    prefix: Option<&str>,
    vocabulary: impl Iterator<Item = (String, u32)>,
    merges: &[MergeLine],
) -> Result<(PathBuf, PathBuf)> {
    let name = |name: &str| folder.join(prefix.map_or(name.to_string(), |prefix| format!("{prefix}-{name}")));
    let mut sorted: Vec<(String, Value)> = vocabulary.map(|(token, id)| (token, Value::from(id))).collect();
    sorted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let vocabulary: Map<String, Value> = sorted.into_iter().collect();

    let vocab_file = name("vocab.json");
    let text = serde_json::to_string_pretty(&vocabulary).map_err(|error| fault(&vocab_file, "", error))?;
    std::fs::write(&vocab_file, text + "\n").map_err(|error| fault(&vocab_file, "", error))?;

    let merges_file = name("merges.txt");
    let lines: String = merges.iter().map(|merge| format!("{} {}\n", merge.left, merge.right)).collect();
    std::fs::write(&merges_file, format!("#version: 0.2\n{lines}"))
        .map_err(|error| fault(&merges_file, "", error))?;
    Ok((vocab_file, merges_file))
}
