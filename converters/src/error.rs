//! One error for the whole crate: what went wrong, where, and what to do about it.

use std::fmt;
use std::path::Path;

use deberta_reference::stop;
use serde::{Deserialize, Serialize};

use crate::printable::shortened;

/// What kind of thing went wrong, for callers that decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// The operating system refused: no such file, no space, no permission.
    Io,
    /// The file breaks the rules of its own format: truncated, bad checksum, lying header.
    Malformed,
    /// The file keeps the rules, but asks for something that is not allowed: a call from a pickle, a path
    /// outside its folder.
    Refused,
    /// The file is of a kind, or uses a feature, that this toolkit does not handle.
    Unsupported,
    /// The tensors are not those of the model that the configuration describes.
    Model,
    /// The configuration is missing or wrong.
    Config,
    /// The request cannot be carried out: the output exists, two options disagree.
    Request,
    /// The file that was written is not what was meant to be written.
    Verification,
    /// The hub cannot be reached, or does not give what was asked for.
    Hub,
    /// The end was asked for: [`deberta_reference::stop`].
    Stopped,
}

/// An error with its place. Displays as `file: tensor "name": message`.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    file: Option<String>,
    tensor: Option<String>,
    /// Whether the message names the tensor itself.
    tensor_is_said: bool,
    message: String,
    want_and_got: Option<(String, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` whose place is not known yet; see [`Error::in_file`] and [`Error::in_tensor`].
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            file: None,
            tensor: None,
            tensor_is_said: false,
            message: message.into(),
            want_and_got: None,
            source: None,
        }))
    }

    /// The file breaks the rules of its format.
    pub fn malformed(message: impl Into<String>) -> Self {
        Error::new(Kind::Malformed, message)
    }

    /// The file asks for something that is not allowed.
    pub fn refused(message: impl Into<String>) -> Self {
        Error::new(Kind::Refused, message)
    }

    /// The file needs something that this toolkit does not handle.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Error::new(Kind::Unsupported, message)
    }

    /// The operating system refused `doing` something to `path`.
    pub fn io(path: &Path, doing: &str, source: std::io::Error) -> Self {
        let mut error = Error::new(Kind::Io, format!("cannot {doing}: {source}")).in_file(path);
        error.0.source = Some(Box::new(source));
        error
    }

    /// Adds the file, unless an inner call has already named one.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        self.0.file.get_or_insert_with(|| path.display().to_string());
        self
    }

    /// Adds the tensor, unless an inner call has already named one.
    #[must_use]
    pub fn in_tensor(mut self, name: &str) -> Self {
        self.0.tensor.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Adds the tensor or argument that the message names itself, for programs that ask.
    #[must_use]
    pub fn naming(mut self, name: &str) -> Self {
        self.0.tensor_is_said = true;
        self.in_tensor(name)
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Adds what was wanted and what was found, numbers or shapes that the message has too, for programs that ask for them.
    #[must_use]
    pub fn wanting(mut self, want: impl fmt::Display, got: impl fmt::Display) -> Self {
        self.0.want_and_got = Some((want.to_string(), got.to_string()));
        self
    }

    /// As [`Error::wanting`], where there are two numbers or shapes.
    #[must_use]
    pub fn wanting_if(self, want_and_got: Option<(impl fmt::Display, impl fmt::Display)>) -> Self {
        match want_and_got {
            Some((want, got)) => self.wanting(want, got),
            None => self,
        }
    }

    /// Goes on, unless the end of this thread's work was asked for.
    ///
    /// # Errors
    /// [`Kind::Stopped`].
    pub fn unless_stopped() -> Result<()> {
        if stop::is_asked_for() { Err(Error::new(Kind::Stopped, "stopped")) } else { Ok(()) }
    }

    /// Adds `more` to the end of the message.
    #[must_use]
    pub fn followed_by(mut self, more: &str) -> Self {
        self.0.message.push_str(more);
        self
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The tensor that the error is about, if it is about one.
    pub fn tensor(&self) -> Option<&str> {
        self.0.tensor.as_deref()
    }

    /// What went wrong, without its place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The file that the error is about, if it is about one.
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// What was wanted and what was found, if the error has such numbers or shapes: [`Error::wanting`].
    pub fn want_and_got(&self) -> Option<(&str, &str)> {
        self.0.want_and_got.as_ref().map(|(want, got)| (want.as_str(), got.as_str()))
    }

    /// What the operating system called it, if it is an error of [`Kind::Io`].
    pub fn os_error(&self) -> Option<i32> {
        self.0.source.as_ref()?.downcast_ref::<std::io::Error>()?.raw_os_error()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.0.file {
            write!(f, "{}: ", Printable(file))?;
        }
        if let Some(tensor) = self.0.tensor.as_ref().filter(|_| !self.0.tensor_is_said) {
            write!(f, "tensor \"{}\": ", Printable(tensor))?;
        }
        // A message may say what a file has, of whatever length.
        const LONGEST: usize = 4000;
        shortened(f, &self.0.message, LONGEST, Some('\n'))
    }
}

/// What [`fmt::Display`] shows: a program whose `main` returns the error prints it this way.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source.as_ref() as _)
    }
}

/// Text from a file made safe for a terminal: hidden characters escaped, at most 200 characters.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 200;
        shortened(f, self.0, LONGEST, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_place_wins() {
        let error = Error::malformed("shape [2] needs 8 bytes, storage has 7")
            .in_tensor("inner")
            .in_tensor("outer")
            .in_file(Path::new("model.bin"))
            .in_file(Path::new("index.json"));
        assert_eq!(error.to_string(), "model.bin: tensor \"inner\": shape [2] needs 8 bytes, storage has 7");
        assert_eq!(error.kind(), Kind::Malformed);
    }

    #[test]
    fn programs_get_what_the_message_says_once() {
        let error =
            Error::new(Kind::Request, "input_ids: shape [2]").naming("input_ids").wanting("[b, n]", "[2]");
        assert_eq!(error.to_string(), "input_ids: shape [2]");
        assert_eq!((error.tensor(), error.want_and_got()), (Some("input_ids"), Some(("[b, n]", "[2]"))));
        let none: Option<(u8, u8)> = None;
        assert_eq!(Error::malformed("x").wanting_if(none).want_and_got(), None);
    }

    #[test]
    fn names_from_files_cannot_write_to_the_terminal() {
        let error = Error::malformed("x").in_tensor("a\u{1b}[2Jb");
        assert_eq!(error.to_string(), "tensor \"a\\u{1b}[2Jb\": x");
        assert!(Error::malformed("x").in_tensor(&"n".repeat(5000)).to_string().len() < 250);
        let error = Error::malformed(format!("\u{1b}[2J\u{202e}{}", "n".repeat(100_000_000))).to_string();
        assert!(error.starts_with("\\u{1b}[2J\\u{202e}nnn") && error.len() < 5000);
    }
}
