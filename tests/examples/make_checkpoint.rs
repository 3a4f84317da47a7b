//! Makes a safetensors checkpoint of any size with arbitrary but fixed weights, to measure with.
//!
//! `cargo run --release -p deberta-tests --example make_checkpoint -- CONFIG FOLDER` writes `FOLDER/model.safetensors` and
//! `FOLDER/config.json` for a masked LM of the configuration in the file CONFIG.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use deberta_converters::format::{FilePlan, safetensors};
use deberta_converters::tensor::{Dtype, TensorInfo};
use deberta_reference::{DebertaConfig, Head, params};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, folder] = arguments.as_slice() else {
        return Err("usage: make_checkpoint CONFIG FOLDER".into());
    };
    let text = fs::read_to_string(config)?;
    let infos: Vec<TensorInfo> = params(&DebertaConfig::from_json(&text)?, Head::MaskedLm)
        .into_iter()
        .filter(|param| param.required)
        .map(|param| TensorInfo { name: param.name, dtype: Dtype::F32, shape: param.shape })
        .collect();
    let plan = safetensors::plan(&infos, &[("format", "pt")])?;
    let folder = Path::new(folder);
    fs::create_dir_all(folder)?;
    fs::write(folder.join("config.json"), &text)?;
    let mut file = BufWriter::new(File::create(folder.join("model.safetensors"))?);
    let mut written = 0;
    for span in plan.seal(&[])? {
        file.write_all(&span.bytes)?;
        written = span.offset + span.bytes.len() as u64;
    }
    // A linear congruential generator; values from -0.05 to 0.05.
    let mut state = 1_u64;
    while written < plan.file_len() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.1;
        file.write_all(&value.to_le_bytes())?;
        written += 4;
    }
    Ok(file.flush()?)
}
