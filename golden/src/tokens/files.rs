//! Which files a tokenizer is read from, and where they are.

use std::path::{Path, PathBuf};

use deberta_converters::confinement::require_tokenizer_inside;
use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{FastTokenizer, Tokenizer};

/// The two kinds of files that a tokenizer is read from, and the classes of transformers that read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// vocab.json and merges.txt, or spm.model: for the slow class, and converted for the fast one.
    Slow,
    /// tokenizer.json: for the fast class.
    Fast,
}

/// The files of a tokenizer: what each kind is read from, then what surrounds both.
const SLOW: [&str; 3] = ["vocab.json", "merges.txt", "spm.model"];
const FAST: [&str; 1] = ["tokenizer.json"];
const AROUND: [&str; 3] = ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

impl Kept {
    /// Both, the slow files first.
    pub const ALL: [Kept; 2] = [Kept::Slow, Kept::Fast];

    /// The files of this kind in a folder, and what surrounds them; nothing if there are none of the kind.
    pub fn files(self, folder: &Path) -> Vec<&'static str> {
        let own = self.own_files(folder);
        let around = AROUND.into_iter().filter(|name| !own.is_empty() && folder.join(name).is_file());
        own.iter().copied().chain(around).collect()
    }

    /// The files of this kind alone that are in a folder.
    pub fn own_files(self, folder: &Path) -> Vec<&'static str> {
        let of_kind: &[&str] = if self == Kept::Slow { &SLOW } else { &FAST };
        of_kind.iter().copied().filter(|name| folder.join(name).is_file()).collect()
    }

    /// The fast class made of the files of this kind: what the slow files are converted to, or what tokenizer.json holds.
    ///
    /// # Errors
    /// A file that is missing or malformed.
    pub fn fast(self, folder: &Path) -> Result<Box<FastTokenizer>> {
        require_tokenizer_inside(folder)?;
        let read = match self {
            Kept::Slow => Tokenizer::fast_from_vocabulary(folder),
            Kept::Fast => Tokenizer::fast_from_pretrained(folder),
        };
        read.map_err(|error| unreadable(&error))
    }

    /// The class of transformers that reads the files of a folder.
    pub fn class(self, folder: &Path) -> &'static str {
        match (self, Tokenizer::model_type(folder)) {
            (Kept::Slow, "deberta") => "DebertaTokenizer",
            (Kept::Slow, _) => "DebertaV2Tokenizer",
            (Kept::Fast, "deberta") => "DebertaTokenizerFast",
            (Kept::Fast, _) => "DebertaV2TokenizerFast",
        }
    }
}

/// The tokenizer of a folder, of the slow class or the fast one.
///
/// # Errors
/// A file that is missing or malformed.
pub fn open(folder: &Path, slow: bool) -> Result<Tokenizer> {
    require_tokenizer_inside(folder)?;
    let read = if slow {
        Tokenizer::slow_from_pretrained(folder).map(Tokenizer::Slow)
    } else {
        Tokenizer::fast_from_pretrained(folder).map(Tokenizer::Fast)
    };
    read.map_err(|error| unreadable(&error))
}

/// The folder of the tokenizer of a model, which is named by its folder or a file in it: that of the weights, or, if those
/// are in `onnx` and no tokenizer is, the one above.
pub fn folder_of(model: &Path) -> PathBuf {
    let in_folder = || model.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let beside = if model.is_dir() { model } else { in_folder() };
    let above = beside.parent().filter(|_| beside.ends_with("onnx") && vocabulary(beside).is_none());
    above.unwrap_or(beside).to_owned()
}

/// The file that a folder's tokenizer is read from, by which the version is told; nothing if there is none.
pub fn vocabulary(folder: &Path) -> Option<&'static str> {
    ["vocab.json", "spm.model", "tokenizer.json"].into_iter().find(|name| folder.join(name).exists())
}

fn unreadable(error: &deberta_reference::Error) -> Error {
    Error::new(Kind::Model, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use deberta_converters::companions::TOKENIZER;

    use super::*;

    #[test]
    fn every_file_of_a_tokenizer_is_of_a_kind() {
        let kinds: BTreeSet<&str> = [&SLOW[..], &FAST, &AROUND].concat().into_iter().collect();
        assert_eq!(kinds, BTreeSet::from(TOKENIZER));
    }
}
