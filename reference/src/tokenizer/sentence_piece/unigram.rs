//! The best way to cut a text into pieces: the one whose scores, logarithms of probabilities, add up to most.
//!
//! Kudo 2018, "Subword Regularization: Improving Neural Network Translation Models with Multiple Subword Candidates",
//! section 3.2, by Viterbi's algorithm.
//! Source: sentencepiece 0.2.3, `unigram_model.cc`, `Model::EncodeOptimized`: sums are f32, and of two equal ways the one
//! found first stays.

use super::model::{Kind, Model};
use super::trie::Trie;

/// The score of an unknown character, below that of the worst piece.
const UNKNOWN_PENALTY: f32 = 10.0;

/// The pieces that a text can be cut into.
#[derive(Debug)]
pub(super) struct Unigram {
    trie: Trie,
    /// By the pieces' ids.
    scores: Vec<f32>,
    unk_id: u32,
    unk_score: f32,
}

/// The last piece of the best way to a place in a text.
#[derive(Clone, Copy)]
struct Best {
    score: f32,
    /// Where the piece starts; [`NOWHERE`] if there is no way to the place yet.
    start: u32,
    id: u32,
}

const NOWHERE: u32 = u32::MAX;

impl Unigram {
    pub(super) fn new(model: &Model) -> Unigram {
        let found = |kind| matches!(kind, Kind::Normal | Kind::UserDefined);
        let pieces = (0..).zip(&model.pieces).filter(|(_, piece)| found(piece.kind));
        let normal = model.pieces.iter().filter(|piece| piece.kind == Kind::Normal);
        let lowest = normal.fold(f32::MAX, |lowest, piece| lowest.min(piece.score));
        let score = |piece: &super::model::Piece| {
            if piece.kind == Kind::UserDefined {
                // Whatever the pieces within it score, they do not add up to more.
                (0.1 * piece.text.len() as f64 - 0.1) as f32
            } else {
                piece.score
            }
        };
        Unigram {
            trie: Trie::new(pieces.map(|(id, piece)| (piece.text.as_str(), id))),
            scores: model.pieces.iter().map(score).collect(),
            unk_id: model.unk_id,
            unk_score: lowest - UNKNOWN_PENALTY,
        }
    }

    /// Calls `emit` with each piece of the best way, its place in the text and its id; of the unknown ones with each
    /// character.
    pub(super) fn encode(&self, text: &str, mut emit: impl FnMut(&str, u32)) {
        let mut best = vec![Best { score: 0.0, start: NOWHERE, id: 0 }; text.len() + 1];
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
    fn extend(&self, text: &[u8], start: usize, character: usize, best: &mut [Best]) {
        let Some((so_far, beyond)) = best.get_mut(start..).and_then(<[Best]>::split_first_mut) else {
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

impl Best {
    fn improve(&mut self, other: Best) {
        if self.start == NOWHERE || other.score > self.score {
            *self = other;
        }
    }
}
