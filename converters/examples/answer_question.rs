//! Finds the answer to a question in a text:
//! `cargo run --release --example answer_question -- FOLDER "Where does Ada live?" "Ada lives in London."`
//!
//! FOLDER holds a question answering model and its tokenizer (tokenizer.json; spm.model; or vocab.json and merges.txt).

use std::error::Error;
use std::process::ExitCode;

use deberta_converters::loading::from_pretrained;
use deberta_reference::tokenizer::{EncodeOptions, Encoding, PreTrainedTokenizerBase};
use deberta_reference::{DebertaForQuestionAnswering, DebertaPreTrainedModel, Probe};

mod program;

const USAGE: &str = "usage: answer_question FOLDER QUESTION TEXT";
/// Tokens in an answer, at most.
const LONGEST: usize = 30;

fn main() -> ExitCode {
    program::run(USAGE, |arguments| match arguments {
        [folder, question, text] => Some(answer(folder, question, text)),
        _ => None,
    })
}

fn answer(folder: &str, question: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let tokenizer = program::tokenizer(folder)?;
    let encoding = tokenizer.encode_plus(question, Some(text), &EncodeOptions::default())?;
    let (model, _) = from_pretrained::<DebertaForQuestionAnswering>(folder)?;
    let inputs = Encoding::inputs(std::slice::from_ref(&encoding))?;
    let output = model.forward(&inputs, &mut Probe::off())?;

    // The best start and end within the text, which is segment 1.
    let in_text =
        |token: &usize| encoding.token_type_ids[*token] == 1 && encoding.special_tokens_mask[*token] == 0;
    let n = encoding.len();
    let score = |start: usize, end: usize| output.start_logits[[0, start]] + output.end_logits[[0, end]];
    let spans = (0..n)
        .filter(in_text)
        .flat_map(|start| (start..n.min(start + LONGEST)).filter(in_text).map(move |end| (start, end)));
    let best = spans.max_by(|a, b| score(a.0, a.1).total_cmp(&score(b.0, b.1)));
    let (start, end) = best.ok_or("the text has no tokens")?;
    let answer = tokenizer.decode(&encoding.input_ids[start..=end], true, None)?;
    println!("{:?}  tokens {start} to {end}, score {:.4}", answer.trim(), score(start, end));
    println!("no answer scores {:.4}", score(0, 0));
    Ok(())
}
