//! Which class of which framework a trace is of.

use std::fmt;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Conventions, Family, FarPositions, Head, MaskedRows};

use crate::trace::file::Trace;

/// A class that can be run: what stands on the base model, in whose code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Whose base model; nothing for Microsoft's classes, which both families share.
    family: Option<Family>,
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
    /// Microsoft's, where the heads of pre-training are.
    Microsoft,
}

impl Class {
    /// Masked language modelling by Microsoft's enhanced mask decoder.
    pub const MASK_DECODER: Class = Class { family: None, head: Head::MaskDecoder, code: Code::Microsoft };

    /// The class with this head: in transformers' PyTorch code, unless it is one of Microsoft's alone.
    pub fn of_head(family: Family, head: Head) -> Class {
        if head.in_transformers() {
            Class { family: Some(family), head, code: Code::PyTorch }
        } else {
            Class { family: None, head, code: Code::Microsoft }
        }
    }

    /// The class that a checkpoint is of.
    pub fn of_checkpoint(checkpoint: &Checkpoint) -> Class {
        Class::of_head(checkpoint.config.family, checkpoint.head)
    }

    /// The twin in TensorFlow, if there is one.
    pub fn in_tensorflow(self) -> Option<Class> {
        self.head.in_transformers().then_some(Class { code: Code::TensorFlow, ..self })
    }

    /// Checks that a checkpoint can be of the class.
    ///
    /// # Errors
    /// A class of the other family; where the tensors are of that family, too, what they lack of the configuration's.
    pub fn require(self, checkpoint: &Checkpoint) -> Result<()> {
        let family = checkpoint.config.family;
        if self.family.is_none_or(|own| own == family) && self.head.is_of(family) {
            return Ok(());
        }
        checkpoint.require_parameters()?;
        let message = format!("model_type is {:?}, this is no {self}", family.model_type());
        Err(Error::new(Kind::Model, message).in_file(&checkpoint.source.path))
    }

    /// The class of that name.
    ///
    /// # Errors
    /// A name that no class has.
    pub fn from_name(name: &str) -> Result<Class> {
        let family = Family::of_class(name).unwrap_or(Family::V2);
        let class = Head::from_class_name(name).map(|head| Class::of_head(family, head));
        let twin = name.starts_with("TF");
        match class.and_then(|class| if twin { class.in_tensorflow() } else { Some(class) }) {
            Some(class) => Ok(class),
            None => {
                let named = |own: bool| -> Vec<&str> {
                    let heads = Head::ALL.into_iter().filter(|head| head.in_transformers() != own);
                    let mut names: Vec<&str> = heads.flat_map(Head::class_names).collect();
                    names.dedup();
                    names
                };
                let message = format!(
                    "there is no class {name:?}: choose from {}, each also with TF in front, and {}",
                    named(false).join(", "),
                    named(true).join(" and ")
                );
                Err(Error::new(Kind::Request, message))
            }
        }
    }

    /// The class of Microsoft's code that a trace of it is of. Traces of the mask decoder may name the class of transformers
    /// that loads the same weights.
    pub fn of_microsoft(name: &str) -> Class {
        let own = Head::from_class_name(name).filter(|head| !head.in_transformers());
        own.map_or(Class::MASK_DECODER, |head| Class { head, ..Class::MASK_DECODER })
    }

    /// The class that a trace says it is of; nothing if it does not say.
    ///
    /// # Errors
    /// A name that no class has.
    pub fn of(trace: &Trace) -> Result<Option<Class>> {
        match (trace.metadata("framework"), trace.metadata("class")) {
            (Some("microsoft"), name) => Ok(Some(Class::of_microsoft(name.unwrap_or_default()))),
            (_, Some(name)) => Class::from_name(name).map(Some),
            (_, None) => Ok(None),
        }
    }

    /// What its code does where others do something else.
    pub fn conventions(self) -> Conventions {
        match self.code {
            Code::PyTorch => Conventions::PYTORCH,
            Code::TensorFlow => Conventions::TENSORFLOW,
            Code::Microsoft => Conventions::MICROSOFT,
        }
    }

    /// The base model of the same code.
    pub fn base(self, family: Family) -> Class {
        Class { family: Some(family), head: Head::Base, code: self.code }
    }

    /// What its code makes of attention rows whose every key is masked.
    pub fn masked_rows(self) -> MaskedRows {
        self.conventions().masked_rows
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.head.class_name(self.family.unwrap_or(Family::V2));
        match self.code {
            Code::PyTorch | Code::Microsoft => f.pad(name),
            Code::TensorFlow => f.pad(&format!("TF{name}")),
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

/// Checks what a trace says about far positions, if it does, against what the code of its class does.
///
/// # Errors
/// Another word than `clamped` and `spilled`; not what the class does.
pub fn check_far_positions(trace: &Trace, class: Option<Class>) -> Result<()> {
    let Some(word) = trace.metadata("far_positions") else { return Ok(()) };
    let far = FarPositions::from_word(word).ok_or_else(|| {
        Error::malformed(format!("far_positions is {word:?}, it must be \"clamped\" or \"spilled\""))
    })?;
    match class {
        Some(class) if class.conventions().far_positions != far => {
            let own = class.conventions().far_positions.word();
            Err(Error::malformed(format!("far_positions is {word:?}, those of {class} are {own:?}")))
        }
        _ => Ok(()),
    }
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
        for (family, head) in Family::ALL.into_iter().flat_map(|of| Head::of(of).map(move |head| (of, head)))
        {
            let class = Class::of_head(family, head);
            assert_eq!(Class::from_name(&class.to_string()).unwrap(), class);
            if let Some(twin) = class.in_tensorflow() {
                assert_eq!(Class::from_name(&twin.to_string()).unwrap(), twin);
            }
        }
        assert_eq!(Class::from_name("EnhancedMaskDecoder").unwrap(), Class::MASK_DECODER);
        assert!(Class::from_name("TFEnhancedMaskDecoder").is_err());
        let error = Class::from_name("BertModel").unwrap_err().to_string();
        assert!(error.starts_with("there is no class \"BertModel\": choose from DebertaModel, "), "{error}");
        let own = "and EnhancedMaskDecoder and ReplacedTokenDetectionModel";
        assert!(error.ends_with(own), "{error}");
    }
}
