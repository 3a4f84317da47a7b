//! What the target `safetensors` does with its input.

use std::path::Path;

use deberta_converters::format::safetensors;
use deberta_converters::mapped::Mapped;

use crate::tensors;

/// Opens the input as a file and reads it.
pub(crate) fn exercise(data: &[u8]) {
    if let Ok(file) = safetensors::open(Mapped::from_bytes(data.to_vec(), Path::new("fuzz"))) {
        tensors::read_all(&file);
    }
}
