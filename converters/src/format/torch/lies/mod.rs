//! One test per way in which a checkpoint can lie. Those about the directory of a zip archive are in `zip/lies.rs`.

use super::testing::{int, ints, one_tensor, records, zip};

mod containers;
mod pickles;
mod tensors;

/// A checkpoint of one float32 tensor: elements that the pickle declares, its arguments, bytes of its storage.
fn checkpoint(elements: i64, arguments: &str, bytes: usize) -> Vec<u8> {
    zip(&records(&one_tensor(&int(elements), arguments), &[("0", &vec![1; bytes])]))
}

fn arguments(offset: i64, shape: &[i64], strides: &[i64]) -> String {
    [int(offset), ints(shape), ints(strides)].concat()
}

/// A checkpoint whose pickle is these instructions.
fn pickled(pickle: impl AsRef<[u8]>) -> Vec<u8> {
    zip(&records(pickle.as_ref(), &[("0", &[0; 24])]))
}
