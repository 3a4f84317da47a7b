//! Where the output of a conversion goes, and which `config.json` it gets.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::companions;
use crate::confinement::require_inside;
use crate::error::{Error, Kind, Result};
use crate::format::Format;
use crate::json::{read_object, read_text};
use crate::mapped::Mapped;
use crate::output::{self, exists, refuse_as_weights};
use crate::request::{Companion, Content};

/// Where the output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The folder that the file is in.
    pub folder: PathBuf,
    /// The weight file.
    pub file: PathBuf,
    /// Whether a folder was asked for, which gets `config.json` too.
    pub is_folder: bool,
}

impl Destination {
    /// The conventional name in a folder.
    pub fn in_folder(folder: &Path, to: Format) -> Destination {
        Destination { folder: folder.to_owned(), file: folder.join(to.file_name()), is_folder: true }
    }

    /// What a user names: a file, or a folder (existing, ending in `/`, or without an extension) that gets the
    /// conventional name.
    ///
    /// # Errors
    /// A path without a last component.
    pub fn named(path: &Path, to: Format) -> Result<Destination> {
        let is_folder_by_name = || path.extension().is_none() && path.file_name().is_some() && !path.exists();
        if path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/') || is_folder_by_name() {
            return Ok(Destination::in_folder(path, to));
        }
        if path.file_name().is_none() {
            return Err(Error::new(Kind::Request, "names no file").in_file(path));
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Destination { folder, file: path.to_owned(), is_folder: false })
    }

    /// Checks, before any work is done, that the file is not there, unless it is to be replaced, and then that it can be. What a run
    /// left that was killed is carried on or removed.
    ///
    /// # Errors
    /// The file exists; a folder, link, device or pipe does.
    pub fn refuse_existing(&self, replace: bool) -> Result<()> {
        output::clear(&self.folder)?;
        refuse_as_weights(&self.file)?;
        if self.file.exists() && !replace { Err(exists(&self.file)) } else { Ok(()) }
    }

    /// The `config.json` that goes with the weights into a folder; nothing if they do not go into a folder, or if it is there.
    /// `text` is what it should say. One that says `kept`, the text of the input's own file, is left alone, with a note.
    ///
    /// # Errors
    /// Another `config.json` is there, and not to be replaced.
    pub fn companions(
        &self,
        text: &str,
        kept: Option<&str>,
        replace: bool,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Companion>> {
        let path = self.folder.join("config.json");
        let parse = |text: &str| read_object(text).ok();
        match read_text(&path) {
            _ if !self.is_folder => Ok(Vec::new()),
            Ok(existing)
                if existing == text || parse(&existing).is_some_and(|map| parse(text) == Some(map)) =>
            {
                Ok(Vec::new())
            }
            Ok(existing) if !replace && kept == Some(existing.as_str()) => {
                notes.push(format!(
                    "{} is left as it is, although the output calls for changes in it",
                    path.display()
                ));
                Ok(Vec::new())
            }
            Ok(_) if !replace => {
                let why = "differs from the configuration of the output: write to another folder with -o, or replace it \
                           with --force";
                Err(Error::new(Kind::Request, why).in_file(&path))
            }
            _ => Ok(vec![Companion { path, content: Content::Text(text.to_owned()) }]),
        }
    }

    /// The files of the tokenizer, and the settings beside the configuration, that go with the weights into another folder
    /// than `from`. What cannot be taken along is told in `notes`.
    ///
    /// # Errors
    /// Another file of such a name is there, and not to be replaced.
    pub fn taken_along(&self, from: &Path, replace: bool, notes: &mut Vec<String>) -> Result<Vec<Companion>> {
        let real = |path: &Path| {
            fs::canonicalize(if path.as_os_str().is_empty() { Path::new(".") } else { path }).ok()
        };
        // An export is in a folder of the model's.
        let above = from.parent().filter(|_| from.ends_with("onnx"));
        let is_elsewhere = |from: &Path| real(from).is_some() && real(from) != real(&self.folder);
        if !self.is_folder || !is_elsewhere(from) {
            return Ok(Vec::new());
        }
        let mut companions = Vec::new();
        for name in companions::taken_along() {
            let places = std::iter::once(from).chain(above).map(|folder| (folder, folder.join(name)));
            let Some((folder, source)) = places.into_iter().find(|(_, path)| path.is_file()) else {
                continue;
            };
            let content = match require_inside(folder, &source).and_then(|()| Mapped::open(&source)) {
                Ok(content) => content,
                Err(error) => {
                    notes.push(format!("not taken along: {error}"));
                    continue;
                }
            };
            let path = self.folder.join(name);
            match Mapped::open(&path) {
                Ok(existing) if existing[..] == content[..] => {}
                Ok(_) if !replace => {
                    let why = format!(
                        "differs from {}: write to another folder with -o, or replace it with --force",
                        source.display()
                    );
                    return Err(Error::new(Kind::Request, why).in_file(&path));
                }
                _ => companions.push(Companion { path, content: Content::CopyOf(Arc::new(content)) }),
            }
        }
        Ok(companions)
    }

    /// Does `work` with the folder in existence, and takes away again what was created for it if the work fails.
    ///
    /// # Errors
    /// A folder that cannot be made; an error of `work`.
    pub fn with_folder<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let folder = self.folder.as_path();
        let absent: Vec<&Path> =
            folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
        fs::create_dir_all(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
            .map_err(|error| Error::io(folder, "create", error))?;
        work().inspect_err(|_| {
            for path in &absent {
                let _ = fs::remove_dir(path);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_made_for_a_failed_run_go_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        let output = Destination::in_folder(&folder, Format::Onnx);
        let failed: Result<()> = output.with_folder(|| Err(Error::malformed("x")));
        assert!(failed.is_err() && !root.path().join("a").exists());
        output.with_folder(|| Ok(())).unwrap();
        assert!(folder.exists());
    }
}
