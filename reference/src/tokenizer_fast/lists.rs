//! What an encoding is made of, token by token.

use tokenizers::{Encoding, Token};

/// What is known of the tokens of a text. Without offsets, `ids` alone.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) ids: Vec<u32>,
    /// Empty where the vocabulary spells the token: most are copied several times before someone reads them.
    tokens: Vec<String>,
    /// In characters of the text.
    offsets: Vec<(usize, usize)>,
    words: Vec<Option<u32>>,
    /// Words so far, added tokens included.
    word: u32,
    /// Characters of the text so far.
    at: usize,
}

impl Lists {
    pub(super) fn with_capacity(tokens: usize) -> Lists {
        Lists { ids: Vec::with_capacity(tokens), ..Lists::default() }
    }

    /// Follows an added token that was found in the text.
    pub(super) fn follow_added(&mut self, found: &str, tokens: &[Token]) {
        let characters = found.chars().count();
        for token in tokens {
            self.push(token.value.clone(), 0, characters, 0);
        }
        self.end_words(characters, 1);
    }

    /// Adds a token of the words that follow: its characters, and which of the words it is in.
    pub(super) fn push(&mut self, token: String, start: usize, end: usize, word: u32) {
        self.tokens.push(token);
        self.offsets.push((self.at + start, self.at + end));
        self.words.push(Some(self.word.wrapping_add(word)));
    }

    /// Ends so many characters and words.
    pub(super) fn end_words(&mut self, characters: usize, words: u32) {
        self.at += characters;
        self.word = self.word.wrapping_add(words);
    }

    pub(super) fn into_encoding(mut self) -> Encoding {
        let n = self.ids.len();
        self.tokens.resize(n, String::new());
        self.words.resize(n, None);
        self.offsets.resize(n, (0, 0));
        Encoding::new(
            self.ids,
            vec![0; n],
            self.tokens,
            self.words,
            self.offsets,
            vec![0; n],
            vec![1; n],
            Vec::new(),
            Default::default(),
        )
    }
}

/// An encoding whose tokens are all spelled, as the crate gives it.
#[cfg(test)]
pub(super) fn spelled(tokenizer: &tokenizers::Tokenizer, encoding: Encoding) -> Encoding {
    use tokenizers::Model as _;

    let known = |id: u32| tokenizer.get_model().id_to_token(id).unwrap_or_default();
    let tokens = encoding.get_tokens().iter().zip(encoding.get_ids());
    let tokens = tokens.map(|(token, &id)| super::spelled(token, || known(id)));
    Encoding::new(
        encoding.get_ids().to_vec(),
        encoding.get_type_ids().to_vec(),
        tokens.collect(),
        encoding.get_word_ids().to_vec(),
        encoding.get_offsets().to_vec(),
        encoding.get_special_tokens_mask().to_vec(),
        encoding.get_attention_mask().to_vec(),
        Vec::new(),
        Default::default(),
    )
}
