//! The goldens of the published sizes, which come with this program: golden/sizes.

use std::fs;
use std::path::Path;

use deberta_converters::error::{Error, Result};
use deberta_converters::recipe::{Recipe, Size};

use crate::case::{Case, FILE_NAME};

/// A folder: its name, and the names and contents of its files.
type Folder = (&'static str, &'static [(&'static str, &'static [u8])]);

macro_rules! folder {
    ($name:literal: $($file:literal)*) => {
        ($name, &[$(($file, include_bytes!(concat!("../../../sizes/", $name, "/", $file)))),*])
    };
}

const FOLDERS: &[Folder] = &[
    folder!("base": "case.yaml" "n16.safetensors" "n128.safetensors" "n512.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("base-masked-lm": "case.yaml" "n16.safetensors" "n128.safetensors" "n512.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("base-mask-decoder": "case.yaml" "n16.safetensors" "n128.safetensors" "n512.safetensors" "padded.safetensors"),
    folder!("base-sequence-classification": "case.yaml" "n16.safetensors" "n128.safetensors" "n512.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("base-token-classification": "case.yaml" "n16.safetensors" "n128.safetensors" "n512.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("base-question-answering": "case.yaml" "n16.safetensors" "n128.safetensors" "n512.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("large": "case.yaml" "n16.safetensors" "n128.safetensors" "n512.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("xlarge": "case.yaml" "n16.safetensors" "n128.safetensors" "n512.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("v2-xlarge": "case.yaml" "n16.safetensors" "n128.safetensors" "n512.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("v3-small": "case.yaml" "n16.safetensors" "n128.safetensors" "n512.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("v3-base": "case.yaml" "n16.safetensors" "n128.safetensors" "n512.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("v3-base-masked-lm": "case.yaml" "n16.safetensors" "n128.safetensors" "n300.safetensors" "padded.safetensors"),
    folder!("v3-base-sequence-classification": "case.yaml" "n16.safetensors" "n128.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("v3-base-multiple-choice": "case.yaml" "n16.safetensors" "n128.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("v3-base-replaced-tokens": "case.yaml" "n16.safetensors" "n128.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("v3-large": "case.yaml" "n16.safetensors" "n128.safetensors" "n512.safetensors" "n600.safetensors" "padded.safetensors"),
    folder!("mdeberta-v3-base": "case.yaml" "n16.safetensors" "n128.safetensors" "n600.safetensors" "padded.safetensors"),
];

/// The sizes whose goldens come with this program.
pub fn sizes() -> impl Iterator<Item = Size> {
    Size::ALL.into_iter().filter(|size| FOLDERS.iter().any(|(name, _)| *name == size.name()))
}

/// The names of the further goldens of a size: models with heads.
pub(super) fn others(size: Size) -> impl Iterator<Item = &'static str> {
    let start = format!("{}-", size.name());
    FOLDERS.iter().map(|(name, _)| *name).filter(move |name| name.starts_with(&start))
}

/// Writes a golden into a folder.
///
/// # Errors
/// There is no golden of that name; the folder cannot be written.
pub(super) fn write(name: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, "create", error))?;
    for (file, bytes) in files(name)? {
        let path = folder.join(file);
        fs::write(&path, bytes).map_err(|error| Error::io(&path, "write", error))?;
    }
    Ok(())
}

/// The recipe of a golden. `path` is for messages.
///
/// # Errors
/// There is no golden of that name.
pub(super) fn recipe(name: &str, path: &Path) -> Result<Recipe> {
    let case = files(name)?.iter().find(|(file, _)| *file == FILE_NAME);
    let text = case.map(|(_, bytes)| String::from_utf8_lossy(bytes)).unwrap_or_default();
    let recipe = Case::from_yaml(&text)?.recipe(path)?;
    recipe.ok_or_else(|| Error::malformed("the golden names no recipe").in_file(path))
}

fn files(name: &str) -> Result<&'static [(&'static str, &'static [u8])]> {
    let found = FOLDERS.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, files)| *files)
        .ok_or_else(|| Error::malformed(format!("no golden {name:?} in this program")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goldens::Golden;

    #[test]
    fn every_size_has_its_goldens_whole() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sizes");
        for (name, _) in FOLDERS {
            let folder = tempfile::tempdir().unwrap();
            write(name, folder.path()).unwrap();
            // A trace that the case lists is there, and one that is there is listed; none was left in the repository.
            let traces = |folder: &Path| Golden::open(folder).unwrap().traces.len();
            assert_eq!(traces(folder.path()), traces(&root.join(name)), "{name}");
        }
        for size in sizes() {
            let recipe = recipe(size.name(), Path::new(size.name())).unwrap();
            let layers = recipe.config.config.num_hidden_layers;
            assert!(size.config_text().contains(&format!("\"num_hidden_layers\": {layers},")), "{size:?}");
        }
        assert_eq!(others(Size::Base).count(), 5);
        assert_eq!(others(Size::Xlarge).count(), 0);
        assert_eq!(others(Size::V3Base).count(), 4);
        assert_eq!(sizes().count(), 8);
    }
}
