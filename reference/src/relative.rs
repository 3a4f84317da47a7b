//! Keys and queries of relative positions: rows of the relative position table, projected by every layer. Source:
//! `DisentangledSelfAttention.disentangled_att_bias`, `DebertaV2Encoder.get_rel_embedding`.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{Array2, Array3, Axis, s};
use rayon::prelude::*;

use crate::by_heads::{head_rows, split_heads};
use crate::config::DebertaConfig;
use crate::distances::{Distances, Window};
use crate::error::Result;
use crate::gemm::{Packed, rows};
use crate::ops::{LayerNorm, Linear};
use crate::probe::Probe;
use crate::real::Real;
use crate::tensor::Matrix;
use crate::weights::Scope;

/// The relative position table, which all layers share.
pub(crate) struct Table {
    /// [2S, H]
    rel_embeddings: Matrix,
    /// With `norm_rel_ebd`
    layer_norm: Option<LayerNorm>,
}

impl Table {
    /// The table of an encoder, with relative attention.
    pub(crate) fn new(config: &DebertaConfig, encoder: &Scope<'_>) -> Result<Option<Self>> {
        if !config.relative_attention {
            return Ok(None);
        }
        let norm = || encoder.layer_norm("LayerNorm", config.layer_norm_eps);
        Ok(Some(Table {
            rel_embeddings: encoder.at("rel_embeddings").matrix("weight")?,
            layer_norm: config.norm_rel_ebd.then(norm).transpose()?,
        }))
    }

    /// R = the rows, or LayerNorm(R) [rows, H].
    fn rows<F: Real>(&self, range: Range<usize>) -> Array2<F> {
        let width = self.rel_embeddings.columns;
        let rows = &self.rel_embeddings.values()[range.start * width..range.end * width];
        let r = Array2::from_shape_fn((range.len(), width), |(m, x)| F::exactly(rows[m * width + x]));
        match &self.layer_norm {
            Some(layer_norm) => layer_norm.forward(r),
            None => r,
        }
    }

    /// The table for n tokens. `probe` is at the encoder.
    pub(crate) fn relative<F: Real>(
        &self,
        distances: Distances,
        n: usize,
        probe: &mut Probe<'_, F>,
    ) -> Result<Relative<'_, F>> {
        let recorded = self.layer_norm.is_some() && probe.wants("LayerNorm");
        let all = || probe.keep("LayerNorm", self.rows(0..self.rel_embeddings.rows));
        let recorded = recorded.then(all).transpose()?;
        Ok(Relative { table: self, distances, window: distances.window(n), recorded })
    }
}

/// The relative position table, as the layers use it on n tokens.
pub(crate) struct Relative<'t, F> {
    table: &'t Table,
    distances: Distances,
    /// Which rows there are distances for.
    pub(crate) window: Window,
    /// All of it after its normalisation [2S, H], if that is recorded, and perhaps replaced.
    recorded: Option<Array2<F>>,
}

impl<F: Real> Relative<'_, F> {
    /// R [1, rows, H]
    fn rows(&self, range: Range<usize>) -> Array3<F> {
        let r = match &self.recorded {
            Some(all) => all.slice(s![range, ..]).to_owned(),
            None => self.table.rows(range),
        };
        r.insert_axis(Axis(0))
    }
}

impl DebertaConfig {
    /// The modules of a layer's attention that project the table to the keys of positions, and to their queries: what they are
    /// recorded as, and whose parameters they have.
    pub fn position_projections(&self) -> [PositionProjection; 2] {
        let names = match (self.has_in_proj(), self.share_att_key) {
            (true, _) => [("pos_proj", "pos_proj"), ("pos_q_proj", "pos_q_proj")],
            (false, true) => [("pos_key_proj", "key_proj"), ("pos_query_proj", "query_proj")],
            (false, false) => [("pos_key_proj", "pos_key_proj"), ("pos_query_proj", "pos_query_proj")],
        };
        names.map(|(name, parameters)| PositionProjection {
            name,
            parameters,
            biased: parameters != "pos_proj",
        })
    }
}

/// A projection of the relative position table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionProjection {
    /// What it is recorded as.
    pub name: &'static str,
    /// The module whose parameters it has.
    pub parameters: &'static str,
    /// Whether it has a bias.
    pub biased: bool,
}

/// What a layer makes of the table.
pub(crate) struct PositionLayers {
    /// h
    heads: usize,
    /// [`DebertaConfig::attention_scale`]
    scale: f64,
    /// [H, H], if there is a c2p term; in version 2 with a bias, perhaps that of the tokens' keys
    key: Option<Linear>,
    /// [H, H] and a bias, if there is a p2c term; perhaps that of the tokens' queries
    query: Option<Linear>,
    /// What the two are recorded as.
    names: [&'static str; 2],
    /// [`Positions`] of the longest input so far, in f32 or f64. They depend on the weights alone.
    projected: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

impl PositionLayers {
    pub(crate) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Self> {
        let projections = config.position_projections();
        let [key, query] = projections.map(|PositionProjection { parameters, biased, .. }| {
            move || if biased { weights.linear(parameters) } else { weights.linear_without_bias(parameters) }
        });
        Ok(PositionLayers {
            heads: config.num_attention_heads,
            scale: config.attention_scale(),
            key: config.c2p().then(key).transpose()?,
            query: config.p2c().then(query).transpose()?,
            names: projections.map(|projection| projection.name),
            projected: Mutex::new(None),
        })
    }

    /// The projected rows of the table, at least those of the window.
    pub(crate) fn positions<F: Real>(
        &self,
        relative: &Relative<'_, F>,
        probe: &mut Probe<'_, F>,
    ) -> Result<Arc<Positions<F>>> {
        let window = relative.window.rows();
        if self.names.iter().any(|name| probe.wants(name)) {
            let all = relative.distances.projected(relative.window.tokens());
            return Ok(Arc::new(self.project(relative, all, probe)?));
        }
        if relative.recorded.is_some() {
            return Ok(Arc::new(self.project(relative, window, probe)?));
        }
        let known = self.projected.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = known.and_then(|known| known.downcast::<Positions<F>>().ok());
        let contains = |known: &Range<usize>| known.start <= window.start && window.end <= known.end;
        if let Some(positions) = known.filter(|known| contains(&known.rows)) {
            return Ok(positions);
        }
        // Not while the lock is held: the threads that share the product may come here for another text, and wait for it.
        let positions = Arc::new(self.project(relative, window, &mut Probe::off())?);
        *self.projected.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&positions) as _);
        Ok(positions)
    }

    /// R = some rows of the table, projected.
    fn project<F: Real>(
        &self,
        relative: &Relative<'_, F>,
        rows: Range<usize>,
        probe: &mut Probe<'_, F>,
    ) -> Result<Positions<F>> {
        let (r, [key_name, query_name]) = (relative.rows(rows.clone()), self.names); //   [1, 2s, H]
        let mut positions = Positions { rows, key: None, query: None };
        if let Some(proj) = &self.key {
            // pos_key = pos_key_proj R                                                  [h, 2s, d]
            let key = probe.keep(key_name, proj.forward(&r))?;
            positions.key = Some(split_heads(&key, (self.heads, 0, 1), None, F::one()));
        }
        if let Some(proj) = &self.query {
            // pos_query = (pos_query_proj R + b) / scale                                [h, 2s, d]
            let query = probe.keep(query_name, proj.forward(&r))?;
            positions.query = Some(split_heads(&query, (self.heads, 0, 1), None, F::of(self.scale)));
        }
        Ok(positions)
    }
}

/// Rows of the relative position table after the projections of one layer.
pub(crate) struct Positions<F> {
    /// Which rows.
    rows: Range<usize>,
    /// [h, rows, d], if there is a c2p term
    key: Option<Array3<F>>,
    /// [h, rows, d], if there is a p2c term
    query: Option<Array3<F>>,
}

impl<F: Real> Positions<F> {
    /// The keys and the queries of every head for the rows of a window, packed: each serves all sequences.
    pub(crate) fn packed(&self, window: &Window) -> [Option<Vec<Packed<F>>>; 2] {
        [&self.key, &self.query].map(|table| {
            let pack = |head| {
                let positions = self.of_head(table, head, window)?; //                    [2s, d]
                Some(Packed::transposed_here(&rows(positions, positions.len() / window.len())))
            };
            (0..table.as_ref()?.dim().0).into_par_iter().map(pack).collect()
        })
    }

    fn of_head<'p>(&self, table: &'p Option<Array3<F>>, head: usize, window: &Window) -> Option<&'p [F]> {
        let start = window.rows().start - self.rows.start;
        Some(head_rows(table.as_ref()?, head, &(start..start + window.len())))
    }
}
