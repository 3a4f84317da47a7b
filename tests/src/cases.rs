//! A check on each of many cases, of which the first that fails hides no other.

use std::any::Any;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `check` on every case, prints a line for each, and returns what the checks returned.
///
/// # Panics
/// When a check does; with the messages of all that did, once all cases have run.
pub fn each<C: Debug, R>(cases: impl IntoIterator<Item = C>, check: impl Fn(&C) -> R) -> Vec<R> {
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    for case in cases {
        match catch_unwind(AssertUnwindSafe(|| check(&case))) {
            Ok(result) => {
                println!("ok    {case:?}");
                passed.push(result);
            }
            Err(panic) => {
                println!("FAIL  {case:?}");
                failed.push(format!("{case:?}: {}", message(&*panic)));
            }
        }
    }
    let all = passed.len() + failed.len();
    assert!(failed.is_empty(), "{} of {all} cases failed:\n{}", failed.len(), failed.join("\n"));
    passed
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_that_fails_is_named() {
        let halves = |number: &u32| {
            assert!(number.is_multiple_of(2), "{number} is odd");
            number / 2
        };
        assert_eq!(each([2, 4], halves), [1, 2]);
        let panic = catch_unwind(|| each([1, 2, 3], halves)).unwrap_err();
        assert_eq!(message(&*panic), "2 of 3 cases failed:\n1: 1 is odd\n3: 3 is odd");
    }
}
