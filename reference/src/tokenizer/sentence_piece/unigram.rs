//! The best way to cut a text into pieces: the one whose scores, logarithms of probabilities, add up to most.
//!
//! Kudo 2018, "Subword Regularization: Improving Neural Network Translation Models with Multiple Subword Candidates",
//! section 3.2, by Viterbi's algorithm.
//! Source: sentencepiece 0.2.3, `unigram_model.cc`, `Model::EncodeOptimized`, where sums are f32, and `tokenizers`,
//! `models/unigram/model.rs`, where they are f64. Of two equal ways the one found first stays.

use std::ops::Add;

use super::trie::Trie;

/// The score of an unknown character is so much below that of the worst piece.
pub(crate) const UNKNOWN_PENALTY: f32 = 10.0;

/// The pieces that a text can be cut into, with scores that are numbers of the type `S`.
#[derive(Debug)]
pub(crate) struct Unigram<S> {
    trie: Trie,
    /// By the pieces' ids.
    scores: Vec<S>,
    unk_id: u32,
    unk_score: S,
}

/// The last piece of the best way to a place in a text.
#[derive(Clone, Copy)]
struct Best<S> {
    score: S,
    /// Where the piece starts; [`NOWHERE`] if there is no way to the place yet.
    start: u32,
    id: u32,
}

const NOWHERE: u32 = u32::MAX;

impl<S: Copy + Default + PartialOrd + Add<Output = S>> Unigram<S> {
    /// The pieces that texts are cut into, with their ids, and the scores of all. An unknown character has the id `unk_id`.
    pub(crate) fn new<'p>(
        pieces: impl Iterator<Item = (&'p str, u32)>,
        scores: Vec<S>,
        unk_id: u32,
        unk_score: S,
    ) -> Unigram<S> {
        Unigram { trie: Trie::new(pieces), scores, unk_id, unk_score }
    }

    /// The id of a piece.
    pub(crate) fn id(&self, piece: &str) -> Option<u32> {
        self.trie.find(piece.as_bytes())
    }

    pub(crate) fn unk_id(&self) -> u32 {
        self.unk_id
    }

    /// Calls `emit` with each piece of the best way, its place in the text and its id; of the unknown ones with each
    /// character.
    pub(crate) fn encode(&self, text: &str, mut emit: impl FnMut(&str, u32)) {
        let mut best = vec![Best { score: S::default(), start: NOWHERE, id: 0 }; text.len() + 1];
        for (start, character) in text.char_indices() {
            self.extend(text.as_bytes(), start, character.len_utf8(), &mut best);
        }
        let mut pieces = Vec::new();
        let mut end = text.len();
        while end > 0
            && let Some(last) = best.get(end)
            && let start = last.start as usize
            && start < end
        {
            pieces.push((start..end, last.id));
            end = start;
        }
        for (range, id) in pieces.into_iter().rev() {
            emit(text.get(range).unwrap_or_default(), id);
        }
    }

    /// Follows all pieces from the character at `start` on, of so many bytes.
    #[inline]
    fn extend(&self, text: &[u8], start: usize, character: usize, best: &mut [Best<S>]) {
        let Some((so_far, beyond)) = best.get_mut(start..).and_then(<[Best<S>]>::split_first_mut) else {
            return;
        };
        let (so_far, from) = (so_far.score, u32::try_from(start).unwrap_or(NOWHERE));
        let mut node = Trie::ROOT;
        let mut alone = false;
        let bytes = text.get(start..).unwrap_or_default();
        for ((byte, end), length) in bytes.iter().zip(beyond.iter_mut()).zip(1..) {
            let Some((child, piece)) = self.trie.step(node, *byte) else { break };
            node = child;
            if let Some(id) = piece {
                let score = self.scores.get(id as usize).copied().unwrap_or(self.unk_score);
                end.improve(Best { score: so_far + score, start: from, id });
                alone |= length == character;
            }
        }
        if !alone && let Some(end) = beyond.get_mut(character - 1) {
            end.improve(Best { score: so_far + self.unk_score, start: from, id: self.unk_id });
        }
    }
}

impl<S: PartialOrd> Best<S> {
    fn improve(&mut self, other: Best<S>) {
        if self.start == NOWHERE || other.score > self.score {
            *self = other;
        }
    }
}
