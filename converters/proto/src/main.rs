//! Writes `converters/src/format/onnx/proto.rs`. Run it with `cargo run --manifest-path converters/proto/Cargo.toml`.

use std::error::Error;
use std::path::Path;

/// What stands above the generated code.
const HEADER: &str = "\
// Generated from converters/proto/onnx.proto (Copyright (c) ONNX Project Contributors, Apache-2.0) by converters/proto.
";

fn main() -> Result<(), Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile([here.join("onnx.proto")], [here])?;
    let folder = std::env::temp_dir().join(format!("deberta-onnx-proto-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    // Bytes are slices of the file, not copies.
    prost_build::Config::new()
        .bytes(["."])
        .disable_comments(["."])
        .out_dir(&folder)
        .compile_fds(descriptors)?;
    let code = std::fs::read_to_string(folder.join("onnx.rs"))?;
    std::fs::remove_dir_all(&folder)?;
    std::fs::write(here.join("../src/format/onnx/proto.rs"), format!("{HEADER}{code}"))?;
    Ok(())
}
