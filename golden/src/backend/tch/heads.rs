//! What stands on the base model.

use deberta_reference::activation::Activation;
use deberta_reference::{self as reference, DebertaConfig, Probe};
use tch::Tensor;

use super::encoder::activate;
use super::failure::Result;
use super::replaced_tokens::MaskPredictions;
use super::tensors::{keep, length};
use super::weights::{LayerNorm, Linear, Scope};

/// A head, or none.
pub(super) enum Head {
    Base,
    MaskedLm(PredictionHead),
    SequenceClassification {
        pooler: Pooler,
        /// [labels, H]
        classifier: Linear,
    },
    TokenClassification {
        /// [labels, H]
        classifier: Linear,
    },
    QuestionAnswering {
        /// [2, H]
        qa_outputs: Linear,
    },
    MultipleChoice {
        pooler: Pooler,
        /// [1, H]
        classifier: Linear,
    },
    ReplacedTokens(MaskPredictions),
}

/// Outputs by their names in transformers, the first of them computed first.
pub(super) type Outputs = Vec<(&'static str, Tensor)>;

impl Head {
    pub(super) fn new(config: &DebertaConfig, head: reference::Head, weights: &Scope<'_>) -> Result<Head> {
        Ok(match head {
            reference::Head::Base => Head::Base,
            reference::Head::MaskedLm | reference::Head::MaskDecoder => {
                Head::MaskedLm(PredictionHead::new(config, head.is_legacy(config), weights)?)
            }
            reference::Head::SequenceClassification => Head::SequenceClassification {
                pooler: Pooler::new(config, weights)?,
                classifier: weights.linear("classifier")?,
            },
            reference::Head::TokenClassification => {
                Head::TokenClassification { classifier: weights.linear("classifier")? }
            }
            reference::Head::QuestionAnswering => {
                Head::QuestionAnswering { qa_outputs: weights.linear("qa_outputs")? }
            }
            reference::Head::MultipleChoice => Head::MultipleChoice {
                pooler: Pooler::new(config, weights)?,
                classifier: weights.linear("classifier")?,
            },
            reference::Head::ReplacedTokens => Head::ReplacedTokens(MaskPredictions::new(config, weights)?),
        })
    }

    /// The outputs without the loss, from the last hidden state x [b, n, H], the word embeddings [V, E], and c, the number of
    /// sequences that are the choices of one question.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        word_embeddings: &Tensor,
        choices: usize,
        probe: &mut Probe<'_>,
    ) -> Result<Outputs> {
        Ok(match self {
            Head::Base => vec![("last_hidden_state", x.shallow_clone())],
            Head::MaskedLm(head) => vec![("logits", head.forward(x, word_embeddings, probe)?)],
            Head::SequenceClassification { pooler, classifier } => {
                let pooled = pooler.forward(x, probe)?; //                               [b, H]
                let logits = keep(probe, "classifier", classifier.forward(&pooled)?)?; // [b, labels]
                vec![("logits", logits)]
            }
            Head::TokenClassification { classifier } => {
                let logits = keep(probe, "classifier", classifier.forward(x)?)?; //      [b, n, labels]
                vec![("logits", logits)]
            }
            Head::QuestionAnswering { qa_outputs } => {
                let logits = keep(probe, "qa_outputs", qa_outputs.forward(x)?)?; //      [b, n, 2]
                vec![("start_logits", logits.f_select(2, 0)?), ("end_logits", logits.f_select(2, 1)?)]
            }
            Head::MultipleChoice { pooler, classifier } => {
                let pooled = pooler.forward(x, probe)?; //                               [b c, H]
                let scores = keep(probe, "classifier", classifier.forward(&pooled)?)?; // [b c, 1]
                vec![("logits", scores.f_reshape([-1, length(choices)])?)] //            [b, c]
            }
            Head::ReplacedTokens(head) => vec![("logits", head.forward(x, probe)?)],
        })
    }
}

/// What the first token says of the whole sequence. Source: `ContextPooler`.
pub(super) struct Pooler {
    /// [H, H]
    dense: Linear,
    act: Activation,
}

impl Pooler {
    fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Pooler> {
        Ok(Pooler { dense: weights.at("pooler").linear("dense")?, act: config.pooler_hidden_act })
    }

    /// pooled = act(W x₀ + b), x₀ being the hidden state of the first token: [b, n, H] to [b, H].
    fn forward(&self, x: &Tensor, probe: &mut Probe<'_>) -> Result<Tensor> {
        let pooled = keep(probe, "pooler.dense", self.dense.forward(&x.f_select(1, 0)?)?)?;
        keep(probe, "pooler", activate(self.act, &pooled)?)
    }
}

/// Source: `LegacyDebertaLMPredictionHead`, `DebertaLMPredictionHead`.
pub(super) struct PredictionHead {
    /// Whether it is `cls.predictions`, not `lm_predictions.lm_head`.
    legacy: bool,
    dense: Linear,
    act: Activation,
    layer_norm: LayerNorm,
    /// [V]
    bias: Tensor,
    /// [V, E], where it is not the word embeddings
    decoder: Option<Tensor>,
}

impl PredictionHead {
    fn new(config: &DebertaConfig, legacy: bool, weights: &Scope<'_>) -> Result<PredictionHead> {
        let head = weights.at(if legacy { "cls.predictions" } else { "lm_predictions.lm_head" });
        let transform = head.at(if legacy { "transform" } else { "" });
        let untied = legacy && !config.tie_word_embeddings;
        Ok(PredictionHead {
            legacy,
            dense: transform.linear("dense")?,
            act: config.hidden_act,
            layer_norm: transform.layer_norm("LayerNorm", config.layer_norm_eps)?,
            bias: head.tensor("bias")?,
            decoder: untied.then(|| head.at("decoder").tensor("weight")).transpose()?,
        })
    }

    /// logits = LayerNorm(act(W x + b)) Eᵀ + c, E being the word embeddings: [b, n, H] to [b, n, V].
    fn forward(&self, x: &Tensor, word_embeddings: &Tensor, probe: &mut Probe<'_>) -> Result<Tensor> {
        let decoder = self.decoder.as_ref().unwrap_or(word_embeddings);
        let decode = |x: &Tensor| x.f_linear(decoder, Some(&self.bias));
        if self.legacy {
            let mut at = probe.at("cls.predictions");
            let x = self.transform(x, &mut at.at("transform"))?;
            let x = keep(&mut at, "transform", x)?;
            let logits = keep(&mut at, "decoder", decode(&x)?)?;
            let logits = keep(&mut at, "", logits)?;
            keep(probe, "cls", logits)
        } else {
            let mut at = probe.at("lm_predictions.lm_head");
            let x = self.transform(x, &mut at)?;
            let logits = keep(&mut at, "", decode(&x)?)?;
            keep(probe, "lm_predictions", logits)
        }
    }

    /// LayerNorm(act(W x + b)): [b, n, H] to [b, n, E].
    fn transform(&self, x: &Tensor, probe: &mut Probe<'_>) -> Result<Tensor> {
        let x = keep(probe, "dense", self.dense.forward(x)?)?;
        keep(probe, "LayerNorm", self.layer_norm.forward(&activate(self.act, &x)?)?)
    }
}
