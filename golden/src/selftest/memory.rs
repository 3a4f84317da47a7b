//! How much memory a step takes at its peak, as the system counts it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

/// How often memory is looked at that the system keeps no peak of.
const PAUSE: Duration = Duration::from_millis(10);

/// What a piece of work took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Seconds.
    pub seconds: f64,
    /// The peak of memory that is in no file, in MB (10^6 bytes): `RssAnon`, looked at every 10 ms. Nothing where the system
    /// does not say.
    pub anonymous_mb: Option<f64>,
    /// The peak of all pages in memory, those of mapped files included, in MB: `VmHWM`.
    pub resident_mb: Option<f64>,
}

/// Does some work and measures it.
pub(super) fn measured<R>(work: impl FnOnce() -> R) -> (R, Cost) {
    // Resets VmHWM. Where that is not allowed the peak is that of all steps so far, which is no less.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let start = Instant::now();
    let result = thread::scope(|scope| {
        // Where the system gives no thread, the peak is not known.
        let _ = thread::Builder::new().spawn_scoped(scope, || {
            while !done.load(Ordering::Acquire) {
                peak.fetch_max(status("RssAnon").unwrap_or(0), Ordering::Relaxed);
                thread::sleep(PAUSE);
            }
        });
        let result = work();
        done.store(true, Ordering::Release);
        result
    });
    let seconds = start.elapsed().as_secs_f64();
    let megabytes = |kilobytes: u64| kilobytes as f64 * 1024.0 / 1e6;
    let anonymous = Some(peak.into_inner()).filter(|&peak| peak > 0);
    let cost =
        Cost { seconds, anonymous_mb: anonymous.map(megabytes), resident_mb: status("VmHWM").map(megabytes) };
    (result, cost)
}

/// A line of `/proc/self/status`, in kB.
pub(crate) fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_is_used_is_seen() {
        let (bytes, cost) = measured(|| {
            let bytes = vec![1_u8; 300 << 20];
            thread::sleep(5 * PAUSE);
            bytes.len()
        });
        assert_eq!(bytes, 300 << 20);
        assert!(cost.anonymous_mb.is_some_and(|peak| peak > 300.0), "{cost:?}");
        assert!(cost.resident_mb.is_some_and(|peak| peak > 300.0), "{cost:?}");
    }
}
