//! Moving a masked-LM head between its two places.

use deberta_reference::{DebertaConfig, Head, Module};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Kind, Result};

impl Checkpoint {
    /// Moves a masked-LM head between `lm_predictions.lm_head` and `cls.predictions`. The tensors are the same; in
    /// which of the two classes they are decides what transformers computes.
    ///
    /// # Errors
    /// No masked-LM head; an embedding width other than the hidden size; an untied decoder.
    pub fn remap_mlm_head(&mut self) -> Result<()> {
        const LEGACY: [(Module, Module); 3] = [
            (Module::TransformDense, Module::LmDense),
            (Module::TransformLayerNorm, Module::LmLayerNorm),
            (Module::Predictions, Module::LmHead),
        ];
        let fail = |message: String| Err(Error::new(Kind::Request, message).in_file(&self.source.path));
        if self.head != Head::MaskedLm {
            return fail(format!(
                "--mlm-head remap: this is {}, it has no masked-LM head",
                self.class_with_article()
            ));
        }
        let DebertaConfig { embedding_size, hidden_size, .. } = self.config;
        if embedding_size != hidden_size {
            return fail(format!(
                "--mlm-head remap: the two heads differ when embedding_size {embedding_size} is not hidden_size {hidden_size}"
            ));
        }
        if self.config.legacy && !self.config.tie_word_embeddings {
            return fail(
                "--mlm-head remap: lm_predictions has no decoder of its own, and this one is not tied"
                    .to_owned(),
            );
        }
        let to_legacy = !self.config.legacy;
        for param in self.bound.iter_mut().map(|bound| &mut bound.param) {
            let moves = LEGACY.map(|(legacy, new)| if to_legacy { (new, legacy) } else { (legacy, new) });
            if let Some((from, to)) = moves.into_iter().find(|(from, _)| *from == param.module) {
                param.module = to;
                param.name = param.name.replacen(from.path(), to.path(), 1);
            }
        }
        self.config.legacy = to_legacy;
        // transformers would tie lm_head.dense to the embeddings.
        self.config.tie_word_embeddings = to_legacy;
        let (from, to) = if to_legacy {
            ("lm_predictions.lm_head", "cls.predictions")
        } else {
            ("cls.predictions", "lm_predictions.lm_head")
        };
        self.notes.push(format!("--mlm-head remap: the head {from} was written as {to}"));
        Ok(())
    }
}
