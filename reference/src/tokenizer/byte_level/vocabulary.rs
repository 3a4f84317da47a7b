//! The vocabulary of byte-level byte-pair encoding: vocab.json and merges.txt.
//!
//! Source: transformers 4.57.6, `tokenization_deberta.py`, `DebertaTokenizer.__init__` and `save_vocabulary`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::Result;
use crate::tokenizer::added_tokens::is_python_space;
use crate::tokenizer::files::{fault, read};

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
