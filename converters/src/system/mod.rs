//! What operating systems do differently: which file is which, reading and writing at a place, names as bytes, folders as files.
//!
//! ```text
//! unix      Linux, macOS and the like
//! windows   Windows, where folders are not locked, and links are not for everybody
//! ```

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as own;
#[cfg(windows)]
use windows as own;

pub(crate) use own::{bytes_of_name, create_folder, id, id_at, name_of_bytes, open_folder, write_all_at};
pub use own::{in_a_group_of_its_own, read_exact_at};
#[cfg(feature = "hub")]
pub(crate) use own::{not_through_links, point_to};

/// Which file it is, whatever names it has: its device and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    number: u64,
}
