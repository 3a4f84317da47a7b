//! The two families of DeBERTa's classes. What differs between them has a name of its own in [`DebertaConfig`]; the family
//! decides defaults and names alone.
//!
//! [`DebertaConfig`]: crate::DebertaConfig

/// The classes that a checkpoint is of: transformers' `Deberta…` or `DebertaV2…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// DeBERTa v1.
    V1,
    /// DeBERTa v2, DeBERTa v3 and mDeBERTa, which differ from one another in their configurations alone.
    V2,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V1, Family::V2];

    /// What `model_type` in `config.json` says of it.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::V1 => "deberta",
            Family::V2 => "deberta-v2",
        }
    }

    /// The family of a [`Family::model_type`].
    pub fn of_model_type(word: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.model_type() == word)
    }

    /// The family of a class of transformers, in PyTorch or TensorFlow; none of Microsoft's, which are for both.
    ///
    /// ```
    /// use deberta_reference::Family;
    /// assert_eq!(Family::of_class("TFDebertaV2Model"), Some(Family::V2));
    /// assert_eq!(Family::of_class("DebertaForMaskedLM"), Some(Family::V1));
    /// assert_eq!(Family::of_class("EnhancedMaskDecoder"), None);
    /// ```
    pub fn of_class(name: &str) -> Option<Family> {
        let rest = name.strip_prefix("TF").unwrap_or(name).strip_prefix("Deberta")?;
        Some(if rest.starts_with("V2") { Family::V2 } else { Family::V1 })
    }
}
