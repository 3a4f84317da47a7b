//! What the target `onnx` does with its input.

use std::path::Path;

use deberta_converters::format::onnx;
use deberta_converters::mapped::Mapped;
use deberta_converters::naming::onnx::recover;

use crate::tensors;

/// Opens the input as a file, whose external data is the input itself, reads it, and looks for parameters in it.
pub(crate) fn exercise(data: &[u8]) {
    let file = |path: &Path| Mapped::from_bytes(data.to_vec(), path);
    if let Ok(file) = onnx::open_with(file(Path::new("fuzz")), &|location| Ok(file(location))) {
        tensors::read_all(&file);
        let _ = (recover(&file, false), recover(&file, true));
    }
}
