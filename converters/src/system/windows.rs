//! Windows. No machine has run this: it is checked by the compiler alone.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt as _, OpenOptionsExt as _};
use std::os::windows::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use winapi_util::file::information;

use super::FileId;

/// `FILE_FLAG_BACKUP_SEMANTICS`: folders can be opened.
const FOLDERS: u32 = 0x0200_0000;
/// `FILE_FLAG_OPEN_REPARSE_POINT`: links are opened themselves.
const LINKS: u32 = 0x0020_0000;
/// `CREATE_NEW_PROCESS_GROUP`.
const NEW_GROUP: u32 = 0x0000_0200;

/// Which file is open.
pub(crate) fn id(file: &File) -> io::Result<FileId> {
    let of = information(file)?;
    Ok(FileId { device: of.volume_serial_number(), number: of.file_index() })
}

/// Which file is at a path: the link, where one is.
pub(crate) fn id_at(path: &Path) -> io::Result<FileId> {
    // Asks for no right to read.
    id(&OpenOptions::new().access_mode(0).custom_flags(FOLDERS | LINKS).open(path)?)
}

/// Reads as many bytes as there is room for, from `offset` on.
///
/// # Errors
/// The file has fewer; the disk refuses.
pub fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = file.seek_read(bytes, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = bytes.get_mut(count..).unwrap_or_default();
        offset += count as u64;
    }
    Ok(())
}

/// Writes `bytes` at `offset`.
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = file.seek_write(bytes, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(count..).unwrap_or_default();
        offset += count as u64;
    }
    Ok(())
}

/// Makes a folder. Who may read it, the folder above says.
pub(crate) fn create_folder(path: &Path, _mode: u32) -> io::Result<()> {
    fs::create_dir(path)
}

/// Opens a folder, which can be neither locked nor synced.
pub(crate) fn open_folder(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(FOLDERS).open(path)
}

/// The bytes of a name of a file.
pub(crate) fn bytes_of_name(name: &OsStr) -> &[u8] {
    name.as_encoded_bytes()
}

/// The name that these are the bytes of, if it is Unicode.
pub(crate) fn name_of_bytes(bytes: &[u8]) -> Option<OsString> {
    String::from_utf8(bytes.to_owned()).ok().map(OsString::from)
}

/// Sets that what is opened is not where a link leads.
#[cfg(feature = "hub")]
pub(crate) fn not_through_links(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(LINKS)
}

/// Makes `path` stand for a content: a copy, as huggingface_hub makes it where links are not allowed.
#[cfg(feature = "hub")]
pub(crate) fn point_to(content: &Path, _from_there: &Path, path: &Path) -> io::Result<()> {
    fs::copy(content, path).map(drop)
}

/// Sets that Ctrl-C in this program's terminal is nothing to the process.
pub fn in_a_group_of_its_own(command: &mut Command) {
    command.creation_flags(NEW_GROUP);
}
