//! Why a tokenizer makes other tokens of a text, where nothing but the text is known.

use deberta_reference::{AddedToken, FastTokenizer, Meaning};

use super::encoded::Encoded;
use super::recorded::PublishedTokens;

/// The likely cause, a word and a sentence: the expected ids are spelled by the tokenizer that made the others, and what is
/// read then tells what is wrong. Nothing if it does not.
pub(super) fn guess(
    want: &PublishedTokens,
    got: &Encoded,
    tokenizer: &FastTokenizer,
    meaning: &Meaning,
) -> Option<(&'static str, String)> {
    let spelled = tokenizer.convert_ids_to_tokens(&want.ids, false);
    if let Some(at) = spelled.iter().position(Option::is_none) {
        let id = want.ids.get(at).copied().unwrap_or_default();
        return Some(("added-token", format!("no token has id {id}: an added token is missing")));
    }
    if want.ids == got.ids {
        return Some(match want.type_ids.as_ref() == Some(&got.type_ids) || want.type_ids.is_none() {
            true => ("offsets", "the tokens are the same, their places are not".into()),
            false => ("post-processor", "the tokens are the same, their segments are not".into()),
        });
    }
    let of_one_side = || meaning.added.iter().filter(|(id, _)| want.ids.contains(id) != got.ids.contains(id));
    let added = |(_, token): &(u32, AddedToken)| {
        ("added-token", format!("{:?} is a token in one and not in the other", token.content))
    };
    // A word that is a token of its own takes the spaces and the pieces of the words around with it. Of the special ones
    // [UNK] stands for much else.
    if let Some(word) = of_one_side().find(|(_, token)| !token.special) {
        return Some(added(word));
    }
    let special: Vec<u32> =
        meaning.added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
    let text_of =
        |ids: &[u32]| -> Vec<u32> { ids.iter().copied().filter(|id| !special.contains(id)).collect() };
    if text_of(&want.ids) == text_of(&got.ids) {
        return Some(("post-processor", "the special tokens around the text are not the same".into()));
    }
    if want.tokens.as_ref() == Some(&got.tokens) {
        return Some(("vocabulary-order", "the tokens are the same, their ids are not".into()));
    }
    let spelled: Vec<String> = match &want.tokens {
        Some(tokens) => tokens.clone(),
        None => spelled.into_iter().flatten().collect(),
    };
    let (expected, made) = (spelled.concat(), got.tokens.concat());
    let letters = |text: &str| text.replace(['Ġ', '▁'], "");
    if expected == made {
        return Some(if meaning.merges.is_some() {
            (
                "merges-order",
                "the same text is cut at other places: merges, or their order, are not the same".into(),
            )
        } else {
            (
                "scores",
                "the same text is cut at other places: the scores of pieces, or the pieces, are not the same"
                    .into(),
            )
        });
    }
    if letters(&expected) == letters(&made) {
        return Some(("prefix-space", "the spaces before words are not the same".into()));
    }
    if letters(&expected).to_lowercase() == letters(&made).to_lowercase() {
        return Some(("lower-case", "upper and lower case are not the same".into()));
    }
    if let Some(special) = of_one_side().next() {
        return Some(added(special));
    }
    if want.ids.len() == got.ids.len() {
        let what = "as many tokens, and the expected ids are of other texts here: ids are exchanged";
        return Some(("vocabulary-order", what.into()));
    }
    (!want.text.is_ascii()).then(|| {
        ("normalizer", "characters outside ASCII become others: the normalizer is not the same".into())
    })
}
