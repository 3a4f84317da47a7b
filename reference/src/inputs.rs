//! The inputs of a model, and what follows from them: the number of sequences and tokens, who may attend to whom.

use ndarray::{Array1, Array2, Array3, ArrayD, ArrayView1, ArrayView2, Axis, Ix2, Ix3};

use crate::config::DebertaConfig;
use crate::error::{InputError, Result};

/// The arguments of `forward` and `call`, by their names in transformers. Exactly one of `input_ids` and
/// `inputs_embeds` is given; everything else may be absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// The token of every position [b, n], each in 0..V.
    pub input_ids: Option<Array2<i64>>,
    /// The embedding of every position [b, n, E], in place of word embeddings.
    pub inputs_embeds: Option<Array3<f32>>,
    /// Which tokens there are [b, n]: 1 for a token, 0 for padding. Or which keys each query may attend to [b, n, n],
    /// queries first. All of them if absent.
    pub attention_mask: Option<ArrayD<f32>>,
    /// The segment of every position [b, n], each in 0..T. Segment 0 if absent; ignored if T = 0.
    pub token_type_ids: Option<Array2<i64>>,
    /// The absolute position of every token [b, n] or [1, n], each in 0..P. 0, 1, 2, … if absent; ignored if the
    /// input has no position embeddings.
    pub position_ids: Option<Array2<i64>>,
    /// c, for multiple choice: every c sequences are the answers to one question. The arguments above, which have the axes
    /// [b, c, n] in transformers, are [b c, n] here.
    pub choices: Option<usize>,
    /// What the loss is computed from, for all heads but question answering.
    pub labels: Option<Labels>,
    /// The first token of the answer, `[b]`, for question answering.
    pub start_positions: Option<Array1<i64>>,
    /// The last token of the answer, `[b]`, for question answering.
    pub end_positions: Option<Array1<i64>>,
    /// Whether the output contains the hidden states of all layers.
    pub output_hidden_states: bool,
    /// Whether the output contains the attention probabilities of all layers.
    pub output_attentions: bool,
    /// Whether padding behind the tokens of a sequence, which takes as long as tokens, is left out: its hidden states are 0
    /// then. Those of tokens are the same to the bit. Nothing is left out if hidden states, attentions or activations are asked
    /// for, which show the padding. Classes that look at the first token alone leave it out anyway.
    pub skip_padding: bool,
}

/// Labels: classes, or real numbers for regression, soft labels and several labels at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// Classes.
    Classes(ArrayD<i64>),
    /// Real numbers.
    Values(ArrayD<f32>),
}

impl Labels {
    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        match self {
            Labels::Classes(classes) => classes.shape(),
            Labels::Values(values) => values.shape(),
        }
    }
}

/// The tokens of checked inputs.
pub(crate) enum Tokens<'i> {
    /// Token ids [b, n].
    Ids(ArrayView2<'i, i64>),
    /// Embeddings [b, n, E].
    Embeddings(&'i Array3<f32>),
}

impl Inputs {
    /// Inputs with those token ids [b, n] and nothing else.
    pub fn from_ids(input_ids: Array2<i64>) -> Inputs {
        Inputs { input_ids: Some(input_ids), ..Inputs::default() }
    }

    /// c, if the sequences make whole questions with c choices each.
    ///
    /// # Errors
    /// No c, one of 0, sequences that are left over.
    pub fn check_choices(&self) -> Result<usize> {
        let of_embeddings = || self.inputs_embeds.as_ref().map(|embeds| embeds.dim().0);
        let sequences = self.input_ids.as_ref().map(|ids| ids.dim().0).or_else(of_embeddings).unwrap_or(0);
        let choices = self.choices.ok_or(InputError::NoChoices)?;
        if choices == 0 || !sequences.is_multiple_of(choices) {
            return Err(InputError::Choices { choices, sequences }.into());
        }
        Ok(choices)
    }

    /// The tokens, b and n.
    pub(crate) fn tokens(&self, config: &DebertaConfig) -> Result<(Tokens<'_>, usize, usize)> {
        let (tokens, b, n) = match (&self.input_ids, &self.inputs_embeds) {
            (None, None) => return Err(InputError::NoTokens.into()),
            (Some(_), Some(_)) => return Err(InputError::TwoKindsOfTokens.into()),
            (Some(ids), None) => (Tokens::Ids(ids.view()), ids.dim().0, ids.dim().1),
            (None, Some(embeds)) => {
                let (b, n, width) = embeds.dim();
                if width != config.embedding_size {
                    let expected = format!("[b, n, {}]", config.embedding_size);
                    let found = embeds.shape().to_vec();
                    return Err(InputError::Shape { argument: "inputs_embeds", expected, found }.into());
                }
                (Tokens::Embeddings(embeds), b, n)
            }
        };
        if b == 0 || n == 0 {
            Err(InputError::Empty { batch: b, tokens: n }.into())
        } else {
            Ok((tokens, b, n))
        }
    }
}

/// Checks that an argument of token ids has the shape [b, n], or [1, n] where that is allowed.
pub(crate) fn check_shape(
    argument: &'static str,
    ids: &Array2<i64>,
    (b, n): (usize, usize),
    one_for_all: bool,
) -> Result<()> {
    if ids.dim() == (b, n) || (one_for_all && ids.dim() == (1, n)) {
        return Ok(());
    }
    let expected = if one_for_all { format!("[{b}, {n}] or [1, {n}]") } else { format!("[{b}, {n}]") };
    Err(InputError::Shape { argument, expected, found: ids.shape().to_vec() }.into())
}

/// The attention mask of checked inputs.
pub(crate) struct Mask {
    /// What the embeddings are multiplied by [b, n]: 0 for padding.
    pub(crate) embeddings: Array2<f32>,
    /// Whether a query may attend to a key [b, n, n], queries first.
    allowed: Array3<bool>,
}

impl Mask {
    /// From a mask m [b, n], where i may attend to j if mᵢ mⱼ ≠ 0; or from a mask [b, n, n], which says it itself.
    pub(crate) fn new(mask: Option<&ArrayD<f32>>, b: usize, n: usize) -> Result<Mask> {
        let Some(mask) = mask else {
            let allowed = Array3::from_elem((b, n, n), true);
            return Ok(Mask { embeddings: Array2::ones((b, n)), allowed });
        };
        if mask.shape() == [b, n]
            && let Ok(m) = mask.view().into_dimensionality::<Ix2>()
        {
            let allowed = Array3::from_shape_fn((b, n, n), |(b, i, j)| m[[b, i]] * m[[b, j]] != 0.0);
            return Ok(Mask { embeddings: m.to_owned(), allowed });
        }
        if mask.shape() == [b, n, n]
            && let Ok(m) = mask.view().into_dimensionality::<Ix3>()
        {
            // transformers multiplies the embeddings by this mask, which fails or, if n = H, means nothing. Ours
            // keeps the tokens that may attend to something.
            let allowed = Array3::from_shape_fn((b, n, n), |at| m[at] != 0.0);
            let some = |keys: ArrayView1<'_, bool>| if keys.iter().any(|key| *key) { 1.0 } else { 0.0 };
            return Ok(Mask { embeddings: allowed.map_axis(Axis(2), some), allowed });
        }
        let expected = format!("[{b}, {n}] or [{b}, {n}, {n}]");
        Err(InputError::Shape { argument: "attention_mask", expected, found: mask.shape().to_vec() }.into())
    }

    /// How many tokens sequence b has, if all of its padding is behind them, and there is a token.
    pub(crate) fn tokens_before_padding(&self, b: usize) -> Option<usize> {
        let n = self.embeddings.dim().1;
        let tokens = self.embeddings.row(b).iter().take_while(|&&m| m != 0.0).count();
        let attends = |i: usize, length: usize| {
            let keys = self.keys(b, i);
            keys.iter().take(length).all(|&key| key) && !keys.iter().skip(length).any(|&key| key)
        };
        let behind = tokens > 0 && (0..n).all(|i| attends(i, if i < tokens { tokens } else { 0 }));
        behind.then_some(tokens)
    }

    /// For every key whether query i of sequence b may attend to it [n].
    pub(crate) fn keys(&self, b: usize, i: usize) -> &[bool] {
        let n = self.allowed.dim().1;
        // Row (b, i) of `allowed`.
        &self.allowed.as_slice().unwrap_or_default()[(b * n + i) * n..][..n]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn config() -> DebertaConfig {
        DebertaConfig::from_json(r#"{"hidden_size": 4, "num_attention_heads": 2}"#).unwrap()
    }

    fn error(inputs: Inputs) -> String {
        inputs.tokens(&config()).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn exactly_one_kind_of_tokens_is_needed() {
        let (ids, embeds) = (Some(Array2::zeros((1, 2))), Some(Array3::zeros((1, 2, 4))));
        assert_eq!(error(Inputs::default()), "give input_ids or inputs_embeds, there is neither");
        assert_eq!(
            error(Inputs { input_ids: ids, inputs_embeds: embeds, ..Inputs::default() }),
            "give input_ids or inputs_embeds, not both"
        );
    }

    #[test]
    fn nothing_and_the_wrong_width_are_refused() {
        assert_eq!(
            error(Inputs::from_ids(Array2::zeros((0, 3)))),
            "nothing to compute: a batch of 0 sequences of 3 tokens"
        );
        assert_eq!(
            error(Inputs { inputs_embeds: Some(Array3::zeros((1, 2, 5))), ..Inputs::default() }),
            "inputs_embeds: shape [1, 2, 5], expected [b, n, 4]"
        );
    }

    #[test]
    fn a_mask_of_tokens_allows_pairs_of_tokens() {
        let mask = Mask::new(Some(&array![[1.0, 0.0, 1.0]].into_dyn()), 1, 3).unwrap();
        assert_eq!(mask.embeddings, array![[1.0, 0.0, 1.0]]);
        assert_eq!(mask.allowed, array![[[true, false, true], [false, false, false], [true, false, true]]]);
    }

    #[test]
    fn a_mask_of_pairs_is_taken_as_it_is() {
        let pairs = array![[[0.0, 1.0], [0.0, 0.0]]];
        let mask = Mask::new(Some(&pairs.into_dyn()), 1, 2).unwrap();
        assert_eq!(mask.embeddings, array![[1.0, 0.0]]);
        assert_eq!(mask.allowed, array![[[false, true], [false, false]]]);
    }

    #[test]
    fn a_mask_of_another_shape_is_refused() {
        let error = Mask::new(Some(&ArrayD::zeros(vec![2, 3])), 1, 3).err().unwrap().to_string();
        assert_eq!(error, "attention_mask: shape [2, 3], expected [1, 3] or [1, 3, 3]");
    }
}
