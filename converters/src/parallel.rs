//! Work on many tensors from two threads or more.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use deberta_reference::stop;

use crate::error::{Error, Result};

/// More threads would hold more tensors in memory and wait for the same disk.
const MOST_THREADS: usize = 4;

/// Applies `work` to every item and returns the results in the order of the items. Large items, by `size`, are
/// taken first, so that no thread is left alone with one at the end. The first error stops the work, and so does a
/// [`stop`] that is asked for.
pub fn map<T: Sync, R: Send>(
    items: &[T],
    size: impl Fn(&T) -> usize,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let mut order: Vec<(usize, &T)> = items.iter().enumerate().collect();
    order.sort_by_key(|(_, item)| std::cmp::Reverse(size(item)));
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS).min(items.len());
    let worker = || {
        while let Some(&(index, item)) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = Error::unless_stopped().and_then(|()| work(item));
            if result.is_err() {
                next.store(order.len(), Ordering::Relaxed);
            }
            done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((index, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            let stop = stop::of_this_thread();
            // Where the system gives no thread, the work is done by those that there are.
            let _ = thread::Builder::new().spawn_scoped(scope, || stop.during(worker));
        }
        worker();
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<usize> = (0..1000).collect();
        assert_eq!(map(&items, |&item| item % 7, |&item| Ok(item * 2)).unwrap()[999], 1998);
        assert_eq!(map(&[0; 0], |_| 0, |&item: &usize| Ok(item)).unwrap(), [0; 0]);
    }

    #[test]
    fn work_stops_when_it_is_asked_to() {
        let (stop, items) = (stop::Stop::default(), [1; 1000]);
        let work = |&item: &usize| {
            stop.ask();
            Ok(item)
        };
        let result = stop.clone().during(|| map(&items, |_| 1, work));
        assert_eq!(result.unwrap_err().kind(), crate::error::Kind::Stopped);
    }

    #[test]
    fn an_error_is_returned() {
        let items: Vec<usize> = (0..100).collect();
        let result =
            map(&items, |_| 1, |&item| if item == 50 { Err(Error::malformed("x")) } else { Ok(item) });
        assert!(result.is_err());
    }
}
