//! What names a model in the hub, and which of its states.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind, Result};

/// The id of a model: `name` or `owner/name`, by the hub's rules (`validate_repo_id` of huggingface_hub).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelId(String);

impl ModelId {
    /// The id without its owner.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// The id as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ModelId {
    type Err = Error;

    fn from_str(text: &str) -> Result<ModelId> {
        let wrong = |why: &str| Err(Error::new(Kind::Request, format!("not a hub id: {why}")));
        if text.split('/').count() > 2 {
            return wrong("it has more than the two parts of owner/name");
        }
        if text.len() > 96 {
            return wrong("it is longer than 96 characters");
        }
        for part in text.split('/') {
            if part.is_empty() {
                return wrong("a part of it is empty");
            }
            if !part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
                return wrong("only letters, digits, -, _ and . are allowed");
            }
            if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
                return wrong("a part of it starts or ends with - or .");
            }
        }
        if text.contains("--") || text.contains("..") {
            return wrong("-- and .. are not allowed");
        }
        if text.ends_with(".git") {
            return wrong("it ends in .git");
        }
        Ok(ModelId(text.to_owned()))
    }
}

/// A state of a model's repository: a branch, a tag, a pull request (`refs/pr/1`) or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(String);

impl Revision {
    /// Whether this is a full commit, which never changes.
    pub fn is_commit(&self) -> bool {
        is_commit(&self.0)
    }

    /// The revision as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Revision {
    /// The branch `main`.
    fn default() -> Revision {
        Revision("main".to_owned())
    }
}

impl FromStr for Revision {
    type Err = Error;

    /// The rules of git for names of references, as far as they keep a name from leaving a folder or a URL.
    fn from_str(text: &str) -> Result<Revision> {
        let part = |part: &str| !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with('.');
        let known = |c: char| c.is_ascii_alphanumeric() || "-_./+@=,#%".contains(c);
        let good = text.len() <= 200 && text.split('/').all(part) && text.chars().all(known);
        if !good || text.contains("..") {
            let why = format!("revision {text:?} is no name of a branch, tag or commit");
            return Err(Error::new(Kind::Request, why));
        }
        Ok(Revision(text.to_owned()))
    }
}

/// Whether `text` is a full commit: 40 hexadecimal digits.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_hub() {
        for id in ["gpt2", "microsoft/deberta-base", "a/b", "lsanochkin/deberta-large_v1.0", "0x/_x_"] {
            assert_eq!(id.parse::<ModelId>().unwrap().to_string(), id);
        }
        let wrong = [
            "", "/", "a/", "/a", "a/b/c", "..", "../a", "a/..", "a..b/c", "a--b/c", "-a/b", "a/b-", ".a",
            "a b", "a\\b", "a/b.git", "~/a", "a/b@main", "é", "a\0b",
        ];
        for id in wrong {
            assert!(id.parse::<ModelId>().is_err(), "{id:?}");
        }
        assert!(format!("a/{}", "b".repeat(95)).parse::<ModelId>().is_err());
        assert_eq!("microsoft/deberta-base".parse::<ModelId>().unwrap().name(), "deberta-base");
    }

    #[test]
    fn revisions_are_names_of_git() {
        for revision in ["main", "refs/pr/1", "v1.0", "0d1b43ccf21b5acd9f4e5f7b077fa698f05cf195", "fix/a_b"] {
            assert_eq!(revision.parse::<Revision>().unwrap().as_str(), revision);
        }
        for revision in ["", "..", "a/../b", "/etc", "a/", "a b", "a\\b", "-x", ".git", "a?b", "a\n", "a//b"]
        {
            assert!(revision.parse::<Revision>().is_err(), "{revision:?}");
        }
        assert!("0d1b43ccf21b5acd9f4e5f7b077fa698f05cf195".parse::<Revision>().unwrap().is_commit());
        assert!(!Revision::default().is_commit());
    }
}
