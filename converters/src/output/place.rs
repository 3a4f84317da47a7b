//! Links, devices and pipes in the place of an output.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// The folder that a file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether bytes are written to `path` as they come, since it is a device, a pipe, a socket, or an open file of this process
/// (`/dev/stdout`, `/dev/fd/3`), whose earlier contents are not to be lost.
pub fn is_stream(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => is_open_file(path),
        Ok(metadata) => !metadata.is_dir(),
        Err(_) => false,
    }
}

/// Whether a path names a file by a number that this process has it open under.
fn is_open_file(path: &Path) -> bool {
    let in_process = |path: &Path| {
        let folder = folder_of(path).canonicalize().unwrap_or_default();
        folder.starts_with("/proc") || folder == Path::new("/dev/fd")
    };
    // /dev/stdout is a link to /proc/self/fd/1, which looks like one to the file itself.
    in_process(path) || fs::read_link(path).is_ok_and(|to| in_process(&folder_of(path).join(to)))
}

/// Refuses what weights cannot be written to: they are read back, and appear in one step.
///
/// # Errors
/// A folder, link, device or pipe is there.
pub fn refuse_as_weights(path: &Path) -> Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => "a folder",
        Ok(metadata) if metadata.is_symlink() => "a link",
        Ok(metadata) if !metadata.is_file() => "a device or pipe",
        _ => return Ok(()),
    };
    let why = format!(
        "{kind} is in the way, where a file is to be written that is read back: name another with -o"
    );
    Err(Error::new(Kind::Request, why).in_file(path))
}

/// Where an output goes that is to be at `path`: where links lead to, so that these stay.
///
/// # Errors
/// A folder, device or pipe is there; a link that leads nowhere.
pub(super) fn real(path: &Path) -> Result<PathBuf> {
    let refuse = |what: &str| {
        let why = format!("{what} is in the way: name another file");
        Err(Error::new(Kind::Request, why).in_file(path))
    };
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => {
            let target = fs::canonicalize(path).map_err(|error| Error::io(path, "follow the link", error))?;
            if target.is_dir() {
                return refuse("a folder");
            }
            if is_stream(path) { refuse("a device or pipe") } else { Ok(target) }
        }
        Ok(metadata) if metadata.is_dir() => refuse("a folder"),
        Ok(metadata) if !metadata.is_file() => refuse("a device or pipe"),
        _ => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn devices_and_open_files_are_streams() {
        assert!(is_stream(Path::new("/dev/null")));
        assert!(!is_stream(Path::new("/dev/shm")) && !is_stream(Path::new("/nothing/here")));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(!is_stream(&file));
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            let open = fs::File::open(&file).unwrap();
            assert!(is_stream(&PathBuf::from(format!("/dev/fd/{}", open.as_raw_fd()))));
            let link = folder.path().join("stdout");
            symlink(format!("/proc/self/fd/{}", open.as_raw_fd()), &link).unwrap();
            assert!(is_stream(&link));
        }
    }

    #[test]
    fn links_are_followed_by_small_files_and_refused_by_weights() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, loose] = ["file", "link", "loose"].map(|name| folder.path().join(name));
        fs::write(&file, "x").unwrap();
        symlink("file", &link).unwrap();
        symlink("nowhere", &loose).unwrap();
        assert_eq!(real(&link).unwrap(), file.canonicalize().unwrap());
        assert!(real(&loose).unwrap_err().to_string().contains("cannot follow the link"));
        assert!(real(folder.path()).unwrap_err().to_string().contains("a folder is in the way"));
        assert!(refuse_as_weights(&link).unwrap_err().to_string().contains("a link is in the way"));
        assert!(refuse_as_weights(Path::new("/dev/null")).is_err());
        refuse_as_weights(&file).unwrap();
    }
}
