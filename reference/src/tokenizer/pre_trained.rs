//! What the slow tokenizers have in common: added tokens, special tokens, truncation, padding, and decoding.
//!
//! Source: transformers 4.57.6, `tokenization_utils.py`, class `PreTrainedTokenizer`.

use std::borrow::Cow;
use std::fmt::Debug;
use std::path::Path;

use foldhash::HashMap;

use super::added_tokens::{AddedToken, AddedTokens, Piece};
use super::base::{PreTrainedTokenizerBase, SpecialTokenIds};
use super::decode::{Decoded, clean_up_tokenization, join};
use super::encoding::{EncodeOptions, Encoding, Lengths, Side, sequences, truncate_sequences};
use super::files::fault;
use super::limits::check_texts;
use super::settings::Settings;
use crate::error::{Error, Result};

/// What a slow class decides for itself: its vocabulary, and how a text becomes tokens of it.
pub trait Vocabulary: Debug + Send + Sync {
    /// How many tokens there are.
    fn size(&self) -> usize;

    /// The id of a token, none if the vocabulary lacks it.
    fn find(&self, token: &str) -> Option<u32>;

    /// The id that stands for tokens that the vocabulary lacks, if it has one.
    fn unknown_id(&self) -> Option<u32>;

    /// The token of an id.
    fn token(&self, id: u32) -> Option<&str>;

    /// A text before its added tokens are looked for.
    fn prepare<'t>(&self, text: &'t str) -> Cow<'t, str>;

    /// Appends the tokens of a text that has no added tokens.
    fn tokenize(&self, text: &str, tokens: &mut Vec<String>);

    /// Appends the ids of a text that has no added tokens.
    fn encode(&self, text: &str, ids: &mut Vec<u32>);

    /// The text that tokens spell.
    ///
    /// # Errors
    /// If they spell none.
    fn convert_tokens_to_string(&self, tokens: &[&str]) -> Result<String>;

    /// An added token as it is looked for.
    fn normalized(&self, token: &AddedToken) -> AddedToken {
        token.clone()
    }

    /// Takes note of an added token and its id, which another one may have had.
    fn note(&mut self, id: u32, token: &AddedToken);

    /// Takes note of a token that has become one of the special tokens.
    fn note_special(&mut self, _content: &str) {}
}

/// A slow tokenizer: a vocabulary and what surrounds it.
///
/// [`DebertaTokenizer`](crate::DebertaTokenizer) and [`DebertaV2Tokenizer`](crate::DebertaV2Tokenizer) are this with a
/// vocabulary each.
#[derive(Debug)]
pub struct PreTrainedTokenizer<V: ?Sized> {
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
    added: AddedTokens,
    /// The texts of the special tokens, and their ids.
    special: HashMap<String, u32>,
    /// Additional special tokens that are not in the vocabulary.
    additional: Vec<String>,
    /// The size of the vocabulary with added tokens.
    len: usize,
    special_ids: SpecialTokenIds,
    /// The vocabulary, with the options that its class alone has.
    pub vocabulary: V,
}

impl<V: Vocabulary> PreTrainedTokenizer<V> {
    /// Surrounds a vocabulary, which `file` holds, with what the settings say. `special` are the special tokens in the
    /// order in which they get ids.
    pub(super) fn with_vocabulary(
        vocabulary: V,
        settings: &Settings,
        special: &[AddedToken],
        file: &Path,
    ) -> Result<PreTrainedTokenizer<V>> {
        let mut tokenizer = PreTrainedTokenizer {
            padding_side: settings.padding_side.unwrap_or_default(),
            truncation_side: settings.truncation_side.unwrap_or_default(),
            model_max_length: settings.model_max_length,
            clean_up_tokenization_spaces: settings.clean_up_tokenization_spaces,
            split_special_tokens: settings.split_special_tokens,
            added: AddedTokens::default(),
            special: HashMap::default(),
            additional: Vec::new(),
            len: 0,
            special_ids: SpecialTokenIds::default(),
            vocabulary,
        };
        for (id, token) in &settings.added_tokens_decoder {
            tokenizer.added.insert(*id, token.clone());
            tokenizer.vocabulary.note(*id, token);
        }
        tokenizer.insert(special);
        tokenizer.special = special
            .iter()
            .filter_map(|token| Some((token.content.clone(), tokenizer.id(&token.content)?)))
            .collect();
        let additional = settings.additional_special_tokens.iter().map(|given| given.content().to_string());
        let size = tokenizer.vocabulary.size();
        tokenizer.additional = additional
            .filter(|content| tokenizer.id(content).is_some_and(|id| id as usize >= size))
            .collect();
        let id = |name: &str| -> Result<u32> {
            let content = settings.content(name)?;
            let unknown = || fault(file, name, format!("{content:?} has no id"));
            tokenizer.id(&content).ok_or_else(unknown)
        };
        tokenizer.special_ids = SpecialTokenIds::new(id)?;
        Ok(tokenizer)
    }
}

impl<V: Vocabulary + ?Sized> PreTrainedTokenizer<V> {
    /// Gives tokens ids from the end of the vocabulary, or those that they have. Gives the number of new ones.
    fn insert(&mut self, tokens: &[AddedToken]) -> usize {
        let before = self.size();
        let mut next = before;
        for token in tokens {
            let known = self.added.id(&token.content).or_else(|| self.vocabulary.find(&token.content));
            let id = known.unwrap_or_else(|| {
                next += 1;
                u32::try_from(next - 1).unwrap_or(u32::MAX)
            });
            self.added.insert(id, token.clone());
            self.vocabulary.note(id, token);
        }
        self.added.index();
        self.len = self.size();
        next - before
    }

    /// How many different tokens there are.
    fn size(&self) -> usize {
        let new = self.added.ids().keys().filter(|content| self.vocabulary.find(content).is_none()).count();
        self.vocabulary.size() + new
    }

    /// Adds tokens that are found in texts whole. Those that the vocabulary has keep their ids, the others get ids
    /// from its end. Gives the number of new ones.
    ///
    /// Tokens that are special become special tokens of the tokenizer, as those of `additional_special_tokens`.
    pub fn add_tokens(&mut self, tokens: &[AddedToken]) -> usize {
        let tokens = tokens.iter().filter(|token| !token.content.is_empty());
        let tokens: Vec<AddedToken> = tokens.map(|token| self.vocabulary.normalized(token)).collect();
        let new = self.insert(&tokens);
        for token in tokens {
            let Some(id) = self.added.id(&token.content).filter(|_| token.special) else { continue };
            self.vocabulary.note_special(&token.content);
            let new = self.special.insert(token.content.clone(), id).is_none();
            if new && id as usize >= self.vocab_size() {
                self.additional.push(token.content);
            }
        }
        new
    }

    /// The tokens of a text, without `[CLS]` and `[SEP]`, as the vocabulary spells them: `Ġ` or `▁` is a space.
    pub fn tokenize(&self, text: &str) -> Vec<String> {
        let mut tokens = Vec::new();
        self.each_piece(text, |piece| match piece {
            Piece::Added(_, content) => tokens.push(content.into_owned()),
            Piece::Text(text) => self.vocabulary.tokenize(&text, &mut tokens),
        });
        tokens
    }

    /// The ids of the tokens of a text.
    fn ids(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 4);
        self.each_piece(text, |piece| match piece {
            Piece::Added(id, _) => ids.push(id),
            Piece::Text(text) => self.vocabulary.encode(&text, &mut ids),
        });
        ids
    }

    /// Cuts a text at its added tokens.
    fn each_piece(&self, text: &str, mut take: impl FnMut(Piece<'_>)) {
        let text = self.vocabulary.prepare(text);
        if self.split_special_tokens {
            take(Piece::Text(text));
        } else {
            self.added.split(&text).into_iter().for_each(take);
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
        check_texts([text].into_iter().chain(text_pair))?;
        let lengths = options.lengths(self.model_max_length, self.padding_side)?;
        let mut encoding = self.encode_and_truncate(text, text_pair, options.add_special_tokens, &lengths);
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
        check_texts(batch.iter().flat_map(|(text, pair)| [*text].into_iter().chain(*pair)))?;
        let lengths = options.lengths(self.model_max_length, self.padding_side)?;
        let encodings = batch
            .iter()
            .map(|(text, pair)| self.encode_and_truncate(text, *pair, options.add_special_tokens, &lengths));
        let mut encodings: Vec<Encoding> = encodings.collect();
        let length = lengths.padded(encodings.iter().map(Encoding::len).max().unwrap_or(0));
        encodings
            .iter_mut()
            .for_each(|encoding| encoding.pad(length, lengths.padding_side, self.special_ids.pad));
        Ok(encodings)
    }

    fn encode_and_truncate(
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
        Ok(token_ids_0.iter().map(|id| u32::from(self.is_special(*id))).collect())
    }

    /// Whether a special token has an id.
    fn is_special(&self, id: u32) -> bool {
        self.special.values().any(|special| *special == id)
    }

    /// The id of each token: that of the unknown token if the vocabulary lacks it, none if it lacks that too.
    pub fn convert_tokens_to_ids<T: AsRef<str>>(&self, tokens: &[T]) -> Vec<Option<u32>> {
        tokens.iter().map(|token| self.id(token.as_ref())).collect()
    }

    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        let known = self.added.id(token).or_else(|| self.vocabulary.find(token));
        known.or_else(|| self.vocabulary.unknown_id())
    }

    /// The token of each id, none if no token has it. Special tokens can be left out.
    pub fn convert_ids_to_tokens(&self, ids: &[u32], skip_special_tokens: bool) -> Vec<Option<&str>> {
        let kept = ids.iter().filter(|id| !(skip_special_tokens && self.is_special(**id)));
        kept.map(|&id| self.token(id)).collect()
    }

    fn token(&self, id: u32) -> Option<&str> {
        let added = self.added.token(id).map(|token| &*token.content);
        added.or_else(|| self.vocabulary.token(id))
    }

    /// The token of an id and whether it stands alone; none if it is special and those are left out.
    fn decoded(&self, id: u32, skip_special_tokens: bool) -> Result<Option<Decoded<'_>>> {
        let token = self.token(id).ok_or_else(|| {
            Error::Tokenizer(format!("id {id} has no token: the vocabulary has {} tokens", self.len()))
        })?;
        let special = self.special.contains_key(token);
        if skip_special_tokens && (special || self.is_special(id)) {
            return Ok(None);
        }
        let stands_alone =
            self.added.id(token).is_some() && !special || self.additional.iter().any(|a| a == token);
        Ok(Some(Decoded { token, stands_alone }))
    }

    /// The text that tokens spell.
    ///
    /// # Errors
    /// If they spell none: [`Vocabulary::convert_tokens_to_string`] says when.
    pub fn convert_tokens_to_string(&self, tokens: &[&str]) -> Result<String> {
        self.vocabulary.convert_tokens_to_string(tokens)
    }
}

impl<V: Vocabulary + ?Sized> PreTrainedTokenizerBase for PreTrainedTokenizer<V> {
    fn special_token_ids(&self) -> &SpecialTokenIds {
        &self.special_ids
    }

    fn encode(&self, text: &str, text_pair: Option<&str>, options: &EncodeOptions) -> Result<Vec<u32>> {
        Ok(self.encode_plus(text, text_pair, options)?.input_ids)
    }

    /// The text of ids. Added tokens that are not special stand between spaces.
    ///
    /// # Errors
    /// If no token has an id, or the tokens spell no text.
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
        self.vocabulary.size()
    }

    fn len(&self) -> usize {
        self.len
    }

    /// 2 or 3.
    fn num_special_tokens_to_add(&self, pair: bool) -> usize {
        if pair { 3 } else { 2 }
    }
}
