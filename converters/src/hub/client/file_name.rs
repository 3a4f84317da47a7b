//! Names of files as a server gives them.

use crate::error::{Error, Result};

/// Checks that a name from a server stays in the folder that it is put in.
///
/// # Errors
/// A refusal of absolute names, `..`, backslashes, control characters.
pub(super) fn check_file_name(name: &str) -> Result<()> {
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
    if name.len() > 1024 || !name.split('/').all(part) || name.contains(|c: char| c == '\\' || c.is_control())
    {
        let why =
            format!("the server names a file {:?}, which is no place in the model's own folder", cut(name));
        return Err(Error::refused(why));
    }
    Ok(())
}

/// The start of a text from a server, for a message.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn file_names_stay_in_their_folder() {
        for name in ["config.json", "onnx/model.onnx", "a b.txt"] {
            check_file_name(name).unwrap();
        }
        for name in ["", "/etc/passwd", "..", "../x", "a/../b", "a//b", "./a", "a\\b", "a\0", "a\n"] {
            assert_eq!(check_file_name(name).unwrap_err().kind(), Kind::Refused, "{name:?}");
        }
    }
}
