//! `candle-peer FOLDER BATCH TOKENS RUNS [MIN:MAX]`: the median milliseconds of a forward pass of candle's DebertaV2Model, with
//! the inputs of `peers.py`.

use std::error::Error;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::debertav2::{Config, DebertaV2Model};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, batch, tokens, runs, lengths @ ..] = arguments.as_slice() else {
        return Err("usage: candle-peer FOLDER BATCH TOKENS RUNS [MIN:MAX]".into());
    };
    let (batch, tokens, runs): (usize, usize, usize) = (batch.parse()?, tokens.parse()?, runs.parse()?);
    let config: Config = serde_json::from_str(&std::fs::read_to_string(format!("{folder}/config.json"))?)?;
    let weights = std::fs::read(format!("{folder}/model.safetensors"))?;
    let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
    let model = DebertaV2Model::load(weights.pp("deberta"), &config)?;

    let (low, high) = match lengths.first().and_then(|lengths| lengths.split_once(':')) {
        Some((low, high)) => (low.parse()?, high.parse()?),
        None => (tokens, tokens),
    };
    let ids: Vec<u32> = (0..batch * tokens).map(|at| (at * 7919 % config.vocab_size) as u32).collect();
    let length = |row: usize| low as f64 + ((high - low) as f64 * row as f64 / (batch.max(2) - 1) as f64).round_ties_even();
    let mask: Vec<i64> = (0..batch * tokens).map(|at| ((at % tokens) as f64) < length(at / tokens)).map(i64::from).collect();
    let ids = Tensor::from_vec(ids, (batch, tokens), &Device::Cpu)?;
    let mask = Tensor::from_vec(mask, (batch, tokens), &Device::Cpu)?;

    let mut times = Vec::new();
    for _ in 0..runs + 2 {
        let start = Instant::now();
        std::hint::black_box(model.forward(&ids, None, Some(mask.clone()))?);
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let mut times = times.split_off(2);
    times.sort_by(f64::total_cmp);
    println!("{}", times[times.len() / 2]);
    Ok(())
}
