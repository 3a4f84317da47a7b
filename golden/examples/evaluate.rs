//! Computes graphs without inputs as the backend `onnx` does: a line of standard input names a file, a line of standard
//! output has its outputs, or why there are none. For `tests/interop/onnx/operators.py`.

use std::io::{BufRead, Write};
use std::path::Path;

use deberta_golden::backend::{BackendName, evaluate};
use serde_json::{Value, json};

fn main() -> std::io::Result<()> {
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    for line in input.lines() {
        writeln!(output, "{}", computed(Path::new(&line?)))?;
        output.flush()?;
    }
    Ok(())
}

fn computed(path: &Path) -> Value {
    match evaluate(path, BackendName::Onnx) {
        Ok(tensors) => {
            let outputs = tensors.into_iter().map(|tensor| {
                // NaN and infinity are no numbers of JSON.
                let values = tensor.data.floats().unwrap_or_default();
                let values: Vec<String> = values.iter().map(f32::to_string).collect();
                json!({"name": tensor.name, "shape": tensor.shape, "values": values})
            });
            json!({"outputs": outputs.collect::<Vec<_>>()})
        }
        Err(error) => json!({"error": error.to_string()}),
    }
}
