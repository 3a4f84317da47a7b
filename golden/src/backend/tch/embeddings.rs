//! From tokens to the input of the first layer. Source: `DebertaEmbeddings`.

use deberta_reference::{DebertaConfig, Inputs, Probe};
use tch::Tensor;

use super::failure::Result;
use super::inputs::{Mask, Tokens, positions, token_types};
use super::tensors::keep;
use super::weights::{LayerNorm, Linear, Scope};

/// The sum of up to three tables, projected to H if they are narrower, normalised, with padding set to 0.
pub(super) struct DebertaEmbeddings {
    /// [V, E]
    pub(super) word_embeddings: Tensor,
    /// [P, E], if `position_biased_input`
    position_embeddings: Option<Tensor>,
    /// [T, E], if T > 0
    token_type_embeddings: Option<Tensor>,
    /// [H, E], if E ≠ H
    embed_proj: Option<Linear>,
    layer_norm: LayerNorm,
}

impl DebertaEmbeddings {
    pub(super) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<DebertaEmbeddings> {
        let table = |name: &str, exists: bool| exists.then(|| weights.at(name).tensor("weight")).transpose();
        let narrow = config.embedding_size != config.hidden_size;
        Ok(DebertaEmbeddings {
            word_embeddings: weights.at("word_embeddings").tensor("weight")?,
            position_embeddings: table("position_embeddings", config.position_biased_input)?,
            token_type_embeddings: table("token_type_embeddings", config.type_vocab_size > 0)?,
            embed_proj: narrow.then(|| weights.linear_without_bias("embed_proj")).transpose()?,
            layer_norm: weights.layer_norm("LayerNorm", config.layer_norm_eps)?,
        })
    }

    /// x = m LayerNorm(P (word + position + token type)), m being the mask: [b, n, H].
    pub(super) fn forward(
        &self,
        inputs: &Inputs,
        (tokens, b, n): (&Tokens, usize, usize),
        mask: &Mask,
        probe: &mut Probe<'_>,
    ) -> Result<Tensor> {
        let mut x = match tokens {
            Tokens::Ids(ids) => keep(probe, "word_embeddings", rows(&self.word_embeddings, ids)?)?,
            Tokens::Embeddings(embeds) => embeds.shallow_clone(),
        }; //                                                                            [b, n, E]
        if let Some(table) = &self.position_embeddings {
            let positions = position_embeddings(table, inputs, b, n)?; //                [1 or b, n, E]
            x = x.f_add(&keep(probe, "position_embeddings", positions)?)?;
        }
        if let Some(table) = &self.token_type_embeddings {
            let types = rows(table, &token_types(inputs, (b, n), height(table))?)?; //   [b, n, E]
            x = x.f_add(&keep(probe, "token_type_embeddings", types)?)?;
        }
        if let Some(embed_proj) = &self.embed_proj {
            x = keep(probe, "embed_proj", embed_proj.forward(&x)?)?; //                  [b, n, H]
        }
        let x = keep(probe, "LayerNorm", self.layer_norm.forward(&x)?)?;
        keep(probe, "", x.f_mul(&mask.embeddings)?)
    }
}

/// The rows of `table` [P, E] for the position of every token: [b, n, E], or [1, n, E] if it is the same for all.
pub(super) fn position_embeddings(table: &Tensor, inputs: &Inputs, b: usize, n: usize) -> Result<Tensor> {
    rows(table, &positions(inputs, (b, n), height(table))?)
}

/// The rows of `table` [N, E] that `ids` [b, n] name: [b, n, E].
fn rows(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_embedding(table, ids, -1, false, false)?)
}

/// How many rows a table has.
fn height(table: &Tensor) -> usize {
    table.size().first().and_then(|&rows| usize::try_from(rows).ok()).unwrap_or_default()
}
