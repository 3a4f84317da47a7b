//! Signals: an end that is asked for, and faults of files of which the system tells by a signal.

#[cfg(unix)]
mod unix;
#[cfg(not(unix))]
mod windows;

#[cfg(unix)]
pub use unix::{attend, take_faults};
#[cfg(not(unix))]
pub use windows::{attend, take_faults};
