//! What a model returns.

use ndarray::{Array2, Array3, Array4, ArrayD, ArrayViewD};

use crate::real::Real;

/// The output of the base model.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseModelOutput<F = f32> {
    /// The output of the last layer [b, n, H].
    pub last_hidden_state: Array3<F>,
    /// The embeddings and the output of every layer, L + 1 of [b, n, H], if they were asked for.
    pub hidden_states: Option<Vec<Array3<F>>>,
    /// The attention probabilities of every layer, L of [b, h, n, n], if they were asked for.
    pub attentions: Option<Vec<Array4<F>>>,
}

/// The output of masked language modelling and of the classifiers.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitsOutput<F = f32> {
    /// The loss, if there are labels: one number from the PyTorch classes, one or one a sequence from TensorFlow's.
    pub loss: Option<ArrayD<F>>,
    /// The logits: masked language modelling [b, n, V], tokens [b, n, labels], sequences [b, labels].
    pub logits: ArrayD<F>,
    /// As in [`BaseModelOutput`].
    pub hidden_states: Option<Vec<Array3<F>>>,
    /// As in [`BaseModelOutput`].
    pub attentions: Option<Vec<Array4<F>>>,
}

/// The output of question answering.
#[derive(Clone, Debug, PartialEq)]
pub struct QuestionAnsweringOutput<F = f32> {
    /// The loss, if there are positions: one number from the PyTorch class, one a sequence from TensorFlow's.
    pub loss: Option<ArrayD<F>>,
    /// How well every token starts the answer [b, n].
    pub start_logits: Array2<F>,
    /// How well every token ends the answer [b, n].
    pub end_logits: Array2<F>,
    /// As in [`BaseModelOutput`].
    pub hidden_states: Option<Vec<Array3<F>>>,
    /// As in [`BaseModelOutput`].
    pub attentions: Option<Vec<Array4<F>>>,
}

/// An output whose tensors have names.
pub trait ModelOutput<F = f32> {
    /// Every tensor with its name in transformers: `loss`, `logits`, `hidden_states.0`, …
    fn tensors(&self) -> Vec<(String, ArrayViewD<'_, F>)>;
}

impl<F: Real> ModelOutput<F> for BaseModelOutput<F> {
    fn tensors(&self) -> Vec<(String, ArrayViewD<'_, F>)> {
        let mut named = vec![("last_hidden_state".to_owned(), self.last_hidden_state.view().into_dyn())];
        layers(&mut named, self.hidden_states.as_deref(), self.attentions.as_deref());
        named
    }
}

impl<F: Real> ModelOutput<F> for LogitsOutput<F> {
    fn tensors(&self) -> Vec<(String, ArrayViewD<'_, F>)> {
        let mut named: Vec<_> = self.loss.iter().map(|loss| ("loss".to_owned(), loss.view())).collect();
        named.push(("logits".to_owned(), self.logits.view()));
        layers(&mut named, self.hidden_states.as_deref(), self.attentions.as_deref());
        named
    }
}

impl<F: Real> ModelOutput<F> for QuestionAnsweringOutput<F> {
    fn tensors(&self) -> Vec<(String, ArrayViewD<'_, F>)> {
        let mut named: Vec<_> = self.loss.iter().map(|loss| ("loss".to_owned(), loss.view())).collect();
        named.push(("start_logits".to_owned(), self.start_logits.view().into_dyn()));
        named.push(("end_logits".to_owned(), self.end_logits.view().into_dyn()));
        layers(&mut named, self.hidden_states.as_deref(), self.attentions.as_deref());
        named
    }
}

fn layers<'o, F>(
    named: &mut Vec<(String, ArrayViewD<'o, F>)>,
    hidden_states: Option<&'o [Array3<F>]>,
    attentions: Option<&'o [Array4<F>]>,
) {
    for (i, state) in hidden_states.into_iter().flatten().enumerate() {
        named.push((format!("hidden_states.{i}"), state.view().into_dyn()));
    }
    for (i, probs) in attentions.into_iter().flatten().enumerate() {
        named.push((format!("attentions.{i}"), probs.view().into_dyn()));
    }
}
