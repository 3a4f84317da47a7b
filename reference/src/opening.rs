//! Opening the files beside weights: only regular ones, without waiting, and no more of them than a limit.
//!
//! A folder comes from strangers. In the place of a small text it may have a pipe, which waits for a writer, a device, which
//! has no end, or a file of gigabytes.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// Opens a regular file for reading.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for what is no regular file; those of the system.
pub fn open(path: &Path) -> io::Result<File> {
    let irregular = || io::Error::new(ErrorKind::InvalidInput, "not a regular file");
    let mut options = File::options();
    options.read(true);
    // A pipe without a writer is opened at once. What is opened is asked, and not its name, which may be another's by now.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, NONBLOCK);
    let file = options.open(path).map_err(|error| match std::fs::metadata(path) {
        // A socket, or a device that is not there.
        Ok(metadata) if !metadata.is_file() => irregular(),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular()) }
}

#[cfg(unix)]
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// Reads a regular file of at most so many bytes.
///
/// # Errors
/// [`ErrorKind::FileTooLarge`], with both numbers; those of [`open`].
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let too_large = |length: String| {
        io::Error::new(ErrorKind::FileTooLarge, format!("{length} bytes, at most {most} are read"))
    };
    let length = file.metadata()?.len();
    if length > most {
        return Err(too_large(length.to_string()));
    }
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    // Files of the system have no length, and others grow.
    if bytes.len() as u64 > most { Err(too_large(format!("more than {most}"))) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_some_length_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "1234").unwrap();
        assert_eq!(read(&file, 4).unwrap(), b"1234");
        let error = read(&file, 3).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::FileTooLarge, "4 bytes, at most 3 are read".into())
        );
        assert_eq!(open(folder.path()).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(open(&folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn nothing_waits_and_nothing_is_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let socket = folder.path().join("socket");
        let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [pipe.as_path(), &socket, Path::new("/dev/zero"), Path::new("/dev/null")] {
            assert_eq!(read(path, 10).unwrap_err().kind(), ErrorKind::InvalidInput, "{}", path.display());
        }
    }
}
