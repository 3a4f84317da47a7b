//! Classifies a text, or a pair of texts: `cargo run --release --example classify_text -- FOLDER "I love you." "I like you."`
//!
//! FOLDER holds a sequence classifier and its tokenizer (tokenizer.json; spm.model; or vocab.json and merges.txt).

use std::error::Error;
use std::process::ExitCode;

use deberta_converters::loading::from_pretrained;
use deberta_reference::tokenizer::{EncodeOptions, Encoding};
use deberta_reference::{DebertaForSequenceClassification, DebertaPreTrainedModel, Probe};

mod program;

const USAGE: &str = "usage: classify_text FOLDER TEXT [TEXT]";

fn main() -> ExitCode {
    program::run(USAGE, |arguments| match arguments {
        [folder, text] => Some(classify(folder, text, None)),
        [folder, text, pair] => Some(classify(folder, text, Some(pair))),
        _ => None,
    })
}

fn classify(folder: &str, text: &str, pair: Option<&str>) -> Result<(), Box<dyn Error>> {
    let tokenizer = program::tokenizer(folder)?;
    let encoding = tokenizer.encode_plus(text, pair, &EncodeOptions::default())?;
    let (model, _) = from_pretrained::<DebertaForSequenceClassification>(folder)?;
    let output = model.forward(&Encoding::inputs(&[encoding])?, &mut Probe::off())?;

    let max = output.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = output.logits.iter().map(|logit| (logit - max).exp()).sum();
    for (label, logit) in output.logits.iter().enumerate() {
        let label = model.config().label(label);
        println!("{:6.2} %  logit {logit:8.4}  {label}", 100.0 * (logit - max).exp() / total);
    }
    Ok(())
}
