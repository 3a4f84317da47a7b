//! The classes of a family, by what stands on top of the base model.

use crate::config::DebertaConfig;
use crate::family::Family;

/// What stands on top of the base model, in other words which class of a family it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Head {
    /// `DebertaModel`, `DebertaV2Model`: nothing.
    Base,
    /// `…ForMaskedLM`: `cls.predictions`, or `lm_predictions.lm_head` when `legacy` is false.
    MaskedLm,
    /// `EnhancedMaskDecoder`, as which Microsoft trains and publishes masked language models: `lm_predictions.lm_head`
    /// whatever `legacy` says, and absolute positions. transformers lacks it.
    MaskDecoder,
    /// `…ForSequenceClassification`: `pooler` and `classifier`.
    SequenceClassification,
    /// `…ForTokenClassification`: `classifier`.
    TokenClassification,
    /// `…ForQuestionAnswering`: `qa_outputs`.
    QuestionAnswering,
    /// `DebertaV2ForMultipleChoice`: `pooler`, and a `classifier` with one output. Version 2.
    MultipleChoice,
    /// `ReplacedTokenDetectionModel`, as which Microsoft trains and publishes DeBERTa v3: `mask_predictions`.
    /// transformers lacks it. Version 2.
    ReplacedTokens,
}

impl Head {
    /// All heads of both families.
    pub const ALL: [Head; 8] = [
        Head::Base,
        Head::MaskedLm,
        Head::MaskDecoder,
        Head::SequenceClassification,
        Head::TokenClassification,
        Head::QuestionAnswering,
        Head::MultipleChoice,
        Head::ReplacedTokens,
    ];

    /// The heads of a family.
    pub fn of(family: Family) -> impl Iterator<Item = Head> {
        Head::ALL.into_iter().filter(move |head| head.is_of(family))
    }

    /// Whether a family has the class.
    pub fn is_of(self, family: Family) -> bool {
        family == Family::V2 || !matches!(self, Head::MultipleChoice | Head::ReplacedTokens)
    }

    /// The class in a family: as transformers' PyTorch code calls it, or Microsoft's code. A class that the family lacks has
    /// the name that it would have.
    pub fn class_name(self, family: Family) -> &'static str {
        macro_rules! named {
            ($name:literal) => {
                match family {
                    Family::V1 => concat!("Deberta", $name),
                    Family::V2 => concat!("DebertaV2", $name),
                }
            };
        }
        match self {
            Head::Base => named!("Model"),
            Head::MaskedLm => named!("ForMaskedLM"),
            Head::MaskDecoder => "EnhancedMaskDecoder",
            Head::SequenceClassification => named!("ForSequenceClassification"),
            Head::TokenClassification => named!("ForTokenClassification"),
            Head::QuestionAnswering => named!("ForQuestionAnswering"),
            Head::MultipleChoice => named!("ForMultipleChoice"),
            Head::ReplacedTokens => "ReplacedTokenDetectionModel",
        }
    }

    /// Its names in the families that have it.
    pub fn class_names(self) -> impl Iterator<Item = &'static str> {
        let families = Family::ALL.into_iter().filter(move |&family| self.is_of(family));
        families.map(move |family| self.class_name(family))
    }

    /// The word for it on command lines and in files that people write: `seqcls`.
    pub fn word(self) -> &'static str {
        match self {
            Head::Base => "base",
            Head::MaskedLm => "mlm",
            Head::MaskDecoder => "emd",
            Head::SequenceClassification => "seqcls",
            Head::TokenClassification => "tokcls",
            Head::QuestionAnswering => "qa",
            Head::MultipleChoice => "mc",
            Head::ReplacedTokens => "rtd",
        }
    }

    /// The head of a [`Head::word`].
    pub fn from_word(word: &str) -> Option<Head> {
        Head::ALL.into_iter().find(|head| head.word() == word)
    }

    /// Whether transformers has the class, and so a twin in TensorFlow, whose name is the same after `TF`.
    pub fn in_transformers(self) -> bool {
        !matches!(self, Head::MaskDecoder | Head::ReplacedTokens)
    }

    /// The head of a class name of any family ([`Family::of_class`]) in PyTorch, TensorFlow or Microsoft's code.
    pub fn from_class_name(name: &str) -> Option<Head> {
        let family = Family::of_class(name).unwrap_or(Family::V2);
        let twin = name.strip_prefix("TF");
        let named = |head: &Head| {
            let class = head.class_name(family);
            class == name || (head.in_transformers() && twin == Some(class))
        };
        Head::of(family).find(named)
    }

    /// The class in transformers that loads these weights, as `architectures` in `config.json` lists it: for the mask
    /// decoder the masked-LM class, and for replaced token detection the base model.
    pub fn architecture(self, family: Family) -> &'static str {
        let loaded_as = match self {
            Head::MaskDecoder => Head::MaskedLm,
            Head::ReplacedTokens => Head::Base,
            other => other,
        };
        loaded_as.class_name(family)
    }

    /// Whether the head is `cls.predictions`: the masked-LM head that transformers calls legacy.
    pub fn is_legacy(self, config: &DebertaConfig) -> bool {
        self == Head::MaskedLm && config.legacy
    }

    /// Whether the head sees the first token of a sequence alone, through a pooler.
    pub fn has_pooler(self) -> bool {
        matches!(self, Head::SequenceClassification | Head::MultipleChoice)
    }

    /// What the base model's parameters start with under this head.
    pub fn base_prefix(self) -> &'static str {
        if self == Head::Base { "" } else { "deberta." }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_lead_back_to_the_head() {
        for family in Family::ALL {
            for head in Head::of(family) {
                let name = head.class_name(family);
                assert_eq!(Head::from_class_name(name), Some(head));
                assert_eq!(Family::of_class(name), head.in_transformers().then_some(family));
                let twin = format!("TF{name}");
                assert_eq!(Head::from_class_name(&twin), head.in_transformers().then_some(head));
                assert_eq!(Head::from_word(head.word()), Some(head));
            }
        }
        for unknown in ["BertModel", "DebertaForMultipleChoice", "DebertaV2", "TF", "Deberta"] {
            assert_eq!(Head::from_class_name(unknown), None, "{unknown}");
        }
    }
}
