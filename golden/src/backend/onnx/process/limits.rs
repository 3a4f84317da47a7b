//! How much memory and time a graph gets: many times what the graph of a model needs that is as large as the file.

use std::fs;
use std::path::Path;
use std::time::Duration;

use deberta_converters::format::TensorFile as _;
use deberta_converters::format::onnx::OnnxFile;

use crate::backend::onnx::feed::Given;

/// What every process gets.
const MEMORY: u64 = 384 << 20;
/// What it gets for every thread that it computes with, for its stack and what it allocates.
const MEMORY_OF_A_THREAD: u64 = 8 << 20;
/// How many times the stored weights may be in memory: parsed, widened from 8 bits to 32, and packed for products.
const COPIES: u64 = 10;
/// How many of the largest values of a graph there may be at a time.
const VALUES: u64 = 16;
/// As many heads as any model has, and half as many again, with distances as far as any has: how many scores of a token.
const SCORES: (u64, u64) = (32, 1024);

/// What loading gets, and all runs together.
pub(super) const SPARE: Duration = Duration::from_secs(5);
/// What every run gets.
const TIME: Duration = Duration::from_millis(500);
/// However large it is.
const MOST_TIME: Duration = Duration::from_secs(600);
/// Bytes that any machine loads in a second.
const LOADED: u64 = 10_000_000;
/// Products that any machine computes in a second.
const COMPUTED: u64 = 50_000_000;

/// How large a graph is.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend::onnx) struct Size {
    /// Bytes of its weights, and of the rest of its file.
    stored: u64,
    /// The longest axis of its weights, which is the vocabulary of a model: no more than their bytes allow.
    widest: u64,
}

/// What a step may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of the whole process.
    pub(super) memory: u64,
    /// Without what is spare.
    pub(super) time: Duration,
    /// Bytes of all outputs.
    pub(super) most_output: u64,
}

impl Size {
    pub(in crate::backend::onnx) fn of(path: &Path, file: &OnnxFile) -> Size {
        let tensors = file.tensors().iter();
        let stored: u64 =
            tensors.clone().filter_map(|tensor| u64::try_from(tensor.byte_len().ok()?).ok()).sum();
        let axes = tensors.flat_map(|tensor| &tensor.shape).filter_map(|&axis| u64::try_from(axis).ok());
        let file = fs::metadata(path).map_or(0, |metadata| metadata.len());
        // No row of embeddings is shorter than this.
        const ROW: u64 = 64;
        Size { stored: stored.max(file), widest: axes.max().unwrap_or(0).min(stored / ROW) }
    }

    pub(super) fn to_load(self) -> Limits {
        let threads = u64::try_from(rayon::current_num_threads()).unwrap_or(u64::MAX);
        let memory = MEMORY
            .saturating_add(threads.saturating_mul(MEMORY_OF_A_THREAD))
            .saturating_add(self.stored.saturating_mul(COPIES));
        let time = Duration::from_secs(self.stored / LOADED);
        Limits { memory: memory.min(available()), time: time.min(MOST_TIME), most_output: 0 }
    }

    pub(super) fn to_run(self, given: &[Given], outputs: usize) -> Limits {
        let count = |shape: &[usize]| shape.iter().fold(1_u64, |all, &axis| all.saturating_mul(axis as u64));
        let tokens = given.iter().map(|given| count(&given.shape)).max().unwrap_or(1);
        let length = given.iter().filter_map(|given| given.shape.last()).max().map_or(1, |&n| n as u64);
        let (heads, distances) = SCORES;
        let wide = |scores: u64| {
            tokens
                .saturating_mul(self.widest.max(heads.saturating_mul(scores)))
                .saturating_mul(size_of::<f32>() as u64)
        };
        let outputs = u64::try_from(outputs).unwrap_or(u64::MAX).saturating_mul(wide(length));
        let most_output =
            (16_u64 << 20).saturating_add(outputs).saturating_add(self.stored.saturating_mul(4));
        let load = self.to_load();
        let memory = load
            .memory
            .saturating_add(wide(length.max(distances)).saturating_mul(VALUES))
            .saturating_add(outputs);
        let products = self.stored.saturating_mul(tokens);
        let time = TIME + Duration::from_secs((products / COMPUTED).min(MOST_TIME.as_secs()));
        Limits { memory: memory.min(available()), time: time.min(MOST_TIME), most_output }
    }
}

/// The memory that this machine has to give, where the system tells.
fn available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = |key: &str| -> Option<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        value.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    let free = kilobytes("MemAvailable").map(|free| free.saturating_add(kilobytes("SwapFree").unwrap_or(0)));
    free.map_or(u64::MAX, |free| free.saturating_mul(1024).max(MEMORY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::onnx::feed::Numbers;

    fn given(rows: usize, length: usize) -> Vec<Given> {
        let numbers = Numbers::I32(vec![0; rows * length]);
        vec![Given { name: "input_ids".to_owned(), shape: vec![rows, length], numbers }]
    }

    #[test]
    fn a_small_graph_gets_less_than_a_gigabyte_and_a_large_one_what_it_needs() {
        // What it gets depends on the threads.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let limits = |stored, widest, rows, length, outputs| {
            pool.install(|| Size { stored, widest }.to_run(&given(rows, length), outputs))
        };
        let small = limits(600_000, 1000, 2, 17, 50);
        assert!(small.memory < 700_000_000 && small.time < Duration::from_secs(1), "{small:?}");
        let forged = limits(600_000, 600_000 / 64, 1, 128, 50);
        assert!(forged.memory < 950_000_000, "{forged:?}");
        // The base model's weights, its largest batch of a benchmark, every activation.
        let large = limits(740_000_000, 50_265, 8, 512, 300);
        assert!(large.memory >= 7_400_000_000.min(available() / 2) && large.time > Duration::from_secs(300));
        assert!(large.most_output > 300 * 8 * 512 * 768 * 4);
    }
}
