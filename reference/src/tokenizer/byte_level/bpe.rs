//! Byte-level byte-pair encoding: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword
//! Units", over the bytes of UTF-8 as in GPT-2 (Radford et al. 2019, section 2.2).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use foldhash::HashMap;

use super::alphabet::byte_alphabet;
use super::cache::Caches;
use super::words::{Unicode, words};

/// A symbol: a byte, or what a merge makes of two symbols. An index into `Bpe::texts`.
pub(super) type Symbol = u32;

/// The merges, and the symbols that they are about.
#[derive(Debug)]
pub(super) struct Bpe {
    /// Symbol -> how vocab.json spells it. The first 256 are the bytes.
    texts: Vec<String>,
    /// A pair of symbols -> the merge that joins them.
    merges: HashMap<(Symbol, Symbol), Merge>,
    /// The words that were encoded before.
    caches: Caches<Symbol>,
}

/// A line of merges.txt.
#[derive(Clone, Copy, Debug)]
struct Merge {
    /// Its line: earlier merges are made first.
    rank: u32,
    product: Symbol,
}

/// A symbol of a word, in a doubly linked list. A merge puts the product in the left place and drops the right one.
#[derive(Clone, Copy)]
struct Place {
    symbol: Symbol,
    left: usize,
    right: usize,
}

/// No place: left of the first, right of the last, or dropped.
const NOWHERE: usize = usize::MAX;

impl Bpe {
    /// Merges in the order of merges.txt: the two halves, and the rank.
    pub(super) fn new<'m>(merges: impl Iterator<Item = (&'m str, &'m str, u32)>) -> Bpe {
        let mut texts: Vec<String> = byte_alphabet().iter().map(char::to_string).collect();
        let mut symbols: HashMap<String, Symbol> = texts.iter().cloned().zip(0..).collect();
        let mut intern = |text: String| {
            *symbols.entry(text).or_insert_with_key(|text| {
                texts.push(text.clone());
                (texts.len() - 1) as Symbol
            })
        };
        let merges = merges
            .map(|(left, right, rank)| {
                let pair = (intern(left.to_string()), intern(right.to_string()));
                (pair, Merge { rank, product: intern(format!("{left}{right}")) })
            })
            .collect();
        Bpe { texts, merges, caches: Caches::default() }
    }

    /// How vocab.json spells each symbol.
    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Calls `emit` with the symbols of each word of a text.
    pub(super) fn encode(&self, text: &str, mut emit: impl FnMut(&[Symbol])) {
        self.caches.each(words(text, Unicode::V18), |word| self.merge(word), |_, symbols| emit(symbols));
    }

    /// The symbols of one word.
    ///
    /// Round after round, the pair with the lowest rank is joined wherever it stands, from left to right, until no
    /// neighbours have a merge. A queue holds the pairs, so that n bytes take n log n steps.
    fn merge(&self, word: &str) -> Vec<Symbol> {
        let last = word.len().saturating_sub(1);
        let mut places: Vec<Place> = word
            .bytes()
            .enumerate()
            .map(|(at, byte)| Place {
                symbol: Symbol::from(byte),
                left: at.checked_sub(1).unwrap_or(NOWHERE),
                right: if at < last { at + 1 } else { NOWHERE },
            })
            .collect();
        let mut queue: BinaryHeap<Reverse<(u32, usize)>> =
            (0..last).filter_map(|at| Some(Reverse((self.merge_at(&places, at)?.rank, at)))).collect();

        let mut joined = Vec::new();
        while let Some(&Reverse((rank, _))) = queue.peek() {
            while let Some(&Reverse((next, at))) = queue.peek()
                && next == rank
            {
                queue.pop();
                // An earlier merge may have changed the pair that stood here.
                if let Some(merge) = self.merge_at(&places, at)
                    && merge.rank == rank
                {
                    join(&mut places, at, merge.product);
                    joined.push(at);
                }
            }
            for at in joined.drain(..) {
                let left = places.get(at).map_or(NOWHERE, |place| place.left);
                for pair in [left, at] {
                    queue.extend(self.merge_at(&places, pair).map(|merge| Reverse((merge.rank, pair))));
                }
            }
        }

        let mut symbols = Vec::new();
        let mut at = 0;
        while let Some(place) = places.get(at) {
            symbols.push(place.symbol);
            at = place.right;
        }
        symbols
    }

    /// The merge of a place and the one right of it.
    fn merge_at(&self, places: &[Place], at: usize) -> Option<Merge> {
        let place = places.get(at)?;
        let right = places.get(place.right)?;
        self.merges.get(&(place.symbol, right.symbol)).copied()
    }
}

/// Puts the product of a place and its right neighbour in the place, and drops the neighbour.
fn join(places: &mut [Place], at: usize, product: Symbol) {
    let Some(dropped) = places.get(at).map(|place| place.right) else { return };
    let Some(place) = places.get_mut(dropped) else { return };
    let beyond = std::mem::replace(&mut place.right, NOWHERE);
    if let Some(place) = places.get_mut(beyond) {
        place.left = at;
    }
    if let Some(place) = places.get_mut(at) {
        *place = Place { symbol: product, right: beyond, ..*place };
    }
}
