//! Signals of Linux, macOS and the like.

use std::io::Write as _;
use std::sync::mpsc::channel;
use std::thread;

use signal_hook::consts::{SIGBUS, SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::error::Error;
use crate::mapped::refuse_shrunk;
use crate::output::temporary::remove_all;

/// From now on temporary files and folders go when the end of the process is asked for, which then ends by that signal; a file that
/// becomes shorter while it is read ends the process with a message and the exit status `failure`; and a limit on the length of
/// files (`ulimit -f`) is an error of writing. For programs alone: a library leaves signals to whom it is a part of.
pub fn attend(failure: u8) {
    let (ready, is_ready) = channel();
    let attending = move || {
        // What the parent ignores, as `nohup` does, stays ignored.
        let heeded =
            [SIGINT, SIGTERM, SIGHUP, SIGBUS, SIGXFSZ].into_iter().filter(|&signal| !is_ignored(signal));
        let Ok(mut signals) = Signals::new(heeded) else { return };
        let _ = ready.send(());
        for signal in signals.forever() {
            match signal {
                // Writing fails, and says so.
                SIGXFSZ => {}
                // The thread that met the end of the file cannot go on.
                SIGBUS => {
                    let unknown =
                        || Error::unsupported("a file became shorter while it was read, or its disk failed");
                    let error = refuse_shrunk().err().unwrap_or_else(unknown);
                    let _ = writeln!(std::io::stderr(), "error: {error}");
                    remove_all();
                    std::process::exit(i32::from(failure));
                }
                asked => {
                    remove_all();
                    let _ = emulate_default_handler(asked);
                }
            }
        }
    };
    // Without a thread for them, signals do what they always do.
    if thread::Builder::new().name("signals".to_owned()).spawn(attending).is_ok() {
        let _ = is_ready.recv();
    }
}

/// Takes SIGBUS from the runtime of Rust, at the start of a program. Its handler looks for overflows of the stack, and of any other
/// fault makes a death: it restores what is done by default, also when [`attend`] has registered after it. So it is given one that is
/// no fault, after which it is gone. (Overflows are told by SIGSEGV on Linux.)
pub fn take_faults() {
    #[cfg(target_os = "linux")]
    if is_in("SigCgt:", SIGBUS) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::BUS);
    }
}

/// Whether this process was started with a signal ignored.
#[cfg(target_os = "linux")]
fn is_ignored(signal: i32) -> bool {
    is_in("SigIgn:", signal)
}

/// Whether a signal is in a set of this process, as the system tells it.
#[cfg(target_os = "linux")]
fn is_in(set: &str, signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix(set));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}

/// There is no asking: a hangup stays what it is.
#[cfg(not(target_os = "linux"))]
fn is_ignored(signal: i32) -> bool {
    signal == SIGHUP
}
