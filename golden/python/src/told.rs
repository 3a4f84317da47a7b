//! What work tells of its progress, kept until the interpreter's thread asks for it.

use std::sync::{Mutex, MutexGuard};

use deberta_converters::progress::Progress;
use pyo3::prelude::*;

/// What was told since somebody last asked.
#[derive(Default)]
pub(crate) struct Told(Mutex<State>);

#[derive(Default)]
struct State {
    news: Vec<News>,
    step: String,
    done: u64,
    total: u64,
}

/// Something to tell.
enum News {
    /// How far a step is: what is done of it, and all that there is to do; 0 if that is not counted.
    Step { step: String, done: u64, total: u64 },
    /// What whoever waits should know.
    Warning(String),
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Tells Python: a step by `progress(step, done, total)`, a warning by the logger of the package.
    pub(crate) fn tell(&self, py: Python<'_>, progress: Option<&Py<PyAny>>) -> PyResult<()> {
        let news = std::mem::take(&mut self.state().news);
        for news in news {
            match (news, progress) {
                (News::Step { step, done, total }, Some(progress)) => {
                    progress.call1(py, (step, done, total))?;
                }
                (News::Step { .. }, None) => {}
                (News::Warning(message), _) => {
                    let logger = py.import("logging")?.call_method1("getLogger", ("deberta_verify",))?;
                    logger.call_method1("warning", ("%s", message))?;
                }
            }
        }
        Ok(())
    }
}

impl Progress for Told {
    fn start(&self, step: &str, bytes: u64) {
        let mut state = self.state();
        (state.step, state.done, state.total) = (step.to_owned(), 0, bytes);
        state.news.push(News::Step { step: step.to_owned(), done: 0, total: bytes });
    }

    fn advance(&self, bytes: u64) {
        let mut state = self.state();
        state.done += bytes;
        let (now, all) = (state.done, state.total);
        match state.news.last_mut() {
            Some(News::Step { done, .. }) => *done = now,
            _ => {
                let step = state.step.clone();
                state.news.push(News::Step { step, done: now, total: all });
            }
        }
    }

    fn warn(&self, message: &str) {
        self.state().news.push(News::Warning(message.to_owned()));
    }
}
