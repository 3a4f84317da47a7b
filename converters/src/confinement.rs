//! Keeping to the model's folder, however links lead.

use std::fs;
use std::path::Path;

use crate::companions::TOKENIZER;
use crate::error::{Error, Result};

/// Checks that `file` is in `folder` however links lead to it. In a snapshot of the hub's cache links may lead to the
/// contents of the same repository, `../../blobs`.
///
/// # Errors
/// [`Kind::Refused`](crate::error::Kind::Refused) for a link that leads elsewhere.
pub fn require_inside(folder: &Path, file: &Path) -> Result<()> {
    let real = |path: &Path| fs::canonicalize(path).map_err(|error| Error::io(path, "open", error));
    let (inside, target) =
        (real(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?, real(file)?);
    // An export is in the folder `onnx` of the snapshot.
    let mut above = inside.ancestors().skip(1).take(2);
    let repository = above.find(|parent| parent.ends_with("snapshots")).and_then(Path::parent);
    let repository = repository
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--")));
    let blobs = repository.map(|repository| repository.join("blobs"));
    if target.starts_with(&inside) || blobs.is_some_and(|blobs| target.starts_with(blobs)) {
        return Ok(());
    }
    let why = format!("leads out of the model's folder, to {}: copy the file there", target.display());
    Err(Error::refused(why).in_file(file))
}

/// Checks that the files of a folder's tokenizer are in it, as [`require_inside`] does.
///
/// # Errors
/// [`Kind::Refused`](crate::error::Kind::Refused) for a link that leads elsewhere.
pub fn require_tokenizer_inside(folder: &Path) -> Result<()> {
    let there = TOKENIZER.map(|name| folder.join(name)).into_iter().chain([folder.join("config.json")]);
    there.filter(|path| path.exists()).try_for_each(|path| require_inside(folder, &path))
}
