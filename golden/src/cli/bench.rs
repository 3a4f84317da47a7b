//! `bench`: how long a model takes to load and to run, without probes.

use std::time::Instant;

use clap::Args;
use deberta_converters::cli::{Output, print, print_json};
use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Head, Inputs};
use ndarray::Array2;
use serde::Serialize;

use super::exit_status::ExitStatus;
use super::model::ModelArgs;
use crate::backend::{Arithmetic, Backend};
use crate::selftest::memory::status;
use crate::trace::class::Class;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Class to run; DebertaModel when not given. A graph is of one class
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Sequences in a batch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Tokens in a sequence
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    seq: u32,
    /// Runs that are measured, after two that are not
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    format: Output,
}

/// A model that can run.
struct Loaded {
    model: Box<dyn Backend>,
    class: Class,
    vocabulary: usize,
    /// From opening the files.
    load_ms: f64,
}

/// The result of `bench`; times in milliseconds.
#[derive(Debug, Serialize)]
struct Measured {
    model: String,
    class: String,
    backend: &'static str,
    /// What was computed in.
    precision: Arithmetic,
    batch: u32,
    seq: u32,
    threads: usize,
    runs: u32,
    /// From opening the files to a model that can run.
    load_ms: f64,
    /// The first run.
    first_ms: f64,
    median_ms: f64,
    min_ms: f64,
    max_ms: f64,
    tokens_per_second: f64,
    /// The most memory that the process had at a time, the mapped weights included; nothing if the system
    /// does not tell.
    peak_memory_bytes: Option<u64>,
}

impl BenchArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let Loaded { model, class, vocabulary, load_ms } = self.load()?;
        // All sequences are the choices of one question, where the class chooses.
        let choices = (class.head == Head::MultipleChoice).then(|| usize::try_from(self.batch).unwrap_or(1));
        let inputs = Inputs { choices, ..Inputs::from_ids(self.ids(vocabulary)?) };
        let run = || -> Result<f64> {
            let start = Instant::now();
            model.run_only(&inputs).map_err(|error| error.in_file(&self.model.model))?;
            Ok(milliseconds(start))
        };
        let first_ms = run()?;
        run()?;
        let mut times = (0..self.runs).map(|_| run()).collect::<Result<Vec<f64>>>()?;
        times.sort_by(f64::total_cmp);
        let median_ms = median(&times);
        let tokens = f64::from(self.batch) * f64::from(self.seq);
        self.report(&Measured {
            model: self.model.model.display().to_string(),
            class: class.to_string(),
            backend: model.name(),
            precision: self.model.precision,
            batch: self.batch,
            seq: self.seq,
            threads: rayon::current_num_threads(),
            runs: self.runs,
            load_ms,
            first_ms,
            median_ms,
            min_ms: times.first().copied().unwrap_or_default(),
            max_ms: times.last().copied().unwrap_or_default(),
            tokens_per_second: tokens / median_ms * 1e3,
            peak_memory_bytes: peak_memory(),
        })?;
        Ok(ExitStatus::Success)
    }

    fn load(&self) -> Result<Loaded> {
        let class = self.class.as_deref().map(Class::from_name).transpose()?;
        if self.model.backend.runs_graphs() {
            let file = self.model.graph_file()?;
            let start = Instant::now();
            let (graph, class) = self.model.load_graph(&file, class, None)?;
            let load_ms = milliseconds(start);
            return Ok(Loaded { model: graph, class, vocabulary: file.config.vocab_size, load_ms });
        }
        let start = Instant::now();
        let (checkpoint, class) = match class {
            Some(class) => self.model.open(Some(class))?,
            None => self.model.open_head(Some(Head::Base))?,
        };
        let vocabulary = checkpoint.config.vocab_size;
        let model = self.model.load(checkpoint, class, class.masked_rows())?;
        let load_ms = milliseconds(start);
        Ok(Loaded { model, class, vocabulary, load_ms })
    }

    /// Arbitrary but fixed token ids.
    fn ids(&self, vocabulary: usize) -> Result<Array2<i64>> {
        const STEP: usize = 7919; // a prime
        let shape = (self.batch as usize, self.seq as usize);
        let vocabulary = vocabulary.max(1);
        let ids = (0..shape.0 * shape.1).map(|at| (at.wrapping_mul(STEP) % vocabulary) as i64).collect();
        Array2::from_shape_vec(shape, ids).map_err(|error| Error::new(Kind::Request, error.to_string()))
    }

    fn report(&self, measured: &Measured) -> Result<()> {
        if self.format == Output::Json {
            return print_json(measured);
        }
        let Measured { class, backend, batch, seq, threads, runs, .. } = measured;
        let precision = if measured.precision == Arithmetic::F64 { " in f64" } else { "" };
        print(&format!(
            "{class} by {backend}{precision}, {batch} x {seq} tokens, {threads} threads, {runs} runs"
        ))?;
        print(&format!("  load    {:9.1} ms", measured.load_ms))?;
        print(&format!("  first   {:9.1} ms", measured.first_ms))?;
        print(&format!(
            "  median  {:9.1} ms   ({:.1} to {:.1}), {:.0} tokens/s",
            measured.median_ms, measured.min_ms, measured.max_ms, measured.tokens_per_second
        ))?;
        match measured.peak_memory_bytes {
            Some(bytes) => {
                print(&format!("  memory  {:9.1} MB at most, mapped weights included", bytes as f64 / 1e6))
            }
            None => Ok(()),
        }
    }
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// The median of sorted numbers.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.get(middle.wrapping_sub(1))) {
        (Some(upper), Some(lower)) if sorted.len().is_multiple_of(2) => (lower + upper) / 2.0,
        (Some(middle), _) => *middle,
        (None, _) => 0.0,
    }
}

/// The largest resident set of this process, where the kernel tells it.
fn peak_memory() -> Option<u64> {
    status("VmHWM").map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
        assert_eq!(median(&[5.0]), 5.0);
    }
}
