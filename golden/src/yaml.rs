//! Files that people write in YAML: `case.yaml`, `verify.yaml`. Here alone `serde_yaml` is used.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::git_lfs::refuse_pointer;
use deberta_converters::opening::open;
use serde::de::DeserializeOwned;

/// The most that such a file may be long, in bytes.
const LONGEST: u64 = 1 << 20;
/// The most brackets that may be open at a time, in texts, too.
const DEEPEST: usize = 128;

/// The text of a YAML file of at most a megabyte.
///
/// # Errors
/// No such file; it is longer, or not UTF-8.
pub(crate) fn read(path: &Path) -> Result<String> {
    let file = open(path)?;
    let mut text = String::new();
    file.take(LONGEST + 1)
        .read_to_string(&mut text)
        .map_err(|error| Error::io(path, "read as UTF-8", error))?;
    refuse_pointer(text.as_bytes()).map_err(|error| error.in_file(path))?;
    if text.len() as u64 > LONGEST {
        let message = format!("more than {LONGEST} bytes: tensors belong into trace files");
        return Err(Error::refused(message).in_file(path));
    }
    Ok(text)
}

/// What the text of a case or a policy says; `what` of them it is.
///
/// # Errors
/// Text that is not YAML or not of the schema, with line and column.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    check_nesting(text, what)?;
    serde_yaml::from_str(text)
        .map_err(|error| Error::malformed(format!("not a {what}: {error}")).caused_by(error))
}

/// Refuses brackets within brackets without end, for which the parser takes time that grows with the square of their number.
fn check_nesting(text: &str, what: &str) -> Result<()> {
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            // Those of texts may be closed and not opened.
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            let why = format!("recursion limit exceeded: more than {DEEPEST} brackets are open at a time");
            return Err(Error::malformed(format!("not a {what}: {why}")));
        }
    }
    Ok(())
}

/// Whether a path, as it is written, stays in the folder of the file that names it. Links may still lead out.
pub(crate) fn is_inside(path: &str) -> bool {
    let inside = |part: Component<'_>| matches!(part, Component::CurDir | Component::Normal(_));
    Path::new(path).components().all(inside) && !path.contains('\\')
}

/// `path` in `folder`, links resolved.
///
/// # Errors
/// It does not exist, or leads out of the folder by a link.
pub(crate) fn confined(folder: &Path, path: &Path) -> Result<PathBuf> {
    let resolve = |path: &Path| path.canonicalize().map_err(|error| Error::io(path, "open", error));
    let (root, path) = (resolve(folder)?, resolve(&folder.join(path))?);
    match path.starts_with(&root) {
        true => Ok(path),
        false => {
            let message = format!("a link out of {}: copy the file there", folder.display());
            Err(Error::new(Kind::Refused, message).in_file(&path))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn brackets_within_brackets_are_refused_at_once() {
        for opening in ["[", "{", "{a: ", "[{a: "] {
            let start = Instant::now();
            let error = parse::<Vec<String>>(&opening.repeat(200_000), "case").unwrap_err().to_string();
            assert!(error.contains("more than 128 brackets"), "{error}");
            assert!(start.elapsed() < Duration::from_secs(1));
        }
        let texts: Vec<String> = parse(&"- 'a [ ] ] {'\n".repeat(100), "case").unwrap();
        assert_eq!(texts.len(), 100);
    }
}
