//! Tokenizers: what they make of texts, and whether those of a release are the ones that its goldens were made with.
//!
//! ```text
//! files                    which files a tokenizer is read from, and where they are
//! encoded                  a text, and what a tokenizer makes of it
//! digest                   the tokenizer in 256 bits
//! ```

pub mod digest;
pub mod encoded;
pub mod files;
