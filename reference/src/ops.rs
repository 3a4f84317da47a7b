//! The tensor operations, one function each. Activations are row-major; the last axis is the one of features.

use std::borrow::Cow;

use ndarray::{Array, Array3, Array4, ArrayBase, ArrayView2, Data, Dim, Dimension};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::config::Activation;
use crate::error::{InputError, Result};
use crate::gemm;
use crate::inputs::Mask;
use crate::special::{erf, exp};
use crate::weights::Matrix;

/// A linear layer: y = x Wᵀ + b.
pub(crate) struct Linear {
    /// W [out, in]
    pub(crate) weight: Matrix,
    /// b [out]
    pub(crate) bias: Option<Vec<f32>>,
}

impl Linear {
    /// x […, in] to y […, out].
    pub(crate) fn forward<D: Dimension>(&self, x: &Array<f32, D>) -> Array<f32, D> {
        linear(x, &self.weight, self.bias.as_deref())
    }
}

/// y = x Wᵀ + b, with `weight` [out, in] and `bias` [out]: x […, in] to y […, out].
pub(crate) fn linear<D: Dimension>(
    x: &Array<f32, D>,
    weight: &Matrix,
    bias: Option<&[f32]>,
) -> Array<f32, D> {
    let mut shape = x.raw_dim();
    if let Some(features) = shape.as_array_view_mut().last_mut() {
        *features = weight.rows;
    }
    let mut y = zeros(shape);
    gemm::linear(&row_major(x), weight.values(), bias, weight.columns, row_major_mut(&mut y));
    y
}

/// x + y.
pub(crate) fn add<D: Dimension>(mut x: Array<f32, D>, y: &Array<f32, D>) -> Array<f32, D> {
    const BLOCK: usize = 1 << 14;
    let y = row_major(y);
    row_major_mut(&mut x).par_chunks_mut(BLOCK).zip(y.par_chunks(BLOCK)).for_each(|(x, y)| {
        x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    });
    x
}

/// A layer normalisation: y = w (x - mean) / √(variance + ε) + b, over the features.
pub(crate) struct LayerNorm {
    /// w
    pub(crate) weight: Vec<f32>,
    /// b
    pub(crate) bias: Vec<f32>,
    /// ε
    pub(crate) eps: f32,
}

impl LayerNorm {
    /// Source: `DebertaLayerNorm`; the variance is the mean of the squares, without Bessel's correction.
    pub(crate) fn forward<D: Dimension>(&self, mut x: Array<f32, D>) -> Array<f32, D> {
        each_row(row_major_mut(&mut x), self.weight.len(), self);
        x
    }
}

impl RowOperation for LayerNorm {
    #[inline(always)]
    fn apply(&self, _: usize, x: &mut [f32]) {
        let mean = sum(x, |x| x) / x.len() as f32;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / x.len() as f32;
        let deviation = (variance + self.eps).sqrt();
        for ((x, w), b) in x.iter_mut().zip(&self.weight).zip(&self.bias) {
            *x = w * ((*x - mean) / deviation) + b;
        }
    }
}

/// Applies an activation function to every number.
pub(crate) fn activate<D: Dimension>(activation: Activation, mut x: Array<f32, D>) -> Array<f32, D> {
    const BLOCK: usize = 1 << 12;
    each_row(row_major_mut(&mut x), BLOCK, &activation);
    x
}

impl RowOperation for Activation {
    #[inline(always)]
    fn apply(&self, _: usize, x: &mut [f32]) {
        match self {
            Activation::Gelu => each(x, gelu),
            Activation::GeluTanh => each(x, gelu_tanh),
            Activation::GeluFast => each(x, gelu_fast),
            Activation::Relu => each(x, |x| if x < 0.0 { 0.0 } else { x }),
            Activation::Silu => each(x, |x| x * sigmoid(x)),
            Activation::Tanh => each(x, f32::tanh),
            Activation::Mish => each(x, |x| x * softplus(x).tanh()),
            Activation::Linear => {}
            Activation::Sigmoid => each(x, sigmoid),
        }
    }
}

#[inline(always)]
fn each(x: &mut [f32], function: impl Fn(f32) -> f32) {
    // A loop, not `for_each`: a call would leave the code that is compiled for this processor's vectors.
    for x in x {
        *x = function(*x);
    }
}

/// x Φ(x), where Φ is the distribution function of the normal distribution.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// An approximation of `gelu`.
fn gelu_tanh(x: f32) -> f32 {
    let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x); // √(2/π) (x + …)
    0.5 * x * (1.0 + inner.tanh())
}

/// `gelu_tanh`, rounded in other places.
fn gelu_fast(x: f32) -> f32 {
    let inner = x * 0.797_884_6 * (1.0 + 0.044_715 * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// ln(1 + eˣ), without overflow.
pub(crate) fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
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

/// softmaxⱼ over the keys that query i may attend to: probsⱼ = exp(sⱼ - max) / Σₖ exp(sₖ - max), and 0 elsewhere.
pub(crate) struct MaskedSoftmax<'m> {
    pub(crate) mask: &'m Mask,
    pub(crate) sequence: usize,
    pub(crate) masked_rows: MaskedRows,
}

impl RowOperation for MaskedSoftmax<'_> {
    #[inline(always)]
    fn apply(&self, i: usize, scores: &mut [f32]) {
        let allowed = self.mask.keys(self.sequence, i);
        if !allowed.contains(&true) {
            scores.fill(match self.masked_rows {
                MaskedRows::Uniform => 1.0 / scores.len() as f32,
                MaskedRows::Zero => 0.0,
            });
            return;
        }
        for (score, allowed) in scores.iter_mut().zip(allowed) {
            *score = if *allowed { *score } else { f32::NEG_INFINITY };
        }
        let max = max(scores);
        scores.iter_mut().for_each(|score| *score = exp(*score - max));
        let total = sum(scores, |e| e);
        scores.iter_mut().for_each(|e| *e /= total);
    }
}

/// The rows of `table` [N, E] that `ids` [b, n] name: [b, n, E].
///
/// # Errors
/// An id outside 0..N; `argument` says whose.
pub(crate) fn gather(
    table: &Matrix,
    ids: ArrayView2<'_, i64>,
    argument: &'static str,
) -> Result<Array3<f32>> {
    let (b, n) = ids.dim();
    let mut rows = Array3::zeros((b, n, table.columns));
    let values = table.values();
    for (((i, j), &id), row) in
        ids.indexed_iter().zip(row_major_mut(&mut rows).chunks_exact_mut(table.columns))
    {
        let index = usize::try_from(id).ok().filter(|&index| index < table.rows).ok_or_else(|| {
            InputError::OutOfRange { argument, at: vec![i, j], value: id, limit: table.rows }
        })?;
        row.copy_from_slice(&values[index * table.columns..][..table.columns]);
    }
    Ok(rows)
}

/// An array [b, h, n, m] whose matrices [n, m], one a sequence and head, `fill(b, h, matrix, scratch)` computes.
/// The scratch space may hold anything.
pub(crate) fn per_head(
    shape: (usize, usize, usize, usize),
    fill: impl Fn(usize, usize, &mut [f32], &mut Scratch) + Sync,
) -> Array4<f32> {
    let (_, h, n, m) = shape;
    let mut array = zeros(Dim(shape));
    let matrices = row_major_mut(&mut array).par_chunks_exact_mut(n * m).enumerate();
    matrices.for_each_init(Scratch::default, |scratch, (index, matrix)| {
        fill(index / h, index % h, matrix, scratch);
    });
    array
}

/// Memory for the intermediate results of a thread, used again for every head.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) scores: Buffer,
    pub(crate) products: Buffer,
}

/// Numbers that may be anything before they are written.
#[derive(Default)]
pub(crate) struct Buffer(Vec<f32>);

impl Buffer {
    /// `count` of the numbers.
    pub(crate) fn take(&mut self, count: usize) -> &mut [f32] {
        self.0.resize(count.max(self.0.len()), 0.0);
        &mut self.0[..count]
    }
}

/// An array of zeros, which all threads write: a large part of the time if one did.
fn zeros<D: Dimension>(shape: D) -> Array<f32, D> {
    const BLOCK: usize = 1 << 16;
    let mut values = Vec::new();
    rayon::iter::repeat_n(0.0, shape.size()).with_min_len(BLOCK).collect_into_vec(&mut values);
    Array::from_shape_vec(shape, values).unwrap_or_default()
}

/// The numbers in row-major order.
pub(crate) fn row_major<S: Data<Elem = f32>, D: Dimension>(x: &ArrayBase<S, D>) -> Cow<'_, [f32]> {
    match x.as_slice() {
        Some(values) => Cow::Borrowed(values),
        None => Cow::Owned(x.iter().copied().collect()),
    }
}

/// The numbers of an array in row-major order, rearranged if they are in another one.
pub(crate) fn row_major_mut<D: Dimension>(x: &mut Array<f32, D>) -> &mut [f32] {
    if !x.is_standard_layout() {
        *x = x.as_standard_layout().into_owned();
    }
    x.as_slice_mut().unwrap_or_default()
}

/// The matrix [n, m] of one sequence and head in an array [b, h, n, m].
pub(crate) fn matrix(array: &Array4<f32>, b: usize, h: usize) -> &[f32] {
    let (_, heads, n, m) = array.dim();
    let all = array.as_slice().unwrap_or_default();
    &all[(b * heads + h) * n * m..][..n * m]
}

/// Part `part` of the `parts` parts of each head: features [b, n, h parts d] to heads [b, h, n, d], (x + b) / scale.
/// The bias [h d], if there is one, is that of the part.
pub(crate) fn split_heads(
    x: &Array3<f32>,
    (h, part, parts): (usize, usize, usize),
    bias: Option<&[f32]>,
    scale: f32,
) -> Array4<f32> {
    let (b, n, width) = x.dim();
    let d = width / (h * parts);
    let x = row_major(x);
    per_head((b, h, n, d), |b, h, out, _| {
        let tokens = x[b * n * width..].chunks_exact(width);
        for (out, token) in out.chunks_exact_mut(d).zip(tokens) {
            let token = &token[(parts * h + part) * d..][..d];
            match bias {
                Some(bias) => {
                    let features = token.iter().zip(&bias[h * d..]);
                    out.iter_mut().zip(features).for_each(|(out, (x, b))| *out = (x + b) / scale);
                }
                None => out.iter_mut().zip(token).for_each(|(out, x)| *out = x / scale),
            }
        }
    })
}

/// Heads [b, h, n, d] to features [b, n, h d].
pub(crate) fn join_heads(heads: &Array4<f32>) -> Array3<f32> {
    let (b, h, n, d) = heads.dim();
    let mut joined = zeros(Dim((b, n, h * d)));
    let heads = row_major(heads);
    row_major_mut(&mut joined).par_chunks_exact_mut(h * d).enumerate().for_each(|(token, features)| {
        let heads = heads[token / n * h * n * d..].chunks_exact(n * d);
        for (features, head) in features.chunks_exact_mut(d).zip(heads) {
            features.copy_from_slice(&head[token % n * d..][..d]);
        }
    });
    joined
}

/// Passes an array [b, h, n, m] to `mix` as [b, n, m, h], and brings the result back.
pub(crate) fn mix_heads(
    x: &Array4<f32>,
    mix: impl FnOnce(&Array4<f32>) -> Result<Array4<f32>>,
) -> Result<Array4<f32>> {
    let mixed = mix(&x.view().permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned())?;
    Ok(mixed.permuted_axes([0, 3, 1, 2]).as_standard_layout().into_owned())
}

/// Σ term(x), in 16 sums: fast, and more exact than one.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += term(*value));
    }
    let rest: f32 = rest.iter().map(|value| term(*value)).sum();
    sums.iter().sum::<f32>() + rest
}

/// The largest number.
#[inline(always)]
fn max(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut largest = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        largest.iter_mut().zip(chunk).for_each(|(max, x)| *max = if *x > *max { *x } else { *max });
    }
    largest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// An operation on every row of a matrix. `apply` is to be inlined always, so that it is compiled for the vectors
/// of each processor.
pub(crate) trait RowOperation: Sync {
    /// Changes a row, given its index.
    fn apply(&self, index: usize, row: &mut [f32]);
}

/// Changes the rows of `columns` numbers, on all threads.
fn each_row(matrix: &mut [f32], columns: usize, operation: &impl RowOperation) {
    const TASK: usize = 1 << 14;
    let rows = (TASK / columns).max(1);
    matrix.par_chunks_mut(rows * columns).enumerate().for_each(|(task, matrix)| {
        Arch::new().dispatch(Rows { matrix, columns, first: task * rows, operation });
    });
}

/// Changes the rows of `columns` numbers, on this thread.
pub(crate) fn each_row_here(matrix: &mut [f32], columns: usize, operation: &impl RowOperation) {
    Arch::new().dispatch(Rows { matrix, columns, first: 0, operation });
}

struct Rows<'a, O> {
    matrix: &'a mut [f32],
    columns: usize,
    first: usize,
    operation: &'a O,
}

impl<O: RowOperation> WithSimd for Rows<'_, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (index, row) in self.matrix.chunks_mut(self.columns).enumerate() {
            self.operation.apply(self.first + index, row);
        }
    }
}
