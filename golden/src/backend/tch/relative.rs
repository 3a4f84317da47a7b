//! The relative position table, and the keys and queries that every layer projects its rows to. Source:
//! `DisentangledSelfAttention.disentangled_att_bias`, `DebertaV2Encoder.get_rel_embedding`.

use std::ops::Range;

use deberta_reference::distances::Distances;
use deberta_reference::{DebertaConfig, PositionProjection, Probe};
use tch::Tensor;

use super::failure::Result;
use super::projections::Projections;
use super::tensors::{heads, keep, length};
use super::weights::{LayerNorm, Linear, Scope};

/// The relative position table, which all layers share.
pub(super) struct Table {
    /// [2S, H]
    rel_embeddings: Tensor,
    /// With `norm_rel_ebd`
    layer_norm: Option<LayerNorm>,
}

impl Table {
    /// The table of an encoder, with relative attention.
    pub(super) fn new(config: &DebertaConfig, encoder: &Scope<'_>) -> Result<Option<Table>> {
        if !config.relative_attention {
            return Ok(None);
        }
        let norm = || encoder.layer_norm("LayerNorm", config.layer_norm_eps);
        Ok(Some(Table {
            rel_embeddings: encoder.at("rel_embeddings").tensor("weight")?,
            layer_norm: config.norm_rel_ebd.then(norm).transpose()?,
        }))
    }

    /// The table for n tokens. `probe` is at the encoder.
    pub(super) fn relative(&self, distances: Distances, n: usize, probe: &mut Probe<'_>) -> Result<Relative> {
        // R = the rows, or LayerNorm(R)                                                 [2S, H]
        let r = match &self.layer_norm {
            Some(layer_norm) => keep(probe, "LayerNorm", layer_norm.forward(&self.rel_embeddings)?)?,
            None => self.rel_embeddings.shallow_clone(),
        };
        // δ(i, j) = row(i - j)                                                          [n, n]
        let window = &distances.window(n);
        let delta = (0..n).flat_map(|i| (0..n).map(move |j| length(window.row(i, j))));
        let delta = Tensor::f_from_slice(&delta.collect::<Vec<i64>>())?.f_reshape([length(n), length(n)])?;
        Ok(Relative { table: r, projected: distances.projected(n), window: window.rows(), delta })
    }
}

/// The relative position table, as the layers use it on n tokens.
pub(super) struct Relative {
    /// R [2S, H]
    table: Tensor,
    /// The rows that transformers projects, which is what is recorded.
    projected: Range<usize>,
    /// The 2s rows that there are distances for.
    window: Range<usize>,
    /// δ [n, n], counted from the first row of the window
    pub(super) delta: Tensor,
}

/// What a layer makes of the table.
pub(super) struct PositionLayers {
    /// h
    heads: i64,
    /// [`DebertaConfig::attention_scale`]
    scale: f64,
    /// [H, H], if there is a c2p term; in version 2 with a bias, perhaps that of the tokens' keys
    key: Option<Linear>,
    /// [H, H] and a bias, if there is a p2c term; perhaps that of the tokens' queries
    query: Option<Linear>,
    /// What the two are recorded as.
    names: [&'static str; 2],
}

/// The rows of the window after the projections of one layer.
pub(super) struct Positions {
    /// pos_key = pos_key_proj R [1, h, 2s, d], if there is a c2p term
    pub(super) key: Option<Tensor>,
    /// pos_query = (pos_query_proj R + b) / scale [1, h, 2s, d], if there is a p2c term
    pub(super) query: Option<Tensor>,
}

impl PositionLayers {
    /// `tokens` are the projections of the layer's tokens, which may be those of the positions, too.
    pub(super) fn new(
        config: &DebertaConfig,
        weights: &Scope<'_>,
        tokens: &Projections,
    ) -> Result<PositionLayers> {
        let projections = config.position_projections();
        let (key, query) = match tokens.shared().filter(|_| config.share_att_key) {
            Some([key, query]) => (config.c2p().then_some(key), config.p2c().then_some(query)),
            None => {
                let [key, query] = projections.map(|PositionProjection { parameters, biased, .. }| {
                    move || {
                        if biased {
                            weights.linear(parameters)
                        } else {
                            weights.linear_without_bias(parameters)
                        }
                    }
                });
                (config.c2p().then(key).transpose()?, config.p2c().then(query).transpose()?)
            }
        };
        let (heads, scale) = (length(config.num_attention_heads), config.attention_scale());
        Ok(PositionLayers { heads, scale, key, query, names: projections.map(|projection| projection.name) })
    }

    /// R = rows of the table, projected.
    pub(super) fn positions(&self, relative: &Relative, probe: &mut Probe<'_>) -> Result<Positions> {
        let [key_name, query_name] = self.names;
        let recorded = self.names.iter().any(|name| probe.wants(name));
        let rows = if recorded { &relative.projected } else { &relative.window };
        let r = narrow(&relative.table, 0, rows)?.f_unsqueeze(0)?; //                    [1, rows, H]
        let first = relative.window.start - rows.start;
        let window = first..first + relative.window.len();
        let mut positions = Positions { key: None, query: None };
        if let Some(proj) = &self.key {
            // pos_key = pos_key_proj R                                                  [1, h, 2s, d]
            let key = keep(probe, key_name, proj.forward(&r)?)?;
            positions.key = Some(narrow(&heads(&key, self.heads, (0, 1))?, 2, &window)?);
        }
        if let Some(proj) = &self.query {
            // pos_query = (pos_query_proj R + b) / scale                                [1, h, 2s, d]
            let query = keep(probe, query_name, proj.forward(&r)?)?;
            let query = narrow(&heads(&query, self.heads, (0, 1))?, 2, &window)?;
            positions.query = Some(query.f_div_scalar(self.scale)?);
        }
        Ok(positions)
    }
}

/// Some places of an axis.
fn narrow(x: &Tensor, axis: i64, places: &Range<usize>) -> Result<Tensor> {
    Ok(x.f_narrow(axis, length(places.start), length(places.len()))?)
}
