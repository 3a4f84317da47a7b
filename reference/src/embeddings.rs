//! From tokens to the input of the first layer. Source: `DebertaEmbeddings`.

use ndarray::{Array1, Array3, Axis};

use crate::config::DebertaConfig;
use crate::error::{InputError, Result};
use crate::inputs::{Inputs, Mask, Tokens, check_shape};
use crate::ops::{LayerNorm, Linear, gather};
use crate::probe::Probe;
use crate::real::Real;
use crate::tensor::Matrix;
use crate::weights::Scope;

/// The sum of up to three tables, projected to H if they are narrower, normalised, with padding set to 0.
pub(crate) struct DebertaEmbeddings {
    /// [V, E]
    pub(crate) word_embeddings: Matrix,
    /// [P, E], if `position_biased_input`
    position_embeddings: Option<Matrix>,
    /// [T, E], if T > 0
    token_type_embeddings: Option<Matrix>,
    /// [H, E], if E ≠ H
    embed_proj: Option<Linear>,
    layer_norm: LayerNorm,
}

impl DebertaEmbeddings {
    pub(crate) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Self> {
        let table = |name: &str, exists: bool| exists.then(|| weights.at(name).matrix("weight")).transpose();
        Ok(DebertaEmbeddings {
            word_embeddings: weights.at("word_embeddings").matrix("weight")?,
            position_embeddings: table("position_embeddings", config.position_biased_input)?,
            token_type_embeddings: table("token_type_embeddings", config.type_vocab_size > 0)?,
            embed_proj: (config.embedding_size != config.hidden_size)
                .then(|| weights.linear_without_bias("embed_proj"))
                .transpose()?,
            layer_norm: weights.layer_norm("LayerNorm", config.layer_norm_eps)?,
        })
    }

    /// x = m LayerNorm(P (word + position + token type)), m being the mask: [b, n, H].
    pub(crate) fn forward<F: Real>(
        &self,
        inputs: &Inputs,
        tokens: &Tokens<'_>,
        mask: &Mask,
        probe: &mut Probe<'_, F>,
    ) -> Result<Array3<F>> {
        let (b, n) = mask.embeddings.dim();
        let mut x = match tokens {
            Tokens::Ids(ids) => {
                probe.keep("word_embeddings", gather(&self.word_embeddings, *ids, "input_ids")?)?
            }
            Tokens::Embeddings(embeds) => embeds.as_standard_layout().mapv(F::exactly),
        }; // [b, n, E]

        if let Some(table) = &self.position_embeddings {
            let positions = position_embeddings(table, inputs, b, n)?; // [1 or b, n, E]
            x += &probe.keep("position_embeddings", positions)?;
        }

        if let Some(table) = &self.token_type_embeddings {
            let types = match &inputs.token_type_ids {
                Some(types) => {
                    check_shape("token_type_ids", types, (b, n), false)?;
                    gather(table, types.view(), "token_type_ids")?
                }
                None => gather(table, ndarray::Array2::zeros((b, n)).view(), "token_type_ids")?,
            };
            x += &probe.keep("token_type_embeddings", types)?;
        }

        if let Some(embed_proj) = &self.embed_proj {
            x = probe.keep("embed_proj", embed_proj.forward(&x))?; // [b, n, H]
        }
        let mut x = probe.keep("LayerNorm", self.layer_norm.forward(x))?;
        x *= &mask.embeddings.mapv(F::exactly).insert_axis(Axis(2)); // [b, n, 1]
        probe.keep("", x)
    }
}

/// The rows of `table` [P, E] for the position of every token: [b, n, E], or [1, n, E] if it is the same for all.
///
/// # Errors
/// More tokens than positions, or given positions of the wrong shape or outside 0..P.
pub(crate) fn position_embeddings<F: Real>(
    table: &Matrix,
    inputs: &Inputs,
    b: usize,
    n: usize,
) -> Result<Array3<F>> {
    match &inputs.position_ids {
        Some(ids) => {
            check_shape("position_ids", ids, (b, n), true)?;
            gather(table, ids.view(), "position_ids")
        }
        None if n > table.rows => Err(InputError::TooLong { tokens: n, positions: table.rows }.into()),
        None => {
            let ids: Array1<i64> = (0..).take(n).collect(); // 0, 1, …, n - 1
            gather(table, ids.view().insert_axis(Axis(0)), "position_ids")
        }
    }
}
