//! What is said of a text that got other tokens.

use super::encoded::Encoded;
use super::recorded::PublishedTokens;

/// How much of a text is shown, in characters.
const SHOWN: usize = 60;

/// A text between quotation marks, its end left out if it is long.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN).collect();
    let more = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
    format!("{shown:?}{more}")
}

/// The first token that is not as expected: `token 3 is 412 "Ġkit", expected 438 "Ġkite"`. If the ids are as expected, the
/// first segment or place that is not.
pub(super) fn first_difference(want: &PublishedTokens, got: &Encoded) -> String {
    let lists = (0..want.ids.len().max(got.ids.len())).find(|&at| want.ids.get(at) != got.ids.get(at));
    if let Some(at) = lists {
        let named = |ids: &[u32], tokens: Option<&Vec<String>>| match ids.get(at) {
            None => "nothing".to_owned(),
            Some(id) => {
                let token = tokens.and_then(|tokens| tokens.get(at)).map(|token| format!(" {token:?}"));
                format!("{id}{}", token.unwrap_or_default())
            }
        };
        let (got, want) = (named(&got.ids, Some(&got.tokens)), named(&want.ids, want.tokens.as_ref()));
        return format!("token {at} is {got}, expected {want}");
    }
    let token = |at: usize| got.tokens.get(at).map(String::as_str).unwrap_or_default();
    if let Some(tokens) = &want.tokens
        && let Some((at, (want, got))) = tokens.iter().zip(&got.tokens).enumerate().find(|(_, (a, b))| a != b)
    {
        return format!("token {at} is spelled {got:?}, expected {want:?}");
    }
    if let Some(types) = &want.type_ids
        && let Some((at, (want, got))) =
            types.iter().zip(&got.type_ids).enumerate().find(|(_, (a, b))| a != b)
    {
        return format!("token {at} {:?} is in segment {got}, expected {want}", token(at));
    }
    if let (Some(offsets), Some(made)) = (&want.offsets, &got.offsets)
        && let Some((at, (want, got))) = offsets.iter().zip(made).enumerate().find(|(_, (a, b))| a != b)
    {
        let place = |(start, end): &(usize, usize)| format!("characters {start} to {end}");
        return format!("token {at} {:?} is {}, expected {}", token(at), place(got), place(want));
    }
    "the same tokens".to_owned()
}
