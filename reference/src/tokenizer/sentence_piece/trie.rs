//! The pieces of a vocabulary, byte by byte, to find all that a text begins with.
//!
//! A double array (Aoe 1989): the child of a node for a byte is at the node's base XOR the byte, if the node there says
//! that this is its parent.

/// No node, no piece.
const NONE: u32 = u32::MAX;
/// The children of a node are all in one block of so many nodes.
const BLOCK: usize = 256;
/// So many free nodes are tried for the children of a node before they get a new block.
const TRIES: usize = 32;
/// Free nodes before the last so many are left to children that are alone.
const WINDOW: usize = 16 * BLOCK;

/// A trie.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Where its children are, XOR the byte.
    base: u32,
    parent: u32,
    /// The piece that ends here.
    piece: u32,
}

impl Trie {
    /// The first node.
    pub(super) const ROOT: u32 = 0;

    /// The pieces with the numbers that `prefixes` gives.
    pub(super) fn new<'p>(pieces: impl Iterator<Item = (&'p str, u32)>) -> Trie {
        let mut pieces: Vec<(&[u8], u32)> = pieces.map(|(text, number)| (text.as_bytes(), number)).collect();
        pieces.sort_unstable();
        let mut builder = Builder::default();
        builder.add_block();
        builder.take(Trie::ROOT, NONE);
        // Nodes whose children have no place yet: the pieces that lead through them, and how many bytes that took.
        let mut open = vec![(Trie::ROOT, &pieces[..], 0)];
        while let Some((at, mut through, depth)) = open.pop() {
            while let Some(((text, number), rest)) = through.split_first()
                && text.len() == depth
            {
                builder.change(at, |node| node.piece = *number);
                through = rest;
            }
            let byte = |piece: &(&[u8], u32)| piece.0.get(depth).copied().unwrap_or(0);
            let families: Vec<_> = through.chunk_by(|a, b| byte(a) == byte(b)).collect();
            let bytes: Vec<u8> = families.iter().filter_map(|family| Some(byte(family.first()?))).collect();
            let Some(base) = builder.base(&bytes) else { continue };
            builder.change(at, |node| node.base = base);
            for (byte, family) in bytes.into_iter().zip(families) {
                let child = base ^ u32::from(byte);
                builder.take(child, at);
                open.push((child, family, depth + 1));
            }
        }
        Trie { nodes: builder.nodes }
    }

    /// The child of a node for a byte, and the piece that ends there.
    #[inline]
    pub(super) fn step(&self, at: u32, byte: u8) -> Option<(u32, Option<u32>)> {
        let child = self.nodes.get(at as usize)?.base ^ u32::from(byte);
        let node = self.nodes.get(child as usize).filter(|node| node.parent == at)?;
        Some((child, Some(node.piece).filter(|piece| *piece != NONE)))
    }

    /// The number of a piece.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        let mut found = (Trie::ROOT, None);
        for byte in text {
            found = self.step(found.0, *byte)?;
        }
        found.1
    }

    /// The length of the longest piece that a text begins with.
    pub(super) fn longest(&self, text: &[u8]) -> Option<usize> {
        let (mut at, mut longest) = (Trie::ROOT, None);
        for (byte, length) in text.iter().zip(1..) {
            let Some((child, piece)) = self.step(at, *byte) else { break };
            at = child;
            longest = piece.map_or(longest, |_| Some(length));
        }
        longest
    }
}

/// A trie in the making.
#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    taken: Vec<bool>,
    /// No node before it is free.
    first_free: usize,
}

impl Builder {
    fn add_block(&mut self) {
        let length = self.nodes.len() + BLOCK;
        self.nodes.resize(length, Node { base: 0, parent: NONE, piece: NONE });
        self.taken.resize(length, false);
    }

    fn change(&mut self, at: u32, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(at as usize) {
            change(node);
        }
    }

    fn take(&mut self, at: u32, parent: u32) {
        self.change(at, |node| node.parent = parent);
        if let Some(taken) = self.taken.get_mut(at as usize) {
            *taken = true;
        }
    }

    fn is_free(&self, at: usize) -> bool {
        self.taken.get(at) == Some(&false)
    }

    /// A base whose children for these bytes are free.
    fn base(&mut self, bytes: &[u8]) -> Option<u32> {
        let first = usize::from(*bytes.first()?);
        while self.taken.get(self.first_free) == Some(&true) {
            self.first_free += 1;
        }
        // A child that is alone fits anywhere.
        let window = if bytes.len() == 1 { 0 } else { self.nodes.len().saturating_sub(WINDOW) };
        let window = self.first_free.max(window);
        let free = (window..self.nodes.len()).filter(|at| self.is_free(*at)).take(TRIES);
        let fits = |base: &usize| bytes.iter().all(|byte| self.is_free(base ^ usize::from(*byte)));
        let base = free.map(|at| at ^ first).find(fits).unwrap_or_else(|| {
            let base = self.nodes.len();
            self.add_block();
            base
        });
        u32::try_from(base).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(trie: &Trie, text: &str) -> Vec<u32> {
        let mut at = Trie::ROOT;
        let steps = text.bytes().map_while(|byte| {
            let (child, piece) = trie.step(at, byte)?;
            at = child;
            Some(piece)
        });
        steps.flatten().collect()
    }

    #[test]
    fn all_pieces_at_the_beginning_of_a_text_are_found() {
        let pieces = ["a", "ab", "abc", "b", "▁", "▁a", "\0", "\u{10ffff}"];
        let trie = Trie::new(pieces.into_iter().zip(0..));
        assert_eq!(prefixes(&trie, "abcd"), [0, 1, 2]);
        assert_eq!(prefixes(&trie, "▁ab"), [4, 5]);
        assert_eq!(prefixes(&trie, "\0a"), [6]);
        assert!(prefixes(&trie, "c").is_empty());
        assert_eq!(trie.longest("abd".as_bytes()), Some(2));
        assert_eq!(trie.longest(b"d"), None);
        assert_eq!(Trie::new(std::iter::empty()).longest(b"a"), None);
    }

    #[test]
    fn many_pieces_are_kept_apart() {
        let pieces: Vec<String> =
            (0..20_000_u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
        let trie = Trie::new(pieces.iter().map(String::as_str).zip(0..));
        for (number, piece) in (0..).zip(&pieces) {
            assert_eq!(prefixes(&trie, piece).last(), Some(&number));
        }
        assert!(trie.nodes.len() < 150_000, "{} nodes", trie.nodes.len());
    }
}
