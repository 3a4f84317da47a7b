//! The folder of a golden, which is written whole or not at all.

use std::fs;
use std::path::Path;

use deberta_converters::error::{Error, Kind, Result};

use crate::case::FILE_NAME;

/// Gives `write` a new folder, which becomes `output` once it is done. If anything fails, `output` is as it was.
///
/// # Errors
/// A file is there, or a folder that is no golden; a golden, unless it is to be replaced; what `write` returns.
pub fn in_folder<T>(output: &Path, replace: bool, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    check(output, replace)?;
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| Error::io(parent, "create", error))?;
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let scratch = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".partial")
        .tempdir_in(parent)
        .map_err(|error| Error::io(parent, "create a folder in", error))?;
    let (new, old) = (scratch.path().join("new"), scratch.path().join("old"));
    let failed = |error| Error::io(output, "create", error);
    fs::create_dir(&new).map_err(failed)?;
    let written = write(&new)?;
    check(output, replace)?;
    if output.exists() {
        fs::rename(output, &old).map_err(failed)?;
    }
    fs::rename(&new, output).map_err(|error| {
        let _ = fs::rename(&old, output);
        failed(error)
    })?;
    Ok(written)
}

fn check(output: &Path, replace: bool) -> Result<()> {
    let refused = |message: &str| Err(Error::new(Kind::Request, message).in_file(output));
    if !output.exists() {
        return Ok(());
    }
    if !output.is_dir() {
        return refused("a file is there: -o names a folder for the golden");
    }
    let mut entries = fs::read_dir(output).map_err(|error| Error::io(output, "open", error))?;
    match entries.next() {
        None => Ok(()),
        Some(_) if !output.join(FILE_NAME).is_file() => {
            refused("the folder is not empty, and no golden: name another one")
        }
        Some(_) if !replace => refused("a golden is there already; --force replaces it"),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_or_stays_as_it_was() {
        let parent = tempfile::tempdir().unwrap();
        let output = parent.path().join("golden");
        let write = |text: &str, replace| {
            in_folder(&output, replace, |folder| super::super::case::put(&folder.join(FILE_NAME), text))
        };
        write("1", false).unwrap();
        assert!(write("2", false).unwrap_err().to_string().ends_with("--force replaces it"));
        write("2", true).unwrap();
        let failing = in_folder(&output, true, |_| Err::<(), _>(Error::malformed("no")));
        assert_eq!(failing.unwrap_err().to_string(), "no");
        assert_eq!(fs::read_to_string(output.join(FILE_NAME)).unwrap(), "2");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        fs::write(parent.path().join("model"), "").unwrap();
        assert!(in_folder(&parent.path().join("model"), true, |_| Ok(())).is_err());
        assert!(in_folder(parent.path(), true, |_| Ok(())).unwrap_err().to_string().contains("no golden"));
    }
}
