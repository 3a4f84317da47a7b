//! What a user calls a model: a path, or else a hub id.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{ModelId, Revision, Wanted};
use crate::containers::by_name;
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;

/// Where a model is, and what there is to know of the files of its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The file or folder.
    pub path: PathBuf,
    /// Its files.
    pub listed: Listed,
}

/// Which files a model has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listed {
    /// Those in its folder.
    #[default]
    Folder,
    /// Those that the hub lists for the commit, most of which were not downloaded.
    Repository(BTreeSet<String>),
    /// The hub was not asked, or did not answer: the folder has what is in the cache.
    Unknown,
}

/// Turns what a user calls a model into a path, as [`resolve`], and tells which files the repository has.
///
/// # Errors
/// As [`resolve`].
pub fn locate(
    model: impl AsRef<Path>,
    revision: Option<&str>,
    wanted: &Wanted,
    progress: &dyn Progress,
) -> Result<Located> {
    let model = model.as_ref();
    let id = match hub_id(model)? {
        None => return Ok(Located { path: model.to_owned(), listed: Listed::Folder }),
        Some(id) => id,
    };
    let revision = revision.map(str::parse::<Revision>).transpose()?.unwrap_or_default();
    fetch(&id, &revision, wanted, progress).map_err(|error| match error.kind() {
        Kind::Hub => error.followed_by(" (and there is no file or folder of this name)"),
        _ => error,
    })
}

/// Turns what a user calls a model into a path: a file or folder is returned untouched, anything else is a hub id, of
/// which `wanted` is downloaded unless it is in the cache. `revision` is the hub's; `main` when not given.
///
/// # Errors
/// Neither a path nor a hub id; what `Hub::model` reports; any hub id, without the feature `hub`.
pub fn resolve(
    model: impl AsRef<Path>,
    revision: Option<&str>,
    wanted: &Wanted,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    locate(model, revision, wanted, progress).map(|located| located.path)
}

#[cfg(feature = "hub")]
fn fetch(id: &ModelId, revision: &Revision, wanted: &Wanted, progress: &dyn Progress) -> Result<Located> {
    super::Hub::from_env()?.model(id, revision, wanted, progress)
}

#[cfg(not(feature = "hub"))]
fn fetch(id: &ModelId, _: &Revision, _: &Wanted, _: &dyn Progress) -> Result<Located> {
    let why = "models of the hub need the feature `hub` of deberta-converters, which this program was built without";
    Err(Error::new(Kind::Hub, why).in_file(id.as_str().as_ref()))
}

/// The hub id that `model` is, unless it is a file or folder.
///
/// # Errors
/// Neither there nor a hub id. What ends like a weight file is a path that is not there.
pub fn hub_id(model: &Path) -> Result<Option<ModelId>> {
    let Err(error) = fs::metadata(model) else { return Ok(None) };
    let is_absent = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    if !is_absent || model.is_symlink() {
        return Err(Error::io(model, "open", error));
    }
    let absent = |why: &str| Err(Error::io(model, "open", error).followed_by(why));
    // TensorFlow names a checkpoint by what the names of its files start with.
    let mut first_file = model.as_os_str().to_owned();
    first_file.push(".index");
    if let Some(container) =
        Some(first_file).filter(|file| Path::new(file).is_file()).and_then(|_| by_name("checkpoint"))
    {
        return Err(container.refusal().in_file(model));
    }
    let extensions = ["bin", "h5", "hdf5", "safetensors", "onnx", "json", "pt", "pth", "ckpt", "zip"];
    let extension = model.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if extensions.contains(&&*extension) {
        return absent("");
    }
    match model.to_str().map(str::parse::<ModelId>) {
        Some(Ok(id)) => Ok(Some(id)),
        Some(Err(why)) => absent(&format!(", and {why}")),
        None => absent(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_first() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(hub_id(folder.path()).unwrap(), None);
        let resolved = resolve(folder.path(), None, &Wanted::any(), &()).unwrap();
        assert_eq!(resolved, folder.path());
    }

    #[test]
    fn what_is_neither_is_an_error_about_a_path() {
        for absent in ["/nowhere/model", "./x", "nowhere/model.h5", "MODEL.BIN", "a/b/c", "nowhere/"] {
            let error = hub_id(Path::new(absent)).unwrap_err();
            assert_eq!(error.kind(), Kind::Io, "{error}");
            assert!(error.to_string().starts_with(&format!("{absent}: cannot open")), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let dangling = folder.path().join("dangling");
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        assert_eq!(hub_id(&dangling).unwrap_err().kind(), Kind::Io);
        let checkpoint = folder.path().join("model");
        fs::write(folder.path().join("model.index"), "x").unwrap();
        assert!(
            hub_id(&checkpoint).unwrap_err().to_string().contains("model: TensorFlow's checkpoints: `python")
        );
        assert!(hub_id(Path::new("a/b/c")).unwrap_err().to_string().contains("two parts"));
        assert_eq!(hub_id(Path::new("no-owner/no-model")).unwrap().unwrap().as_str(), "no-owner/no-model");
    }
    #[cfg(not(feature = "hub"))]
    #[test]
    fn a_hub_id_needs_the_client() {
        let error = resolve("no-owner/no-model", None, &Wanted::any(), &()).unwrap_err();
        assert_eq!(error.kind(), Kind::Hub);
        let text = error.to_string();
        assert!(text.starts_with("no-owner/no-model: models of the hub need the feature `hub`"), "{text}");
    }
}
