//! Every input that fuzzing found (`converters/fuzz/regressions/<target>/`), once more, and damaged copies of good files of each
//! kind: no panic, little memory, and an answer in time.
//!
//! `DEBERTA_MUTANTS=100000 cargo test -p deberta-tests --test regressions` makes more damage.

#![allow(clippy::panic)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};

#[path = "../converters/fuzz/exercise/files.rs"]
mod files;
#[path = "../converters/fuzz/exercise/keras.rs"]
mod keras;
#[path = "../converters/fuzz/exercise/onnx.rs"]
mod onnx;
#[path = "../converters/fuzz/exercise/safetensors.rs"]
mod safetensors;
#[path = "../converters/fuzz/exercise/tensors.rs"]
mod tensors;
#[path = "../converters/fuzz/exercise/torch.rs"]
mod torch;

mod mutation;

/// Declares a test for each target: its findings, and damage to good files.
macro_rules! targets {
    ($($target:ident = $exercise:path: $($seed:literal),+;)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target), $exercise);
                mutate(stringify!($target), &[$($seed),+], $exercise);
            }
        )*
    };
}

targets! {
    torch = torch::exercise: "tests/fixtures/torch/data-parallel.bin", "tests/fixtures/torch/legacy-f32.bin", "tests/fixtures/torch/legacy-strided.bin";
    keras = keras::exercise: "tests/fixtures/h5py/keras.h5", "tests/fixtures/h5py/latest.h5", "tests/fixtures/h5py/gzip_shuffle.h5";
    onnx = onnx::exercise: "tests/fixtures/onnx/fresh/torchscript.onnx", "tests/fixtures/onnx/fresh/dynamo.onnx";
    safetensors = safetensors::exercise: "tests/fixtures/onnx/fresh/model.safetensors", "tests/fixtures/torch/data-parallel.safetensors";
    config = files::config: "golden/trained/nli/config.json", "golden/trained/v3-nli/config.json";
    index = files::index: "converters/fuzz/seeds/index.json";
    yaml = files::yaml: "golden/trained/nli/case.yaml", "golden/data/model/case.yaml", "golden/sizes/base/case.yaml", "converters/fuzz/seeds/verify.yaml";
    trace = files::trace: "golden/data/model/plain.safetensors", "golden/sizes/base/n16.safetensors";
    tokenizer = files::tokenizer: "golden/trained/v3-nli/tokenizer.json", "golden/trained/v3-nli/tokenizer_config.json", "converters/fuzz/seeds/bpe.json";
    vocabulary = files::vocabulary: "golden/trained/nli/vocab.json", "golden/trained/nli/merges.txt";
    pieces = files::pieces: "golden/trained/v3-nli/spm.model";
    tasks = files::tasks: "golden/trained/data/mnli/dev_matched.jsonl", "golden/trained/data/stsb/dev.tsv", "golden/trained/data/swag/val.csv", "golden/trained/data/squad/dev-v1.json", "golden/trained/data/conll/test.txt";
    report = files::report: "converters/fuzz/seeds/report.json";
}

/// How many damaged copies are made of each file, unless DEBERTA_MUTANTS says.
const MUTANTS: u64 = 40;

/// What is done with damaged copies of good files.
fn mutate(target: &str, seeds: &[&str], exercise: fn(&[u8])) {
    limit_memory();
    let mutants =
        std::env::var("DEBERTA_MUTANTS").ok().and_then(|count| count.parse().ok()).unwrap_or(MUTANTS);
    let read = |name: &&str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let good: Vec<Vec<u8>> = seeds.iter().map(read).collect();
    for (at, file) in good.iter().enumerate() {
        exercise(file);
        let other = &good[(at + 1) % good.len()];
        for number in 0..mutants {
            let damaged = mutation::Mutator::new(number * 31 + at as u64).damage(file, other);
            let name = format!("{target}-{at}-{number}");
            let done = std::panic::catch_unwind(|| require_soon(&name, exercise, &damaged));
            if done.is_err() {
                let kept = std::env::temp_dir().join(&name);
                let _ = fs::write(&kept, &damaged);
                panic!("{name}: it is {}", kept.display());
            }
        }
    }
}

/// Fails if an input takes long, and again: a machine may stand still for a while.
fn require_soon(name: &str, exercise: fn(&[u8]), data: &[u8]) {
    let took = || {
        let start = Instant::now();
        exercise(data);
        start.elapsed()
    };
    let longest = Duration::from_secs(10);
    assert!(took() < longest || took() < longest, "{name} takes over {longest:?}");
}

/// An input that asks for more memory aborts the test.
fn limit_memory() {
    const MEMORY: u64 = 1 << 30;
    setrlimit(Resource::Data, Rlimit { current: Some(MEMORY), maximum: None })
        .unwrap_or_else(|error| panic!("cannot limit memory: {error}"));
}

fn replay(target: &str, exercise: fn(&[u8])) {
    let folder =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../converters/fuzz/regressions")).join(target);
    limit_memory();
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        let data = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        println!("{}", path.display());
        require_soon(&path.display().to_string(), exercise, &data);
        count += 1;
    }
    println!("{target}: {count} findings replayed");
}
