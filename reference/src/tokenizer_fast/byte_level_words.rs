//! Ids without offsets, many times faster: the crate finds the added tokens and merges each word that is new; words
//! that were seen before come from a cache.

use std::borrow::Cow;

use tokenizers::{
    Encoding, Model, ModelWrapper, OffsetReferential, OffsetType, PreTokenizerWrapper, Tokenizer,
};

use crate::tokenizer::bpe::byte_alphabet;
use crate::tokenizer::cache::Caches;
use crate::tokenizer::words::{Unicode, words};

/// A tokenizer that normalizes nothing, cuts words by GPT-2's pattern, and always merges a word in the same way.
#[derive(Debug)]
pub(super) struct ByteLevelWords {
    add_prefix_space: bool,
    alphabet: [char; 256],
    caches: Caches,
}

impl ByteLevelWords {
    /// None if the tokenizer is another one.
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

    /// What `Tokenizer::encode_fast` gives without special tokens.
    pub(super) fn encode(&self, tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<Encoding> {
        let pieces = tokenizer.get_added_vocabulary().extract_and_normalize(tokenizer.get_normalizer(), text);
        let mut ids = Vec::with_capacity(text.len() / 4);
        let mut failure = None;
        for (piece, _, tokens) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            if let Some(tokens) = tokens {
                ids.extend(tokens.iter().map(|token| token.id));
                continue;
            }
            let piece = match self.add_prefix_space && !piece.starts_with(' ') {
                true => Cow::Owned(format!(" {piece}")),
                false => Cow::Borrowed(piece),
            };
            let merge = |word: &str| {
                let spelled: String =
                    word.bytes().filter_map(|byte| self.alphabet.get(usize::from(byte))).collect();
                match tokenizer.get_model().tokenize(&spelled) {
                    Ok(tokens) => tokens.iter().map(|token| token.id).collect(),
                    Err(error) => {
                        failure = Some(error);
                        Vec::new()
                    }
                }
            };
            self.caches.each(words(&piece, Unicode::V16), merge, |tokens| ids.extend(tokens));
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(encoding(ids)),
        }
    }
}

/// An encoding that knows nothing but ids.
fn encoding(ids: Vec<u32>) -> Encoding {
    let n = ids.len();
    Encoding::new(
        ids,
        vec![0; n],
        vec![String::new(); n],
        vec![None; n],
        vec![(0, 0); n],
        vec![0; n],
        vec![1; n],
        Vec::new(),
        Default::default(),
    )
}
