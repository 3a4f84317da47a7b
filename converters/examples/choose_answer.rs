//! Chooses among answers to a question about a text:
//! `cargo run --release --example choose_answer -- FOLDER "Ada lives in London." "Where does Ada live?" London Paris`
//!
//! FOLDER holds a multiple choice model of DeBERTa v2 or v3 and its tokenizer (spm.model or tokenizer.json).

use std::error::Error;
use std::process::ExitCode;

use deberta_converters::loading::from_pretrained;
use deberta_reference::tokenizer::{EncodeOptions, Encoding, PaddingStrategy};
use deberta_reference::{DebertaForMultipleChoice, DebertaPreTrainedModel, Inputs, Probe};

mod program;

const USAGE: &str = "usage: choose_answer FOLDER TEXT QUESTION ANSWER ANSWER…";

fn main() -> ExitCode {
    program::run(USAGE, |arguments| match arguments {
        [folder, text, question, answers @ ..] if answers.len() > 1 => {
            Some(choose(folder, text, question, answers))
        }
        _ => None,
    })
}

fn choose(folder: &str, text: &str, question: &str, answers: &[&str]) -> Result<(), Box<dyn Error>> {
    let tokenizer = program::tokenizer(folder)?;
    let answered: Vec<String> = answers.iter().map(|answer| format!("{question} {answer}")).collect();
    let pairs: Vec<(&str, Option<&str>)> =
        answered.iter().map(|answered| (text, Some(answered.as_str()))).collect();
    let options = EncodeOptions { padding: PaddingStrategy::Longest, ..EncodeOptions::default() };
    let encodings = tokenizer.batch_encode_plus(&pairs, &options)?;
    // One question: every sequence is one of its choices                                [c, n]
    let inputs = Inputs { choices: Some(answers.len()), ..Encoding::inputs(&encodings)? };

    let (model, _) = from_pretrained::<DebertaForMultipleChoice>(folder)?;
    let logits = model.forward(&inputs, &mut Probe::off())?.logits; //                   [1, c]
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = logits.iter().map(|logit| (logit - max).exp()).sum();
    for (answer, logit) in answers.iter().zip(&logits) {
        println!("{:6.2} %  logit {logit:8.4}  {answer}", 100.0 * (logit - max).exp() / total);
    }
    Ok(())
}
