//! How the normalizer of a fast tokenizer treats characters.

use std::fmt;

use tokenizers::NormalizerWrapper;

/// How the normalizer of a fast tokenizer of DeBERTa v2 treats characters.
///
/// transformers 4 writes the map of characters of spm.model into tokenizer.json (`Precompiled`). transformers 5 writes
/// `NFC` in its place: of 400 texts, 62 to 68 got other ids than in training, since `…`, ligatures and full-width forms
/// became unknown. Ids are those of the file either way; [`Normalization::warning`] says what to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalization {
    /// By the map of characters of spm.model, as transformers 4 does.
    Precompiled,
    /// Not at all, but for spaces and case: spm.model has no map.
    Identity,
    /// By NFC, as transformers 5 does whatever spm.model says.
    Nfc,
    /// In some other way.
    Other,
}

impl Normalization {
    pub(super) fn of(normalizer: Option<&NormalizerWrapper>) -> Normalization {
        let mut parts = Vec::new();
        normalizer.into_iter().for_each(|normalizer| flatten(normalizer, &mut parts));
        let has = |wanted: fn(&NormalizerWrapper) -> bool| parts.iter().any(|part| wanted(part));
        let spacing = |part: &&NormalizerWrapper| {
            use NormalizerWrapper::{Lowercase, NFC, Precompiled, Replace, StripNormalizer};
            matches!(part, Lowercase(_) | StripNormalizer(_) | Replace(_) | Precompiled(_) | NFC(_))
        };
        let nfc = has(|part| matches!(part, NormalizerWrapper::NFC(_)));
        match (parts.iter().all(spacing), has(|part| matches!(part, NormalizerWrapper::Precompiled(_))), nfc)
        {
            (true, true, false) => Normalization::Precompiled,
            (true, false, true) => Normalization::Nfc,
            (true, false, false) => Normalization::Identity,
            _ => Normalization::Other,
        }
    }

    /// What a reader should know of a tokenizer that does not normalize as transformers 4 does.
    pub fn warning(&self) -> Option<String> {
        match self {
            Normalization::Precompiled | Normalization::Identity => None,
            Normalization::Nfc => Some(
                "tokenizer.json normalizes by NFC, as transformers 5 writes it, and not by the map of characters of \
                 spm.model: texts with ligatures, full-width forms or \"…\" get other tokens than in training; without \
                 this file spm.model is read"
                    .into(),
            ),
            Normalization::Other => Some(
                "tokenizer.json has a normalizer that neither transformers 4 nor 5 writes for DeBERTa: texts may get \
                 other tokens than in training"
                    .into(),
            ),
        }
    }
}

impl fmt::Display for Normalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Normalization::Precompiled => "precompiled",
            Normalization::Identity => "identity",
            Normalization::Nfc => "nfc",
            Normalization::Other => "other",
        })
    }
}

/// The parts of a normalizer, of sequences too.
fn flatten<'n>(normalizer: &'n NormalizerWrapper, parts: &mut Vec<&'n NormalizerWrapper>) {
    match normalizer {
        NormalizerWrapper::Sequence(sequence) => {
            sequence.as_ref().iter().for_each(|part| flatten(part, parts));
        }
        part => parts.push(part),
    }
}
