//! The inputs of a model as tensors, checked: libtorch would find most mistakes, and say less about them.

use deberta_reference::{DebertaConfig, InputError, Inputs};
use ndarray::{Array2, ArrayD};
use tch::{Kind, Tensor};

use super::failure::Result;
use super::tensors::tensor;

/// The tokens of checked inputs.
pub(super) enum Tokens {
    /// Token ids [b, n].
    Ids(Tensor),
    /// Embeddings [b, n, E].
    Embeddings(Tensor),
}

/// The tokens, b and n.
pub(super) fn tokens(inputs: &Inputs, config: &DebertaConfig) -> Result<(Tokens, usize, usize)> {
    let (b, n) = match (&inputs.input_ids, &inputs.inputs_embeds) {
        (None, None) => return Err(InputError::NoTokens.into()),
        (Some(_), Some(_)) => return Err(InputError::TwoKindsOfTokens.into()),
        (Some(ids), None) => ids.dim(),
        (None, Some(embeds)) => (embeds.dim().0, embeds.dim().1),
    };
    if b == 0 || n == 0 {
        return Err(InputError::Empty { batch: b, tokens: n }.into());
    }
    let tokens = match (&inputs.input_ids, &inputs.inputs_embeds) {
        (Some(values), _) => Tokens::Ids(ids("input_ids", values, config.vocab_size)?),
        (None, Some(embeds)) if embeds.dim().2 == config.embedding_size => {
            Tokens::Embeddings(tensor(embeds)?)
        }
        (None, embeds) => {
            let found = embeds.as_ref().map_or(Vec::new(), |embeds| embeds.shape().to_vec());
            let expected = format!("[b, n, {}]", config.embedding_size);
            return Err(InputError::Shape { argument: "inputs_embeds", expected, found }.into());
        }
    };
    Ok((tokens, b, n))
}

/// The segment of every token [b, n], each in 0..T; 0 if absent.
pub(super) fn token_types(inputs: &Inputs, (b, n): (usize, usize), limit: usize) -> Result<Tensor> {
    match &inputs.token_type_ids {
        Some(types) => {
            check_shape("token_type_ids", types, &[(b, n)])?;
            ids("token_type_ids", types, limit)
        }
        None => tensor(&Array2::<i64>::zeros((b, n))),
    }
}

/// The position of every token [b, n] or [1, n], each in 0..P; 0, 1, 2, … if absent.
pub(super) fn positions(inputs: &Inputs, (b, n): (usize, usize), limit: usize) -> Result<Tensor> {
    match &inputs.position_ids {
        Some(positions) => {
            check_shape("position_ids", positions, &[(b, n), (1, n)])?;
            ids("position_ids", positions, limit)
        }
        None if n > limit => Err(InputError::TooLong { tokens: n, positions: limit }.into()),
        None => tensor(&Array2::from_shape_fn((1, n), |(_, position)| position as i64)),
    }
}

/// Who may attend to whom.
pub(super) struct Mask {
    /// What the embeddings are multiplied by [b, n, 1]: 0 for padding.
    pub(super) embeddings: Tensor,
    /// Whether a query may not attend to a key [b, 1, n, n], queries first.
    pub(super) blocked: Tensor,
    /// Whether a query may attend to nothing [b, 1, n, 1].
    pub(super) alone: Tensor,
}

impl Mask {
    /// From a mask m [b, n], where i may attend to j if mᵢ mⱼ ≠ 0; or from a mask [b, n, n], which says it itself, and keeps
    /// the tokens that may attend to something.
    pub(super) fn new(mask: Option<&ArrayD<f32>>, b: usize, n: usize) -> Result<Mask> {
        let ones = ArrayD::ones(vec![b, n]);
        let mask = mask.unwrap_or(&ones);
        let m = tensor(mask)?;
        let (embeddings, allowed) = if mask.shape() == [b, n] {
            let pairs = m.f_unsqueeze(2)?.f_mul(&m.f_unsqueeze(1)?)?; //                 [b, n, n]
            (m.f_unsqueeze(2)?, pairs.f_ne(0)?)
        } else if mask.shape() == [b, n, n] {
            let allowed = m.f_ne(0)?;
            (allowed.f_any_dim(2, true)?.f_to_kind(Kind::Float)?, allowed)
        } else {
            let expected = format!("[{b}, {n}] or [{b}, {n}, {n}]");
            let found = mask.shape().to_vec();
            return Err(InputError::Shape { argument: "attention_mask", expected, found }.into());
        };
        let blocked = allowed.f_logical_not()?.f_unsqueeze(1)?;
        let alone = allowed.f_any_dim(2, true)?.f_logical_not()?.f_unsqueeze(1)?;
        Ok(Mask { embeddings, blocked, alone })
    }
}

/// Ids that are all in 0..limit.
fn ids(argument: &'static str, values: &Array2<i64>, limit: usize) -> Result<Tensor> {
    let outside = |id: i64| usize::try_from(id).map_or(true, |id| id >= limit);
    match values.indexed_iter().find(|&(_, &id)| outside(id)) {
        Some(((i, j), &value)) => {
            Err(InputError::OutOfRange { argument, at: vec![i, j], value, limit }.into())
        }
        None => tensor(values),
    }
}

fn check_shape(argument: &'static str, ids: &Array2<i64>, allowed: &[(usize, usize)]) -> Result<()> {
    if allowed.contains(&ids.dim()) {
        return Ok(());
    }
    let shapes: Vec<String> = allowed.iter().map(|(b, n)| format!("[{b}, {n}]")).collect();
    let (expected, found) = (shapes.join(" or "), ids.shape().to_vec());
    Err(InputError::Shape { argument, expected, found }.into())
}
