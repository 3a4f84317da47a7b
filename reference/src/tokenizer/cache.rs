//! Words that were encoded before.

use std::sync::{Mutex, PoisonError};

use foldhash::HashMap;

/// The caches of a tokenizer. A thread takes one and puts it back, so that threads do not wait for each other.
#[derive(Debug, Default)]
pub(crate) struct Caches(Mutex<Vec<Cache>>);

/// One cache. It forgets everything when it is full.
#[derive(Debug, Default)]
struct Cache {
    /// Word -> its part of `tokens`.
    words: HashMap<Box<str>, (usize, usize)>,
    tokens: Vec<u32>,
}

impl Caches {
    /// Calls `emit` with the tokens of each word, which are those that `merge` gives.
    pub(crate) fn each<'t>(
        &self,
        words: impl Iterator<Item = &'t str>,
        mut merge: impl FnMut(&str) -> Vec<u32>,
        mut emit: impl FnMut(&[u32]),
    ) {
        let caches = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cache = caches().pop().unwrap_or_default();
        for word in words {
            if word.len() > Cache::LONGEST {
                emit(&merge(word));
            } else {
                emit(cache.tokens(word, &mut merge));
            }
        }
        caches().push(cache);
    }
}

impl Cache {
    /// How many words are kept.
    const WORDS: usize = 1 << 16;
    /// Longer words, in bytes, are not kept: they hardly ever come again.
    const LONGEST: usize = 64;

    fn tokens(&mut self, word: &str, merge: impl FnOnce(&str) -> Vec<u32>) -> &[u32] {
        if let Some(&(start, end)) = self.words.get(word) {
            return self.tokens.get(start..end).unwrap_or_default();
        }
        if self.words.len() >= Cache::WORDS {
            self.words.clear();
            self.tokens.clear();
        }
        let start = self.tokens.len();
        self.tokens.extend(merge(word));
        self.words.insert(word.into(), (start, self.tokens.len()));
        self.tokens.get(start..).unwrap_or_default()
    }
}
