//! Words that were encoded before.

use std::sync::{Mutex, PoisonError};

use foldhash::HashMap;

/// The caches of a tokenizer. A thread takes one and puts it back, so that threads do not wait for each other.
#[derive(Debug, Default)]
pub(crate) struct Caches<T>(Mutex<Vec<Cache<T>>>);

/// One cache. It forgets everything when it is full.
#[derive(Debug, Default)]
struct Cache<T> {
    /// Word -> its part of `tokens`.
    words: HashMap<Box<str>, (usize, usize)>,
    tokens: Vec<T>,
}

impl<T: Default> Caches<T> {
    /// Calls `emit` with each word and its tokens, which are those that `merge` gives.
    pub(crate) fn each<'t>(
        &self,
        words: impl Iterator<Item = &'t str>,
        mut merge: impl FnMut(&str) -> Vec<T>,
        mut emit: impl FnMut(&str, &[T]),
    ) {
        let caches = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cache = caches().pop().unwrap_or_default();
        for word in words {
            if word.len() > Cache::<T>::LONGEST {
                emit(word, &merge(word));
            } else {
                emit(word, cache.tokens(word, &mut merge));
            }
        }
        caches().push(cache);
    }
}

impl<T> Cache<T> {
    /// How many words are kept.
    const WORDS: usize = 1 << 16;
    /// Longer words, in bytes, are not kept: they hardly ever come again.
    const LONGEST: usize = 64;

    fn tokens(&mut self, word: &str, merge: impl FnOnce(&str) -> Vec<T>) -> &[T] {
        if let Some(&(start, end)) = self.words.get(word) {
            return self.tokens.get(start..end).unwrap_or_default();
        }
        if self.words.len() >= Cache::<T>::WORDS {
            self.words.clear();
            self.tokens.clear();
        }
        let start = self.tokens.len();
        self.tokens.extend(merge(word));
        self.words.insert(word.into(), (start, self.tokens.len()));
        self.tokens.get(start..).unwrap_or_default()
    }
}
