//! Fills the masks of a text: `cargo run --release --example fill_mask -- FOLDER "Paris is the [MASK] of France."`
//!
//! FOLDER holds a masked language model and its tokenizer (tokenizer.json; spm.model; or vocab.json and merges.txt). A checkpoint as Microsoft publishes
//! them is run with the enhanced mask decoder that it was trained with.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use deberta_converters::loading::Parameters;
use deberta_reference::tokenizer::{EncodeOptions, Encoding, PreTrainedTokenizerBase};
use deberta_reference::{DebertaForMaskedLM, DebertaPreTrainedModel, EnhancedMaskDecoder, Head, Probe};
use ndarray::Axis;

mod program;

const USAGE: &str = "usage: fill_mask FOLDER TEXT";
/// Tokens that are shown for each mask.
const SHOWN: usize = 5;

fn main() -> ExitCode {
    program::run(USAGE, |arguments| match arguments {
        [folder, text] => Some(fill_mask(folder, text)),
        _ => None,
    })
}

fn fill_mask(folder: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let tokenizer = program::tokenizer(folder)?;
    let encoding = tokenizer.encode_plus(text, None, &EncodeOptions::default())?;
    let inputs = Encoding::inputs(std::slice::from_ref(&encoding))?;

    let parameters = Parameters::open(Path::new(folder), Head::MaskedLm)?;
    let checkpoint = parameters.checkpoint();
    let has_positions =
        checkpoint.bound.iter().any(|bound| bound.param.name.ends_with("position_embeddings.weight"));
    let config = checkpoint.config.clone();
    let logits = if !config.legacy && has_positions {
        let (model, _) = EnhancedMaskDecoder::from_pretrained(config, &parameters)?;
        model.forward(&inputs, &mut Probe::off())?.logits
    } else {
        let (model, _) = DebertaForMaskedLM::from_pretrained(config, &parameters)?;
        model.forward(&inputs, &mut Probe::off())?.logits
    }; // [1, n, V]

    let masks =
        encoding.input_ids.iter().enumerate().filter(|(_, id)| Some(**id) == tokenizer.mask_token_id());
    for (position, _) in masks {
        let logits = logits.index_axis(Axis(0), 0);
        let logits = logits.index_axis(Axis(0), position); // [V]
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = logits.iter().map(|logit| (logit - max).exp()).sum();
        let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        println!("token {position}");
        for (id, logit) in ranked.into_iter().take(SHOWN) {
            println!(
                "  {:6.2} %  {:?}",
                100.0 * (logit - max).exp() / total,
                tokenizer.decode(&[id], false, None)?
            );
        }
    }
    Ok(())
}
