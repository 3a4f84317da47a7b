//! What the matrix product asks of a processor besides arithmetic: to interleave vectors, and to read ahead.
//!
//! | processor | numbers in a vector (f32) | registers | tile: rows of A x vectors of B |
//! |---|---|---|---|
//! | x86-64 with AVX-512 | 16 | 32 | 8 x 3 |
//! | x86-64 with AVX2 and FMA | 8 | 16 | 6 x 2 |
//! | AArch64 (Neon) | 4 | 32 | 8 x 3 |
//! | any other | 1 | 16 | 6 x 2 |
//!
//! A tile leaves registers for one row of B and one number of A: 24 + 3 + 1 of 32, 12 + 2 + 1 of 16.

use pulp::{Arch, Scalar, Simd, WithSimd, cast};

/// The vectors of a processor.
pub trait Machine: Simd {
    /// Vectors in a row of a tile.
    const VECTORS: usize = if Self::REGISTER_COUNT >= 32 { MOST_VECTORS } else { 2 };

    /// [a₀ b₀ a₁ b₁ …], as two vectors.
    fn interleave_f32s(self, a: Self::f32s, b: Self::f32s) -> [Self::f32s; 2];

    /// [a₀ b₀ a₁ b₁ …], as two vectors.
    fn interleave_f64s(self, a: Self::f64s, b: Self::f64s) -> [Self::f64s; 2];

    /// Asks for the cache line at an address, which need not be one of anything. It changes no result.
    #[inline(always)]
    fn read_ahead<T>(self, _: *const T) {}
}

/// Vectors in a row of the widest tile.
pub(crate) const MOST_VECTORS: usize = 3;

/// Something to be computed with the vectors of this processor.
pub(crate) trait WithMachine {
    type Output;

    fn with_machine<M: Machine>(self, machine: M) -> Self::Output;
}

/// Computes it, compiled for the best vectors that this processor has.
pub(crate) fn dispatch<T: WithMachine>(task: T) -> T::Output {
    match Arch::new() {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(machine) => Simd::vectorize(machine, On { machine, task }),
        #[cfg(target_arch = "x86_64")]
        Arch::V3(machine) => Simd::vectorize(machine, On { machine, task }),
        #[cfg(target_arch = "aarch64")]
        Arch::Neon(machine) => Simd::vectorize(machine, On { machine, task }),
        _ => Simd::vectorize(Scalar::new(), On { machine: Scalar::new(), task }),
    }
}

/// A task and the machine for it: pulp compiles `with_simd` for the machine, but does not say that it is a [`Machine`].
struct On<M, T> {
    machine: M,
    task: T,
}

impl<M: Machine, T: WithMachine> WithSimd for On<M, T> {
    type Output = T::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> T::Output {
        self.task.with_machine(self.machine)
    }
}

impl Machine for Scalar {
    #[inline(always)]
    fn interleave_f32s(self, a: f32, b: f32) -> [f32; 2] {
        [a, b]
    }

    #[inline(always)]
    fn interleave_f64s(self, a: f64, b: f64) -> [f64; 2] {
        [a, b]
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::_MM_HINT_T0;

    use pulp::x86::{V3, V4};
    use pulp::{f32x8, f32x16, f64x4, f64x8};

    use super::{Machine, cast};

    /// Which numbers of [a, b] become the lower and the upper half of a, b interleaved.
    const F32S: [[u32; 16]; 2] = [
        [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23],
        [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31],
    ];
    const F64S: [[u64; 8]; 2] = [[0, 8, 1, 9, 2, 10, 3, 11], [4, 12, 5, 13, 6, 14, 7, 15]];

    impl Machine for V4 {
        #[inline(always)]
        fn interleave_f32s(self, a: f32x16, b: f32x16) -> [f32x16; 2] {
            let [low, high] = F32S;
            [
                cast(self.avx512f._mm512_permutex2var_ps(cast(a), cast(low), cast(b))),
                cast(self.avx512f._mm512_permutex2var_ps(cast(a), cast(high), cast(b))),
            ]
        }

        #[inline(always)]
        fn interleave_f64s(self, a: f64x8, b: f64x8) -> [f64x8; 2] {
            let [low, high] = F64S;
            [
                cast(self.avx512f._mm512_permutex2var_pd(cast(a), cast(low), cast(b))),
                cast(self.avx512f._mm512_permutex2var_pd(cast(a), cast(high), cast(b))),
            ]
        }

        #[inline(always)]
        fn read_ahead<T>(self, address: *const T) {
            self.sse._mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
    }

    impl Machine for V3 {
        #[inline(always)]
        fn interleave_f32s(self, a: f32x8, b: f32x8) -> [f32x8; 2] {
            // Each half of a vector by itself: [a₀ b₀ a₁ b₁ a₄ b₄ a₅ b₅], [a₂ b₂ a₃ b₃ a₆ b₆ a₇ b₇].
            let low = self.avx._mm256_unpacklo_ps(cast(a), cast(b));
            let high = self.avx._mm256_unpackhi_ps(cast(a), cast(b));
            [
                cast(self.avx._mm256_permute2f128_ps::<0x20>(low, high)),
                cast(self.avx._mm256_permute2f128_ps::<0x31>(low, high)),
            ]
        }

        #[inline(always)]
        fn interleave_f64s(self, a: f64x4, b: f64x4) -> [f64x4; 2] {
            let low = self.avx._mm256_unpacklo_pd(cast(a), cast(b));
            let high = self.avx._mm256_unpackhi_pd(cast(a), cast(b));
            [
                cast(self.avx._mm256_permute2f128_pd::<0x20>(low, high)),
                cast(self.avx._mm256_permute2f128_pd::<0x31>(low, high)),
            ]
        }

        #[inline(always)]
        fn read_ahead<T>(self, address: *const T) {
            self.sse._mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use pulp::aarch64::Neon;
    use pulp::{f32x4, f64x2};

    use super::{Machine, cast};

    impl Machine for Neon {
        #[inline(always)]
        fn interleave_f32s(self, a: f32x4, b: f32x4) -> [f32x4; 2] {
            let (a, b) = (cast(a), cast(b));
            [cast(self.neon.vzip1q_f32(a, b)), cast(self.neon.vzip2q_f32(a, b))]
        }

        #[inline(always)]
        fn interleave_f64s(self, a: f64x2, b: f64x2) -> [f64x2; 2] {
            let (a, b) = (cast(a), cast(b));
            [cast(self.neon.vzip1q_f64(a, b)), cast(self.neon.vzip2q_f64(a, b))]
        }
    }
}
