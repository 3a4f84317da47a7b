//! Linux, macOS and the like.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::FileId;

/// Which file is open.
pub(crate) fn id(file: &File) -> io::Result<FileId> {
    file.metadata().map(|there| of(&there))
}

/// Which file is at a path: the link, where one is.
pub(crate) fn id_at(path: &Path) -> io::Result<FileId> {
    fs::symlink_metadata(path).map(|there| of(&there))
}

fn of(there: &Metadata) -> FileId {
    FileId { device: there.dev(), number: there.ino() }
}

/// Reads as many bytes as there is room for, from `offset` on.
///
/// # Errors
/// The file has fewer; the disk refuses.
pub fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(bytes, offset)
}

/// Writes `bytes` at `offset`.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Makes a folder with permissions.
pub(crate) fn create_folder(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)
}

/// Opens a folder, which can be locked and synced.
pub(crate) fn open_folder(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// The bytes of a name of a file.
pub(crate) fn bytes_of_name(name: &OsStr) -> &[u8] {
    name.as_bytes()
}

/// The name that these are the bytes of.
pub(crate) fn name_of_bytes(bytes: &[u8]) -> Option<OsString> {
    Some(OsString::from_vec(bytes.to_owned()))
}

/// Sets that what is opened is not where a link leads, and that nothing is waited for.
#[cfg(feature = "hub")]
pub(crate) fn not_through_links(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    use rustix::fs::OFlags;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags)
}

/// Makes `path` stand for a content: a link, by the path to it from there.
#[cfg(feature = "hub")]
pub(crate) fn point_to(_content: &Path, from_there: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from_there, path)
}

/// Sets that Ctrl-C in this program's terminal is nothing to the process.
pub fn in_a_group_of_its_own(command: &mut Command) {
    command.process_group(0);
}
