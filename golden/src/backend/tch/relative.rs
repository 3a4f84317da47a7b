//! Keys and queries of relative positions: rows of the relative position table, projected by every layer. Source:
//! `DisentangledSelfAttention.disentangled_att_bias`.

use deberta_reference::distances::Distances;
use deberta_reference::{DebertaConfig, Probe};
use tch::Tensor;

use super::failure::Result;
use super::tensors::{heads, keep};
use super::weights::{Linear, Scope};

/// What a layer makes of the table.
pub(super) struct PositionLayers {
    /// h
    heads: i64,
    /// [`DebertaConfig::attention_scale`]
    scale: f64,
    distances: Distances,
    /// [H, H], if there is a c2p term
    pos_proj: Option<Linear>,
    /// [H, H] and a bias, if there is a p2c term
    pos_q_proj: Option<Linear>,
}

/// Rows of the relative position table after the projections of one layer.
pub(super) struct Positions {
    /// pos_key = pos_proj R [1, h, 2s, d], if there is a c2p term
    pub(super) key: Option<Tensor>,
    /// pos_query = (pos_q_proj R + b) / scale [1, h, 2s, d], if there is a p2c term
    pub(super) query: Option<Tensor>,
    /// δ [n, n]
    pub(super) delta: Tensor,
}

impl PositionLayers {
    pub(super) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<PositionLayers> {
        Ok(PositionLayers {
            heads: i64::try_from(config.num_attention_heads).unwrap_or(1),
            scale: config.attention_scale(),
            distances: config.distances(),
            pos_proj: config.c2p().then(|| weights.linear_without_bias("pos_proj")).transpose()?,
            pos_q_proj: config.p2c().then(|| weights.linear("pos_q_proj")).transpose()?,
        })
    }

    /// R = the rows of the table [2K, H] for n tokens, after the projections, and δ.
    pub(super) fn positions(&self, table: &Tensor, n: i64, probe: &mut Probe<'_>) -> Result<Positions> {
        let tokens = usize::try_from(n).unwrap_or_default();
        let window = &self.distances.window(tokens);
        let number = |row: usize| i64::try_from(row).unwrap_or(i64::MAX);
        let (first, rows) = (number(window.rows().start), number(window.len()));
        let r = table.f_narrow(0, first, rows)?.f_unsqueeze(0)?; //                      [1, 2s, H]
        let key = match &self.pos_proj {
            Some(proj) => Some(heads(&keep(probe, "pos_proj", proj.forward(&r)?)?, self.heads, (0, 1))?),
            None => None,
        };
        let query = match &self.pos_q_proj {
            Some(proj) => {
                let query = heads(&keep(probe, "pos_q_proj", proj.forward(&r)?)?, self.heads, (0, 1))?;
                Some(query.f_div_scalar(self.scale)?)
            }
            None => None,
        };
        let delta = (0..tokens).flat_map(|i| (0..tokens).map(move |j| number(window.row(i, j))));
        let delta = Tensor::f_from_slice(&delta.collect::<Vec<i64>>())?.f_reshape([n, n])?;
        Ok(Positions { key, query, delta })
    }
}
