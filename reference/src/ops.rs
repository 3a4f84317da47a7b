//! The tensor operations, one function each. Activations are row-major; the last axis is the one of features.

use std::borrow::Cow;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
use std::fmt;

use ndarray::{Array, Array3, ArrayBase, ArrayView2, Data, Dimension};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::config::Activation;
use crate::error::{InputError, Result};
use crate::gemm;
use crate::inputs::Mask;
use crate::real::Real;
use crate::tensor::Matrix;

/// A linear layer: y = x Wᵀ + b.
pub(crate) struct Linear {
    /// W [out, in]
    pub(crate) weight: Matrix,
    /// b [out]
    pub(crate) bias: Option<Vec<f32>>,
}

impl Linear {
    /// x […, in] to y […, out].
    pub(crate) fn forward<F: Real, D: Dimension>(&self, x: &Array<F, D>) -> Array<F, D> {
        linear(x, &self.weight, self.bias.as_deref())
    }
}

/// y = x Wᵀ + b, with `weight` [out, in] and `bias` [out]: x […, in] to y […, out].
pub(crate) fn linear<F: Real, D: Dimension>(
    x: &Array<F, D>,
    weight: &Matrix,
    bias: Option<&[f32]>,
) -> Array<F, D> {
    let mut shape = x.raw_dim();
    if let Some(features) = shape.as_array_view_mut().last_mut() {
        *features = weight.rows;
    }
    let mut y = zeros(shape);
    gemm::linear(&row_major(x), weight.values(), bias, weight.columns, row_major_mut(&mut y));
    y
}

/// A layer normalisation: y = w (x - mean) / √(variance + ε) + b, over the features.
pub(crate) struct LayerNorm {
    /// w
    pub(crate) weight: Vec<f32>,
    /// b
    pub(crate) bias: Vec<f32>,
    /// ε
    pub(crate) eps: f64,
}

impl LayerNorm {
    /// Source: `DebertaLayerNorm`; the variance is the mean of the squares, without Bessel's correction.
    pub(crate) fn forward<F: Real, D: Dimension>(&self, mut x: Array<F, D>) -> Array<F, D> {
        each_row(row_major_mut(&mut x), self.weight.len(), self);
        x
    }

    /// The same of x + y.
    pub(crate) fn forward_sum<F: Real, D: Dimension>(
        &self,
        mut x: Array<F, D>,
        y: &Array<F, D>,
    ) -> Array<F, D> {
        each_row(row_major_mut(&mut x), self.weight.len(), &OfSum { norm: self, y: &row_major(y) });
        x
    }
}

/// LayerNorm(x + y)
struct OfSum<'a, F> {
    norm: &'a LayerNorm,
    y: &'a [F],
}

impl<F: Real> RowOperation<F> for OfSum<'_, F> {
    #[inline(always)]
    fn apply(&self, index: usize, x: &mut [F]) {
        let y = &self.y[index * x.len()..];
        x.iter_mut().zip(y).for_each(|(x, y)| *x += *y);
        self.norm.apply(index, x);
    }
}

impl<F: Real> RowOperation<F> for LayerNorm {
    #[inline(always)]
    fn apply(&self, _: usize, x: &mut [F]) {
        let count = F::of(x.len() as f64);
        let mean = sum(x, |x| x) / count;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / count;
        let deviation = (variance + F::of(self.eps)).sqrt();
        for ((x, &w), &b) in x.iter_mut().zip(&self.weight).zip(&self.bias) {
            *x = F::exactly(w) * ((*x - mean) / deviation) + F::exactly(b); // y = w (x - mean) / √(variance + ε) + b
        }
    }
}

/// Applies an activation function to every number.
pub(crate) fn activate<F: Real, D: Dimension>(activation: Activation, mut x: Array<F, D>) -> Array<F, D> {
    const BLOCK: usize = 1 << 12;
    each_row(row_major_mut(&mut x), BLOCK, &activation);
    x
}

impl<F: Real> RowOperation<F> for Activation {
    #[inline(always)]
    fn apply(&self, _: usize, x: &mut [F]) {
        match self {
            Activation::Gelu => each(x, gelu),
            Activation::GeluTanh => each(x, gelu_tanh),
            Activation::GeluFast => each(x, gelu_fast),
            Activation::Relu => each(x, |x| if x < F::zero() { F::zero() } else { x }),
            Activation::Silu => each(x, |x| x * sigmoid(x)),
            Activation::Tanh => each(x, F::tanh),
            Activation::Mish => each(x, |x| x * softplus(x).tanh()),
            Activation::Linear => {}
            Activation::Sigmoid => each(x, sigmoid),
        }
    }
}

#[inline(always)]
fn each<F: Real>(x: &mut [F], function: impl Fn(F) -> F) {
    // A loop, not `for_each`: a call would leave the code that is compiled for this processor's vectors.
    for x in x {
        *x = function(*x);
    }
}

/// x Φ(x), where Φ is the distribution function of the normal distribution.
#[inline(always)]
fn gelu<F: Real>(x: F) -> F {
    F::of(0.5) * x * (F::one() + F::erf_of(x * F::of(FRAC_1_SQRT_2)))
}

/// An approximation of `gelu`.
fn gelu_tanh<F: Real>(x: F) -> F {
    const SQRT_2_PI: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2; // √(2/π)
    let inner = F::of(SQRT_2_PI) * (x + F::of(0.044_715) * x * x * x);
    F::of(0.5) * x * (F::one() + inner.tanh())
}

/// `gelu_tanh`, rounded in other places.
fn gelu_fast<F: Real>(x: F) -> F {
    let inner = x * F::of(0.797_884_560_8) * (F::one() + F::of(0.044_715) * x * x);
    F::of(0.5) * x * (F::one() + inner.tanh())
}

#[inline(always)]
fn sigmoid<F: Real>(x: F) -> F {
    F::one() / (F::one() + F::exp_of(-x))
}

/// ln(1 + eˣ), without overflow.
pub(crate) fn softplus<F: Real>(x: F) -> F {
    x.max(F::zero()) + (-x.abs()).exp().ln_1p()
}

/// What becomes of a row of the attention whose every key is masked. All frameworks agree on every other row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskedRows {
    /// All keys get the same probability, 1/n: transformers' PyTorch classes since 4.47.
    #[default]
    Uniform,
    /// All keys get 0: TensorFlow, Microsoft's original code, transformers up to 4.46.
    Zero,
}

impl MaskedRows {
    /// Both.
    pub const ALL: [MaskedRows; 2] = [MaskedRows::Uniform, MaskedRows::Zero];

    /// The word for it on command lines and in files.
    pub fn word(self) -> &'static str {
        match self {
            MaskedRows::Uniform => "uniform",
            MaskedRows::Zero => "zero",
        }
    }

    /// That of a [`MaskedRows::word`].
    pub fn from_word(word: &str) -> Option<MaskedRows> {
        MaskedRows::ALL.into_iter().find(|rows| rows.word() == word)
    }
}

impl fmt::Display for MaskedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// softmaxⱼ over the keys that query i may attend to: probsⱼ = exp(sⱼ - max) / Σₖ exp(sₖ - max), and 0 elsewhere.
pub(crate) struct MaskedSoftmax<'m> {
    pub(crate) mask: &'m Mask,
    pub(crate) sequence: usize,
    pub(crate) masked_rows: MaskedRows,
}

impl<F: Real> RowOperation<F> for MaskedSoftmax<'_> {
    #[inline(always)]
    fn apply(&self, i: usize, scores: &mut [F]) {
        let allowed = self.mask.keys(self.sequence, i);
        if !allowed.contains(&true) {
            scores.fill(match self.masked_rows {
                MaskedRows::Uniform => F::one() / F::of(scores.len() as f64),
                MaskedRows::Zero => F::zero(),
            });
            return;
        }
        for (score, allowed) in scores.iter_mut().zip(allowed) {
            *score = if *allowed { *score } else { F::neg_infinity() };
        }
        let max = max(scores);
        scores.iter_mut().for_each(|score| *score = F::exp_of(*score - max)); // eⱼ = exp(sⱼ - max)
        let total = sum(scores, |e| e);
        scores.iter_mut().for_each(|e| *e /= total); // probsⱼ = eⱼ / Σₖ eₖ
    }
}

/// The rows of `table` [N, E] that `ids` [b, n] name: [b, n, E].
///
/// # Errors
/// An id outside 0..N; `argument` says whose.
pub(crate) fn gather<F: Real>(
    table: &Matrix,
    ids: ArrayView2<'_, i64>,
    argument: &'static str,
) -> Result<Array3<F>> {
    let (b, n) = ids.dim();
    let mut rows = Array3::zeros((b, n, table.columns));
    let values = table.values();
    for (((i, j), &id), row) in
        ids.indexed_iter().zip(row_major_mut(&mut rows).chunks_exact_mut(table.columns))
    {
        let index = usize::try_from(id).ok().filter(|&index| index < table.rows).ok_or_else(|| {
            InputError::OutOfRange { argument, at: vec![i, j], value: id, limit: table.rows }
        })?;
        row.iter_mut().zip(&values[index * table.columns..]).for_each(|(x, value)| *x = F::exactly(*value));
    }
    Ok(rows)
}

/// An array of zeros, which all threads write: a large part of the time if one did.
pub(crate) fn zeros<F: Real, D: Dimension>(shape: D) -> Array<F, D> {
    const BLOCK: usize = 1 << 16;
    let mut values = Vec::new();
    rayon::iter::repeat_n(F::zero(), shape.size()).with_min_len(BLOCK).collect_into_vec(&mut values);
    Array::from_shape_vec(shape, values).unwrap_or_default()
}

/// The numbers in row-major order.
pub(crate) fn row_major<F: Real, S: Data<Elem = F>, D: Dimension>(x: &ArrayBase<S, D>) -> Cow<'_, [F]> {
    match x.as_slice() {
        Some(values) => Cow::Borrowed(values),
        None => Cow::Owned(x.iter().copied().collect()),
    }
}

/// The numbers of an array in row-major order, rearranged if they are in another one.
pub(crate) fn row_major_mut<F: Real, D: Dimension>(x: &mut Array<F, D>) -> &mut [F] {
    if !x.is_standard_layout() {
        *x = x.as_standard_layout().into_owned();
    }
    x.as_slice_mut().unwrap_or_default()
}

/// Σ term(x), in 16 sums: fast, and more exact than one.
#[inline(always)]
fn sum<F: Real>(values: &[F], term: impl Fn(F) -> F) -> F {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut sums = [F::zero(); 16];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += term(*value));
    }
    // In the sums of their places: zeros behind the values, which padding has, change nothing.
    sums.iter_mut().zip(rest).for_each(|(sum, value)| *sum += term(*value));
    sums.iter().copied().sum()
}

/// The largest number.
#[inline(always)]
fn max<F: Real>(values: &[F]) -> F {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut largest = [F::neg_infinity(); 16];
    for chunk in chunks {
        largest.iter_mut().zip(chunk).for_each(|(max, x)| *max = if *x > *max { *x } else { *max });
    }
    largest.iter().chain(rest).copied().fold(F::neg_infinity(), F::max)
}

/// An operation on every row of a matrix. `apply` is to be inlined always, so that it is compiled for the vectors
/// of each processor.
pub(crate) trait RowOperation<F>: Sync {
    /// Changes a row, given its index.
    fn apply(&self, index: usize, row: &mut [F]);
}

/// Changes the rows of `columns` numbers, on all threads.
fn each_row<F: Real>(matrix: &mut [F], columns: usize, operation: &impl RowOperation<F>) {
    const TASK: usize = 1 << 14;
    let rows = (TASK / columns).max(1);
    matrix.par_chunks_mut(rows * columns).enumerate().for_each(|(task, matrix)| {
        Arch::new().dispatch(Rows { matrix, columns, first: task * rows, operation });
    });
}

/// Changes the rows of `columns` numbers, on this thread.
pub(crate) fn each_row_here<F: Real>(matrix: &mut [F], columns: usize, operation: &impl RowOperation<F>) {
    Arch::new().dispatch(Rows { matrix, columns, first: 0, operation });
}

struct Rows<'a, F, O> {
    matrix: &'a mut [F],
    columns: usize,
    first: usize,
    operation: &'a O,
}

impl<F: Real, O: RowOperation<F>> WithSimd for Rows<'_, F, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (index, row) in self.matrix.chunks_mut(self.columns).enumerate() {
            self.operation.apply(self.first + index, row);
        }
    }
}
