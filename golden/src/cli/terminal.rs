//! What is said on standard error.

use std::io::Write as _;

use deberta_converters::cli::console::shows_progress;
use deberta_converters::printable::{lines, one_line};
use deberta_converters::progress::Progress;

/// What is being done, on a terminal only: one line, which the next step replaces. It goes when this is dropped.
pub(super) struct StatusLine(bool);

impl StatusLine {
    /// A line that appears with the first step.
    pub(super) fn new() -> StatusLine {
        StatusLine(shows_progress())
    }
}

impl Progress for StatusLine {
    fn start(&self, step: &str, _bytes: u64) {
        if self.0 {
            let _ = write!(std::io::stderr(), "\r\x1b[2K{}", one_line(step));
        }
    }

    fn advance(&self, _bytes: u64) {}
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.step("");
    }
}

/// Says something that may have names from files in it.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", lines(text, false));
}

/// Gives GitHub's runner a command, whose parts are escaped.
pub(super) fn command(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
