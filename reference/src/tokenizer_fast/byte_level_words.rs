//! The encodings of the `tokenizers` crate, several times faster: the crate finds the added tokens and merges each word
//! that is new; words that were seen before come from a cache.

use std::borrow::Cow;

use tokenizers::{
    Encoding, Model, ModelWrapper, OffsetReferential, OffsetType, PreTokenizerWrapper, Token, Tokenizer,
};

use super::lists::Lists;
use crate::tokenizer::byte_level::alphabet::byte_alphabet;
use crate::tokenizer::byte_level::cache::Caches;
use crate::tokenizer::byte_level::words::{Unicode, words};

/// A tokenizer that normalizes nothing, cuts words by GPT-2's pattern, and always merges a word in the same way.
#[derive(Debug)]
pub(super) struct ByteLevelWords {
    add_prefix_space: bool,
    alphabet: [char; 256],
    caches: Caches<Part>,
}

impl ByteLevelWords {
    /// None if the tokenizer is of another kind, such as one that normalizes.
    pub(super) fn of(tokenizer: &Tokenizer) -> Option<ByteLevelWords> {
        let (ModelWrapper::BPE(bpe), Some(PreTokenizerWrapper::ByteLevel(byte_level)), None) =
            (tokenizer.get_model(), tokenizer.get_pre_tokenizer(), tokenizer.get_normalizer())
        else {
            return None;
        };
        let fits = bpe.dropout.is_none() && byte_level.use_regex;
        let add_prefix_space = byte_level.add_prefix_space;
        fits.then(|| ByteLevelWords {
            add_prefix_space,
            alphabet: byte_alphabet(),
            caches: Caches::default(),
        })
    }

    /// What [`Encoder::encode`](super::Encoder::encode) is to give; tokens that are no added ones are empty.
    pub(super) fn encode(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        offsets: bool,
    ) -> tokenizers::Result<Encoding> {
        let added = tokenizer.get_added_vocabulary();
        let has_added = added.get_added_tokens_decoder().values().any(|token| text.contains(&token.content));
        let pieces = has_added.then(|| added.extract_and_normalize(tokenizer.get_normalizer(), text));
        let splits = pieces.as_ref().map_or_else(
            || vec![(text, (0, text.len()), &None)],
            |pieces| pieces.get_splits(OffsetReferential::Original, OffsetType::Byte),
        );
        let mut lists = Lists::with_capacity(text.len() / 4);
        let mut failure = None;
        for (piece, _, added) in splits {
            if let Some(tokens) = added {
                lists.ids.extend(tokens.iter().map(|token| token.id));
                if offsets {
                    lists.follow_added(piece, tokens);
                }
                continue;
            }
            let prefix = self.add_prefix_space && !piece.starts_with(' ');
            let piece = if prefix { Cow::Owned(format!(" {piece}")) } else { Cow::Borrowed(piece) };
            // The space put in is nowhere in the text: its place is that of the first character.
            let mut inserted = usize::from(prefix);
            let merge = |word: &str| {
                self.merge(tokenizer, word).unwrap_or_else(|error| {
                    failure = Some(error);
                    Vec::new()
                })
            };
            self.caches.each(words(&piece, Unicode::V16), merge, |word, parts| {
                lists.ids.extend(parts.iter().map(|part| part.id));
                if offsets {
                    follow(&mut lists, word, parts, std::mem::take(&mut inserted));
                }
            });
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(lists.into_encoding()),
        }
    }

    /// The tokens of a word.
    fn merge(&self, tokenizer: &Tokenizer, word: &str) -> tokenizers::Result<Vec<Part>> {
        let spelled: String = word.bytes().filter_map(|byte| self.alphabet.get(usize::from(byte))).collect();
        // Each byte of the word is a character of `spelled`.
        let mut bytes = Characters::of(&spelled);
        let tokens = tokenizer.get_model().tokenize(&spelled)?;
        let part = |token: &Token| {
            let (start, end) = bytes.range(token.offsets.0, token.offsets.1);
            Part { id: token.id, start, end }
        };
        Ok(tokens.iter().map(part).collect())
    }
}

/// A token of a word, and its bytes there.
#[derive(Debug, Default)]
struct Part {
    id: u32,
    start: usize,
    end: usize,
}

/// Follows a word, whose first `inserted` characters are not in the text.
fn follow(lists: &mut Lists, word: &str, parts: &[Part], inserted: usize) {
    let mut characters = Characters::of(word);
    for part in parts {
        let (start, end) = characters.range(part.start, part.end);
        let (start, end) = (start.saturating_sub(inserted), end.saturating_sub(inserted).max(1));
        lists.push(String::new(), start, end, 0);
    }
    lists.end_words(characters.begun_before(word.len()) - inserted, 1);
}

/// From bytes to characters, from the front of a text to its end.
struct Characters<'t> {
    /// What is not counted yet.
    rest: &'t [u8],
    /// Its place in the text.
    at: usize,
    /// Characters that begin before it.
    begun: usize,
}

impl<'t> Characters<'t> {
    fn of(text: &'t str) -> Characters<'t> {
        Characters { rest: text.as_bytes(), at: 0, begun: 0 }
    }

    /// How many characters begin before a byte, which must not lie before the last one that was asked for.
    fn begun_before(&mut self, byte: usize) -> usize {
        if let Some((counted, rest)) = self.rest.split_at_checked(byte.saturating_sub(self.at)) {
            self.begun += counted.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
            (self.rest, self.at) = (rest, byte.max(self.at));
        }
        self.begun
    }

    /// The characters that have some of the bytes.
    fn range(&mut self, start: usize, end: usize) -> (usize, usize) {
        (self.begun_before(start + 1).saturating_sub(1), self.begun_before(end))
    }
}

#[cfg(test)]
mod tests {
    // Tests unwrap and panic: that is how they fail.
    #![allow(clippy::unwrap_used, clippy::panic)]

    use tokenizers::models::bpe::{BPE, Vocab};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::{AddedToken, Tokenizer};

    use super::super::lists::spelled;
    use super::ByteLevelWords;
    use crate::tokenizer::byte_level::alphabet::byte_alphabet;

    /// All bytes but `z` and the first byte of some emoji, a few merges, and added tokens of every kind.
    fn tokenizer(add_prefix_space: bool, unk: Option<&str>) -> Tokenizer {
        let merges = ["Ġ t", "h e", "Ġt he", "Ã ¤", "a Ã", "â Ģ", "Ġ Ã", "Ċ Ċ", "Ġ Ġ"];
        let merges = merges.map(|merge| merge.split_once(' ').unwrap());
        let mut tokens: Vec<String> = byte_alphabet().iter().map(char::to_string).collect();
        tokens.retain(|token| token != "z" && token != "ð");
        tokens.extend(merges.map(|(left, right)| format!("{left}{right}")));
        tokens.push("[UNK]".into());
        let vocab: Vocab = tokens.into_iter().zip(0..).collect();
        let merges = merges.map(|(left, right)| (left.to_string(), right.to_string()));
        let mut bpe = BPE::builder().vocab_and_merges(vocab, merges.to_vec());
        if let Some(unk) = unk {
            bpe = bpe.unk_token(unk.into()).fuse_unk(true);
        }
        let mut tokenizer = Tokenizer::new(bpe.build().unwrap());
        tokenizer.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(add_prefix_space)));
        let added = [
            AddedToken::from("[SEP]", true),
            AddedToken::from("[MASK]", true).lstrip(true),
            AddedToken::from("<r>", false).rstrip(true),
            AddedToken::from("ä!", false).single_word(true),
        ];
        tokenizer.add_tokens(added).unwrap();
        tokenizer
    }

    /// `count` texts of pieces that lie in wait for each other.
    fn texts(count: u32) -> impl Iterator<Item = String> {
        let pieces = [
            "a",
            "the",
            " the",
            " ",
            "  ",
            "\n",
            "\n\n",
            "\u{a0}",
            "\u{3000}",
            "\u{85}",
            "ä",
            "a\u{308}",
            "中",
            "👩\u{200d}👧",
            "z",
            "zz",
            "'s",
            "'",
            "1½",
            "!",
            "\0",
            "\u{feff}",
            "\u{10ffff}",
            "[SEP]",
            "[MASK]",
            " [MASK]",
            "<r>",
            "<r> ",
            "ä!",
            "[MAS",
            "…",
        ];
        let mut state = 1_u32;
        (0..count).map(move |_| {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                usize::try_from(state >> 16).unwrap()
            };
            (0..next() % 9).map(|_| pieces[next() % pieces.len()]).collect()
        })
    }

    #[test]
    fn encodings_are_those_of_the_crate() {
        for (add_prefix_space, unk) in
            [(false, None), (true, None), (false, Some("[UNK]")), (true, Some("[UNK]"))]
        {
            let tokenizer = tokenizer(add_prefix_space, unk);
            let ours = ByteLevelWords::of(&tokenizer).unwrap();
            for text in texts(5000) {
                let expected = tokenizer.encode_char_offsets(text.as_str(), false).unwrap();
                assert_eq!(
                    spelled(&tokenizer, ours.encode(&tokenizer, &text, true).unwrap()),
                    expected,
                    "{text:?}"
                );
                assert_eq!(ours.encode(&tokenizer, &text, false).unwrap().get_ids(), expected.get_ids());
            }
        }
    }

    #[test]
    fn words_of_every_character_are_those_of_the_crate() {
        let tokenizer = tokenizer(false, Some("[UNK]"));
        let ours = ByteLevelWords::of(&tokenizer).unwrap();
        let characters: Vec<char> = (0..0x34000).chain(0x3d000..0x3fd00).filter_map(char::from_u32).collect();
        for chunk in characters.chunks(4096) {
            let text: String = chunk.iter().flat_map(|&c| ['a', c, '1', c, '!', c, ' ', c]).collect();
            let expected = tokenizer.encode_char_offsets(text.as_str(), false).unwrap();
            let encoding = spelled(&tokenizer, ours.encode(&tokenizer, &text, true).unwrap());
            assert!(encoding == expected, "{:?}", chunk[0]);
        }
    }
}
