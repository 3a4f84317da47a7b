//! `bench`: how long a model takes to load and to run, without probes.

use std::str::FromStr;
use std::time::Instant;

use clap::Args;
use deberta_converters::cli::{Output, print, print_json};
use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Head, Inputs};
use ndarray::Array2;
use serde::Serialize;

use super::exit_status::ExitStatus;
use super::model::ModelArgs;
use crate::backend::{Arithmetic, Backend, peak_memory_of_graphs};
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
    /// Tokens of the first and of the last sequence, as 8:64, the others evenly between; what is left of --seq is padding, which the
    /// reference leaves out
    #[arg(long, value_name = "MIN:MAX")]
    lengths: Option<Lengths>,
    /// Runs that are measured, after two that are not
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    format: Output,
}

/// How many tokens the sequences of a batch have.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    min: u32,
    max: u32,
}

impl FromStr for Lengths {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Lengths, String> {
        let numbers = text.split_once(':').map(|(min, max)| (min.parse(), max.parse()));
        match numbers {
            Some((Ok(min), Ok(max))) if 0 < min && min <= max => Ok(Lengths { min, max }),
            _ => Err("expected two numbers of tokens, the smaller one first, as 8:64".to_owned()),
        }
    }
}

impl Lengths {
    /// 1 for the tokens of a batch, 0 for its padding [batch, seq].
    fn mask(self, batch: u32, seq: u32) -> Array2<f32> {
        let shape = (batch as usize, seq as usize);
        let length = |row: usize| {
            let share = row as f64 / f64::from(batch.saturating_sub(1).max(1));
            f64::from(self.min) + (f64::from(self.max - self.min) * share).round()
        };
        Array2::from_shape_fn(shape, |(row, at)| if (at as f64) < length(row) { 1.0 } else { 0.0 })
    }
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
    /// How many of the batch's positions are no padding.
    tokens: u64,
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
        let mask = self.mask()?;
        let tokens =
            mask.as_ref().map_or(f64::from(self.batch) * f64::from(self.seq), |mask| f64::from(mask.sum()));
        let ids = Inputs::from_ids(self.ids(vocabulary)?);
        let inputs =
            Inputs { choices, attention_mask: mask.map(Array2::into_dyn), skip_padding: true, ..ids };
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
        self.report(&Measured {
            model: self.model.model.display().to_string(),
            class: class.to_string(),
            backend: model.name(),
            precision: self.model.precision,
            batch: self.batch,
            seq: self.seq,
            tokens: tokens as u64,
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

    /// Which positions are tokens, if not all are.
    fn mask(&self) -> Result<Option<Array2<f32>>> {
        let Some(lengths) = self.lengths else { return Ok(None) };
        if lengths.max > self.seq {
            let why = format!("--lengths: at most {} tokens, but --seq is {}", lengths.max, self.seq);
            return Err(Error::new(Kind::Request, why));
        }
        Ok(Some(lengths.mask(self.batch, self.seq)))
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
        let Measured { class, backend, batch, seq, tokens, threads, runs, .. } = measured;
        let precision = if measured.precision == Arithmetic::F64 { " in f64" } else { "" };
        let is_padded = *tokens < u64::from(*batch) * u64::from(*seq);
        let padded = if is_padded { format!(" ({tokens} without padding)") } else { String::new() };
        print(&format!(
            "{class} by {backend}{precision}, {batch} x {seq} tokens{padded}, {threads} threads, {runs} runs"
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

/// The largest resident set of this process and of that of a graph, where the kernel tells it.
fn peak_memory() -> Option<u64> {
    status("VmHWM").map(|kilobytes| kilobytes * 1024 + peak_memory_of_graphs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_go_evenly_from_the_first_row_to_the_last() {
        let lengths: Lengths = "8:64".parse().unwrap();
        let tokens: Vec<f32> = lengths.mask(32, 64).rows().into_iter().map(|row| row.sum()).collect();
        assert_eq!((tokens[0], tokens[1], tokens[15], tokens[31]), (8.0, 10.0, 35.0, 64.0));
        assert_eq!(lengths.mask(1, 64).sum(), 8.0);
        for wrong in ["8", "8:", "0:4", "9:8", "-1:8", "8:64:2"] {
            assert!(wrong.parse::<Lengths>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
        assert_eq!(median(&[5.0]), 5.0);
    }
}
