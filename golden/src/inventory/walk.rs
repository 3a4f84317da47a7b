//! The files of a folder and of the folders in it, within bounds: links out of it are never followed, nor links to folders.

use std::collections::VecDeque;
use std::fs::{self, DirEntry, FileType};
use std::path::{Path, PathBuf};

use deberta_converters::confinement::require_inside;
use deberta_converters::format::Format;

/// The deepest folder that is looked into, the model's own being 0.
const DEEPEST: usize = 8;

/// The most entries that are looked at.
const MOST: usize = 200_000;

/// Something in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its path relative to the folder, with `/` between folders, as people read it.
    pub(super) name: String,
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it is.
    pub(super) what: What,
}

/// What an entry of a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A file that can be looked at.
    File,
    /// A folder of a tool, which nobody takes a model from: `.git`, `__pycache__`.
    Hidden,
    /// Something that is not looked at, and why.
    Not(String),
}

/// Everything in `root`, folder by folder, each in the order of names; and whether that is all of it.
pub(super) fn walk(root: &Path) -> (Vec<Seen>, bool) {
    let mut seen = Vec::new();
    let mut folders = VecDeque::from([(String::new(), root.to_owned(), 0)]);
    let mut left = MOST;
    while let Some((prefix, folder, depth)) = folders.pop_front() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let what = What::Not(format!("a folder that cannot be read: {error}"));
                seen.push(Seen { name: prefix, path: folder, what });
                continue;
            }
        };
        let mut entries: Vec<DirEntry> = entries.flatten().take(left).collect();
        left -= entries.len();
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let what = match entry.file_type() {
                Ok(kind) if kind.is_dir() && is_hidden(&name) => What::Hidden,
                Ok(kind) if kind.is_dir() && depth < DEEPEST => {
                    folders.push_back((format!("{name}/"), path, depth + 1));
                    continue;
                }
                Ok(kind) if kind.is_dir() => What::Not(format!("a folder more than {DEEPEST} folders deep")),
                Ok(kind) if kind.is_file() => What::File,
                Ok(kind) if kind.is_symlink() => link(root, &name, &path),
                Ok(kind) => What::Not(format!("a {}, not a file", special(kind))),
                Err(error) => What::Not(format!("cannot be looked at: {error}")),
            };
            seen.push(Seen { name, path, what });
        }
        if left == 0 {
            return (seen, false);
        }
    }
    (seen, true)
}

/// What it is that is neither file nor folder nor link.
#[cfg(unix)]
fn special(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    match kind {
        _ if kind.is_fifo() => "pipe",
        _ if kind.is_socket() => "socket",
        _ => "device",
    }
}

/// What it is that is neither file nor folder nor link: these are in no folder of Windows.
#[cfg(not(unix))]
fn special(_kind: FileType) -> &'static str {
    "device"
}

/// Whether a folder is a tool's by its name.
fn is_hidden(name: &str) -> bool {
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    name.starts_with('.') || name == "__pycache__"
}

/// A link is followed to a file in the folder, or in the cache of the hub that the folder is a snapshot of. The weights
/// that transformers would load are taken wherever the link leads: whoever verifies the folder named it.
fn link(root: &Path, name: &str, path: &Path) -> What {
    let usual = Format::ALL.into_iter().any(|format| format.places().iter().any(|place| place == name));
    match fs::metadata(path) {
        Err(error) => What::Not(format!("a link that cannot be followed: {error}")),
        Ok(target) if target.is_dir() => What::Not("a link to a folder, which is not followed".to_owned()),
        Ok(target) if !target.is_file() => What::Not("a link to something that is no file".to_owned()),
        Ok(_) if usual || require_inside(root, path).is_ok() => What::File,
        Ok(_) => What::Not("a link out of the model's folder, which is not followed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_do_not_lead_out_or_in_circles() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("model");
        fs::create_dir_all(root.join("a/b")).unwrap();
        for file in ["secret", "model/x", "model/a/y", "model/.git"] {
            fs::write(outer.path().join(file), "").unwrap();
        }
        for (link, target) in [("a/up", ".."), ("out", "../secret"), ("in", "a/y"), ("gone", "nowhere")] {
            symlink(target, root.join(link)).unwrap();
        }
        symlink("loop", root.join("loop")).unwrap();
        let (seen, whole) = walk(&root);
        let files: Vec<&str> =
            seen.iter().filter(|seen| seen.what == What::File).map(|seen| seen.name.as_str()).collect();
        assert_eq!(files, [".git", "in", "x", "a/y"]);
        assert!(whole && seen.len() == 8, "{seen:?}");
    }
}
