//! Tokenizers: texts to tokens and back, in plain Rust.
//!
//! 1. Added tokens, such as `[MASK]`, are cut out of the text (`added_tokens.rs`).
//! 2. The rest is cut into words by GPT-2's pattern (`byte_level/words.rs`).
//! 3. The bytes of a word are merged into tokens (`byte_level/bpe.rs`).
//! 4. `[CLS]` and `[SEP]` are put in; lengths are cut or padded (`encoding.rs`).
//!
//! The way back is `decode.rs`. Steps 2 and 3 are those of one kind of vocabulary, and so are the classes in
//! `byte_level`; the files beside it serve any: `settings.rs` and `files.rs` read what surrounds a vocabulary, `base.rs` has
//! what all classes can do.

pub(crate) mod added_tokens;
pub(crate) mod base;
pub(crate) mod byte_level;
pub(crate) mod decode;
pub(crate) mod encoding;
pub(crate) mod files;
pub(crate) mod pre_trained;
pub(crate) mod settings;

pub use added_tokens::AddedToken;
pub use base::{PreTrainedTokenizerBase, SpecialTokenIds};
pub use byte_level::{ByteLevel, DebertaTokenizer};
pub use encoding::{EncodeOptions, Encoding, PaddingStrategy, Side, TruncationStrategy};
pub use pre_trained::{PreTrainedTokenizer, Vocabulary};
pub use settings::DecodeErrors;
