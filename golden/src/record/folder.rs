//! The folder of a golden, which is written whole or not at all.

use std::fs;
use std::path::Path;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::output::{StagedFolder, clear};

use crate::case::FILE_NAME;

/// Gives `write` a new folder, which becomes `output` once it is done. If anything fails, `output` is as it was.
///
/// # Errors
/// A file is there, or a folder that is no golden; a golden, unless it is to be replaced; what `write` returns.
pub fn in_folder<T>(output: &Path, replace: bool, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // What an earlier run left that was killed is carried on or removed.
    clear(parent)?;
    check(output, replace)?;
    fs::create_dir_all(parent).map_err(|error| Error::io(parent, "create", error))?;
    let folder = StagedFolder::create(output)?;
    let written = write(folder.path())?;
    folder.commit(|| check(output, replace))?;
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
