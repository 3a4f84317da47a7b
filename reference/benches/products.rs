//! The product of linear layers, as `tests/bench/products.sh` compares it with MKL's: prints tokens, numbers in, numbers out, and
//! GFLOP/s for every size of deberta-base. Every call takes another weight, as a forward pass does, out of 360 MB.

#![allow(dead_code, missing_docs, unreachable_pub, unused_imports)]

#[path = "../src/gemm/mod.rs"]
mod gemm;
#[path = "../src/real.rs"]
mod real;
#[path = "../src/spare.rs"]
mod spare;
#[path = "../src/special.rs"]
mod special;

use std::time::Instant;

/// All weights of one shape, in bytes.
const WEIGHTS: usize = 360 << 20;
/// Floating point operations of a round.
const WORK: usize = 4_000_000_000;
const ROUNDS: usize = 5;

fn main() {
    // On a thread of the pool, as a forward pass.
    rayon::scope(|_| measure());
}

fn measure() {
    for (k, n) in [(768, 768), (768, 2304), (768, 3072), (3072, 768)] {
        let weight = |seed| (0..k * n).map(|at| ((at * 31 + seed) % 1009) as f32 / 1009.0 - 0.5).collect();
        let weights: Vec<Vec<f32>> = (0..WEIGHTS / (4 * k * n)).map(weight).collect();
        let mut weights = weights.iter().cycle();
        for m in [16, 64, 128, 512, 1024, 2048] {
            let x: Vec<f32> = (0..m * k).map(|at| (at * 17 % 1013) as f32 / 1013.0 - 0.5).collect();
            let mut y = vec![0.0; m * n];
            let calls = (WORK / (2 * m * k * n)).max(2);
            let mut rates: Vec<f64> = Vec::new();
            for _ in 0..ROUNDS {
                let start = Instant::now();
                for weight in weights.by_ref().take(calls) {
                    gemm::linear(&x, weight, None, k, std::hint::black_box(&mut y));
                }
                rates.push((2 * m * k * n * calls) as f64 / start.elapsed().as_secs_f64() / 1e9);
            }
            rates.sort_by(f64::total_cmp);
            println!("{m} {k} {n} {:.0}", rates[ROUNDS / 2]);
        }
    }
}
