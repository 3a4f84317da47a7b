//! Keys and queries of relative positions: rows of the relative position table, projected by every layer. Source:
//! `DisentangledSelfAttention.disentangled_att_bias`.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{Array3, Array4};
use rayon::prelude::*;

use crate::config::DebertaConfig;
use crate::distances::{Distances, Window};
use crate::error::Result;
use crate::gemm::{Packed, rows};
use crate::ops::{Linear, matrix, split_heads};
use crate::probe::Probe;
use crate::real::Real;
use crate::tensor::Matrix;
use crate::weights::Scope;

/// What a layer makes of the table.
pub(crate) struct PositionLayers {
    /// h
    heads: usize,
    /// [`DebertaConfig::attention_scale`]
    scale: f64,
    distances: Distances,
    /// [H, H], if there is a c2p term
    pos_proj: Option<Linear>,
    /// [H, H] and a bias, if there is a p2c term
    pos_q_proj: Option<Linear>,
    /// [`Positions`] of the longest input so far, in f32 or f64. They depend on the weights alone.
    projected: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

impl PositionLayers {
    pub(crate) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Self> {
        Ok(PositionLayers {
            heads: config.num_attention_heads,
            scale: config.attention_scale(),
            distances: config.distances(),
            pos_proj: config.c2p().then(|| weights.linear_without_bias("pos_proj")).transpose()?,
            pos_q_proj: config.p2c().then(|| weights.linear("pos_q_proj")).transpose()?,
            projected: Mutex::new(None),
        })
    }

    /// Which rows of the table n tokens need.
    pub(crate) fn window(&self, n: usize) -> Window {
        self.distances.window(n)
    }

    /// The projected rows of the table [2K, H] for n tokens or more.
    pub(crate) fn positions<F: Real>(
        &self,
        table: &Matrix,
        n: usize,
        probe: &mut Probe<'_, F>,
    ) -> Result<Arc<Positions<F>>> {
        let window = self.window(n);
        if probe.wants("pos_proj") || probe.wants("pos_q_proj") {
            return Ok(Arc::new(self.project(table, window, probe)?));
        }
        let mut projected = self.projected.lock().unwrap_or_else(PoisonError::into_inner);
        let known = projected.clone().and_then(|known| known.downcast::<Positions<F>>().ok());
        if let Some(positions) = known.filter(|known| known.window.len() >= window.len()) {
            return Ok(positions);
        }
        let positions = Arc::new(self.project(table, window, &mut Probe::off())?);
        *projected = Some(Arc::clone(&positions) as _);
        Ok(positions)
    }

    /// R = the rows of the window, projected.
    fn project<F: Real>(
        &self,
        table: &Matrix,
        window: Window,
        probe: &mut Probe<'_, F>,
    ) -> Result<Positions<F>> {
        let width = table.columns;
        let rows = &table.values()[window.rows().start * width..window.rows().end * width];
        let row = |(_, m, x)| F::exactly(rows[m * width + x]);
        let r = Array3::from_shape_fn((1, window.len(), width), row); //                  [1, 2s, H]
        let mut positions = Positions { window, key: None, query: None };
        if let Some(proj) = &self.pos_proj {
            // pos_key = pos_proj R                                                      [1, h, 2s, d]
            let key = probe.keep("pos_proj", proj.forward(&r))?;
            positions.key = Some(split_heads(&key, (self.heads, 0, 1), None, F::one()));
        }
        if let Some(proj) = &self.pos_q_proj {
            // pos_query = (pos_q_proj R + b) / scale                                    [1, h, 2s, d]
            let query = probe.keep("pos_q_proj", proj.forward(&r))?;
            positions.query = Some(split_heads(&query, (self.heads, 0, 1), None, F::of(self.scale)));
        }
        Ok(positions)
    }
}

/// Rows of the relative position table after the projections of one layer.
pub(crate) struct Positions<F> {
    /// Which rows.
    window: Window,
    /// [1, h, 2S, d], if there is a c2p term
    key: Option<Array4<F>>,
    /// [1, h, 2S, d], if there is a p2c term
    query: Option<Array4<F>>,
}

impl<F: Real> Positions<F> {
    /// The keys of every head for the rows of a smaller window, packed: each serves all sequences.
    pub(crate) fn packed_keys(&self, window: Window) -> Option<Vec<Packed<F>>> {
        let heads = self.key.as_ref()?.dim().1;
        let pack = |head| {
            let keys = self.of_head(&self.key, head, window)?; //                         [2s, d]
            Some(Packed::transposed(&rows(keys, keys.len() / window.len())))
        };
        (0..heads).into_par_iter().map(pack).collect()
    }

    /// The queries of one head for the rows of a smaller window [2s, d].
    pub(crate) fn queries(&self, head: usize, window: Window) -> Option<&[F]> {
        self.of_head(&self.query, head, window)
    }

    fn of_head<'p>(&self, table: &'p Option<Array4<F>>, head: usize, window: Window) -> Option<&'p [F]> {
        let table = matrix(table.as_ref()?, 0, head); //                                  [2S, d]
        let d = table.len() / self.window.len();
        let start = window.rows().start - self.window.rows().start;
        Some(&table[start * d..(start + window.len()) * d])
    }
}
