//! exp and erf in f32, written so that the compiler computes many at once: no branches, calls or tables. A
//! `mul_add` is one instruction wherever there are vectors to speak of.
//!
//! Polynomials are minimax fits. An error of one unit is one unit in the last place of the exact result.

/// eˣ, error below 2 units. Overflows to infinity and underflows to 0 as it should.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // x = n ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 2²³ leaves the nearest integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4; // few bits: n LN2_HIGH is exact
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-104.0, 89.0);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    // eʳ = 1 + r + r² p(r)
    let p: f32 = 1.979_035_7e-4;
    let p = p.mul_add(r, 1.394_465e-3);
    let p = p.mul_add(r, 8.333_497e-3);
    let p = p.mul_add(r, 4.166_629_5e-2);
    let p = p.mul_add(r, 0.166_666_66);
    let p = p.mul_add(r, 0.5);
    let e = 1.0 + (r * r).mul_add(p, r);
    // 2ⁿ in two factors, because n reaches from -150 to 128 and an exponent from -126 to 127.
    let n = rounded.to_bits() as i32 - ROUND.to_bits() as i32;
    e * power_of_two(n >> 1) * power_of_two(n - (n >> 1))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// erf(x) = 2/√π ∫₀ˣ exp(-t²) dt, error below 2 units.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let t = x.abs();
    // |x| <= 0.95: x + x p(x²)
    let s = x * x;
    let p: f32 = 8.185_091e-5;
    let p = p.mul_add(s, -8.097_702_5e-4);
    let p = p.mul_add(s, 5.196_952e-3);
    let p = p.mul_add(s, -2.685_770_6e-2);
    let p = p.mul_add(s, 0.112_836_64);
    let p = p.mul_add(s, -0.376_126_32);
    let p = p.mul_add(s, 0.128_379_17);
    let near = x.mul_add(p, x);
    // beyond: 1 - exp(-t - t q(t)); from 4 on that is 1
    let t4 = t.min(4.0);
    let q: f32 = 1.233_952_6e-5;
    let q = q.mul_add(t4, -3.339_609_8e-4);
    let q = q.mul_add(t4, 3.688_111_2e-3);
    let q = q.mul_add(t4, -2.385_928e-2);
    let q = q.mul_add(t4, 0.106_350_57);
    let q = q.mul_add(t4, 0.635_082);
    let q = q.mul_add(t4, 0.128_665_7);
    let far = (1.0 - exp(-t4.mul_add(q, t4))).copysign(x);
    if t > 0.95 { far } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance between f32 and f64, in units in the last place of the latter.
    fn units(found: f32, exact: f64) -> f64 {
        let exponent = exact.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor();
        (f64::from(found) - exact).abs() / (exponent - 23.0).exp2()
    }

    /// 2/√π Σ (-1)ⁿ x²ⁿ⁺¹ / (n! (2n+1)), in f64 exact enough up to 3; beyond, a continued fraction.
    fn erf_f64(x: f64) -> f64 {
        if x.abs() > 3.0 {
            let fraction = (1..=60).rev().fold(x.abs(), |f, n| x.abs() + f64::from(n) / 2.0 / f);
            let erfc = (-x * x).exp() / std::f64::consts::PI.sqrt() / fraction;
            return (1.0 - erfc).copysign(x);
        }
        let mut term = x;
        let mut sum = x;
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    /// Every 499th f32 from 2^-40 up to `largest`, with both signs.
    fn grid(largest: f32) -> impl Iterator<Item = f32> {
        let first = (2f32).powi(-40).to_bits();
        (first..=largest.to_bits()).step_by(499).map(f32::from_bits).flat_map(|x| [x, -x])
    }

    #[test]
    fn exp_is_within_two_units() {
        let worst = grid(87.0).map(|x| units(exp(x), f64::from(x).exp())).fold(0.0, f64::max);
        assert!(worst < 2.0, "{worst}");
    }

    #[test]
    fn exp_at_the_edges() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!((exp(-104.0), exp(f32::NEG_INFINITY), exp(-3.4e38)), (0.0, 0.0, 0.0));
        assert_eq!((exp(89.0), exp(f32::INFINITY)), (f32::INFINITY, f32::INFINITY));
        assert!(exp(88.7).is_finite() && exp(f32::NAN).is_nan());
        assert!((exp(-100.0) - 3.8e-44).abs() < 3e-45);
    }

    #[test]
    fn erf_is_within_two_units() {
        let worst = grid(6.0).map(|x| units(erf(x), erf_f64(f64::from(x)))).fold(0.0, f64::max);
        assert!(worst < 2.0, "{worst}");
    }

    #[test]
    fn erf_at_the_edges() {
        assert_eq!((erf(0.0), erf(10.0), erf(-10.0)), (0.0, 1.0, -1.0));
        assert!(units(erf(1e-30), f64::from(1e-30_f32) * std::f64::consts::FRAC_2_SQRT_PI) < 1.0);
        assert!(erf(f32::NAN).is_nan());
    }
}
