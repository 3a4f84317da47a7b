//! What the target `keras` does with its input.

use std::path::Path;

use deberta_converters::format::keras;
use deberta_converters::mapped::Mapped;

use crate::tensors;

/// Opens the input as a file and reads it.
pub(crate) fn exercise(data: &[u8]) {
    if let Ok(file) = keras::open(Mapped::from_bytes(data.to_vec(), Path::new("fuzz"))) {
        tensors::read_all(&file);
    }
}
