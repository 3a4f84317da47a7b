//! Work that somebody else may stop: a model that runs for minutes, in a process that goes on without it.
//!
//! A stop is asked for by a flag, of the thread that does the work. Models look at it at every activation, and end with
//! [`Error::Stopped`](crate::Error::Stopped).

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    static FLAG: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// A flag that is set to stop work.
///
/// ```
/// use deberta_reference::stop::{self, Stop};
///
/// let stop = Stop::default();
/// stop.clone().during(|| assert!(!stop::is_asked_for()));
/// stop.ask();
/// assert!(stop.during(stop::is_asked_for));
/// assert!(!stop::is_asked_for());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks for the end of the work.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    pub fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Does `work`, which this flag stops as far as this thread does it.
    pub fn during<R>(self, work: impl FnOnce() -> R) -> R {
        let _restored = Restored(FLAG.replace(Some(self)));
        work()
    }
}

/// What was there before, which comes back when this goes.
struct Restored(Option<Stop>);

impl Drop for Restored {
    fn drop(&mut self) {
        FLAG.set(self.0.take());
    }
}

/// The flag of this thread's work, for other threads that do a part of it.
pub fn of_this_thread() -> Stop {
    FLAG.with_borrow(|stop| stop.clone().unwrap_or_default())
}

/// Whether the end of this thread's work was asked for.
pub fn is_asked_for() -> bool {
    FLAG.with_borrow(|stop| stop.as_ref().is_some_and(Stop::is_asked_for))
}
