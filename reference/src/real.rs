//! The types that a model computes in: f32, as everybody does, and f64, to judge those who do.
//!
//! The equations are written once, for any [`Real`]; the parameters are those of the checkpoint, f32, whatever is computed.

use std::iter::Sum;
use std::thread::LocalKey;

use bytemuck::Pod;
use ndarray::NdFloat;
use pulp::Simd;

use crate::gemm::Machine;
use crate::spare::Spare;
use crate::special;

/// f32 or f64.
pub trait Real: Vectors + NdFloat + From<f32> + Sum + Default {
    /// The number nearest to `x`.
    fn of(x: f64) -> Self;

    /// The number `x` itself: a parameter, an input.
    #[inline(always)]
    fn exactly(x: f32) -> Self {
        x.into()
    }

    /// The number as f64, exactly.
    fn in_f64(self) -> f64;

    /// eˣ. In f32 the compiler makes one of many at once.
    fn exp_of(x: Self) -> Self;

    /// erf(x), likewise.
    fn erf_of(x: Self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn of(x: f64) -> f32 {
        x as f32
    }

    #[inline(always)]
    fn in_f64(self) -> f64 {
        self.into()
    }

    #[inline(always)]
    fn exp_of(x: f32) -> f32 {
        special::exp(x)
    }

    #[inline(always)]
    fn erf_of(x: f32) -> f32 {
        special::erf(x)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(x: f64) -> f64 {
        x
    }

    #[inline(always)]
    fn in_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn exp_of(x: f64) -> f64 {
        x.exp()
    }

    #[inline(always)]
    fn erf_of(x: f64) -> f64 {
        libm::erf(x)
    }
}

/// What the matrix product needs of its numbers: the vectors of each processor, and memory.
pub trait Vectors: Pod {
    /// Some numbers that one instruction works on.
    type Vector<S: Simd>: Pod;

    /// How many numbers are in a vector.
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Vector<S>>() / size_of::<Self>()
    }

    /// The vector whose numbers are all `x`.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S>;

    /// a + b
    fn add_vectors<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// a b + c
    fn mul_add_vectors<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;

    /// [a₀ b₀ a₁ b₁ …], as two vectors.
    fn interleave<M: Machine>(machine: M, a: Self::Vector<M>, b: Self::Vector<M>) -> [Self::Vector<M>; 2];

    /// Numbers as vectors, without the last few that make no whole one.
    fn vectors<S: Simd>(numbers: &[Self]) -> &[Self::Vector<S>];

    /// The memory that this thread keeps for what it computes next.
    fn spare() -> &'static LocalKey<Spare<Self>>;
}

impl Vectors for f32 {
    type Vector<S: Simd> = S::f32s;

    #[inline(always)]
    fn splat<S: Simd>(simd: S, x: f32) -> S::f32s {
        simd.splat_f32s(x)
    }

    #[inline(always)]
    fn add_vectors<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.add_f32s(a, b)
    }

    #[inline(always)]
    fn mul_add_vectors<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, c)
    }

    #[inline(always)]
    fn interleave<M: Machine>(machine: M, a: M::f32s, b: M::f32s) -> [M::f32s; 2] {
        machine.interleave_f32s(a, b)
    }

    #[inline(always)]
    fn vectors<S: Simd>(numbers: &[f32]) -> &[S::f32s] {
        S::as_simd_f32s(numbers).0
    }

    fn spare() -> &'static LocalKey<Spare<f32>> {
        thread_local!(static SPARE: Spare<f32> = const { Spare::new() });
        &SPARE
    }
}

impl Vectors for f64 {
    type Vector<S: Simd> = S::f64s;

    #[inline(always)]
    fn splat<S: Simd>(simd: S, x: f64) -> S::f64s {
        simd.splat_f64s(x)
    }

    #[inline(always)]
    fn add_vectors<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.add_f64s(a, b)
    }

    #[inline(always)]
    fn mul_add_vectors<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.mul_add_e_f64s(a, b, c)
    }

    #[inline(always)]
    fn interleave<M: Machine>(machine: M, a: M::f64s, b: M::f64s) -> [M::f64s; 2] {
        machine.interleave_f64s(a, b)
    }

    #[inline(always)]
    fn vectors<S: Simd>(numbers: &[f64]) -> &[S::f64s] {
        S::as_simd_f64s(numbers).0
    }

    fn spare() -> &'static LocalKey<Spare<f64>> {
        thread_local!(static SPARE: Spare<f64> = const { Spare::new() });
        &SPARE
    }
}
