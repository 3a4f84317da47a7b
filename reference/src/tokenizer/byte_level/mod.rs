//! `DebertaTokenizer`: GPT-2's byte-level byte-pair encoding with BERT's special tokens.
//!
//! Source: transformers 4.57.6, `models/deberta/tokenization_deberta.py`, class `DebertaTokenizer`.

use std::path::{Path, PathBuf};

use foldhash::HashMap;

pub(crate) mod alphabet;
mod bpe;
pub(crate) mod cache;
mod loading;
mod unicode;
pub(crate) mod vocabulary;
pub(crate) mod words;

use super::added_tokens::{AddedToken, AddedTokens, Piece, is_python_space};
use super::base::{PreTrainedTokenizerBase, SpecialTokenIds};
use super::decode::{Decoded, clean_up_tokenization, join};
use super::encoding::{EncodeOptions, Encoding, Lengths, Side, sequences, truncate_sequences};
use super::settings::DecodeErrors;
use crate::error::{Error, Result};
use bpe::{Bpe, Symbol};
use vocabulary::MergeLine;

/// The tokenizer of DeBERTa: GPT-2's byte-level byte-pair encoding with BERT's special tokens.
///
/// It agrees with transformers' slow class, and so differs from [`DebertaTokenizerFast`](crate::DebertaTokenizerFast):
///
/// | | this class | the fast class |
/// |---|---|---|
/// | letters and numbers | Unicode 18.0, as the Python module `regex` 2026.11.15 | Unicode 16.0, as Oniguruma in `tokenizers` 0.22 |
/// | white space that `[MASK]` takes | what `str.isspace` holds for: U+001C to U+001F too | `\s` |
/// | `add_prefix_space` | one space before the text, unless white space is there | one before every text between added tokens, unless a space is there |
/// | bytes that the vocabulary lacks | `[UNK]` | nothing |
/// | a single-word token | stands alone if the neighbours are spaces | stands alone if the neighbours are not `\w` |
/// | white space between two tokens that both take it, tokens within tokens | as `Trie.split` cuts | leftmost, longest |
/// | `encode_plus(a, Some(""))` | a pair | a single sequence |
/// | a sequence too short to be truncated | is left as it is | is an error, or empty if only special tokens fit |
/// | ids of added tokens | those of the files | one after another from the end of the vocabulary |
/// | padding an empty sequence that is alone, without special tokens | leaves it empty | pads it |
/// | decoding an unknown id | is an error | leaves it out |
/// | decoding an added token that is not special | with spaces around it | without |
#[derive(Debug)]
pub struct DebertaTokenizer {
    /// Whether a text gets a space before it, so that its first word is like any other.
    pub add_prefix_space: bool,
    /// Where padding goes.
    pub padding_side: Side,
    /// Where sequences lose tokens.
    pub truncation_side: Side,
    /// The longest sequence that the model takes; none if the files do not say.
    pub model_max_length: Option<usize>,
    /// Whether `decode` removes the space before punctuation unless told otherwise.
    pub clean_up_tokenization_spaces: bool,
    /// Whether special tokens in a text are text.
    pub split_special_tokens: bool,
    /// What decoding does with bytes that are not UTF-8.
    pub errors: DecodeErrors,
    /// vocab.json
    encoder: HashMap<String, u32>,
    decoder: HashMap<u32, String>,
    /// merges.txt
    merges: Vec<MergeLine>,
    bpe: Bpe,
    added: AddedTokens,
    /// The id of every symbol of `bpe`.
    symbol_ids: Vec<u32>,
    /// The texts of the special tokens, and their ids.
    special: HashMap<String, u32>,
    /// Additional special tokens that are not in vocab.json.
    additional: Vec<String>,
    /// The size of the vocabulary with added tokens.
    len: usize,
    unk_token: String,
    special_ids: SpecialTokenIds,
}

impl DebertaTokenizer {
    /// Gives tokens ids from the end of the vocabulary, or those that they have. Gives the number of new ones.
    fn insert(&mut self, tokens: &[AddedToken]) -> usize {
        let before = self.size();
        let mut next = before;
        for token in tokens {
            let known = self.added.id(&token.content).or_else(|| self.encoder.get(&token.content).copied());
            let id = known.unwrap_or_else(|| {
                next += 1;
                u32::try_from(next - 1).unwrap_or(u32::MAX)
            });
            self.added.insert(id, token.clone());
        }
        self.added.index();
        self.len = self.size();
        next - before
    }

    /// How many different tokens there are.
    fn size(&self) -> usize {
        let new = self.added.ids().keys().filter(|content| !self.encoder.contains_key(*content)).count();
        self.encoder.len() + new
    }

    /// Adds tokens that are found in texts whole. Those that the vocabulary has keep their ids, the others get ids
    /// from its end. Gives the number of new ones.
    ///
    /// Tokens that are special become special tokens of the tokenizer, as those of `additional_special_tokens`.
    pub fn add_tokens(&mut self, tokens: &[AddedToken]) -> usize {
        let tokens: Vec<AddedToken> =
            tokens.iter().filter(|token| !token.content.is_empty()).cloned().collect();
        let new = self.insert(&tokens);
        for token in tokens {
            let Some(id) = self.added.id(&token.content) else { continue };
            if token.special
                && self.special.insert(token.content.clone(), id).is_none()
                && id as usize >= self.vocab_size()
            {
                self.additional.push(token.content.clone());
            }
            // A merge can make what is now an added token.
            for (symbol_id, text) in self.symbol_ids.iter_mut().zip(self.bpe.texts()) {
                if *text == token.content {
                    *symbol_id = id;
                }
            }
        }
        new
    }

    /// The tokens of a text, without `[CLS]` and `[SEP]`, as the vocabulary spells them: `Ġ` is a space.
    pub fn tokenize(&self, text: &str) -> Vec<String> {
        let mut tokens = Vec::new();
        self.each_piece(text, |piece| match piece {
            Piece::Added(_, content) => tokens.push(content.into_owned()),
            Piece::Text(text) => self.bpe.encode(&text, |symbols| {
                let texts = symbols.iter().filter_map(|&symbol| self.bpe.texts().get(symbol as usize));
                tokens.extend(texts.cloned());
            }),
        });
        tokens
    }

    /// The ids of the tokens of a text.
    fn ids(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 4);
        self.each_piece(text, |piece| match piece {
            Piece::Added(id, _) => ids.push(id),
            Piece::Text(text) => self.bpe.encode(&text, |symbols: &[Symbol]| {
                ids.extend(symbols.iter().filter_map(|&symbol| self.symbol_ids.get(symbol as usize)));
            }),
        });
        ids
    }

    /// Cuts a text at its added tokens, after giving it its first space.
    fn each_piece(&self, text: &str, mut take: impl FnMut(Piece<'_>)) {
        let prefixed;
        let mut text = text;
        if self.add_prefix_space && text.chars().next().is_some_and(|first| !is_python_space(first)) {
            prefixed = format!(" {text}");
            text = &prefixed;
        }
        if self.split_special_tokens {
            take(Piece::Text(text.into()));
        } else {
            self.added.split(text).into_iter().for_each(take);
        }
    }

    /// Encodes a text or a pair.
    ///
    /// ```
    /// use deberta_reference::DebertaTokenizer;
    /// use deberta_reference::tokenizer::{EncodeOptions, PreTrainedTokenizerBase as _};
    ///
    /// let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/trained/nli");
    /// let tokenizer = DebertaTokenizer::from_pretrained(folder)?;
    /// let encoding = tokenizer.encode_plus("The kite is red.", None, &EncodeOptions::default())?;
    /// assert_eq!(encoding.attention_mask, vec![1; encoding.len()]);
    /// assert_eq!(tokenizer.decode(&encoding.input_ids, true, None)?, "The kite is red.");
    /// # Ok::<(), deberta_reference::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the options contradict each other.
    pub fn encode_plus(
        &self,
        text: &str,
        text_pair: Option<&str>,
        options: &EncodeOptions,
    ) -> Result<Encoding> {
        let lengths = options.lengths(self.model_max_length, self.padding_side)?;
        let mut encoding = self.prepare(text, text_pair, options.add_special_tokens, &lengths);
        // An empty sequence that is alone stays empty.
        if !encoding.is_empty() {
            encoding.pad(lengths.padded(encoding.len()), lengths.padding_side, self.special_ids.pad);
        }
        Ok(encoding)
    }

    /// Encodes texts and pairs; `PaddingStrategy::Longest` gives them one length.
    ///
    /// # Errors
    /// If the options contradict each other.
    pub fn batch_encode_plus(
        &self,
        batch: &[(&str, Option<&str>)],
        options: &EncodeOptions,
    ) -> Result<Vec<Encoding>> {
        let lengths = options.lengths(self.model_max_length, self.padding_side)?;
        let encodings =
            batch.iter().map(|(text, pair)| self.prepare(text, *pair, options.add_special_tokens, &lengths));
        let mut encodings: Vec<Encoding> = encodings.collect();
        let length = lengths.padded(encodings.iter().map(Encoding::len).max().unwrap_or(0));
        encodings
            .iter_mut()
            .for_each(|encoding| encoding.pad(length, lengths.padding_side, self.special_ids.pad));
        Ok(encodings)
    }

    /// Encodes and truncates a text or a pair.
    fn prepare(
        &self,
        text: &str,
        text_pair: Option<&str>,
        add_special_tokens: bool,
        lengths: &Lengths,
    ) -> Encoding {
        let mut ids = self.ids(text);
        let mut pair_ids = text_pair.map(|text| self.ids(text));
        let special = if add_special_tokens { self.num_special_tokens_to_add(pair_ids.is_some()) } else { 0 };
        let total = ids.len() + pair_ids.as_ref().map_or(0, Vec::len) + special;
        // A length of 0 means no limit.
        if let Some((strategy, length)) = lengths.truncation
            && length > 0
            && total > length
        {
            truncate_sequences(&mut ids, pair_ids.as_mut(), total - length, strategy, self.truncation_side);
        }
        self.assemble(ids, pair_ids, add_special_tokens)
    }

    /// Puts sequences together.
    fn assemble(&self, ids: Vec<u32>, pair_ids: Option<Vec<u32>>, add_special_tokens: bool) -> Encoding {
        let pair = pair_ids.as_deref();
        let (input_ids, token_type_ids, special_tokens_mask) = if add_special_tokens {
            (
                self.build_inputs_with_special_tokens(&ids, pair),
                self.create_token_type_ids_from_sequences(&ids, pair),
                sequences(1, vec![0; ids.len()], 1, pair.map(|pair| (vec![0; pair.len()], 1))),
            )
        } else {
            let ids = [&ids, pair.unwrap_or_default()].concat();
            let zeros = vec![0; ids.len()];
            (ids, zeros.clone(), zeros)
        };
        Encoding { attention_mask: vec![1; input_ids.len()], input_ids, token_type_ids, special_tokens_mask }
    }

    /// 1 for special tokens, 0 for others: of what `build_inputs_with_special_tokens` makes of the ids, or of the
    /// ids themselves if they have special tokens already.
    ///
    /// # Errors
    /// If there is a second sequence beside ids that have special tokens already.
    pub fn get_special_tokens_mask(
        &self,
        token_ids_0: &[u32],
        token_ids_1: Option<&[u32]>,
        already_has_special_tokens: bool,
    ) -> Result<Vec<u32>> {
        if !already_has_special_tokens {
            let pair = token_ids_1.map(|ids| (vec![0; ids.len()], 1));
            return Ok(sequences(1, vec![0; token_ids_0.len()], 1, pair));
        }
        if token_ids_1.is_some() {
            let problem = "token_ids_1: ids that have their special tokens already are one sequence";
            return Err(Error::Tokenizer(problem.into()));
        }
        let special = |id: &u32| u32::from(self.special.values().any(|special| special == id));
        Ok(token_ids_0.iter().map(special).collect())
    }

    /// The id of each token: `[UNK]`'s if the vocabulary lacks it, none if it lacks that too.
    pub fn convert_tokens_to_ids<T: AsRef<str>>(&self, tokens: &[T]) -> Vec<Option<u32>> {
        tokens.iter().map(|token| self.id(token.as_ref())).collect()
    }

    fn id(&self, token: &str) -> Option<u32> {
        let known = self.added.id(token).or_else(|| self.encoder.get(token).copied());
        known.or_else(|| self.encoder.get(&self.unk_token).copied())
    }

    /// The token of each id, none if no token has it. Special tokens can be left out.
    pub fn convert_ids_to_tokens(&self, ids: &[u32], skip_special_tokens: bool) -> Vec<Option<&str>> {
        let kept = ids.iter().filter(|id| !(skip_special_tokens && self.special.values().any(|s| s == *id)));
        kept.map(|&id| self.token(id)).collect()
    }

    fn token(&self, id: u32) -> Option<&str> {
        let added = self.added.token(id).map(|token| &*token.content);
        added.or_else(|| self.decoder.get(&id).map(String::as_str))
    }

    /// The vocabulary without added tokens.
    pub(crate) fn vocabulary(&self) -> impl Iterator<Item = (&str, u32)> {
        self.encoder.iter().map(|(token, id)| (token.as_str(), *id))
    }

    /// Whether vocab.json has a token.
    pub(crate) fn has_token(&self, token: &str) -> bool {
        self.encoder.contains_key(token)
    }

    /// The lines of merges.txt.
    pub(crate) fn merges(&self) -> &[MergeLine] {
        &self.merges
    }

    /// The token of an id and whether it stands alone; none if it is special and those are left out.
    fn decoded(&self, id: u32, skip_special_tokens: bool) -> Result<Option<Decoded<'_>>> {
        let token = self.token(id).ok_or_else(|| {
            Error::Tokenizer(format!("id {id} has no token: the vocabulary has {} tokens", self.len()))
        })?;
        let special = self.special.contains_key(token);
        if skip_special_tokens && (special || self.special.values().any(|s| *s == id)) {
            return Ok(None);
        }
        let stands_alone =
            self.added.id(token).is_some() && !special || self.additional.iter().any(|a| a == token);
        Ok(Some(Decoded { token, stands_alone }))
    }

    /// The text that tokens spell.
    ///
    /// # Errors
    /// If a character stands for no byte, or for bytes that are not UTF-8 under [`DecodeErrors::Strict`].
    pub fn convert_tokens_to_string(&self, tokens: &[&str]) -> Result<String> {
        alphabet::text_of(tokens, self.errors)
    }

    /// Writes vocab.json and merges.txt into an existing folder, their names after `filename_prefix` and `-`. Gives the two paths.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save_vocabulary(
        &self,
        save_directory: impl AsRef<Path>,
        filename_prefix: Option<&str>,
    ) -> Result<(PathBuf, PathBuf)> {
        let vocabulary = self.encoder.iter().map(|(token, id)| (token.clone(), *id));
        vocabulary::save(save_directory.as_ref(), filename_prefix, vocabulary, &self.merges)
    }
}

impl PreTrainedTokenizerBase for DebertaTokenizer {
    fn special_token_ids(&self) -> &SpecialTokenIds {
        &self.special_ids
    }

    fn encode(&self, text: &str, text_pair: Option<&str>, options: &EncodeOptions) -> Result<Vec<u32>> {
        Ok(self.encode_plus(text, text_pair, options)?.input_ids)
    }

    /// The text of ids. Added tokens that are not special stand between spaces.
    ///
    /// # Errors
    /// If no token has an id, if a special token has characters that stand for no byte, or for bytes that are not
    /// UTF-8 under [`DecodeErrors::Strict`].
    fn decode(
        &self,
        token_ids: &[u32],
        skip_special_tokens: bool,
        clean_up_tokenization_spaces: Option<bool>,
    ) -> Result<String> {
        let tokens = token_ids.iter().filter_map(|&id| self.decoded(id, skip_special_tokens).transpose());
        let text = join(tokens, |neighbours| self.convert_tokens_to_string(neighbours))?;
        let clean = clean_up_tokenization_spaces.unwrap_or(self.clean_up_tokenization_spaces);
        Ok(if clean { clean_up_tokenization(&text) } else { text })
    }

    fn vocab_size(&self) -> usize {
        self.encoder.len()
    }

    fn len(&self) -> usize {
        self.len
    }

    /// 2 or 3.
    fn num_special_tokens_to_add(&self, pair: bool) -> usize {
        if pair { 3 } else { 2 }
    }
}
