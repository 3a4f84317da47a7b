//! Added tokens: pieces of text that are tokens of their own, whatever the vocabulary says.
//!
//! Source: transformers 4.57.6, `tokenization_utils.py`, classes `Trie` and `PreTrainedTokenizer`.

use std::borrow::Cow;

use foldhash::HashMap;

/// A token that is found in a text before the vocabulary sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// The text of the token.
    pub content: String,
    /// Whether it counts only between spaces.
    pub single_word: bool,
    /// Whether it takes the white space before it.
    pub lstrip: bool,
    /// Whether it takes the white space after it.
    pub rstrip: bool,
    /// Whether it is looked for in normalized text, after all tokens that are not; version 1 normalizes nothing.
    pub normalized: bool,
    /// Whether it is special: decoding can leave it out.
    pub special: bool,
}

impl AddedToken {
    /// A token that takes no white space.
    pub fn new(content: impl Into<String>, special: bool) -> AddedToken {
        AddedToken {
            content: content.into(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: !special,
            special,
        }
    }
}

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// An added token: its id, which another token may have too, and its text.
    Added(u32, Cow<'t, str>),
    /// Text between added tokens.
    Text(Cow<'t, str>),
}

/// The added tokens of a tokenizer.
#[derive(Clone, Debug, Default)]
pub(super) struct AddedTokens {
    ids: HashMap<String, u32>,
    tokens: HashMap<u32, AddedToken>,
    trie: Trie,
}

impl AddedTokens {
    /// Adds a token, or changes the one of the same text. `index` makes it known to `split`.
    pub(super) fn insert(&mut self, id: u32, token: AddedToken) {
        self.ids.insert(token.content.clone(), id);
        self.tokens.insert(id, token);
    }

    /// Lets `split` find the tokens. One whose id another token got later is not found, as in transformers.
    pub(super) fn index(&mut self) {
        for token in self.tokens.values() {
            self.trie.insert(&token.content);
        }
    }

    pub(super) fn id(&self, content: &str) -> Option<u32> {
        self.ids.get(content).copied()
    }

    pub(super) fn token(&self, id: u32) -> Option<&AddedToken> {
        self.tokens.get(&id)
    }

    pub(super) fn ids(&self) -> &HashMap<String, u32> {
        &self.ids
    }

    /// Cuts a text at its added tokens, which take white space or join their neighbours as they say.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<Piece<'t>> {
        let mut pieces: Vec<Cow<'t, str>> = self.trie.cut(text).into_iter().map(Cow::Borrowed).collect();
        for at in 0..pieces.len() {
            self.apply_flags(&mut pieces, at);
        }
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
        pieces
            .map(|piece| match self.id(&piece) {
                Some(id) => Piece::Added(id, piece),
                None => Piece::Text(piece),
            })
            .collect()
    }

    /// Does what the flags of the token at `at` ask for, if it is one.
    ///
    /// Whether a token stands alone is decided before white space is taken: in `a <t>`, where `<t>` takes the space
    /// before it, it still stands after a space.
    fn apply_flags(&self, pieces: &mut [Cow<'_, str>], at: usize) {
        let Some(token) = pieces.get(at).and_then(|piece| self.token(self.id(piece)?)) else { return };
        let left_ends_word = at.checked_sub(1).and_then(|left| pieces.get(left)?.chars().next_back());
        let right_starts_word = pieces.get(at + 1).and_then(|right| right.chars().next());
        if token.rstrip
            && let Some(right) = pieces.get_mut(at + 1)
        {
            *right = Cow::Owned(right.trim_start_matches(is_python_space).to_string());
        }
        let left = at.checked_sub(1).and_then(|left| pieces.get_mut(left));
        if token.lstrip
            && let Some(left) = left
        {
            strip_end(left);
        }
        if !token.single_word {
            return;
        }
        let joins = |neighbour: Option<char>| neighbour.is_some_and(|character| character != ' ');
        if joins(left_ends_word) {
            if let Some(left) = at.checked_sub(1).and_then(|left| pieces.get_mut(left)) {
                left.to_mut().push_str(&token.content);
            }
        } else if joins(right_starts_word) {
            if let Some(right) = pieces.get_mut(at + 1) {
                right.to_mut().insert_str(0, &token.content);
            }
        } else {
            return;
        }
        if let Some(piece) = pieces.get_mut(at) {
            *piece = Cow::Borrowed("");
        }
    }
}

/// Removes white space from the end.
fn strip_end(piece: &mut Cow<'_, str>) {
    match piece {
        Cow::Borrowed(text) => *text = text.trim_end_matches(is_python_space),
        Cow::Owned(text) => text.truncate(text.trim_end_matches(is_python_space).len()),
    }
}

/// Whether Python's `str.isspace` holds: Unicode's white space, and U+001C to U+001F.
pub(super) fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// The texts of the added tokens, character by character. Node 0 is the root.
#[derive(Clone, Debug)]
struct Trie {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    children: HashMap<char, usize>,
    /// Whether a token ends here.
    ends: bool,
}

impl Default for Trie {
    fn default() -> Trie {
        Trie { nodes: vec![Node::default()] }
    }
}

impl Trie {
    fn insert(&mut self, content: &str) {
        let mut at = 0;
        for character in content.chars() {
            let new = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return };
            at = *node.children.entry(character).or_insert(new);
            if at == new {
                self.nodes.push(Node::default());
            }
        }
        if at > 0
            && let Some(node) = self.nodes.get_mut(at)
        {
            node.ends = true;
        }
    }

    fn step(&self, node: usize, character: char) -> Option<usize> {
        self.nodes.get(node)?.children.get(&character).copied()
    }

    fn ends(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|node| node.ends)
    }

    /// Cuts a text before and after every token in it.
    ///
    /// All tokens that may have started are followed at once. As soon as one of them is complete and a character
    /// beyond it has been seen, the earliest start that is still followed wins, with the longest token there.
    fn cut<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut cuts = Vec::new();
        let mut starts: Vec<Start> = Vec::new();
        let mut resume = 0;
        for (at, character) in text.char_indices() {
            if at < resume {
                continue;
            }
            if let Some((start, end)) = self.follow(&mut starts, text, at, character) {
                cuts.extend([start, end]);
                starts.clear();
                resume = end;
            }
            if at >= resume
                && let Some(node) = self.step(0, character)
            {
                starts.push(Start { at, node, alive: true });
            }
        }
        if let Some(start) = starts.iter().find(|start| self.ends(start.node)) {
            cuts.push(start.at);
        }
        cuts.push(text.len());

        let mut from = 0;
        let pieces = cuts.into_iter().filter_map(|to| {
            let piece = text.get(from..to).filter(|piece| !piece.is_empty())?;
            from = to;
            Some(piece)
        });
        pieces.collect()
    }

    /// Follows the starts over one character. Gives start and end of a token if one was complete before it.
    fn follow(
        &self,
        starts: &mut Vec<Start>,
        text: &str,
        at: usize,
        character: char,
    ) -> Option<(usize, usize)> {
        for which in 0..starts.len() {
            let start = starts.get_mut(which)?;
            if self.ends(start.node) {
                let beyond = at + character.len_utf8();
                // This loop has led the starts before this one over the character already, so their tokens go on
                // beyond it. For a start that the character did not match that is a slip, which transformers has too:
                // with the tokens `xbz` and `b`, all of `xbQz` is cut out as one.
                let earlier =
                    starts.get(..which)?.iter().find_map(|s| Some((s.at, self.end(s.node, text, beyond)?)));
                let this = starts.get(which)?;
                return earlier.or_else(|| Some((this.at, self.end(this.node, text, at)?)));
            }
            match self.step(start.node, character) {
                Some(node) => start.node = node,
                None => start.alive = false,
            }
        }
        starts.retain(|start| start.alive);
        None
    }

    /// Where the longest token ends that has come to `node` and goes on at `at`; none if there is no such token.
    fn end(&self, mut node: usize, text: &str, mut at: usize) -> Option<usize> {
        let mut end = self.ends(node).then_some(at);
        for character in text.get(at..)?.chars() {
            let Some(next) = self.step(node, character) else { break };
            node = next;
            at += character.len_utf8();
            if self.ends(node) {
                end = Some(at);
            }
        }
        end
    }
}

/// A place in a text where a token may have started.
#[derive(Clone, Copy)]
struct Start {
    at: usize,
    /// What has matched so far.
    node: usize,
    /// Whether the last character matched.
    alive: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trie(tokens: &[&str]) -> Trie {
        let mut trie = Trie::default();
        for token in tokens {
            trie.insert(token);
        }
        trie
    }

    #[test]
    fn the_earliest_and_longest_token_wins() {
        assert_eq!(trie(&["low", "lower", "blow!"]).cut("blower"), ["b", "lower"]);
        assert_eq!(trie(&["low", "lower"]).cut("lowlow lowe"), ["low", "low", " ", "low", "e"]);
        assert_eq!(trie(&["[A]", "A"]).cut("A[A]A]"), ["A", "[A]", "A", "]"]);
        assert_eq!(trie(&["é", "é🙂"]).cut("aé🙂é"), ["a", "é🙂", "é"]);
        assert_eq!(trie(&["x"]).cut(""), [""; 0]);
        assert_eq!(trie(&[""]).cut("ab"), ["ab"]);
    }

    #[test]
    fn a_start_that_failed_is_looked_at_beyond_the_failure() {
        assert_eq!(trie(&["xbz", "b"]).cut("xbQz"), ["xbQz"]);
    }

    #[test]
    fn flags_take_white_space_and_neighbours() {
        let mut added = AddedTokens::default();
        added.insert(1, AddedToken { lstrip: true, ..AddedToken::new("<l>", true) });
        added.insert(2, AddedToken { rstrip: true, ..AddedToken::new("<r>", true) });
        added.insert(3, AddedToken { single_word: true, ..AddedToken::new("w", false) });
        added.index();
        let text = |text: &str| Piece::Text(Cow::Owned(text.to_string()));
        let added_token = |id, text: &str| Piece::Added(id, Cow::Owned(text.to_string()));
        assert_eq!(added.split("a \u{1c}<l> b"), [text("a"), added_token(1, "<l>"), text(" b")]);
        assert_eq!(added.split("a <r>\u{85} b"), [text("a "), added_token(2, "<r>"), text("b")]);
        assert_eq!(added.split("a w b"), [text("a "), added_token(3, "w"), text(" b")]);
        assert_eq!(added.split("aw"), [text("aw")]);
    }
}
