//! Which class of which framework a trace is of.

use std::fmt;

use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Head, MaskedRows};

use crate::trace::file::Trace;

/// A class that can be run: what stands on the base model, in whose code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// What stands on the base model.
    pub head: Head,
    /// Whose conventions hold for masked rows and losses.
    pub code: Code,
}

/// Whose code a class is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// transformers' for PyTorch.
    PyTorch,
    /// transformers' for TensorFlow.
    TensorFlow,
    /// Microsoft's, where the mask decoder is.
    Microsoft,
}

impl Class {
    /// Masked language modelling by Microsoft's enhanced mask decoder.
    pub const MASK_DECODER: Class = Class { head: Head::MaskDecoder, code: Code::Microsoft };

    /// The class with this head: in transformers' PyTorch code, unless it is the mask decoder.
    pub fn of_head(head: Head) -> Class {
        Class { head, code: if head.in_transformers() { Code::PyTorch } else { Code::Microsoft } }
    }

    /// The class of that name.
    ///
    /// # Errors
    /// A name that no class has.
    pub fn from_name(name: &str) -> Result<Class> {
        match Head::from_class_name(name) {
            Some(head) if name.starts_with("TF") => Ok(Class { head, code: Code::TensorFlow }),
            Some(head) => Ok(Class::of_head(head)),
            None => {
                let in_transformers = |head: &Head| head.in_transformers();
                let known = Head::ALL.into_iter().filter(in_transformers).map(Head::class_name);
                let message = format!(
                    "there is no class {name:?}: choose from {}, each also with TF in front, and {}",
                    known.collect::<Vec<_>>().join(", "),
                    Class::MASK_DECODER
                );
                Err(Error::new(Kind::Request, message))
            }
        }
    }

    /// The class that a trace says it is of; nothing if it does not say.
    ///
    /// # Errors
    /// A name that no class has.
    pub fn of(trace: &Trace) -> Result<Option<Class>> {
        match (trace.metadata("framework"), trace.metadata("class")) {
            (Some("microsoft"), _) => Ok(Some(Class::MASK_DECODER)),
            (_, Some(name)) => Class::from_name(name).map(Some),
            (_, None) => Ok(None),
        }
    }

    /// What its code makes of attention rows whose every key is masked.
    pub fn masked_rows(self) -> MaskedRows {
        match self.code {
            Code::PyTorch => MaskedRows::Uniform,
            Code::TensorFlow | Code::Microsoft => MaskedRows::Zero,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Code::PyTorch | Code::Microsoft => f.pad(self.head.class_name()),
            Code::TensorFlow => f.pad(&format!("TF{}", self.head)),
        }
    }
}

/// What a trace says about masked rows; nothing if it does not say.
///
/// # Errors
/// Another word than `uniform` and `zero`.
pub fn masked_rows_of(trace: &Trace) -> Result<Option<MaskedRows>> {
    trace.metadata("masked_rows").map(masked_rows).transpose()
}

/// What becomes of masked rows, by the word that files have for it.
///
/// # Errors
/// Another word.
pub(crate) fn masked_rows(word: &str) -> Result<MaskedRows> {
    MaskedRows::from_word(word).ok_or_else(|| {
        Error::malformed(format!("masked_rows is {word:?}, it must be \"uniform\" or \"zero\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_name() {
        for head in Head::ALL {
            let class = Class::of_head(head);
            assert_eq!(Class::from_name(&class.to_string()).unwrap(), class);
            let twin = Class { head, code: Code::TensorFlow };
            assert_eq!(
                Class::from_name(&twin.to_string()).is_ok_and(|of| of == twin),
                head.in_transformers()
            );
        }
        assert_eq!(Class::from_name("EnhancedMaskDecoder").unwrap(), Class::MASK_DECODER);
        let error = Class::from_name("BertModel").unwrap_err().to_string();
        assert!(error.starts_with("there is no class \"BertModel\": choose from DebertaModel, "), "{error}");
    }
}
