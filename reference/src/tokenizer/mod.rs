//! Tokenizers: texts to tokens and back, in plain Rust.
//!
//! 1. Added tokens, such as `[MASK]`, are cut out of the text (`added_tokens.rs`).
//! 2. The rest is cut into tokens of the vocabulary: `byte_level` of version 1, `sentence_piece` of versions 2 and 3.
//! 3. `[CLS]` and `[SEP]` are put in; lengths are cut or padded (`pre_trained.rs`, `encoding.rs`).
//!
//! The way back is `decode.rs`. `settings.rs` and `files.rs` read what surrounds a vocabulary, `limits.rs` says how much of it there may be, `base.rs` has what all
//! classes can do, `auto.rs` chooses the class that a folder needs.

pub(crate) mod added_tokens;
pub(crate) mod auto;
pub(crate) mod base;
pub(crate) mod byte_level;
pub(crate) mod decode;
pub(crate) mod encoding;
pub(crate) mod files;
pub(crate) mod limits;
pub(crate) mod pre_trained;
pub(crate) mod sentence_piece;
pub(crate) mod settings;

pub use added_tokens::AddedToken;
pub use auto::{SlowTokenizer, Tokenizer};
pub use base::{PreTrainedTokenizerBase, SpecialTokenIds};
pub use byte_level::{ByteLevel, DebertaTokenizer};
pub use encoding::{EncodeOptions, Encoding, PaddingStrategy, Side, TruncationStrategy};
pub use limits::LONGEST_TEXT;
pub use pre_trained::{PreTrainedTokenizer, Vocabulary};
pub use sentence_piece::{DebertaV2Tokenizer, SentencePiece};
pub use settings::DecodeErrors;
