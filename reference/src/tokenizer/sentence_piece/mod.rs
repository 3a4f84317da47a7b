//! `DebertaV2Tokenizer`: SentencePiece's unigram pieces with BERT's special tokens.
//!
//! 1. Characters are mapped and spaces merged (`normalizer.rs`, `charsmap.rs`).
//! 2. The text is cut in the way that is most probable (`unigram.rs`, over the pieces in `trie.rs`).
//! 3. What no piece spells becomes the unknown token, or its bytes.
//!
//! The way back is `decoding.rs`. spm.model is read by `model.rs`.
//!
//! Source: transformers 4.57.6, `models/deberta_v2/tokenization_deberta_v2.py`, classes `DebertaV2Tokenizer` and
//! `SPMTokenizer`; sentencepiece 0.2.3.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use foldhash::HashMap;

pub(crate) mod charsmap;
mod decoding;
mod loading;
mod lower_case;
pub(crate) mod model;
mod normalizer;
mod punctuation;
mod trie;
pub(crate) mod unigram;

use super::added_tokens::{AddedToken, is_python_space};
use super::files::fault;
use super::pre_trained::{PreTrainedTokenizer, Vocabulary};
use crate::error::Result;
pub(crate) use loading::special_token;
use lower_case::{lower, lower_outside};
use model::Model;
use normalizer::Normalizer;
use unigram::Unigram;

/// The tokenizer of DeBERTa v2, v3 and mDeBERTa: SentencePiece's unigram pieces with BERT's special tokens.
///
/// It agrees with transformers' slow class, and so differs from
/// [`DebertaV2TokenizerFast`](crate::DebertaV2TokenizerFast), beside what the two classes of version 1 do differently:
///
/// | | this class | the fast class |
/// |---|---|---|
/// | what no piece spells, where the model has bytes (v3, mDeBERTa) | its bytes, such as `<0xF0>` | `[UNK]` |
/// | `<0x41>` in a text | text | the byte |
/// | characters are mapped | by the longest key | by the shortest key that a grapheme of less than 6 bytes begins with, the rest of which is dropped, or one by one |
/// | spaces at both ends | fall off after characters are mapped | before: U+200B at the end leaves a `▁` |
/// | white space that no piece spells, such as U+0085, at both ends | unknown | falls off |
/// | a text of `▁` alone | no tokens | `▁` |
/// | `a [UNK] b` | `[UNK]` is found in the text | in the normalized text: another `▁` behind it |
/// | user-defined pieces | are left as they are, and cut out where that is best | are added tokens |
/// | sums of scores | f32 over the whole text | f64 over each word |
/// | options of the normalizer in spm.model | are obeyed | are ignored: transformers' converter has its own |
/// | lower case | Unicode 14.0, as Python 3.11 | Unicode of Rust's standard library |
/// | an unknown id | is `[UNK]` | is left out |
///
/// ```
/// use deberta_reference::DebertaV2Tokenizer;
/// use deberta_reference::tokenizer::{EncodeOptions, PreTrainedTokenizerBase as _};
///
/// let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sentence_piece/bytes");
/// # if !std::path::Path::new(folder).exists() { return Ok(()) }
/// let tokenizer = DebertaV2Tokenizer::from_pretrained(folder)?;
/// let encoding = tokenizer.encode_plus("Every point has a name.", None, &EncodeOptions::default())?;
/// assert_eq!(tokenizer.decode(&encoding.input_ids, true, None)?, "Every point has a name.");
/// # Ok::<(), deberta_reference::Error>(())
/// ```
pub type DebertaV2Tokenizer = PreTrainedTokenizer<SentencePiece>;

/// The vocabulary of [`DebertaV2Tokenizer`]: the pieces of spm.model.
#[derive(Debug)]
pub struct SentencePiece {
    /// Whether texts are put in lower case.
    pub do_lower_case: bool,
    /// Whether texts are cut before and after punctuation.
    pub split_by_punct: bool,
    model: Model,
    /// spm.model
    bytes: Vec<u8>,
    normalizer: Normalizer,
    denormalizer: Option<Normalizer>,
    unigram: Unigram<f32>,
    /// The id of every piece: its number, or that of the added token that it spells.
    ids: Vec<u32>,
    /// The ids of added tokens.
    added: HashMap<String, u32>,
    /// The special tokens that the tokenizer was made with.
    special: Vec<String>,
    /// What lower case leaves as it is: the special tokens, then other added tokens that are normalized.
    kept: Vec<String>,
    /// Where in `kept` an added token is, by its id; an empty text is there if it is no more.
    kept_at: HashMap<u32, usize>,
    unk_token: String,
}

impl SentencePiece {
    /// Calls `emit` with each piece of a text, its spelling and its id.
    fn each_piece(&self, text: &str, mut emit: impl FnMut(&str, u32)) {
        let lowered;
        let mut text = text;
        if self.do_lower_case {
            lowered = lower(text);
            text = &lowered;
        }
        if self.split_by_punct {
            punctuation::split(text).for_each(|text| self.each_piece_of_text(text, &mut emit));
        } else {
            self.each_piece_of_text(text, &mut emit);
        }
    }

    /// Source: sentencepiece 0.2.3, `sentencepiece_processor.cc`, `PopulateSentencePieceText`.
    fn each_piece_of_text(&self, text: &str, emit: &mut impl FnMut(&str, u32)) {
        let text = self.normalizer.normalize(text);
        let mut unknown = String::new();
        self.unigram.encode(&text, |piece, id| {
            if id == self.model.unk_id {
                unknown.push_str(piece);
                return;
            }
            self.emit_unknown(&mut unknown, emit);
            emit(piece, self.ids.get(id as usize).copied().unwrap_or(id));
        });
        self.emit_unknown(&mut unknown, emit);
    }

    /// Emits a run of unknown characters: its bytes, or all of it as one piece. It may spell a piece that no text is cut
    /// into, such as one that is unused.
    fn emit_unknown(&self, unknown: &mut String, emit: &mut impl FnMut(&str, u32)) {
        if unknown.is_empty() {
            return;
        }
        let id = |piece: &str| {
            let known = self.added.get(piece).copied().or_else(|| self.find(piece));
            known.unwrap_or(self.model.unk_id)
        };
        if self.model.byte_fallback {
            for byte in unknown.bytes() {
                let piece = format!("<0x{byte:02X}>");
                emit(&piece, id(&piece));
            }
        } else {
            emit(unknown, id(unknown));
        }
        unknown.clear();
    }
}

impl Vocabulary for SentencePiece {
    fn size(&self) -> usize {
        self.model.pieces.len()
    }

    fn find(&self, token: &str) -> Option<u32> {
        self.model.ids.get(token).copied()
    }

    fn unknown_id(&self) -> Option<u32> {
        Some(self.model.unk_id)
    }

    /// The unknown token's text for an id that no piece has.
    fn token(&self, id: u32) -> Option<&str> {
        Some(self.model.pieces.get(id as usize).map_or(&self.unk_token, |piece| &piece.text))
    }

    fn prepare<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.do_lower_case { Cow::Owned(lower_outside(text, &self.kept)) } else { Cow::Borrowed(text) }
    }

    fn tokenize(&self, text: &str, tokens: &mut Vec<String>) {
        self.each_piece(text, |piece, _| tokens.push(piece.to_string()));
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        self.each_piece(text, |_, id| ids.push(id));
    }

    /// Source: `SPMTokenizer.decode`.
    fn convert_tokens_to_string(&self, tokens: &[&str]) -> Result<String> {
        let is_special = |token: &&str| self.special.iter().any(|special| special == token);
        let (mut text, mut spelled) = (String::new(), String::new());
        for run in tokens.chunk_by(|a, b| is_special(a) == is_special(b)) {
            if run.first().is_some_and(is_special) {
                // The space of special tokens is in front of the text before them.
                text.push(' ');
                text.push_str(&std::mem::take(&mut spelled));
                text.extend(run.iter().copied());
            } else {
                spelled = decoding::decode(&self.model, run);
                if let Some(denormalizer) = &self.denormalizer {
                    spelled = denormalizer.normalize(&spelled);
                }
            }
        }
        text.push_str(&spelled);
        Ok(text.trim_matches(is_python_space).to_string())
    }

    fn normalized(&self, token: &AddedToken) -> AddedToken {
        let mut token = token.clone();
        if self.do_lower_case && token.normalized && !token.special {
            token.content = lower(&token.content);
        }
        token
    }

    fn note(&mut self, id: u32, token: &AddedToken) {
        if let Some(piece) = self.model.ids.get(&token.content)
            && let Some(entry) = self.ids.get_mut(*piece as usize)
        {
            *entry = id;
        }
        self.added.insert(token.content.clone(), id);
        if let Some(before) = self.kept_at.remove(&id).and_then(|at| self.kept.get_mut(at)) {
            before.clear();
        }
        if token.normalized && !token.special {
            self.kept_at.insert(id, self.kept.len());
            self.kept.push(token.content.clone());
        }
    }

    fn note_special(&mut self, content: &str) {
        self.kept.push(content.to_string());
    }
}

impl SentencePiece {
    /// spm.model
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }
}

impl DebertaV2Tokenizer {
    /// Writes spm.model into an existing folder, its name after `filename_prefix` and `-`. Gives the path.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_vocabulary(
        &self,
        save_directory: impl AsRef<Path>,
        filename_prefix: Option<&str>,
    ) -> Result<PathBuf> {
        save(save_directory.as_ref(), filename_prefix, &self.vocabulary.bytes)
    }
}

/// Writes spm.model into a folder, its name after `prefix` and `-`. Gives the path.
pub(crate) fn save(folder: &Path, prefix: Option<&str>, bytes: &[u8]) -> Result<PathBuf> {
    let file = folder.join(prefix.map_or("spm.model".to_string(), |prefix| format!("{prefix}-spm.model")));
    std::fs::write(&file, bytes).map_err(|error| fault(&file, "", error))?;
    Ok(file)
}
