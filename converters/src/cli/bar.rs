//! A progress bar, on a terminal only.

use std::io::Write;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};

use super::console::shows_progress;
use crate::printable::{lines, one_line};
use crate::progress::Progress;

/// Shows each step of a conversion as a bar on stderr, if that is a terminal.
pub struct Bar(Mutex<ProgressBar>);

impl Default for Bar {
    /// A bar that appears with the first step.
    fn default() -> Bar {
        Bar(Mutex::new(ProgressBar::hidden()))
    }
}

impl Bar {
    /// Takes the bar away, before something is printed.
    pub fn clear(&self) {
        self.with(|shown| shown.finish_and_clear());
    }

    fn with(&self, act: impl FnOnce(&mut ProgressBar)) {
        act(&mut self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }
}

impl Progress for Bar {
    fn start(&self, step: &str, bytes: u64) {
        if !shows_progress() {
            return;
        }
        let template = "{msg:10} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(bytes).with_style(style).with_message(one_line(step));
        self.with(|shown| {
            shown.finish_and_clear();
            *shown = bar;
        });
    }

    fn advance(&self, bytes: u64) {
        self.with(|shown| shown.inc(bytes));
    }

    fn warn(&self, message: &str) {
        self.with(|shown| {
            shown.suspend(|| {
                let _ = writeln!(std::io::stderr(), "{}", lines(&format!("warning: {message}"), false));
            });
        });
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}
