//! Which class of which framework a trace is of.

use std::fmt;

use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Head, MaskedRows};

use crate::trace::file::Trace;

/// A class that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A class of transformers' PyTorch code.
    PyTorch(Head),
    /// Its TensorFlow twin.
    TensorFlow(Head),
    /// Masked language modelling by Microsoft's enhanced mask decoder.
    MaskDecoder,
}

impl Class {
    /// The name of the mask decoder, which is no class of transformers.
    const MASK_DECODER: &str = "EnhancedMaskDecoder";

    /// The class of that name.
    ///
    /// # Errors
    /// A name that no class has.
    pub fn from_name(name: &str) -> Result<Class> {
        let head = Head::from_class_name(name);
        match head {
            _ if name == Class::MASK_DECODER => Ok(Class::MaskDecoder),
            Some(head) if name.starts_with("TF") => Ok(Class::TensorFlow(head)),
            Some(head) => Ok(Class::PyTorch(head)),
            None => {
                let known: Vec<&str> = Head::ALL.iter().map(|head| head.class_name()).collect();
                let message = format!(
                    "there is no class {name:?}: choose from {}, each also with TF in front, and {}",
                    known.join(", "),
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
            (Some("microsoft"), _) => Ok(Some(Class::MaskDecoder)),
            (_, Some(name)) => Class::from_name(name).map(Some),
            (_, None) => Ok(None),
        }
    }

    /// What stands on the base model.
    pub fn head(self) -> Head {
        match self {
            Class::PyTorch(head) | Class::TensorFlow(head) => head,
            Class::MaskDecoder => Head::MaskedLm,
        }
    }

    /// What its framework makes of attention rows whose every key is masked.
    pub fn masked_rows(self) -> MaskedRows {
        match self {
            Class::PyTorch(_) => MaskedRows::Uniform,
            Class::TensorFlow(_) | Class::MaskDecoder => MaskedRows::Zero,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Class::PyTorch(head) => f.pad(head.class_name()),
            Class::TensorFlow(head) => f.pad(&format!("TF{head}")),
            Class::MaskDecoder => f.pad(Class::MASK_DECODER),
        }
    }
}

/// The word for it in a trace's metadata.
pub fn masked_rows_name(rows: MaskedRows) -> &'static str {
    match rows {
        MaskedRows::Uniform => "uniform",
        MaskedRows::Zero => "zero",
    }
}

/// What a trace says about masked rows; nothing if it does not say.
///
/// # Errors
/// Another word than `uniform` and `zero`.
pub fn masked_rows_of(trace: &Trace) -> Result<Option<MaskedRows>> {
    match trace.metadata("masked_rows") {
        None => Ok(None),
        Some("uniform") => Ok(Some(MaskedRows::Uniform)),
        Some("zero") => Ok(Some(MaskedRows::Zero)),
        Some(other) => {
            Err(Error::malformed(format!("masked_rows is {other:?}, it must be \"uniform\" or \"zero\"")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_name() {
        for head in Head::ALL {
            for class in [Class::PyTorch(head), Class::TensorFlow(head)] {
                assert_eq!(Class::from_name(&class.to_string()).unwrap(), class);
            }
        }
        assert_eq!(Class::from_name("EnhancedMaskDecoder").unwrap(), Class::MaskDecoder);
        let error = Class::from_name("BertModel").unwrap_err().to_string();
        assert!(error.starts_with("there is no class \"BertModel\": choose from DebertaModel, "), "{error}");
    }
}
