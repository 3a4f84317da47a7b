//! Tokenizers: what they make of texts, and whether those of a release are the ones that its goldens were made with.
//!
//! ```text
//! files                    which files a tokenizer is read from, and where they are
//! encoded                  a text, and what a tokenizer makes of it
//! recorded                 the same as a golden holds it
//! digest                   the tokenizer in 256 bits
//! judge                    the tokenizers of a release, against goldens and against each other
//!   probes                   texts for that where a golden has none
//!   difference  guess        why two make different tokens of a text
//!   said                     where they do
//!   config                   what config.json and tokenizer_config.json say
//! ```

mod config;
mod difference;
pub mod digest;
pub mod encoded;
pub mod files;
mod guess;
pub(crate) mod judge;
pub(crate) mod probes;
pub mod recorded;
mod said;
