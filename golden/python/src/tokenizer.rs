//! Texts to tokens. It starts no threads, and may be used in a forked process.

use std::path::PathBuf;

use deberta_converters::confinement::require_tokenizer_inside;
use deberta_converters::error::{self, Kind};
use deberta_converters::hub::{Wanted, resolve};
use deberta_golden::tokens::digest::digest_of_folder;
use deberta_reference::tokenizer::{
    EncodeOptions, PaddingStrategy, PreTrainedTokenizerBase as _, TruncationStrategy,
};
use deberta_reference::{Error, Tokenizer as AnyTokenizer};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::raised::raised;

/// A tokenizer of any class of transformers.
#[pyclass(frozen, module = "deberta_verify._native")]
pub(crate) struct Tokenizer(AnyTokenizer);

/// A text, or a pair.
type Text = (String, Option<String>);
/// `input_ids`, `token_type_ids` and `attention_mask` of a sequence.
type Encoded = (Vec<u32>, Vec<u32>, Vec<u32>);

#[pymethods]
impl Tokenizer {
    /// Reads a folder by the fast class, as AutoTokenizer does, or by the slow one.
    #[staticmethod]
    #[pyo3(signature = (folder, *, revision=None, slow=false))]
    fn load(py: Python<'_>, folder: PathBuf, revision: Option<String>, slow: bool) -> PyResult<Tokenizer> {
        let read = || {
            let folder = resolve(&folder, revision.as_deref(), &Wanted::Tokenizer, &())?;
            require_tokenizer_inside(&folder)?;
            let read = if slow {
                AnyTokenizer::slow_from_pretrained(&folder).map(AnyTokenizer::Slow)
            } else {
                AnyTokenizer::from_pretrained(&folder)
            };
            read.map_err(of_reference)
        };
        py.detach(read).map(Tokenizer).map_err(|error| raised(py, &error))
    }

    /// Encodes texts and pairs.
    fn encode(
        &self,
        py: Python<'_>,
        texts: Vec<Text>,
        padding: Option<&str>,
        truncation: Option<&str>,
        max_length: Option<usize>,
        special_tokens: bool,
    ) -> PyResult<Vec<Encoded>> {
        let no = |what: &str, word: &str| {
            PyValueError::new_err(format!("{what}={word:?} is none of those that there are"))
        };
        let options = EncodeOptions {
            add_special_tokens: special_tokens,
            max_length,
            padding: match padding {
                None => PaddingStrategy::DoNotPad,
                Some("longest") => PaddingStrategy::Longest,
                Some("max_length") => PaddingStrategy::MaxLength,
                Some(other) => return Err(no("padding", other)),
            },
            truncation: match truncation {
                None => None,
                Some("longest_first") => Some(TruncationStrategy::LongestFirst),
                Some("only_first") => Some(TruncationStrategy::OnlyFirst),
                Some("only_second") => Some(TruncationStrategy::OnlySecond),
                Some("do_not_truncate") => Some(TruncationStrategy::DoNotTruncate),
                Some(other) => return Err(no("truncation", other)),
            },
            ..EncodeOptions::default()
        };
        let encode = || {
            let texts: Vec<_> = texts.iter().map(|(text, pair)| (text.as_str(), pair.as_deref())).collect();
            let encoded = self.0.batch_encode_plus(&texts, &options).map_err(of_reference)?;
            let lists =
                encoded.into_iter().map(|each| (each.input_ids, each.token_type_ids, each.attention_mask));
            Ok(lists.collect())
        };
        py.detach(encode).map_err(|error| raised(py, &error))
    }

    /// The tokens of a text, without special ones, as the vocabulary spells them.
    fn tokenize(&self, py: Python<'_>, text: &str) -> PyResult<Vec<String>> {
        py.detach(|| self.0.tokenize(text).map_err(of_reference)).map_err(|error| raised(py, &error))
    }

    /// The text of ids.
    #[pyo3(signature = (ids, *, skip_special_tokens=false))]
    fn decode(&self, py: Python<'_>, ids: Vec<u32>, skip_special_tokens: bool) -> PyResult<String> {
        let decode = || self.0.decode(&ids, skip_special_tokens, None).map_err(of_reference);
        py.detach(decode).map_err(|error| raised(py, &error))
    }

    /// How many tokens there are, added ones too.
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// The id of `[MASK]`, if there is one.
    #[getter]
    fn mask_token_id(&self) -> Option<u32> {
        self.0.mask_token_id()
    }

    /// The id of `[PAD]`.
    #[getter]
    fn pad_token_id(&self) -> u32 {
        self.0.pad_token_id()
    }
}

/// The tokenizer digest of a folder; None if its slow files and tokenizer.json are not one tokenizer.
#[pyfunction]
pub(crate) fn tokenizer_digest(py: Python<'_>, folder: PathBuf) -> PyResult<Option<String>> {
    py.detach(|| digest_of_folder(&folder)).map_err(|error| raised(py, &error))
}

/// An error of the tokenizer, with its place.
fn of_reference(error: Error) -> error::Error {
    match error {
        Error::TokenizerFile { file, place, problem } => {
            let place = if place.is_empty() { place } else { format!("{place}: ") };
            error::Error::malformed(format!("{place}{problem}")).in_file(&file)
        }
        other => error::Error::new(Kind::Request, other.to_string()),
    }
}
