//! Pointers of git-LFS: small text files in the place of those that `git lfs pull` gets.

use crate::error::{Error, Result};

/// What a pointer starts with.
const START: &[u8] = b"version https://git-lfs";

/// What to do about one.
pub(crate) const ADVICE: &str =
    "a git-LFS pointer, not the file itself: run `git lfs pull`, or download the file";

/// Whether the bytes of a file are those of a pointer.
pub(crate) fn is_pointer(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    start.get(..START.len()).is_some_and(|start| start.eq_ignore_ascii_case(START))
}

/// Refuses a file that is a pointer.
///
/// # Errors
/// It is one; says what to do.
pub fn refuse_pointer(bytes: &[u8]) -> Result<()> {
    if is_pointer(bytes) { Err(Error::unsupported(ADVICE)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_told_from_other_files() {
        assert!(is_pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"));
        assert!(!is_pointer(b"version: 1\n") && !is_pointer(b"") && !is_pointer(&[0; 64]));
        assert!(refuse_pointer(START).unwrap_err().to_string().contains("git lfs pull"));
    }
}
