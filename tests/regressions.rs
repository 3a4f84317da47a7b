//! Every input that fuzzing found (`converters/fuzz/regressions/<target>/`), once more: no panic, little memory, and an
//! answer in time.

#![allow(clippy::panic)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};

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

#[test]
fn findings_for_keras_stay_repaired() {
    replay("keras", keras::exercise);
}

#[test]
fn findings_for_onnx_stay_repaired() {
    replay("onnx", onnx::exercise);
}

#[test]
fn findings_for_safetensors_stay_repaired() {
    replay("safetensors", safetensors::exercise);
}

#[test]
fn findings_for_torch_stay_repaired() {
    replay("torch", torch::exercise);
}

fn replay(target: &str, exercise: fn(&[u8])) {
    let folder =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../converters/fuzz/regressions")).join(target);
    // An input that asks for more memory aborts the test.
    const MEMORY: u64 = 1 << 30;
    setrlimit(Resource::As, Rlimit { current: Some(MEMORY), maximum: None })
        .unwrap_or_else(|error| panic!("cannot limit memory: {error}"));
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        let data = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        println!("{}", path.display());
        let start = Instant::now();
        exercise(&data);
        assert!(start.elapsed() < Duration::from_secs(10), "{} took {:?}", path.display(), start.elapsed());
        count += 1;
    }
    println!("{target}: {count} findings replayed");
}
