//! Which numbers of a tensor belong to tokens, and which to padding.
//!
//! What padded positions compute is a convention ([`deberta_reference::MaskedRows`]) that differs between frameworks
//! and releases, so they are judged apart. A number belongs to padding if it depends on what a padded position computes.

use deberta_reference::{DebertaConfig, Head, Inputs, Labels};
use ndarray::Axis;

use crate::trace::inputs::dims;
use crate::trace::points::{Axes, Named};

/// Which positions of the inputs hold tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Padding {
    /// b
    sequences: usize,
    /// n
    length: usize,
    /// Whether position (b, i) is a token and may attend to anything, row by row.
    real: Vec<bool>,
    head: Head,
    /// How many sequences there are of a question: one, but for multiple choice.
    choices: usize,
    /// Whether the loss depends on padded positions; for every sequence, or question.
    loss_on_padding: Vec<bool>,
}

impl Padding {
    /// The positions of `inputs`. The head decides which of them the logits and the loss depend on; the loss perhaps on more
    /// than the model's does.
    pub fn of(inputs: &Inputs, head: Head) -> Padding {
        Padding::counting(inputs, head, &|label| label != -100)
    }

    /// The positions of `inputs` for a model, whose loss counts certain labels.
    pub fn of_model(inputs: &Inputs, config: &DebertaConfig, head: Head) -> Padding {
        Padding::counting(inputs, head, &|label| config.counts_label(head, label))
    }

    fn counting(inputs: &Inputs, head: Head, counts: &dyn Fn(i64) -> bool) -> Padding {
        let (sequences, length) = dims(inputs).unwrap_or_default();
        let mut real = vec![true; sequences * length];
        if let Some(mask) = &inputs.attention_mask {
            // [b, n]: a token or none. [b, n, n]: a query that may attend to some key, or to none.
            let rows = match mask.ndim() {
                3 => mask.map_axis(Axis(2), |keys| keys.iter().any(|&key| key != 0.0)),
                _ => mask.mapv(|token| token != 0.0),
            };
            real.iter_mut().zip(&rows).for_each(|(real, &row)| *real = row);
        }
        let choices = inputs.choices.unwrap_or(1).max(1);
        let mut tokens = Padding { sequences, length, real, head, choices, loss_on_padding: Vec::new() };
        let of_sequence: Vec<bool> =
            (0..sequences).map(|b| tokens.loss_uses_padding(inputs, b, counts)).collect();
        tokens.loss_on_padding = of_sequence.chunks(choices).map(|chunk| chunk.contains(&true)).collect();
        tokens
    }

    /// Whether each position is a token and may attend to anything, row by row: [b n].
    pub fn tokens(&self) -> &[bool] {
        &self.real
    }

    /// Whether there is any padding.
    pub fn padded(&self) -> bool {
        self.real.contains(&false)
    }

    /// For every number of the tensor `name` of a trace, row-major, whether it belongs to tokens. Nothing if all do.
    pub fn of_tensor(&self, name: &str, shape: &[usize]) -> Option<Vec<bool>> {
        if !self.padded() {
            return None;
        }
        let (b, n) = (self.sequences, self.length);
        let real = |sequence: usize, position: usize| {
            self.real.get(sequence * n + position).copied().unwrap_or(true)
        };
        let first_tokens = || (0..b).map(|sequence| real(sequence, 0));
        let both = |sequence, i, j| real(sequence, i) && real(sequence, j);
        let of_heads = |pairs: Vec<bool>, h| {
            let matrices = pairs.chunks(n.saturating_mul(n).max(1));
            matrices.flat_map(|matrix| matrix.repeat(h)).collect()
        };
        let flat = match (Named::of(name).map(|named| named.axes(self.head)), shape) {
            (Some(Axes::Positions), _) => return None,
            (Some(Axes::Loss), [] | [1]) => vec![!self.loss_on_padding.contains(&true)],
            (Some(Axes::Loss), [_]) => self.loss_on_padding.iter().map(|&padding| !padding).collect(),
            (Some(Axes::FirstToken), &[first, ..]) if first == b => {
                let each = shape.iter().skip(1).product();
                first_tokens().flat_map(|real| std::iter::repeat_n(real, each)).collect()
            }
            // The scores of all sequences, by question.
            (Some(Axes::FirstToken), &[_, c]) if c == self.choices => first_tokens().collect(),
            (Some(Axes::TokensLast), &[first, features, last]) if first == b && last == n => {
                let tokens = self.real.chunks(n.max(1));
                tokens.flat_map(|tokens| tokens.repeat(features)).collect()
            }
            (Some(Axes::WithFirstToken), &[first, second, ..]) if first == b && second == n => {
                let each = shape.iter().skip(2).product();
                let tokens = (0..b).flat_map(|sequence| (0..n).map(move |at| (sequence, at)));
                let with_first = tokens.map(|(sequence, at)| real(sequence, at) && real(sequence, 0));
                with_first.flat_map(|real| std::iter::repeat_n(real, each)).collect()
            }
            (Some(Axes::Pairs), &[_, h, _, _]) => of_heads(self.pairs(both), h),
            (Some(Axes::PairsHeadsLast), &[_, _, _, h]) => {
                self.pairs(both).into_iter().flat_map(|real| std::iter::repeat_n(real, h)).collect()
            }
            (Some(Axes::Queries) | None, &[first, h, queries, keys])
                if first == b && queries == n && keys == n =>
            {
                of_heads(self.pairs(|sequence, i, _| real(sequence, i)), h)
            }
            (_, &[first, second, ..]) if first == b && second == n => {
                let each = shape.iter().skip(2).product();
                self.real.iter().flat_map(|&real| std::iter::repeat_n(real, each)).collect()
            }
            _ => return None,
        };
        Some(flat)
    }

    /// `of(b, i, j)` for all pairs of positions.
    fn pairs(&self, of: impl Fn(usize, usize, usize) -> bool) -> Vec<bool> {
        let (b, n) = (self.sequences, self.length);
        let mut pairs = Vec::with_capacity(b * n * n);
        for sequence in 0..b {
            for i in 0..n {
                pairs.extend((0..n).map(|j| of(sequence, i, j)));
            }
        }
        pairs
    }

    fn loss_uses_padding(&self, inputs: &Inputs, sequence: usize, counts: &dyn Fn(i64) -> bool) -> bool {
        let n = self.length;
        let positions = self.real.get(sequence * n..(sequence + 1) * n).unwrap_or_default();
        match self.head {
            // The softmax is over all positions.
            Head::QuestionAnswering => positions.contains(&false),
            // The loss is over the tokens alone; each needs the first one.
            head if head.has_pooler() || head == Head::ReplacedTokens => positions.first() == Some(&false),
            _ => match &inputs.labels {
                Some(Labels::Classes(labels)) => labels
                    .iter()
                    .skip(sequence * n)
                    .zip(positions)
                    .any(|(&label, &real)| counts(label) && !real),
                _ => positions.contains(&false),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, arr2};

    fn tokens(class: &str, mask: &[[f32; 3]; 2], labels: Option<Labels>) -> Padding {
        let inputs = Inputs {
            input_ids: Some(Array::zeros((2, 3))),
            attention_mask: Some(arr2(mask).into_dyn()),
            labels,
            ..Inputs::default()
        };
        Padding::of(&inputs, Head::from_class_name(class).unwrap())
    }

    const RIGHT: [[f32; 3]; 2] = [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]];
    const LEFT: [[f32; 3]; 2] = [[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]];

    fn padding(flat: Option<Vec<bool>>) -> Vec<usize> {
        let flat = flat.unwrap();
        (0..flat.len()).filter(|&at| !flat[at]).collect()
    }

    #[test]
    fn rows_of_padding_are_padding() {
        let tokens = tokens("DebertaForTokenClassification", &RIGHT, None);
        assert_eq!(padding(tokens.of_tensor("activations.deberta.embeddings", &[2, 3, 2])), [10, 11]);
        assert_eq!(padding(tokens.of_tensor("outputs.start_logits", &[2, 3])), [5]);
        let probs = padding(tokens.of_tensor("outputs.attentions.0", &[2, 1, 3, 3]));
        assert_eq!(probs, [15, 16, 17]);
        let scores =
            padding(tokens.of_tensor("activations.encoder.layer.0.attention.self.scores", &[2, 2, 3, 3]));
        assert_eq!(scores, [20, 23, 24, 25, 26, 29, 32, 33, 34, 35]);
        let mixed = "activations.encoder.layer.0.attention.self.head_weights_proj";
        assert_eq!(padding(tokens.of_tensor(mixed, &[2, 3, 3, 1])), [15, 16, 17]);
        assert_eq!(tokens.of_tensor("activations.encoder.layer.0.attention.self.pos_proj", &[1, 6, 2]), None);
    }

    #[test]
    fn a_sequence_is_classified_by_its_first_token() {
        let right = tokens("DebertaForSequenceClassification", &RIGHT, None);
        assert!(padding(right.of_tensor("outputs.logits", &[2, 2])).is_empty());
        let left = tokens("DebertaForSequenceClassification", &LEFT, None);
        assert_eq!(padding(left.of_tensor("outputs.logits", &[2, 2])), [2, 3]);
        assert_eq!(padding(left.of_tensor("outputs.loss", &[])), [0]);
        assert_eq!(padding(left.of_tensor("outputs.loss", &[2])), [1]);
    }

    #[test]
    fn a_loss_is_of_padding_if_a_padded_position_has_a_label() {
        let labels = |last| Some(Labels::Classes(arr2(&[[1_i64, 2, 3], [-100, 2, last]]).into_dyn()));
        let without = tokens("DebertaForMaskedLM", &RIGHT, labels(-100));
        assert!(padding(without.of_tensor("outputs.loss", &[])).is_empty());
        let with = tokens("DebertaForMaskedLM", &RIGHT, labels(4));
        assert_eq!(padding(with.of_tensor("outputs.loss", &[])), [0]);
        let answers = tokens("DebertaForQuestionAnswering", &RIGHT, None);
        assert_eq!(padding(answers.of_tensor("outputs.loss", &[2])), [1]);
    }

    #[test]
    fn a_mask_of_pairs_has_padding_where_a_query_has_no_key() {
        let mut mask = Array::<f32, _>::ones((1, 2, 2));
        mask[[0, 1, 0]] = 0.0;
        let inputs = |mask: &Array<f32, ndarray::Ix3>| Inputs {
            input_ids: Some(Array::zeros((1, 2))),
            attention_mask: Some(mask.clone().into_dyn()),
            ..Inputs::default()
        };
        assert!(!Padding::of(&inputs(&mask), Head::Base).padded());
        mask[[0, 1, 1]] = 0.0;
        assert_eq!(padding(Padding::of(&inputs(&mask), Head::Base).of_tensor("embeddings", &[1, 2, 1])), [1]);
    }
}
