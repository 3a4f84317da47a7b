//! Labels every token of a text: `cargo run --release --example classify_tokens -- FOLDER "Ada lives in London."`
//!
//! FOLDER holds a token classifier and its tokenizer (tokenizer.json; spm.model; or vocab.json and merges.txt).

use std::error::Error;
use std::process::ExitCode;

use deberta_converters::loading::from_pretrained;
use deberta_reference::tokenizer::{EncodeOptions, Encoding, PreTrainedTokenizerBase};
use deberta_reference::{DebertaForTokenClassification, DebertaPreTrainedModel, Probe};
use ndarray::Axis;

mod program;

const USAGE: &str = "usage: classify_tokens FOLDER TEXT";

fn main() -> ExitCode {
    program::run(USAGE, |arguments| match arguments {
        [folder, text] => Some(classify(folder, text)),
        _ => None,
    })
}

fn classify(folder: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let tokenizer = program::tokenizer(folder)?;
    let encoding = tokenizer.encode_plus(text, None, &EncodeOptions::default())?;
    let (model, _) = from_pretrained::<DebertaForTokenClassification>(folder)?;
    let inputs = Encoding::inputs(std::slice::from_ref(&encoding))?;
    let output = model.forward(&inputs, &mut Probe::off())?;

    let logits = output.logits.index_axis(Axis(0), 0); // [n, labels]
    for (id, logits) in encoding.input_ids.iter().zip(logits.outer_iter()) {
        let best = logits.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        let (label, logit) = best.ok_or("a model without labels")?;
        let label = model.config().label(label);
        println!("{:16} {label}  logit {logit:8.4}", format!("{:?}", tokenizer.decode(&[*id], false, None)?));
    }
    Ok(())
}
