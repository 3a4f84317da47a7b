//! The convolution after the first layer, which knows the order of neighbouring tokens. Source: `ConvLayer`; the large
//! models of version 2 have it, version 3 has not.
//!
//! ```text
//! o[t] = Σₖ W[:, :, k] x[t + k - (K-1)/2] + b      x the embeddings, 0 before the first token and after the last
//! o    = act(o), or act(0) where the mask is not 1
//! y    = m LayerNorm(layer₀ + o)                    m the mask
//! ```

use std::ops::Range;

use ndarray::{Array3, Axis, s};
use rayon::prelude::*;

use crate::config::{ConvConfig, DebertaConfig};
use crate::error::Result;
use crate::gemm;
use crate::inputs::Mask;
use crate::ops::{LayerNorm, activate, row_major, row_major_mut};
use crate::probe::Probe;
use crate::real::Real;
use crate::tensor::Matrix;
use crate::weights::Scope;

pub(crate) struct Convolution {
    config: ConvConfig,
    /// [H, H / groups K]: in a row, the K numbers of W [H, H / groups, K] for a feature are one after the other
    weight: Matrix,
    /// [H]
    bias: Vec<f32>,
    layer_norm: LayerNorm,
}

impl Convolution {
    /// The convolution of a configuration, if it has one.
    pub(crate) fn new(config: &DebertaConfig, weights: &Scope<'_>) -> Result<Option<Self>> {
        let Some(conv) = config.convolution else { return Ok(None) };
        let scope = weights.at("conv");
        Ok(Some(Convolution {
            config: conv,
            weight: scope.matrix_of_rows("weight")?,
            bias: scope.vector("bias")?,
            layer_norm: weights.layer_norm("LayerNorm", config.layer_norm_eps)?,
        }))
    }

    /// y [b, n, H] from the embeddings [b, n, H] and the output of layer 0 [b, n, H].
    pub(crate) fn forward<F: Real>(
        &self,
        embeddings: &Array3<F>,
        layer: &Array3<F>,
        mask: &Mask,
        probe: &mut Probe<'_, F>,
    ) -> Result<Array3<F>> {
        let mut o = self.convolve(embeddings); //                                        [b, n, H]
        if probe.wants("conv") {
            // PyTorch's convolution has the features before the tokens                  [b, H, n]
            let features_first = o.permuted_axes([0, 2, 1]).as_standard_layout().into_owned();
            let kept = probe.keep("conv", features_first)?;
            o = kept.permuted_axes([0, 2, 1]).as_standard_layout().into_owned();
        }
        let mask = &mask.embeddings; //                                                   [b, n]
        for (mut token, &m) in o.lanes_mut(Axis(2)).into_iter().zip(mask) {
            if m != 1.0 {
                token.fill(F::zero());
            }
        }
        let o = activate(self.config.act, o);
        let mut y = probe.keep("LayerNorm", self.layer_norm.forward_sum(o, layer))?;
        y *= &mask.mapv(F::exactly).insert_axis(Axis(2)); //                              [b, n, 1]
        probe.keep("", y)
    }

    /// o = W * x + b: [b, n, H] to [b, n, H]. As a product: every token with its neighbours, times all numbers of W.
    fn convolve<F: Real>(&self, x: &Array3<F>) -> Array3<F> {
        let (b, n, hidden) = x.dim();
        let width = hidden / self.config.groups;
        let part = |first: usize| {
            let around = self.neighbours(x, first..first + width); //                    [b, n, H / groups K]
            let depth = self.weight.columns;
            let weight = &self.weight.values()[first * depth..][..width * depth];
            let bias = &self.bias[first..][..width];
            let mut part = Array3::zeros((b, n, width));
            gemm::linear(&row_major(&around), weight, Some(bias), depth, row_major_mut(&mut part));
            part
        };
        if width == hidden {
            return part(0);
        }
        let mut o = Array3::zeros((b, n, hidden));
        for first in (0..hidden).step_by(width) {
            o.slice_mut(s![.., .., first..first + width]).assign(&part(first));
        }
        o
    }

    /// For every token, K numbers for each of some features: those of the tokens around it. [b, n, features K]
    fn neighbours<F: Real>(&self, x: &Array3<F>, features: Range<usize>) -> Array3<F> {
        let (b, n, hidden) = x.dim();
        let (kernel, before) = (self.config.kernel, self.config.kernel / 2);
        let width = features.len() * kernel;
        let x = row_major(x);
        let mut around = Array3::zeros((b, n, width));
        row_major_mut(&mut around).par_chunks_exact_mut(width).enumerate().for_each(|(token, numbers)| {
            let (sequence, t) = (token / n * n, token % n);
            for k in 0..kernel {
                let Some(neighbour) = (t + k).checked_sub(before).filter(|&at| at < n) else { continue };
                let features = &x[(sequence + neighbour) * hidden..][features.clone()];
                numbers[k..].iter_mut().step_by(kernel).zip(features).for_each(|(to, from)| *to = *from);
            }
        });
        around
    }
}
