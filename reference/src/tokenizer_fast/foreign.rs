//! Calls of the `tokenizers` crate on what files hold. [`checks`](super::checks) refuses what it is known to panic on; what is
//! left becomes an error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether this thread is in such a call, and a panic is to be told by its error alone.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

static QUIET: Once = Once::new();

/// Makes a call; gives its panic as an error. What it panicked on must not be used any more.
///
/// # Errors
/// What the crate panics with.
pub(super) fn call<T>(work: impl FnOnce() -> T) -> tokenizers::Result<T> {
    QUIET.call_once(|| {
        let otherwise = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !INSIDE.get() {
                otherwise(panic);
            }
        }));
    });
    let outside = INSIDE.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(outside);
    done.map_err(|panic| format!("the tokenizers crate gave up: {}", text(&*panic)).into())
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let error = call(|| -> usize { panic!("no {}", "more") }).unwrap_err();
        assert_eq!(error.to_string(), "the tokenizers crate gave up: no more");
        assert_eq!(call(|| 1).unwrap(), 1);
    }
}
