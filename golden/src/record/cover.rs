//! Inputs that make a model use all that it has: every row of the table of relative positions that its texts can need, every
//! token type, every absolute position, padding on all sides, several sequences at once. The same ids in every run.
//!
//! They are those of the recorder in Python, `golden/python/python/deberta_verify/recorder/inputs.py`, to the number.

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::recipe::Stream;
use deberta_reference::{DebertaConfig, Head, Inputs};
use ndarray::Array2;

use super::Named;
use crate::trace::class::Class;
use crate::trace::inputs::dims;

const SEED: u64 = 1;

/// Ids below are special in the published vocabularies.
const SPECIAL: usize = 5;

/// Texts of more tokens are not made: their attention would take gigabytes.
pub(super) const MOST_TOKENS: usize = 1024;

/// Spans up to here are met one token below, at and above; longer ones at the span and well above.
const SHORT_SPAN: usize = 64;

/// The inputs of a class, by the name of their trace.
pub(super) fn inputs(config: &DebertaConfig, class: Class) -> Vec<Named> {
    let positions = positions(config, class);
    let longest = positions.unwrap_or(MOST_TOKENS);
    let of = |name: &str, b, n| Inputs::from_ids(ids(name, b, n, config.vocab_size));
    let mut made: Vec<Named> = Vec::new();
    for n in lengths(config, positions) {
        let name = format!("n{n}");
        let inputs = of(&name, 1, n);
        made.push((name, inputs));
    }

    let n = longest.min(20);
    let is_padding = |row, at: usize| match row {
        0 => at >= n - n / 3,
        1 => at < n / 4,
        _ => (n / 2..n / 2 + n / 5).contains(&at),
    };
    let mask = Array2::from_shape_fn((3, n), |(row, at)| i64::from(!is_padding(row, at)));
    let ids = ids("padded", 3, n, config.vocab_size) * &mask;
    let mask = mask.mapv(|token| token as f32).into_dyn();
    made.push(("padded".to_owned(), Inputs { attention_mask: Some(mask), ..Inputs::from_ids(ids) }));

    let types = config.type_vocab_size;
    if types > 0 {
        let n = types.max(8).min(longest);
        let rows = types.div_ceil(n.max(1)) + 1;
        let token_type_ids = Array2::from_shape_fn((rows, n), |(row, at)| integer((row * n + at) % types));
        made.push((
            "types".to_owned(),
            Inputs { token_type_ids: Some(token_type_ids), ..of("types", rows, n) },
        ));
    }
    if let Some(positions) = positions {
        let n = longest.min(8);
        let position_ids = Array2::from_shape_fn((1, n), |(_, at)| integer(positions - 1 - at));
        made.push((
            "positions".to_owned(),
            Inputs { position_ids: Some(position_ids), ..of("positions", 1, n) },
        ));
    }
    made.into_iter().map(|(name, inputs)| (name, for_class(inputs, class))).collect()
}

/// Lengths of texts: a token, a few, as many as the span of relative positions and the table of absolute ones have, and more
/// where the model takes more.
fn lengths(config: &DebertaConfig, positions: Option<usize>) -> Vec<usize> {
    let relative = config.c2p() || config.p2c();
    let span = if relative { config.max_relative() } else { 1 };
    let around = if span <= SHORT_SPAN {
        [span.saturating_sub(1), span, span + 1]
    } else {
        [span, span + span / 16, span]
    };
    let longest = positions.unwrap_or(MOST_TOKENS).min(MOST_TOKENS);
    let mut wanted = vec![1, 8];
    if relative || positions.is_some() {
        wanted.extend(around);
        wanted.push(config.max_position_embeddings.min(MOST_TOKENS));
    }
    wanted.retain(|n| (1..=longest).contains(n));
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// What no input reaches, in words.
pub(super) fn beyond(config: &DebertaConfig, class: Class) -> Option<String> {
    let span = if config.c2p() || config.p2c() { config.max_relative() } else { 0 };
    let needed = span.max(positions(config, class).unwrap_or(0));
    (needed > MOST_TOKENS).then(|| {
        format!(
            "distances and positions beyond {MOST_TOKENS} of {needed} are not tested: record longer inputs by --inputs"
        )
    })
}

/// One sequence of n tokens.
pub(super) fn few(config: &DebertaConfig, n: usize) -> Inputs {
    Inputs::from_ids(ids(&format!("few{n}"), 1, n, config.vocab_size))
}

/// Checks that a model can be given an input.
///
/// # Errors
/// Ids beyond the vocabulary; a text that is longer than the model takes.
pub(super) fn check(name: &str, inputs: &Inputs, config: &DebertaConfig, class: Class) -> Result<()> {
    let refused = |why: String| Err(Error::new(Kind::Request, format!("{name}: {why}")));
    let size = config.vocab_size;
    let beyond = |&&id: &&i64| usize::try_from(id).map_or(true, |id| id >= size);
    if let Some(id) = inputs.input_ids.iter().flatten().find(beyond) {
        return refused(format!(
            "token id {id}, and the model has {size} words: are tokenizer and model of one kind?"
        ));
    }
    let (_, n) = dims(inputs).unwrap_or_default();
    let most = positions(config, class).unwrap_or(MOST_TOKENS);
    if n > most {
        return refused(format!("{n} tokens, and up to {most} are taken: shorten the text"));
    }
    Ok(())
}

/// How many absolute positions the class has, if it adds them.
fn positions(config: &DebertaConfig, class: Class) -> Option<usize> {
    config.uses_positions(class.head).then_some(config.max_position_embeddings)
}

/// Token ids [b, n] without those that are special, as far as the vocabulary has others.
fn ids(name: &str, b: usize, n: usize, vocab_size: usize) -> Array2<i64> {
    let first = if vocab_size > 2 * SPECIAL { SPECIAL } else { 0 };
    let others = (vocab_size - first).max(1) as u64;
    let stream = Stream::new(SEED, &format!("inputs/{name}"));
    let id = |at: usize| integer(first).saturating_add((stream.word(at as u64) % others).cast_signed());
    Array2::from_shape_fn((b, n), |(row, at)| id(row * n + at))
}

fn integer(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Inputs as the class takes them: of multiple choice the rows are choices of one question.
pub(super) fn for_class(inputs: Inputs, class: Class) -> Inputs {
    let choices = dims(&inputs).map(|(b, _)| b).filter(|_| class.head == Head::MultipleChoice);
    Inputs { choices, ..inputs }
}

#[cfg(test)]
mod tests {
    use deberta_reference::Family;

    use super::*;
    use crate::coverage::Coverage;

    #[test]
    fn everything_is_exercised() {
        let configs = [
            r#"{"model_type": "deberta", "relative_attention": true, "pos_att_type": "c2p|p2c", "type_vocab_size": 2,
                "vocab_size": 100, "max_position_embeddings": 32}"#,
            r#"{"model_type": "deberta-v2", "relative_attention": true, "pos_att_type": ["c2p"], "position_buckets": 8,
                "max_relative_positions": 16, "position_biased_input": false, "conv_kernel_size": 3, "vocab_size": 100,
                "max_position_embeddings": 16}"#,
        ];
        for json in configs {
            let config = DebertaConfig::from_json(json).unwrap();
            for head in [Head::Base, Head::MultipleChoice, Head::MaskDecoder] {
                let class = Class::of_head(config.family, head);
                let made = inputs(&config, class);
                let coverage = Coverage::of(&config, head, made.iter().map(|(_, inputs)| inputs));
                let lacking = coverage.features().into_iter().find(|covered| covered.is_lacking());
                assert_eq!(lacking, None, "{head:?}");
                made.iter().try_for_each(|(name, inputs)| check(name, inputs, &config, class)).unwrap();
            }
        }
    }

    #[test]
    fn ids_are_those_of_the_recorder_in_python() {
        assert_eq!(ids("n8", 1, 8, 100).as_slice().unwrap(), [33, 10, 29, 98, 16, 70, 54, 47]);
    }

    #[test]
    fn a_vocabulary_that_is_too_small_is_said() {
        let config = DebertaConfig::from_json(r#"{"model_type": "deberta", "vocab_size": 3}"#).unwrap();
        let class = Class::of_head(Family::V1, Head::Base);
        let error = check("texts", &Inputs::from_ids(ndarray::arr2(&[[1, 3]])), &config, class);
        assert!(error.unwrap_err().to_string().starts_with("texts: token id 3, and the model has 3 words"));
    }
}
