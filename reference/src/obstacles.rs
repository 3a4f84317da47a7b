//! Why a class cannot be built from a configuration that is valid by itself: one answer for all who build it.

use crate::config::DebertaConfig;
use crate::error::{Error, Result};
use crate::params::Head;

impl DebertaConfig {
    /// That the family has no class with this head, in words, if it has none.
    pub fn lacks(&self, head: Head) -> Option<String> {
        let lacks = !head.is_of(self.family);
        lacks.then(|| format!("{:?} has no class with the head {}", self.model_type(), head.word()))
    }

    /// Why the class of `head` cannot be built, if it cannot: the family has no such class, or transformers fails with an
    /// error about shapes.
    pub fn obstacle(&self, head: Head) -> Option<String> {
        let (e, h) = (self.embedding_size, self.hidden_size);
        match head {
            _ if !head.is_of(self.family) => self.lacks(head),
            Head::MaskedLm | Head::MaskDecoder if e != h && !head.is_legacy(self) => {
                Some(format!("lm_predictions decodes hidden states of size {h} by embeddings of size {e}"))
            }
            _ if head.has_pooler() && self.pooler_hidden_size != h => Some(format!(
                "pooler_hidden_size {} is not hidden_size {h}: the pooler takes hidden states",
                self.pooler_hidden_size
            )),
            _ => None,
        }
    }

    /// What TensorFlow's twins make of it: their masked-LM class has `cls.predictions` and decodes by the word embeddings,
    /// whatever `legacy` and `tie_word_embeddings` say.
    pub fn as_in_tensorflow(self) -> DebertaConfig {
        DebertaConfig { legacy: true, tie_word_embeddings: true, ..self }
    }

    /// Why TensorFlow's twin of a class cannot be built, if it cannot. Source: `modeling_tf_deberta.py`,
    /// `modeling_tf_deberta_v2.py`.
    pub fn obstacle_in_tensorflow(&self) -> Option<String> {
        let (e, h) = (self.embedding_size, self.hidden_size);
        let groups = self.convolution.map_or(1, |conv| conv.groups);
        if self.talking_head {
            Some("TensorFlow's DeBERTa fails to build with talking_head".to_owned())
        } else if groups > 1 {
            Some(format!(
                "TensorFlow's DeBERTa ignores conv_groups: it has no convolution in {groups} groups"
            ))
        } else if self.position_biased_input && e != h {
            Some(format!(
                "TensorFlow's DeBERTa cannot add absolute positions to embeddings of width {e} in a model of width {h}"
            ))
        } else {
            None
        }
    }
}

/// Turns an obstacle into an error.
pub(crate) fn unless(obstacle: Option<String>) -> Result<()> {
    obstacle.map_or(Ok(()), |reason| Err(Error::Unsupported(reason)))
}
